"""The published setting in small, on a real model and real instructions, by both doors."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

import sim
from peer.config import Experiment
from peer.launcher import launch

SHARED = Path(__file__).parents[2] / "shared" / "data"
MODEL = SHARED / "stories260K-hf"
ROWS = SHARED / "dolly15k" / "databricks-dolly-15k.jsonl"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(
        not (MODEL.exists() and ROWS.exists()),
        reason="stories260K and Dolly are not beside the project",
    ),
]


def experiment(folder: Path) -> Experiment:
    return Experiment(
        model=str(MODEL),
        data=str(ROWS),
        rounds=6,
        max_length=512,
        eval_rows=100,
        out=str(folder),
    )


def test_a_ring_of_peers_learns_and_processes_end_with_the_simulators_digests(
    tmp_path: Path,
) -> None:
    begun = replace(experiment(tmp_path / "sim"), rounds=2)
    simulated = sim.run(begun)
    launched = launch(replace(begun, out=str(tmp_path / "launch")))
    assert launched["digests"] == simulated["digests"]
    assert launched["bytes"]["payload_total"] == simulated["bytes"]["payload_total"]
    whole = sim.run(replace(experiment(tmp_path / "sim"), resume=True))
    loss = whole["eval_loss"]
    assert loss["initial"] - loss["final"] >= 0.2
    assert loss["final"] < 3.9
    assert whole["digests"]["all_equal"]


@pytest.mark.parametrize("method", ["fedkseed", "fedkseed-pro"])
def test_every_topology_gives_the_same_model(method: str, tmp_path: Path) -> None:
    some = tmp_path / "rows.jsonl"
    some.write_text("".join(ROWS.read_text(encoding="utf-8").splitlines(keepends=True)[:300]))
    short = replace(
        experiment(tmp_path), data=str(some), method=method, rounds=2, local_steps=5, eval_rows=10
    )
    digests = []
    for topology in ("ring", "star", "torus", "complete", "random-regular", "watts-strogatz"):
        summary = sim.run(replace(short, topology=topology, out=str(tmp_path / topology)))
        digests.append(summary["digests"])
    assert digests[0]["all_equal"]
    assert all(other == digests[0] for other in digests)
