"""Peers in network namespaces: on Linux, as root, where `ip` may make them."""

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from scenarios.gate import Gate
from scenarios.processes import ctrl_c, end_of, flags, kseed, run, wait_until_all_ended

from peer import namespaces
from peer.config import experiment_from
from peer.errors import UserError
from peer.experiment_file import write_toml
from peer.namespaces import Namespaces, enter_namespace
from sim.cli import main
from sim.runner import simulate

FOLDER = Path("/run/netns")
SMALL = {
    "trainer": "synthetic",
    "topology": "torus",
    "peers": 4,
    "rounds": 3,
    "local_steps": 5,
    "candidate_seeds": 64,
    "isolate": "netns",
    "latency": "0",
    "out": "run",
}
LINKS = [(0, 1), (1, 2)]
STILL: dict[tuple[int, int], float] = {}


def may_isolate() -> bool:
    if sys.platform != "linux" or os.geteuid() != 0 or shutil.which("ip") is None:
        return False
    name = f"kseed-{os.getpid()}-try"
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True, check=False)
    subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)
    return made.returncode == 0


isolating = pytest.mark.skipif(not may_isolate(), reason="cannot make network namespaces")
slow = pytest.mark.slow


def launch(**options: Any) -> list[str]:
    return ["launch", "--json", *flags(SMALL | options)]


def simulated(folder: Path, **options: Any) -> dict[str, Any]:
    options = SMALL | options | {"out": str(folder / "simulated")}
    return simulate(experiment_from(options))


def names_of(pid: int) -> list[str]:
    """The namespaces of a launcher that are there."""
    return sorted(path.name for path in FOLDER.glob(f"kseed-{pid}-*"))


def inside(name: str, *command: str) -> str:
    done = subprocess.run(
        ["ip", "netns", "exec", name, *command], capture_output=True, text=True, check=True
    )
    return done.stdout


@pytest.fixture
def line_of_three() -> Iterator[Namespaces]:
    places = Namespaces(range(3), LINKS, STILL, 0.0)
    yield places
    places.close()
    assert names_of(os.getpid()) == []


@isolating
def test_each_peer_has_a_cable_to_each_neighbour_and_no_other(line_of_three: Namespaces) -> None:
    assert line_of_three.addresses == {n: f"tcp://10.0.0.{n + 1}:9000" for n in range(3)}
    for peer, near in enumerate(([1], [0, 2], [1])):
        told = inside(line_of_three.namespace(peer), "ip", "-o", "link")
        assert re.findall(r"^\d+: (\w[\w-]*)", told, re.M) == ["lo", *(f"to-{n}" for n in near)]
        routes = inside(line_of_three.namespace(peer), "ip", "route")
        assert re.findall(r"^10\.0\.0\.(\d+) ", routes, re.M) == [str(n + 1) for n in near]


@isolating
def test_a_cut_takes_cables_down_and_a_repair_puts_them_up(line_of_three: Namespaces) -> None:
    def through() -> list[bool]:
        states = [
            inside(line_of_three.namespace(a), "cat", f"/sys/class/net/to-{b}/carrier")
            for a, b in LINKS
            if (a, b) not in cut
        ]
        return [state == "1\n" for state in states]

    cut: set[tuple[int, int]] = set()
    assert through() == [True, True]
    cut = {(0, 1)}
    assert line_of_three.cut(cut)
    assert through() == [True]
    with pytest.raises(subprocess.CalledProcessError):
        # A device that is down has no carrier to be read.
        inside(line_of_three.namespace(0), "cat", "/sys/class/net/to-1/carrier")
    cut = {(1, 2)}
    line_of_three.cut(cut)
    assert through() == [True]
    cut = set()
    line_of_three.cut(cut)
    assert through() == [True, True]


@isolating
def test_what_cannot_be_entered_is_named() -> None:
    with pytest.raises(FileNotFoundError, match="kseed-0-0"):
        enter_namespace("kseed-0-0")


@isolating
def test_leftovers_of_the_dead_are_removed_and_of_the_living_are_not() -> None:
    dead = subprocess.Popen(["true"])
    dead.wait()
    of_dead, of_living = f"kseed-{dead.pid}-0", f"kseed-{os.getppid()}-0"
    for name in of_dead, of_living:
        subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        Namespaces(range(2), [(0, 1)], STILL, 0.0).close()
        assert names_of(dead.pid) == []
        assert names_of(os.getppid()) == [of_living]
    finally:
        subprocess.run(["ip", "netns", "del", of_living], check=True)


