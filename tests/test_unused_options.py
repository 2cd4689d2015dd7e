"""Options that do nothing in an experiment are named."""

from __future__ import annotations

from typing import Any

import pytest

from peer.config import experiment_from
from peer.unused_options import unused_options


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
