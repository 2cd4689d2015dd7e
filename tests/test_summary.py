"""Summaries and the records of rounds, from what a run has ended with."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from runs import SYNTHETIC, lines

import peer.setup
import topology
from peer.accumulator import Accumulator
from peer.chronicle import Chronicle
from peer.config import experiment_from
from peer.reporting import RoundReport
from peer.summary import Outcome, summarise
from peer.traffic import LinkCount, Traffic
from peer.trainer import SyntheticTrainer
from peer.units import choose_units


def ended(accumulators: list[str], models: list[str], **changes: Any) -> dict[str, Any]:
    """The summary of a run that ended with these digests."""
    outcome = Outcome(
        accumulator_digests=accumulators,
        model_digests=models,
        published=2,
        lower_bound=60,
        received=[1, 1],
        timeouts=0,
        missing=(),
        traffic=Traffic(),
    )
    experiment = experiment_from(SYNTHETIC | {"peers": 2})
    graph = topology.build("line", 2)
    return summarise("sim", experiment, graph, None, None, replace(outcome, **changes))


@pytest.mark.parametrize(
    ("accumulators", "models", "equal"),
    [
        (["a", "a"], ["m", "m"], True),
        (["a", "a"], [], True),
        (["a", "b"], ["m", "m"], False),
        (["a", "a"], ["m", "n"], False),
        (["a", "b"], [], False),
    ],
)
def test_equal_means_that_accumulators_and_models_are(
    accumulators: list[str], models: list[str], equal: bool
) -> None:
    assert ended(accumulators, models)["digests"] == {
        "accumulator": accumulators,
        "model": models or None,
        "all_equal": equal,
    }


def test_what_went_wrong_is_in_the_summary() -> None:
    summary = ended(["a", "b"], [], timeouts=3, missing=(1,), rejected=4, exit_signals=[9])
    assert summary["timeouts_fired"] == 3
    assert summary["missing_peers"] == [1]
    assert summary["rejected_messages"] == 4
    assert summary["faults"]["exit_signals"] == [9]
    assert "processes" not in summary
    processes = [{"peer": 0, "pid": 7, "address": "tcp://127.0.0.1:5000"}]
    assert ended(["a", "a"], [], processes=processes)["processes"] == processes


def test_a_round_is_recorded_from_the_reports_of_its_peers(tmp_path: Path) -> None:
    prepared = peer.setup.prepare(experiment_from(SYNTHETIC | {"out": str(tmp_path)}), "sim")
    chronicle = Chronicle(prepared)
    cut = prepared.protocol.empty_accumulator()
    reports = [
        RoundReport(peer=0, round=0, loss=2.0, skipped=0, seconds=1.0),
        RoundReport(peer=1, round=0, loss=math.nan, skipped=6, seconds=1.0),
        RoundReport(peer=2, round=0, loss=5.0, skipped=1, seconds=1.0),
    ]
    assert not chronicle.knows(1)
    assert math.isnan(chronicle.close(1, cut, reports, LinkCount(1, 200, 3, 40, 15)))
    assert chronicle.knows(1)
    assert lines(tmp_path) == [
        {
            "round": 1,
            "eval_loss": None,
            "train_loss": 3.5,
            "skipped_steps": 7,
            "payload_bytes": 200,
            "control_bytes": 40,
            "wire_bytes": 255,
            "accumulator": cut.digest(),
            "rouge_l": None,
            "tasks": None,
            "perturbations": 0,
        }
    ]
    # Rounds are kept in order, whichever is recorded first.
    chronicle.close(0, cut, [], LinkCount())
    assert [record["round"] for record in lines(tmp_path)] == [0, 1]
    assert Chronicle(prepared).knows(1)


def test_without_entries_there_is_no_redundancy() -> None:
    assert ended(["a", "a"], [])["bytes"]["redundancy"] == 0.0
    assert ended(["a", "a"], [], published=0, lower_bound=0)["bytes"]["redundancy"] is None


def test_synthetic_histories_are_functions_of_seed_peer_and_round() -> None:
    cut = Accumulator.empty(4, choose_units(1e-4, 1, 50, 1.0, 2))
    indices = np.zeros(50, dtype=np.int64)
    made = {
        (seed, peer_, round_): SyntheticTrainer(seed).train(peer_, round_, cut, indices)
        for seed in (0, 1)
        for peer_ in (0, 1)
        for round_ in (0, 1)
    }
    assert len({each.gradients.tobytes() for each in made.values()}) == 8
    again = SyntheticTrainer(1).train(0, 1, cut, indices + 3)
    assert again.gradients.tobytes() == made[1, 0, 1].gradients.tobytes()
    everything = np.concatenate([each.gradients for each in made.values()])
    assert np.all(np.abs(everything) < 1)
    assert abs(everything.mean()) < 0.1
    assert everything.std() == pytest.approx(3**-0.5, rel=0.1)
    assert all(math.isnan(each.loss) and each.skipped == 0 for each in made.values())
