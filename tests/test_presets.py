"""Presets: what they set, for all methods and for each."""

from __future__ import annotations

from typing import Any

import pytest

import topology
from peer.config import experiment_from
from peer.declarations import options
from peer.errors import UserError
from peer.methods import METHODS
from peer.presets import PRESETS
from peer.setup import resolve_topology
from peer.unused_options import unused_options

OPTIONS = {item.name for item in options()}

PENDING: set[str] = set()
"""Options that are not declared yet."""

PENDING_METHODS: set[str] = set()


@pytest.mark.parametrize("name", PRESETS)
def test_presets_set_options_and_neither_model_nor_data(name: str) -> None:
    preset = PRESETS[name]
    for values in (preset.common, *preset.methods.values()):
        assert set(values) <= OPTIONS | PENDING
        assert not {"model", "data", "seed", "method", "out"} & set(values)
    assert set(preset.methods) <= {*METHODS} | PENDING_METHODS


def test_nothing_is_pending_that_is_there() -> None:
    assert not PENDING & OPTIONS
    assert not PENDING_METHODS & set(METHODS)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_gives_each_method_an_experiment(name: str, method: str) -> None:
    values = PRESETS[name].options(method)
    experiment = experiment_from({"preset": name, "method": method})
    assert experiment == experiment_from({**values, "method": method})
    # Of so many peers where no data say another number.
    assert set(unused_options(experiment, values)) <= {"peers"}
    assert {key: getattr(experiment, key) for key in values} == values


@pytest.mark.parametrize("name", ["dolly-0.5", "dolly-5.0", "ni"])
@pytest.mark.parametrize("peers", [5, 10, 70, 199, 200, 738, 755])
def test_the_graph_of_a_preset_is_one_of_any_number_of_peers(name: str, peers: int) -> None:
    experiment, graph = resolve_topology(experiment_from({"preset": name, "peers": peers}))
    assert len(graph.nodes) == experiment.peers == peers
    assert topology.measure(graph).diameter <= 10


def test_the_papers_numbers() -> None:
    """FedKSeed 5.1.3, 5.1.4; Ferret C.1, C.2."""

    def of(name: str, method: str) -> dict[str, Any]:
        return PRESETS[name].options(method)

    for name in ("dolly-0.5", "dolly-5.0", "ni"):
        for method in PRESETS[name].methods:
            own = of(name, method)
            assert (own["participation"], own["batch_size"]) == (0.05, 1)
            assert (own["long_rows"], own["eval_rows"]) == ("drop", 0)
        for method, seeds in (("fedkseed", 4096), ("fedkseed-pro", 1024)):
            own = of(name, method)
            assert (own["local_steps"], own["candidate_seeds"]) == (200, seeds)
            assert (own["learning_rate"], own["epsilon"]) == (3e-7, 5e-4)
        for method in ("fedavg", "fedit", "fedit-sgd", "fedptuning", "fedprompt"):
            own = of(name, method)
            assert (own["learning_rate"], own["local_epochs"]) == (3e-4, 1)
            assert own["optimizer"] == ("adam" if method == "fedit" else "sgd")
        for method in ("fedit", "fedit-sgd"):
            assert (of(name, method)["rank"], of(name, method)["lora_alpha"]) == (8, 16)
        for method in ("fedptuning", "fedprompt"):
            assert of(name, method)["virtual_tokens"] == 20
        own = of(name, "fedzo")
        assert (own["local_steps"], own["directions"]) == (20, 25)
        own = of(name, "ferret")
        assert (own["local_steps"], own["accumulate"], own["learning_rate"]) == (10, 4, 1e-4)
    for name, rounds, ferret, rate, peers in (
        ("dolly-0.5", 60, 20, 3.0, 200),
        ("dolly-5.0", 60, 20, 3.0, 200),
        ("ni", 40, 12, 10.0, 738),
    ):
        assert (of(name, "fedkseed")["rounds"], of(name, "fedkseed")["peers"]) == (rounds, peers)
        assert of(name, "ferret")["rounds"] == ferret
        assert of(name, "ferret")["global_learning_rate"] == pytest.approx(rate / 3)
    assert [of(name, "fedkseed")["alpha"] for name in ("dolly-0.5", "dolly-5.0")] == [0.5, 5.0]
    ni = of("ni", "fedkseed")
    assert (ni["partition"], ni["min_rows"], ni["held_out"]) == ("by-task", 20, "test")
    assert (ni["train_share"], ni["test_share"]) == (0.2, 0.02)
    dolly = of("dolly-0.5", "fedkseed")
    assert (dolly["partition"], dolly["min_rows"], dolly["held_out"]) == ("dirichlet", 10, "last")


def test_what_is_written_wins_over_a_preset_for_a_method() -> None:
    chosen = experiment_from({"preset": "ni", "method": "fedkseed-pro", "rounds": 3})
    assert (chosen.rounds, chosen.candidate_seeds) == (3, 1024)
    assert experiment_from({"preset": "ni", "candidate_seeds": 7}).candidate_seeds == 7


@pytest.mark.parametrize("method", ["fedsomething", 3, ["fedkseed"]])
def test_a_method_that_is_none_is_told_with_a_preset_too(method: Any) -> None:
    with pytest.raises(UserError, match=r"^method = .* is not allowed: must be one of fedkseed"):
        experiment_from({"preset": "ni", "method": method})
