"""Scenarios played by real processes: signals, new lives, late comers, partitions."""

import os
import re
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from scenarios.gate import Gate
from scenarios.processes import (
    PATIENCE,
    Process,
    ctrl_c,
    end_of,
    kseed,
    living,
    run,
    wait_until_all_ended,
)

from peer.config import experiment_from
from peer.experiment_file import write_toml
from peer.records import RunFolder
from peer.store import EntryStore
from sim.runner import simulate

pytestmark = pytest.mark.slow
linux = pytest.mark.skipif(sys.platform != "linux", reason="looks at processes through /proc")

SMALL = {
    "trainer": "synthetic",
    "topology": "complete",
    "peers": 4,
    "rounds": 6,
    "local_steps": 5,
    "candidate_seeds": 64,
}
HASTY = {"round_timeout": 1.0, "settle_timeout": 30.0}
LAUNCH = ("launch", "experiment.toml", "--json", "--out", "run")

Incident = dict[str, Any]


def at_round(verb: str, peer: int, round_: int) -> Incident:
    return {"verb": verb, "peer": peer, "round": round_}


def write(folder: Path, *scenario: Incident, **options: Any) -> None:
    values = SMALL | options | {"scenario": scenario}
    (folder / "experiment.toml").write_text(write_toml(values))


def simulated(folder: Path, *scenario: Incident, **options: Any) -> dict[str, Any]:
    values = SMALL | options | {"scenario": scenario, "out": str(folder / "simulated")}
    return simulate(experiment_from(values))


def faults(**counts: int) -> dict[str, Any]:
    names = ("crashes", "restarts", "joins", "leaves", "evictions", "partitions", "holds")
    return {name: counts.get(name, 0) for name in names}


def without_signals(summary: dict[str, Any]) -> dict[str, int]:
    return {k: v for k, v in summary["faults"].items() if k != "exit_signals"}


def log_of(folder: Path, peer: int) -> dict[tuple[int, int], bytes]:
    with EntryStore(folder / "launch" / f"peer-{peer}" / "log.sqlite") as store:
        return {(e.origin, e.sequence): e.content for e in store.load_archive()}


def output_of(folder: Path, peer: int) -> str:
    return (folder / "launch" / f"peer-{peer}" / "output.log").read_text()


def test_who_is_killed_comes_back_and_nothing_is_lost(tmp_path: Path) -> None:
    scenario = [at_round(*one) for one in (("crash", 2, 2), ("restart", 2, 3))]
    # Nobody waits for the dead for long, so the others come to the round of its restart.
    write(tmp_path, *scenario, **HASTY)
    end = run(*LAUNCH, folder=tmp_path)
    assert end.status == 0, end.err
    summary = end.summary
    assert without_signals(summary) == faults(crashes=1, restarts=1)
    assert summary["faults"]["exit_signals"] == [signal.SIGKILL]
    assert [one["lives"] for one in summary["processes"]] == [1, 1, 2, 1]
    assert (summary["absent_peers"], summary["missing_peers"]) == ([], [])
    # These histories do not hang on the cut that they start from.
    assert summary["digests"] == simulated(tmp_path)["digests"]
    logs = [log_of(tmp_path / "run", peer) for peer in range(4)]
    assert logs[1:] == logs[:-1]
    assert len(logs[0]) == 4 * (SMALL["rounds"] + 1)
    told = re.findall(r"kseed: scenario: (.*)", end.err)
    assert told == ["crash 2", "restart 2"]


def test_a_killed_peer_trains_no_logged_round_again(tmp_path: Path) -> None:
    write(tmp_path, at_round("crash", 2, 1), at_round("restart", 2, 2), **HASTY)
    with (
        Gate() as gate,
        kseed(*LAUNCH, folder=tmp_path, environment=gate.environment) as process,
    ):
        # It is killed here: its history of round 0 is on its disk and perhaps nowhere else.
        gate.hold("stored 2 0")
        gate.release("stored 2 0")
        gate.open()
        end = end_of(process)
    assert end.status == 0, end.err
    trained = re.findall(r"trains in round (\d+)", output_of(tmp_path / "run", 2))
    assert trained.count("0") == 1
    assert {int(round_) for round_ in trained} == set(range(SMALL["rounds"]))
    assert end.summary["digests"] == simulated(tmp_path)["digests"]


