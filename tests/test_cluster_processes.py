"""Runs on a real Ray cluster of two nodes on this machine, of which workers and a node are lost."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp
from typing import Any

import pytest
from runs import without_costs
from scenarios.processes import PATIENCE, Process, end_of, flags, kseed, run

pytest.importorskip("ray")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(sys.platform != "linux", reason="looks at processes through /proc"),
]

SHARED = Path(__file__).parents[2] / "shared" / "data"
MODEL = SHARED / "stories260K-hf"
ROWS = SHARED / "dolly15k" / "databricks-dolly-15k.jsonl"

SIM: dict[str, Any] = {"peers": 16, "rounds": 5, "local_steps": 4, "eval_rows": 10}
if MODEL.exists() and ROWS.exists():
    SIM |= {"model": MODEL, "data": ROWS, "max_length": 128}

LAST = f"after round {SIM['rounds']} "
"""What is said when the last round is done."""

# Without a model, for a setting with one takes a worker seconds to begin.
GRID = ("--trainer", "synthetic", "--peers", "16", "--rounds", "2", "--out", "s")
STUDY = (
    *("study", "--sweep", "topology=ring,torus,star", "--sweep", "gossip=tree,flood"),
    *("--sweep", "participation=0.3,0.5,0.7,1", *GRID),
)
SETTINGS = 24


@dataclass
class TwoNodes:
    """A cluster, and what can befall it."""

    process: subprocess.Popen[str]
    address: str

    @property
    def where(self) -> tuple[str, ...]:
        return ("--engine", "ray", "--ray-address", self.address)

    def workers(self) -> list[int]:
        """Return the processes of its workers that have begun to work."""
        mine = {self.process.pid}
        raylets = {pid for pid, parent, _ in _processes() if parent in mine}
        return [
            pid
            for pid, parent, command in _processes()
            if parent in raylets and command.startswith(("ray::Worker", "ray::_called"))
        ]

    def befall(self, what: str) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(what + "\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline() == "done\n"


def _processes() -> Iterator[tuple[int, int, str]]:
    """Yield (process, parent, command line)."""
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            state, parent = (folder / "stat").read_text().rpartition(")")[2].split()[:2]
            if state not in "ZX":
                yield int(folder.name), int(parent), (folder / "cmdline").read_text()


@pytest.fixture(scope="module")
def cluster() -> Iterator[TwoNodes]:
    process = subprocess.Popen(
        [sys.executable, str(Path(__file__).parent / "scenarios" / "ray_cluster.py")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    try:
        yield TwoNodes(process, process.stdout.readline().strip())
    finally:
        with suppress(subprocess.TimeoutExpired):
            process.communicate(timeout=PATIENCE)
        process.kill()


@dataclass
class Alone:
    """The run of one process."""

    summary: dict[str, Any]
    states: list[str]


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Alone:
    folder = tmp_path_factory.mktemp("alone")
    end = run("sim", *flags(SIM), "--out", "r", "--json", folder=folder)
    assert end.status == 0, end.err
    return Alone(without_costs(end.summary), _states(folder / "r"))


def _states(folder: Path) -> list[str]:
    """Return the digests of a run's state, round by round."""
    lines = (folder / "rounds.jsonl").read_text().splitlines()
    return [json.loads(line)["accumulator"] for line in lines]


def until(condition: Callable[[], bool], what: str) -> None:
    began = time.monotonic()
    while not condition():
        assert time.monotonic() < began + PATIENCE, what
        time.sleep(0.05)


def _wait_until(process: Process, said: str) -> None:
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith(said):
            return
    raise AssertionError("it has ended before")


def test_a_lost_worker_node_and_driver_change_nothing(
    cluster: TwoNodes, alone: Alone, tmp_path: Path
) -> None:
    out = ("--out", "r", *cluster.where)
    with kseed("sim", *flags(SIM), *out, folder=tmp_path) as process:
        _wait_until(process, "after round 1 ")
        os.kill(cluster.workers()[0], signal.SIGKILL)
        _wait_until(process, "kseed: a worker is lost")
        _wait_until(process, "after round 2 ")
        cluster.befall("remove")
        _wait_until(process, "after round 3 ")
        os.kill(process.pid, signal.SIGKILL)
        end_of(process)
        until(lambda: not cluster.workers(), "workers live on")
    # One node is left, and it is enough.
    resumed = run("sim", *flags(SIM), *out, "--resume", "--json", folder=tmp_path)
    cluster.befall("add")
    assert resumed.status == 0, resumed.err
    assert resumed.summary["cluster"] == {"workers": 1, "nodes": 1, "lost": 0}
    assert resumed.summary["digests"] == alone.summary["digests"]
    assert resumed.summary["eval_loss"] == alone.summary["eval_loss"]
    assert _states(tmp_path / "r") == alone.states


