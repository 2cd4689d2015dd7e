"""The published setting in small, on a real model and real instructions, by both doors."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

import sim
from peer.config import Experiment, experiment_from
from peer.launcher import launch
from sim.runner import simulate

SHARED = Path(__file__).parents[2] / "shared" / "data"
MODEL = SHARED / "stories260K-hf"
ROWS = SHARED / "dolly15k" / "databricks-dolly-15k.jsonl"
TASKS = SHARED / "natural-instructions-mini"

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
        rounds=3,
        max_length=192,
        eval_rows=50,
        out=str(folder),
    )


def test_a_ring_of_peers_learns_and_processes_end_with_the_simulators_digests(
    tmp_path: Path,
) -> None:
    begun = replace(experiment(tmp_path / "sim"), rounds=1)
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
    small = {"rounds": 2, "local_steps": 3, "eval_rows": 5, "max_length": 128}
    short = replace(experiment(tmp_path), data=str(some), method=method, **small)
    digests = []
    for topology in ("ring", "star", "torus", "complete", "random-regular", "watts-strogatz"):
        summary = simulate(replace(short, topology=topology, out=str(tmp_path / topology)))
        digests.append(summary["digests"])
    assert digests[0]["all_equal"]
    assert all(other == digests[0] for other in digests)


@pytest.mark.skipif(not TASKS.exists(), reason=f"{TASKS.name} is not beside the project")
def test_tasks_of_natural_instructions_are_peers_by_both_doors(tmp_path: Path) -> None:
    """The preset, on five of its tasks."""
    tasks = ("task1146_country_capital", "task1147_country_currency", "task1508_wordnet_antonyms")
    tests = ("task393_plausible_result_generation", "task1622_disfl_qa_text_modication")
    lists = tmp_path / "data" / "splits" / "default"
    (tmp_path / "data" / "tasks").mkdir(parents=True)
    lists.mkdir(parents=True)
    for name, listed in (("train_tasks.txt", tasks), ("test_tasks.txt", tests)):
        (lists / name).write_text("\n".join(listed))
        for task in listed:
            shutil.copy(TASKS / "tasks" / f"{task}.json", tmp_path / "data" / "tasks")
    short = experiment_from(
        {
            "preset": "ni",
            "model": str(MODEL),
            "data": str(tmp_path / "data"),
            "participation": 1.0,
            "rounds": 2,
            "local_steps": 5,
            "learning_rate": 1e-4,
            "candidate_seeds": 32,
            "dtype": "float32",
            "perturbation": "rademacher",
        }
    )
    simulated = sim.run(replace(short, out=str(tmp_path / "sim")))
    launched = launch(replace(short, out=str(tmp_path / "launch")))
    assert launched["digests"] == simulated["digests"]
    assert len(simulated["digests"]["accumulator"]) == 3
    assert simulated["data"]["eval_rows"] == launched["data"]["eval_rows"] == 40
    assert sorted(simulated["data"]["rows_per_peer"]) == sorted(launched["data"]["rows_per_peer"])