def test_bytes_of_all_lives_are_counted(tmp_path: Path) -> None:
    write(tmp_path, at_round("crash", 1, 4), at_round("restart", 1, 5), **HASTY)
    end = run(*LAUNCH, folder=tmp_path)
    assert end.status == 0, end.err
    folder = RunFolder(tmp_path / "run" / "launch" / "peer-1")
    sent = folder.read_links().total()
    # Every peer publishes a history a round and an END, and pushes each to all others.
    mine = len([key for key in log_of(tmp_path / "run", 1) if key[0] == 1])
    assert mine == SMALL["rounds"] + 1
    assert sent.payload_messages >= 3 * 4
    whole = RunFolder(tmp_path / "run").read_links()
    assert sum(count.wire_bytes for a, _, count in whole.links() if a == 1) == sent.wire_bytes


@pytest.mark.parametrize("verb", ["crash", "hold"])
def test_who_is_not_there_at_the_end_is_absent(tmp_path: Path, verb: str) -> None:
    # Nor may a busy machine keep the last entries of the others from one of them for so long.
    write(tmp_path, at_round(verb, 3, 2), round_timeout=0.5, settle_timeout=8.0)
    end = run(*LAUNCH, folder=tmp_path)
    assert end.status == 3, end.err
    summary = end.summary
    assert summary["absent_peers"] == summary["missing_peers"] == [3]
    assert summary["digests"]["all_equal"]
    assert len(summary["digests"]["accumulator"]) == 3
    # A stopped process is told to end like all that are left, and let go on to hear it.
    ended_by = signal.SIGKILL if verb == "crash" else signal.SIGTERM
    assert summary["faults"]["exit_signals"] == [ended_by]


def test_who_is_stopped_goes_on(tmp_path: Path) -> None:
    release = {"verb": "release", "peer": 1, "time": 2.0}
    write(tmp_path, at_round("hold", 1, 2), release)
    end = run(*LAUNCH, folder=tmp_path)
    assert end.status == 0, end.err
    summary = end.summary
    assert without_signals(summary) == faults(holds=1)
    assert summary["faults"]["exit_signals"] == []
    assert summary["timeouts_fired"] == 0
    assert summary["seconds"]["wall"] > 2.0
    assert summary["digests"] == simulated(tmp_path)["digests"]
    assert summary["entries"] == simulated(tmp_path, resume=True)["entries"]


def test_a_partition_lets_nothing_through_until_it_is_repaired(tmp_path: Path) -> None:
    cut = {"verb": "partition", "peers": [0, 1], "round": 2}
    repair = {"verb": "repair", "time": 4.0}
    write(tmp_path, cut, repair, round_timeout=0.5, settle_timeout=30.0)
    end = run(*LAUNCH, folder=tmp_path)
    assert end.status == 0, end.err
    assert without_signals(end.summary) == faults(partitions=1)
    assert end.summary["digests"] == simulated(tmp_path)["digests"]
    for peer in range(4):
        others = {2, 3} if peer < 2 else {0, 1}
        missed = re.findall(r"closed round \d+ without \((.*)\)", output_of(tmp_path / "run", peer))
        assert missed
        for line in missed:
            assert {int(name) for name in line.split(",") if name} <= others


def test_late_comers_and_leavers_are_those_of_the_simulator(tmp_path: Path) -> None:
    scenario = [at_round("join", 3, 1), at_round("leave", 0, 4)]
    write(tmp_path, *scenario, rounds=8)
    end = run(*LAUNCH, folder=tmp_path)
    assert end.status == 0, end.err
    summary, expected = end.summary, simulated(tmp_path, *scenario, rounds=8)
    assert without_signals(summary) == faults(joins=1, leaves=1)
    assert summary["timeouts_fired"] == 0
    assert summary["absent_peers"] == expected["absent_peers"] == [0]
    assert summary["digests"] == expected["digests"]
    assert summary["entries"]["published"] == expected["entries"]["published"]
    assert summary["faults"]["exit_signals"] == []