def _table(folder: Path) -> list[dict[str, str]]:
    with (folder / "s" / "table.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    return [{key: value for key, value in row.items() if key != "wall_seconds"} for row in rows]


def _results(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in (folder / "s/settings").glob("*.json")}


def test_a_study_with_a_lost_node_does_each_setting_once(cluster: TwoNodes, tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    for folder in (here, there):
        folder.mkdir()
    assert run(*STUDY, "--workers", "1", folder=here).status == 0
    with kseed(*STUDY, *cluster.where, folder=there) as process:
        _wait_until(process, f"3 of {SETTINGS}")
        before = _results(there)
        cluster.befall("remove")
        end = end_of(process)
    cluster.befall("add")
    assert end.status == 0, end.err
    assert f"{SETTINGS} of {SETTINGS} done" in end.out
    after = _results(there)
    assert len(after) == SETTINGS
    assert {name: after[name] for name in before} == before
    assert _table(there) == _table(here)


def test_an_interrupted_study_keeps_what_is_done(cluster: TwoNodes, tmp_path: Path) -> None:
    with kseed(*STUDY, *cluster.where, folder=tmp_path) as process:
        _wait_until(process, f"3 of {SETTINGS}")
        os.kill(process.pid, signal.SIGINT)
        end = end_of(process)
        until(lambda: not cluster.workers(), "workers live on")
    assert end.status == 130
    before = _results(tmp_path)
    told = f"kseed: {len(before)} of {SETTINGS} settings are kept; to go on: kseed study --out s"
    flags_ = f" --engine ray --ray-address {cluster.address}"
    assert end.err.splitlines()[-2:] == [told + flags_, "kseed: interrupted"]
    resumed = run("study", "--out", "s", *cluster.where, folder=tmp_path)
    assert resumed.status == 0, resumed.err
    assert f"{SETTINGS} of {SETTINGS} done, {len(before)} of them before" in resumed.out
    after = _results(tmp_path)
    assert {name: after[name] for name in before} == before


def test_a_setting_that_needs_a_file_of_this_machine_finds_it_there(
    cluster: TwoNodes, tmp_path: Path
) -> None:
    graph = {"nodes": [{"id": n} for n in range(4)], "edges": []}
    graph["edges"] = [{"source": n, "target": (n + 1) % 4} for n in range(4)]
    (tmp_path / "mine.json").write_text(
        json.dumps({"directed": False, "multigraph": False, **graph})
    )
    study = ("study", "--topology", "mine.json", "--sweep", "seed=1,2", "--rounds", "1")
    synthetic = ("--trainer", "synthetic", "--out", "s")
    end = run(*study, *synthetic, *cluster.where, folder=tmp_path)
    assert end.status == 0, end.err
    assert "2 of 2 done" in end.out


def test_methods_are_compared_side_by_side(cluster: TwoNodes, tmp_path: Path) -> None:
    compare = ("compare", "--methods", "fedkseed,fedavg", "--peers", "4", "--rounds", "2")
    synthetic = ("--trainer", "synthetic")
    end = run(*compare, *synthetic, *cluster.where, "--out", "there", folder=tmp_path)
    assert end.status == 0, end.err
    assert run(*compare, *synthetic, "--out", "here", folder=tmp_path).status == 0
    for name in ("fedkseed-seed-0", "fedavg-seed-0"):
        there, here = (
            tmp_path / each / "runs" / name / "rounds.jsonl" for each in ("there", "here")
        )
        assert there.read_text() == here.read_text()


def test_a_cluster_of_one_s_own_ends_with_the_command(alone: Alone, tmp_path: Path) -> None:
    # Sockets in it have to have short names.
    place = mkdtemp(prefix="ray-", dir="/tmp")
    try:
        where = ("--engine", "ray", "--ray-address", "local", "--ray-workers", "1", "--json")
        with kseed(
            "sim", *flags(SIM), *where, folder=tmp_path, environment={"RAY_TMPDIR": place}
        ) as process:
            _wait_until(process, LAST)
            end = end_of(process)
        assert end.status == 0, end.err
        # Nothing of Ray's own is said, neither here nor beside the summary.
        assert not end.err
        here = without_costs(end.summary)
        assert here.pop("cluster") == {"workers": 1, "nodes": 1, "lost": 0}
        assert here == alone.summary
        until(
            lambda: not any(place in command for _, _, command in _processes()),
            "something of the cluster lives on",
        )
    finally:
        rmtree(place, ignore_errors=True)
