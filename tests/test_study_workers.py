"""Workers of a study in processes of their own: they die, are interrupted, and leave no orphans."""

from __future__ import annotations

import csv
import os
import signal
import sys
from contextlib import closing
from pathlib import Path

import pytest
from scenarios.processes import Process, end_of, kseed, run, wait_until_all_ended

from sim.study.workers import WorkerDied, done_by_workers

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="looks at processes through /proc"),
]

STUDY = (
    *("study", "--sweep", "topology=ring,torus", "--sweep", "gossip=tree,flood", "--rounds", "3"),
    *("--sweep", "participation=0.3,0.6,1", "--peers", "24", "--out", "s"),
)
SETTINGS = 12


def _square_or_die(number: int) -> int:
    if number == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return number**2


def _pid(_item: int) -> int:
    return os.getpid()


def test_who_kills_a_worker_is_known_and_the_others_are_done() -> None:
    with closing(done_by_workers(_square_or_die, range(8), 2)) as results:
        found = dict(results)
    assert isinstance(found.pop(3), WorkerDied)
    assert found == {number: number**2 for number in range(8) if number != 3}


def test_left_before_the_end_no_worker_stays() -> None:
    with closing(done_by_workers(_pid, range(100), 2)) as results:
        pids = {next(results)[1], next(results)[1]}
    for pid in pids:
        assert isinstance(pid, int)
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def _wait_until(process: Process, done: int) -> None:
    """Wait until so many settings are done."""
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith(f"{done} of "):
            return
    raise AssertionError("it has ended before")


def _results(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in (folder / "s/settings").glob("*.json")}


def _table(folder: Path) -> list[dict[str, str]]:
    with (folder / "s/table.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    return [{key: value for key, value in row.items() if key != "wall_seconds"} for row in rows]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, str]]:
    folder = tmp_path_factory.mktemp("undisturbed")
    assert run(*STUDY, "--workers", "1", folder=folder).status == 0
    return _table(folder)


@pytest.mark.parametrize("signal_", [signal.SIGINT, signal.SIGKILL])
def test_a_study_that_was_ended_goes_on_and_repeats_nothing(
    tmp_path: Path, undisturbed: list[dict[str, str]], signal_: signal.Signals
) -> None:
    with kseed(*STUDY, "--workers", "2", folder=tmp_path) as process:
        _wait_until(process, 3)
        # The command alone: its workers must notice by themselves.
        os.kill(process.pid, signal_)
        wait_until_all_ended(process)
        end = end_of(process)
    assert "leaked" not in end.err
    before = _results(tmp_path)
    assert 3 <= len(before) < SETTINGS
    if signal_ is signal.SIGINT:
        assert end.status == 130
        told = f"kseed: {len(before)} of {SETTINGS} settings are kept; to go on: "
        assert end.err.splitlines()[-2:] == [f"{told}kseed study --out s", "kseed: interrupted"]
    resumed = run("study", "--out", "s", "--workers", "2", folder=tmp_path)
    assert resumed.status == 0, resumed.err
    assert f"{SETTINGS} of {SETTINGS} done, {len(before)} of them before" in resumed.out
    after = _results(tmp_path)
    assert len(after) == SETTINGS
    assert {name: after[name] for name in before} == before
    assert _table(tmp_path) == undisturbed