def test_nobody_waits_for_the_evicted(tmp_path: Path) -> None:
    scenario = [at_round("crash", 3, 2), at_round("evict", 3, 4)]
    # A neighbour counts as dead after ten ticks of silence.
    write(tmp_path, *scenario, round_timeout=1.0, settle_timeout=240.0, tick=0.5)
    end = run(*LAUNCH, folder=tmp_path)
    assert end.status == 0, end.err
    assert without_signals(end.summary) == faults(crashes=1, evictions=1)
    assert (end.summary["absent_peers"], end.summary["missing_peers"]) == ([3], [])
    assert end.summary["digests"]["all_equal"]


def test_what_has_befallen_a_run_is_not_repeated_when_it_is_resumed(tmp_path: Path) -> None:
    scenario = [at_round("crash", 2, 1), at_round("restart", 2, 4)]
    write(tmp_path, *scenario, **HASTY)
    with (
        Gate() as gate,
        kseed(*LAUNCH, folder=tmp_path, environment=gate.environment) as process,
    ):
        # Held here, none of them comes to round 4 before it sees that its launcher is gone.
        gate.hold("trains 0 3", "trains 1 3", "trains 3 3")
        process.kill()
        end_of(process)
        wait_until_all_ended(process)
    end = run(*LAUNCH, "--resume", folder=tmp_path)
    assert end.status == 0, end.err
    assert re.findall(r"kseed: scenario: (.*)", end.err) == ["restart 2"]
    assert without_signals(end.summary) == faults(crashes=1, restarts=1)
    assert end.summary["digests"] == simulated(tmp_path)["digests"]


def test_a_run_without_anybody_fails_in_one_line(tmp_path: Path) -> None:
    everybody = {"verb": "crash", "peers": [0, 1, 2, 3], "round": 2}
    write(tmp_path, everybody, log_level="warning")
    end = run(*LAUNCH, folder=tmp_path)
    assert (end.status, end.out) == (1, "")
    assert end.err == "kseed: the scenario has left no peer that could end the run\n"


def test_all_may_be_dead_for_some_time(tmp_path: Path) -> None:
    everybody = {"peers": [0, 1, 2, 3]}
    scenario = [
        everybody | {"verb": "crash", "round": 2},
        everybody | {"verb": "restart", "time": 2.0},
    ]
    write(tmp_path, *scenario, rounds=400, local_steps=1)
    end = run(*LAUNCH, folder=tmp_path)
    assert end.status == 0, end.err
    assert without_signals(end.summary) == faults(crashes=4, restarts=4)
    assert end.summary["digests"]["all_equal"]


@contextmanager
def a_run_with_a_stopped_peer(folder: Path) -> Iterator[Process]:
    write(folder, at_round("hold", 2, 1), round_timeout=240.0)
    with kseed(*LAUNCH, folder=folder) as process:
        assert process.stderr is not None
        while "scenario: hold 2" not in process.stderr.readline():
            pass
        # The signal is on its way.
        deadline = time.monotonic() + PATIENCE
        while "T" not in map(state_of, living(process)):
            assert time.monotonic() < deadline
        yield process
        wait_until_all_ended(process)


def state_of(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


@linux
def test_ctrl_c_ends_stopped_peers_as_well(tmp_path: Path) -> None:
    with a_run_with_a_stopped_peer(tmp_path) as process:
        ctrl_c(process)
        end = end_of(process)
    assert (end.status, end.out) == (130, "")
    assert end.err.endswith("kseed: interrupted\n")


@linux
@pytest.mark.parametrize("signal_", [signal.SIGTERM, signal.SIGKILL])
def test_stopped_peers_end_with_their_launcher(tmp_path: Path, signal_: int) -> None:
    with a_run_with_a_stopped_peer(tmp_path) as process:
        os.kill(process.pid, signal_)
        assert end_of(process).status == -signal_


@linux
def test_a_peer_that_dies_unbidden_still_ends_the_run(tmp_path: Path) -> None:
    write(tmp_path, at_round("crash", 1, 2), at_round("restart", 1, 3), log_level="warning")
    with (
        Gate() as gate,
        kseed(*LAUNCH, folder=tmp_path, environment=gate.environment) as process,
    ):
        [pid] = gate.hold("trains 3 1")
        os.kill(pid, signal.SIGKILL)
        end = end_of(process)
        wait_until_all_ended(process)
    message = "kseed: peer 3 was ended by SIGKILL (see run/launch/peer-3/output.log)\n"
    assert end == (1, "", message)
