"""Peers on hosts of their own: a slow and lossy network between them, and users' mistakes in it."""

from __future__ import annotations

import random
import re
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from scenarios import switch
from scenarios.processes import COMMAND, run, write_options
from scenarios.switch import Hosts

from sim.cli import main

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(switch.wanting()), reason=switch.wanting() or "there are hosts"),
]

PATIENCE = 120.0
SMALL = {
    "trainer": "synthetic",
    "rounds": 4,
    "local_steps": 5,
    "candidate_seeds": 64,
    "sign": True,
}
AHEAD = """
import runpy, sys, time
there, seconds = time.time, float(sys.argv[1])
time.time = lambda: there() + seconds
sys.argv[:] = sys.argv[2:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
"""Runs a program on a host whose clock is so many seconds ahead."""


class Network:
    """An experiment and a roster on hosts, and the peers that were started there."""

    def __init__(self, folder: Path, hosts: Hosts, stack: ExitStack) -> None:
        self._folder, self._hosts, self._stack = folder, hosts, stack
        self._processes: list[subprocess.Popen[str]] = []

    def start(
        self, index: int, host: int | None = None, before: Sequence[str] = (), **files: Path
    ) -> subprocess.Popen[str]:
        """Start a peer on its host, or on another's."""
        host = index if host is None else host
        out = self._folder / f"{host}-{len(self._processes)}"
        experiment = files.get("experiment", self._folder / "experiment.toml")
        roster = files.get("roster", self._folder / "roster.toml")
        python, *program = COMMAND
        command = [python, *before, *program, "peer", "--experiment", str(experiment)]
        command += ["--roster", str(roster), "--index", str(index), "--out", str(out)]
        log = self._stack.enter_context(self.log(out).open("w"))
        process = subprocess.Popen(
            self._hosts.command(host, *command),
            cwd=self._folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
        self._processes.append(process)
        self._stack.callback(end, process)
        return process

    def log(self, out: Path) -> Path:
        return out.with_suffix(".log")

    def said(self, process: subprocess.Popen[str]) -> str:
        """What a peer has logged so far."""
        place = self._processes.index(process)
        [path] = self._folder.glob(f"*-{place}.log")
        return path.read_text()

    def until(self, process: subprocess.Popen[str], text: str) -> None:
        """Wait until a peer has logged something."""
        deadline = time.monotonic() + PATIENCE
        while text not in self.said(process):
            assert process.poll() is None, self.said(process)
            assert time.monotonic() < deadline, self.said(process)
            time.sleep(0.05)


def end(process: subprocess.Popen[str]) -> None:
    if process.poll() is None:
        process.kill()
    process.communicate(timeout=PATIENCE)


@contextmanager
def network(
    folder: Path, peers: int, *, latency: float = 0.0, loss: float = 0.0, **options: Any
) -> Iterator[tuple[Network, Hosts]]:
    write_options(folder / "experiment.toml", SMALL | {"peers": peers} | options)
    assert make_roster(folder, folder) == 0
    with switch.hosts(peers, latency, loss, folder) as hosts, ExitStack() as stack:
        yield Network(folder, hosts, stack), hosts


def make_roster(folder: Path, to: Path) -> int:
    names = ["roster", str(folder / "experiment.toml"), "--hosts", "node{}", "--to", str(to)]
    return main(names)


def outputs(processes: Mapping[int, subprocess.Popen[str]]) -> list[tuple[int, str]]:
    """How peers have ended, and what they have printed, by their numbers."""
    ends = []
    for _, process in sorted(processes.items()):
        out, _ = process.communicate(timeout=PATIENCE)
        ends.append((process.returncode, out))
    return ends


def as_simulated(folder: Path) -> list[tuple[int, str]]:
    """How peers end that come to what the simulator comes to."""
    summary = run("sim", "experiment.toml", "--json", "--out", "sim", folder=folder).summary
    digests = summary["digests"]["accumulator"]
    return [(0, f"accumulator {digest}\n") for digest in digests]


def test_a_slow_lossy_network_whose_hosts_come_up_in_any_order_and_one_is_cut_off(
    tmp_path: Path,
) -> None:
    """40 ms and 1% loss; six hosts within 30 s; one of them cut off for 20 s."""
    with network(tmp_path, 6, latency=0.04, loss=0.01, rounds=40) as (net, hosts):
        order, processes = random.Random(7).sample(range(6), 6), {}
        began = time.monotonic()
        moments = sorted(random.Random(8).uniform(0, 30) for _ in order[2:])
        for moment, peer in zip([0.0, *moments, 30.0], order, strict=True):
            # The times at which hosts come up are what is tested.
            time.sleep(max(0.0, began + moment - time.monotonic()))
            processes[peer] = net.start(peer)
        net.until(processes[4], "trains in round 3\n")
        hosts.cut_off(4)
        time.sleep(20)
        during = net.said(processes[1])
        hosts.cut_off()
        assert "trains in round 39\n" not in during
        ends = outputs(processes)
        logs = [net.said(process) for process in processes.values()]
    assert ends == as_simulated(tmp_path)
    assert not any("closed round" in log for log in logs)
    assert hosts.by == "netem" or hosts.lost / hosts.carried > 0.005


def test_of_two_with_one_number_the_one_in_the_wrong_place_ends(tmp_path: Path) -> None:
    with network(tmp_path, 3) as (net, _):
        processes = {peer: net.start(peer) for peer in (0, 1)}
        net.until(processes[1], "listens on")
        twin = net.start(1, host=2)
        assert twin.wait(timeout=PATIENCE) == 2
        last = net.said(twin).splitlines()[-1]
        processes[2] = net.start(2)
        ends = outputs(processes)
        told = net.said(processes[1])
    assert last == (
        "kseed: another process listens at tcp://node1:5555, the place of peer 1 in the roster: "
        "is peer 1 running already, on another host?"
    )
    assert "kseed: another process was started as peer 1: it is not heard\n" in told
    assert ends == as_simulated(tmp_path)


@pytest.mark.parametrize("what", ["addresses", "keys", "experiment"])
def test_who_has_other_files_than_the_others_ends_and_may_come_again(
    tmp_path: Path, what: str
) -> None:
    other = tmp_path / "other"
    with network(tmp_path, 3) as (net, _):
        files = {"roster": other / "roster.toml"}
        other.mkdir()
        options = SMALL | {"peers": 3}
        if what == "keys":
            assert make_roster(tmp_path, other) == 0
            # Who has no keys of theirs cannot be sure that it is they who refuse it.
            options["start_timeout"] = options["round_timeout"] = 5.0
        else:
            (other / "peer-2.secret.toml").symlink_to(tmp_path / "peer-2.secret.toml")
            roster = (tmp_path / "roster.toml").read_text()
            if what == "addresses":
                # Only peer 0 has an address that others know by another name.
                roster = roster.replace("node0:5555", f"{switch.address(0)}:5555")
            else:
                options["epsilon"] = 0.5
            files["roster"].write_text(roster)
        files["experiment"] = other / "experiment.toml"
        write_options(files["experiment"], options)
        processes = {peer: net.start(peer) for peer in (0, 1)}
        mistaken = net.start(2, **files)
        assert mistaken.wait(timeout=PATIENCE) == 2
        last = net.said(mistaken).splitlines()[-1]
        processes[2] = net.start(2)
        ends = outputs(processes)
    names = {"addresses": "roster_file", "keys": "keys", "experiment": "epsilon"}[what]
    assert re.fullmatch(
        r"kseed: peer 2 is refused by all its neighbours \(0, 1\), which differ from it in: "
        rf".*\b{names}\b.*",
        last,
    )
    assert ends == as_simulated(tmp_path)


@pytest.mark.parametrize("hours", [3.0, -5.0])
def test_a_clock_that_is_hours_off_is_told_and_does_no_harm(tmp_path: Path, hours: float) -> None:
    program = tmp_path / "ahead.py"
    program.write_text(AHEAD)
    with network(tmp_path, 3) as (net, _):
        processes = {peer: net.start(peer) for peer in (0, 1)}
        processes[2] = net.start(2, before=(str(program), str(3600 * hours)))
        net.until(processes[2], "trains in round 0")
        ends = outputs(processes)
        logs = {peer: net.said(process) for peer, process in processes.items()}
    assert ends == as_simulated(tmp_path)
    told = {
        (peer, line) for peer, log in logs.items() for line in log.splitlines() if "clock" in line
    }
    assert told == (
        {(0, ahead(2, hours, 0)), (1, ahead(2, hours, 1))}
        if hours > 0
        else {(2, ahead(0, -hours, 2)), (2, ahead(1, -hours, 2))}
    )


def ahead(one: int, hours: float, other: int) -> str:
    return (
        f"kseed: the clock of peer {one} is {hours:.1f} hours ahead of that of peer {other}: "
        "only logs go by it"
    )
