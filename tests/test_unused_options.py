"""Options that do nothing in an experiment are named."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest
from runs import lines

from peer.config import experiment_from
from peer.experiment_file import commented_toml
from peer.methods import METHODS
from peer.unused_options import USED_BY, deliberate, unused_options
from sim.runner import simulate


@pytest.mark.parametrize(
    ("values", "idle"),
    [
        ({"topology": "ring", "degree": 6}, ("degree",)),
        ({"topology": "random-regular", "degree": 6}, ()),
        ({"topology": "mesh.graphml", "degree": 6}, ("degree",)),
        ({"degree": 6, "topology": "watts-strogatz"}, ()),
        ({"partition": "iid", "alpha": 0.1}, ("alpha",)),
        ({"slowdown": 3.0, "speed_spread": 0.1}, ("slowdown",)),
        ({"slowdown": 3.0, "stragglers": 0.1}, ()),
        ({"partition": "dirichlet", "alpha": 0.1}, ()),
        ({"partition": "by-task", "alpha": 0.1, "peers": 9}, ("alpha", "peers")),
        ({"partition": "by-task", "trainer": "synthetic", "peers": 9}, ("partition",)),
        ({"test_share": 0.1, "train_share": 0.1}, ("test_share",)),
        ({"test_share": 0.1, "held_out": "last"}, ()),
        (
            {"trainer": "synthetic", "held_out": "last", "min_rows": 2, "long_rows": "drop"},
            ("held_out", "min_rows", "long_rows"),
        ),
        ({"trainer": "synthetic", "model": "m", "peers": 4, "data": "d"}, ("model", "data")),
        ({"trainer": "synthetic", "epsilon": 1e-3, "learning_rate": 1e-3}, ("epsilon",)),
        ({"peers": 4, "rounds": 2}, ()),
        ({"rouge_rows": 9, "rouge_every": 2, "new_tokens": 8}, ()),
        ({"rouge_every": 2, "new_tokens": 8}, ("rouge_every", "new_tokens")),
        ({"trainer": "synthetic", "rouge_rows": 9, "new_tokens": 8}, ("rouge_rows", "new_tokens")),
        ({"peers": 4, "topology": "mesh.graphml"}, ("peers",)),
        ({"topology": "random-matching", "slot_seconds": 2.0, "degree": 3}, ("degree",)),
        ({"topology": "one-peer-exponential", "slot_seconds": 2.0}, ()),
        ({"topology": "sequence.JSON", "slot_seconds": 2.0}, ()),
        ({"topology": "mesh.edges", "slot_seconds": 2.0}, ("slot_seconds",)),
        ({"topology": "torus", "slot_seconds": 2.0}, ("slot_seconds",)),
        ({"latency": "0.05", "latency_per": "frame", "loss": 0.1}, ("latency_per",)),
        ({"latency": "links.csv", "latency_per": "frame"}, ("latency_per",)),
        ({"latency": "uniform:0.02-0.08", "latency_per": "link"}, ()),
        ({}, ()),
    ],
)
def test_options_without_effect_are_named(values: dict[str, Any], idle: tuple[str, ...]) -> None:
    assert unused_options(experiment_from(values), values) == idle


def test_a_peer_started_by_hand_is_not_tuned() -> None:
    experiment = experiment_from({"tune": True})
    assert unused_options(experiment, ["tune"], "peer") == ("tune",)
    assert unused_options(experiment, ["tune"], "launch") == ()


def test_only_launched_peers_have_ports_for_metrics() -> None:
    experiment = experiment_from({"metrics_port": 9464})
    idle = [unused_options(experiment, ["metrics_port"], e) for e in ("sim", "launch", "peer")]
    assert idle == [("metrics_port",), (), ("metrics_port",)]


@pytest.mark.parametrize("trainer", ["zeroth-order", "synthetic"])
@pytest.mark.parametrize("engine", ["sim", "launch", "peer"])
def test_only_simulated_replicas_of_a_model_are_side_by_side(engine: str, trainer: str) -> None:
    values = {"side_by_side": 4, "rounds": 2, "trainer": trainer}
    idle = unused_options(experiment_from(values), values, engine)
    used = engine == "sim" and trainer == "zeroth-order"
    assert idle == (() if used else ("side_by_side",))


@pytest.mark.parametrize("engine", ["sim", "launch", "peer"])
def test_real_processes_have_no_virtual_time(engine: str) -> None:
    values = {"step_seconds": 0.2, "speed_spread": 0.1, "stragglers": 0.1, "slowdown": 2.0}
    idle = unused_options(experiment_from(values | {"trace": True}), [*values, "trace"], engine)
    assert idle == (() if engine == "sim" else (*values, "trace"))


@pytest.mark.parametrize("engine", ["sim", "launch", "peer"])
def test_only_simulated_links_can_be_chosen(engine: str) -> None:
    values = {"latency": "uniform:0.02-0.08", "latency_per": "frame", "bandwidth": 1e6}
    values |= {"loss": 0.1, "duplication": 0.1, "reordering": 0.1, "step_seconds": 1.0}
    values |= {"slot_seconds": 1.0, "topology": "random-matching"}
    idle = unused_options(experiment_from(values), values, engine)
    assert idle == (() if engine == "sim" else tuple(key for key in values if key != "topology"))


@pytest.mark.parametrize(
    ("method", "idle"),
    [
        (
            "fedkseed",
            "aggregation coordinates blocks global_learning_rate optimizer accumulate local_epochs "
            "directions rank lora_alpha virtual_tokens",
        ),
        (
            "fedkseed-infinite",
            "aggregation candidate_seeds coordinates blocks global_learning_rate fold optimizer "
            "accumulate local_epochs directions rank lora_alpha virtual_tokens",
        ),
        (
            "ferret",
            "aggregation epsilon local_epochs directions rank lora_alpha virtual_tokens "
            "side_by_side",
        ),
        (
            "fedavg",
            "candidate_seeds coordinates blocks global_learning_rate epsilon perturbation "
            "gradient_bound gradient_bytes gossip fold directions rank lora_alpha virtual_tokens "
            "side_by_side",
        ),
        (
            "fedzo",
            "candidate_seeds coordinates blocks global_learning_rate gradient_bytes gossip fold "
            "optimizer accumulate rank lora_alpha virtual_tokens side_by_side",
        ),
        (
            "fedit",
            "candidate_seeds coordinates blocks global_learning_rate epsilon perturbation "
            "gradient_bound gradient_bytes gossip fold directions virtual_tokens side_by_side",
        ),
        (
            "fedprompt",
            "candidate_seeds coordinates blocks global_learning_rate epsilon perturbation "
            "gradient_bound gradient_bytes gossip fold directions rank lora_alpha side_by_side",
        ),
    ],
)
def test_what_a_method_does_not_look_at_is_named(method: str, idle: str) -> None:
    assert unused_options(experiment_from({"method": method}), USED_BY) == tuple(
        name for name in USED_BY if name in idle.split()
    )


OTHER: dict[str, Any] = {
    "aggregation": "server",
    "candidate_seeds": 33,
    "coordinates": 70,
    "blocks": 3,
    "global_learning_rate": 2.0,
    "epsilon": 0.05,
    "perturbation": "gaussian",
    "gradient_bound": 1.0,
    "gradient_bytes": 2,
    "gossip": "flood",
    "fold": False,
    "optimizer": "rmsprop",
    "accumulate": 2,
    "local_epochs": 1,
    "directions": 3,
    "rank": 3,
    "lora_alpha": 5,
    "virtual_tokens": 3,
}
"""Values that differ from the defaults; side by side has tests of its own."""

SAME_END = ("gossip", "fold", "aggregation")
"""Options that change how a run gets there, and not where its model ends."""


def ends_of(options: dict[str, Any], method: str, out: Path, **changes: Any) -> list[str]:
    """Return what a run has come to after each round."""
    few = {"topology": "star", "peers": 3, "rounds": 1, "local_steps": 2, "coordinates": 64}
    simulate(
        experiment_from(
            options | few | {"method": method, "out": str(out)} | {"eval_rows": 2} | changes
        )
    )
    return [record["accumulator"] for record in lines(out)]


@pytest.mark.parametrize("method", METHODS)
def test_just_the_options_that_are_not_named_change_the_result(
    method: str, tiny_options: dict[str, Any], tmp_path: Path
) -> None:
    assert OTHER.keys() == USED_BY.keys() - {"side_by_side"}
    before = ends_of(tiny_options, method, tmp_path / "before")
    idle = unused_options(experiment_from({"method": method}), OTHER)
    together = ends_of(tiny_options, method, tmp_path / "idle", **{k: OTHER[k] for k in idle})
    # Another number of sums, or other units, make another accumulator of the same model.
    assert together == before
    for name in OTHER:
        if name not in idle and name not in SAME_END:
            after = ends_of(tiny_options, method, tmp_path / name, **{name: OTHER[name]})
            assert after != before, name


@pytest.mark.parametrize("method", ["fedavg", "ferret", "fedmezo"])
def test_replicas_that_cannot_be_side_by_side_are_not(
    method: str, tiny_options: dict[str, Any], tmp_path: Path
) -> None:
    plain = ends_of(tiny_options, method, tmp_path / "plain")
    assert ends_of(tiny_options, method, tmp_path / "beside", side_by_side=4) == plain


def test_a_file_may_spell_out_what_is_the_default() -> None:
    assert deliberate(tomllib.loads(commented_toml())) == ()
    assert deliberate({"rank": 8, "virtual_tokens": 21, "colour": 1}) == (
        "virtual_tokens",
        "colour",
    )


def test_passes_through_the_rows_make_the_number_of_steps() -> None:
    values = {"method": "fedavg", "local_epochs": 1, "local_steps": 9}
    assert unused_options(experiment_from(values), values) == ("local_steps",)