@isolating
def test_a_failure_leaves_nothing() -> None:
    with pytest.raises(UserError, match=r"isolate = 'netns': `ip` failed: .*"):
        Namespaces(range(2), [(0, 1), (0, 1)], STILL, 0.0)
    assert names_of(os.getpid()) == []


@pytest.mark.parametrize(
    ("platform", "user", "path", "told"),
    [
        ("darwin", 0, None, "only Linux has network namespaces"),
        ("linux", 1000, None, "only root may make network namespaces"),
        ("linux", 0, "", "there is no `ip` here, which comes with iproute2"),
    ],
)
def test_what_is_wanting_is_told_in_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    platform: str,
    user: int,
    path: str | None,
    told: str,
) -> None:
    monkeypatch.setattr(namespaces, "sys", SimpleNamespace(platform=platform))
    monkeypatch.setattr(os, "geteuid", lambda: user)
    if path is not None:
        monkeypatch.setenv("PATH", path)
    monkeypatch.chdir(tmp_path)
    assert main(launch()) == 2
    out, err = capsys.readouterr()
    assert (out, err) == ("", f"kseed: isolate = 'netns' is not possible: {told}\n")
    assert list(tmp_path.iterdir()) == []


@isolating
def test_latency_and_loss_are_netems_or_told_to_be_impossible(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        places = Namespaces(range(2), [(0, 1)], {(0, 1): 0.05, (1, 0): 0.02}, 0.25)
    except UserError:
        monkeypatch.chdir(tmp_path)
        assert main(launch(loss=0.25)) == 2
        assert re.fullmatch(
            r"kseed: isolate = 'netns': (this kernel has no netem|.*no `tc`).*\n",
            capsys.readouterr().err,
        )
        assert list(tmp_path.iterdir()) == []
        assert names_of(os.getpid()) == []
    else:
        with_qdisc = inside(places.namespace(0), "tc", "qdisc", "show", "dev", "to-1")
        back = inside(places.namespace(1), "tc", "qdisc", "show", "dev", "to-0")
        places.close()
        assert re.search(r"netem .*delay 50ms.* loss 25%", with_qdisc)
        assert re.search(r"netem .*delay 20ms.* loss 25%", back)


@isolating
@slow
def test_isolated_peers_end_as_in_the_simulator(tmp_path: Path) -> None:
    end = run(*launch(), folder=tmp_path)
    assert end.status == 0, end.err
    summary = end.summary
    assert summary["digests"] == simulated(tmp_path)["digests"]
    assert summary["timeouts_fired"] == 0
    addresses = [process["address"] for process in summary["processes"]]
    assert addresses == [f"tcp://10.0.0.{peer}:9000" for peer in range(1, 5)]


@isolating
@slow
def test_a_partition_drops_packets(tmp_path: Path) -> None:
    options = SMALL | {
        "topology": "ring",
        "rounds": 6,
        "round_timeout": 1.0,
        "settle_timeout": 30.0,
        "scenario": (
            {"verb": "partition", "peers": [0], "round": 2},
            {"verb": "crash", "peer": 2, "round": 3},
            {"verb": "restart", "peer": 2, "round": 4},
            {"verb": "repair", "time": 6.0},
        ),
    }
    (tmp_path / "experiment.toml").write_text(write_toml(options))
    end = run("launch", "experiment.toml", "--json", folder=tmp_path)
    assert end.status == 0, end.err
    assert end.summary["timeouts_fired"] > 0
    missed = re.findall(
        r"closed round \d+ without (\(.*\))",
        (tmp_path / "run" / "launch" / "peer-0" / "output.log").read_text(),
    )
    assert any("1, 2, 3" in line for line in missed)
    # These histories do not hang on the cut that they start from, and what is late is not lost.
    assert end.summary["digests"] == simulated(tmp_path, topology="ring", rounds=6)["digests"]


@isolating
@slow
@pytest.mark.parametrize("how", ["ctrl-c", "kill"])
def test_namespaces_do_not_outlive_a_run_for_long(tmp_path: Path, how: str) -> None:
    with (
        Gate() as gate,
        kseed(*launch(), folder=tmp_path, environment=gate.environment) as process,
    ):
        gate.hold("trains 2 1")
        assert names_of(process.pid) == [f"kseed-{process.pid}-{peer}" for peer in range(4)]
        if how == "ctrl-c":
            ctrl_c(process)
        else:
            os.kill(process.pid, signal.SIGKILL)
        gate.open()
        end = end_of(process)
        wait_until_all_ended(process)
    if how == "ctrl-c":
        assert end == (130, "", "kseed: interrupted\n")
    else:
        # Any launcher removes them, also one that is under way beside this test.
        Namespaces(range(2), [(0, 1)], STILL, 0.0).close()
    assert names_of(process.pid) == []
