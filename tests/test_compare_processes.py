"""`kseed compare` with processes of its own: interrupted, and gone on with."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from scenarios.processes import Process, end_of, kseed, run, wait_until_all_ended

from sim.study.workers import each_in_its_own

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="looks at processes through /proc"),
]

COMPARE = (
    *("compare", "--methods", "fedkseed,fedkseed-pro", "--seeds", "2", "--trainer", "synthetic"),
    *("--peers", "16", "--rounds", "3", "--local-steps", "5"),
)
RUNS = 4


def _pid(_item: int) -> int:
    return os.getpid()


def test_each_has_a_process_of_its_own() -> None:
    pids = [pid for _, pid in each_in_its_own(_pid, range(2))]
    assert len({os.getpid(), *pids}) == 3


def _wait_until(process: Process, done: int) -> None:
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith(f"{done} of "):
            return
    raise AssertionError("it has ended before")


def _finished(folders: Sequence[Path]) -> dict[str, int]:
    paths = [path for folder in folders for path in folder.glob("runs/*/summary.json")]
    return {path.parent.name: path.stat().st_mtime_ns for path in paths}


def test_after_ctrl_c_the_same_command_goes_on_and_repeats_nothing(tmp_path: Path) -> None:
    with kseed(*COMPARE, folder=tmp_path) as process:
        _wait_until(process, 1)
        # The command alone: the process of its run must notice by itself.
        os.kill(process.pid, signal.SIGINT)
        wait_until_all_ended(process)
        end = end_of(process)
    [folder] = (tmp_path / "runs").iterdir()
    before = _finished([folder])
    assert end.status == 130
    assert 1 <= len(before) < RUNS
    told = f"kseed: {len(before)} of {RUNS} runs are finished; to go on: kseed compare --out runs/"
    assert end.err.splitlines()[-2:] == [f"{told}{folder.name}", "kseed: interrupted"]
    assert "leaked" not in end.err
    again = run(*COMPARE, folder=tmp_path)
    assert again.status == 0, again.err
    after = _finished([folder])
    assert len(after) == RUNS
    assert {name: after[name] for name in before} == before
    assert [*(tmp_path / "runs").iterdir()] == [folder]
