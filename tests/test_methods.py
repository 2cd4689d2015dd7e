"""Every method by its name: what it declares goes together, and a whole run ends as it says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from runs import run

from peer.config import Experiment, experiment_from
from peer.declarations import options
from peer.methods import METHODS, Steps
from peer.records import RunFolder
from peer.seeding import SEEDINGS
from sim.schema import SUMMARY, misfit
from sim.volume.systems import SYSTEMS

Options = dict[str, Any]


@pytest.mark.parametrize("name", METHODS)
def test_a_method_names_what_there_is(name: str) -> None:
    method = METHODS[name]
    assert method.name == name
    assert method.seeding is None or method.seeding in SEEDINGS
    assert method.system in SYSTEMS
    assert set(method.defaults) <= {item.name for item in options()}
    experiment = experiment_from({"method": name})
    assert all(getattr(experiment, key) == value for key, value in method.defaults.items())
    # Histories along candidate seeds are scalar gradients, and nothing else has these.
    assert (method.steps is Steps.KSEED) == (method.seeding in ("uniform", "weighted", "endless"))


def test_what_is_given_wins_over_what_a_method_has_of_its_own() -> None:
    assert experiment_from({"method": "fedit", "optimizer": "sgd"}).optimizer == "sgd"
    assert experiment_from({"method": "fedit"}).optimizer == "adam"
    assert experiment_from({}) == Experiment()


@pytest.mark.parametrize("name", METHODS)
def test_a_whole_run(name: str, tiny_options: Options, tmp_path: Path) -> None:
    small = {"coordinates": 30, "directions": 2, "local_steps": 3, "rank": 2, "virtual_tokens": 3}
    summary = run(tmp_path, tiny_options, method=name, rounds=2, peers=3, topology="line", **small)
    assert misfit(summary, SUMMARY) is None
    assert summary["method"] == name
    losses = [summary["eval_loss"]["initial"], *summary["eval_loss"]["per_round"]]
    assert np.isfinite(losses).all()
    assert len(set(losses)) == 3
    assert summary["timeouts_fired"] == summary["rejected_messages"] == 0
    assert summary["bytes"]["redundancy"] == 1.0
    if METHODS[name].averages:
        assert not summary["digests"]["all_equal"]
        distances = summary["consensus"]["per_round"]
        assert summary["consensus"]["distance"] == distances[-1] > 0
        weights = RunFolder(tmp_path).read_weights()
        assert len(weights) == sum(
            int(np.prod(shape))
            for _, shape, _ in json.loads((tmp_path / "layout.json").read_text())["parameters"]
        )
    else:
        assert summary["digests"]["all_equal"]
        assert "consensus" not in summary
        assert np.any(RunFolder(tmp_path).read_accumulator().sums)


@pytest.mark.parametrize("name", METHODS)
def test_the_centralised_twin_ends_with_one_model(
    name: str, tiny_options: Options, tmp_path: Path
) -> None:
    """And that of a method of sums is the model of any other graph."""
    small = {"coordinates": 30, "directions": 2, "local_steps": 3, "rank": 2, "virtual_tokens": 3}
    shared = {"method": name, "rounds": 2, "peers": 4, "participation": 0.5, **small}
    twin = run(tmp_path / "twin", tiny_options, topology="star", aggregation="server", **shared)
    assert twin["digests"]["all_equal"]
    if not METHODS[name].averages:
        by_gossip = run(tmp_path / "gossip", tiny_options, topology="ring", **shared)
        assert by_gossip["digests"] == twin["digests"]
    else:
        assert twin["consensus"]["distance"] == 0
