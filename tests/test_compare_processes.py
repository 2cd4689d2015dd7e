"""`kseed compare` and `--tune` with processes of their own: interrupted, gone on with, measured."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from scenarios.processes import Process, end_of, flags, kseed, run, wait_until_all_ended

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


def test_launch_takes_the_values_found(tmp_path: Path, tiny_options: dict[str, Any]) -> None:
    wanted = tiny_options | {"peers": 2, "rounds": 1, "local_steps": 1, "out": "r"}
    end = run("launch", *flags(wanted), "--tune", "--json", folder=tmp_path)
    assert end.status == 0, end.err
    found = json.loads((tmp_path / "r/tune.json").read_text())
    config = (tmp_path / "r/config.toml").read_text()
    for name, value in found["chosen"].items():
        assert f"{name} = {value!r}\n" in config
    assert end.summary["digests"]["all_equal"]
