"""`kseed bench ray`: its figures follow from whole commands; no time and no cluster is tested."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from typing import Any

import pytest

from peer.errors import RunFailed
from sim.bench import CLUSTER, BenchOptions, bench, overhead
from sim.bench.table import in_words

ASKED = BenchOptions(repeats=3, rounds=2, peers=4)
SECONDS = {"plain": (9.0, 5.0), "workers_1": (18.0, 6.0), "workers_2": (4.5, 4.0)}
"""Of whole commands, and without their start."""


def run_of(flags: Sequence[str]) -> str:
    """Which of the three a command is."""
    return f"workers_{flags[flags.index('--ray-workers') + 1]}" if "ray" in flags else "plain"


def reported(monkeypatch: pytest.MonkeyPatch, odd: str = "") -> dict[str, Any]:
    """The report where one of the three may end with another digest."""
    asked: list[str] = []

    def run(flags: list[str]) -> tuple[float, dict[str, Any]]:
        name = run_of(flags)
        asked.append(name)
        whole, inner = SECONDS[name]
        return whole, {"seconds": {"wall": inner}, "digests": {"accumulator": [name == odd]}}

    monkeypatch.setattr(overhead, "_run", run)
    report: dict[str, Any] = json.loads(json.dumps(bench(CLUSTER, ASKED)))
    # In turns, so that whatever else goes on hits each of them.
    assert asked == [*SECONDS] * ASKED.repeats
    return report


def test_figures_are_ratios_of_medians_over_the_plain_run(monkeypatch: pytest.MonkeyPatch) -> None:
    report = reported(monkeypatch)
    figures = {figure["name"]: figure for figure in report["figures"]}
    assert {name: figure["here"] for name, figure in figures.items()} == {
        "one worker: whole command over the plain one": 2.0,
        "one worker: the same without start-up": 1.2,
        "two workers: whole command over the plain one": 0.5,
        "two workers: the same without start-up": 0.8,
        "digests equal": 1.0,
    }
    assert not figures["one worker: whole command over the plain one"]["holds"]
    assert figures["one worker: the same without start-up"]["holds"]
    assert not report["holds"]
    assert report["digests_equal"]
    assert "2 rounds" in in_words(report)


def test_digests_that_differ_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    report = reported(monkeypatch, odd="workers_2")
    assert not report["digests_equal"]
    assert not report["figures"][-1]["holds"]


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("kseed: first\nkseed: the mistake\n", "a run has failed: kseed: the mistake"),
        ("", "a run has failed: it has ended with status -9"),
    ],
)
def test_a_run_that_fails_is_told_in_one_line(
    monkeypatch: pytest.MonkeyPatch, said: str, told: str
) -> None:
    def ended(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(command, -9, "", said)

    monkeypatch.setattr(subprocess, "run", ended)
    with pytest.raises(RunFailed) as caught:
        bench(CLUSTER, ASKED)
    assert str(caught.value) == told
