"""How a run of real processes ends when it cannot go on, and how it is resumed."""

import os
import re
import resource
import signal
import sys
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from scenarios.gate import Gate
from scenarios.processes import (
    Process,
    ctrl_c,
    end_of,
    flags,
    kseed,
    living,
    run,
    wait_until_all_ended,
)

from peer.config import experiment_from
from peer.store import EntryStore
from sim.runner import simulate

SMALL = {
    "trainer": "synthetic",
    "peers": 4,
    "rounds": 3,
    "local_steps": 5,
    "candidate_seeds": 64,
    "out": "run",
}

pytestmark = pytest.mark.slow
linux = pytest.mark.skipif(sys.platform != "linux", reason="looks at processes through /proc")


def launch(**options: Any) -> list[str]:
    """The command's arguments for a small run."""
    return ["launch", "--json", *flags(SMALL | options)]


def logs(folder: Path) -> dict[Path, dict[tuple[int, int], bytes]]:
    """What is on each peer's disk: log -> (origin, sequence) -> content."""
    found = {}
    for path in sorted(folder.glob("launch/peer-*/log.sqlite")):
        with EntryStore(path) as store:
            found[path] = {(e.origin, e.sequence): e.content for e in store.load_archive()}
    return found


@linux
@pytest.mark.parametrize(
    "point",
    [
        "started 2",
        "listens 2",
        "trains 2 1",
        "stored 2 3",
    ],
)
def test_a_killed_peer_ends_the_run(tmp_path: Path, point: str) -> None:
    with (
        Gate() as gate,
        kseed(*launch(), folder=tmp_path, environment=gate.environment) as process,
    ):
        [pid] = gate.hold(point)
        assert pid in living(process)
        os.kill(pid, signal.SIGKILL)
        end = end_of(process)
        wait_until_all_ended(process)
    log = Path("run/launch/peer-2/output.log")
    message = f"kseed: peer 2 was ended by SIGKILL (see {log})\n"
    assert end == (1, "", message)
    if point != "started 2":
        assert (tmp_path / log).exists()


@linux
def test_a_peer_killed_with_a_message_unread_ends_the_run(tmp_path: Path) -> None:
    with (
        Gate() as gate,
        kseed(*launch(), folder=tmp_path, environment=gate.environment) as process,
    ):
        _, pid = gate.hold("started 3", "listens 2")
        os.kill(pid, signal.SIGSTOP)
        gate.release("started 3")
        # The launcher tells addresses in order, so peer 2 has been told by now.
        gate.hold("greets 3")
        os.kill(pid, signal.SIGKILL)
        end = end_of(process)
        wait_until_all_ended(process)
    message = "kseed: peer 2 was ended by SIGKILL (see run/launch/peer-2/output.log)\n"
    assert end == (1, "", message)


SERVER_ASKS = """
import sys
if "forkserver" in " ".join(sys.orig_argv):
    sys.path.append({scenarios!r})
    from gate import ask
    ask("serves")
"""


@linux
@pytest.mark.parametrize(
    "point",
    [
        "serves",
        "started 0",
        "started 3",
        "listens 1",
        "trains 2 1",
        "stored 0 3",
    ],
)
def test_ctrl_c_is_told_in_one_line(tmp_path: Path, point: str) -> None:
    scenarios = str(Path(__file__).with_name("scenarios"))
    (tmp_path / "sitecustomize.py").write_text(SERVER_ASKS.format(scenarios=scenarios))
    with Gate() as gate:
        environment = {**gate.environment}
        if point == "serves":
            before = os.environ.get("PYTHONPATH", "")
            environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(tmp_path), before]))
        with kseed(*launch(), folder=tmp_path, environment=environment) as process:
            gate.hold(point)
            ctrl_c(process)
            gate.open()
            end = end_of(process)
            wait_until_all_ended(process)
    assert end == (130, "", "kseed: interrupted\n")


@linux
@pytest.mark.parametrize("signal_", [signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize("point", ["started 3", "listens 1", "trains 2 1"])
def test_peers_end_with_their_launcher(tmp_path: Path, point: str, signal_: int) -> None:
    with (
        Gate() as gate,
        kseed(*launch(), folder=tmp_path, environment=gate.environment) as process,
    ):
        starts = [f"started {peer}" for peer in range(SMALL["peers"])]
        gate.hold(*starts)
        if point not in starts:
            # Past this point somebody in the process listens for the launcher's end.
            release(gate, starts)
            gate.hold(point)
        os.kill(process.pid, signal_)
        if point in starts:
            release(gate, starts)
        end = end_of(process)
        wait_until_all_ended(process)
    assert end == (-signal_, "", "")
    assert not (tmp_path / "run" / "summary.json").exists()


def release(gate: Gate, points: Iterable[str]) -> None:
    for point in points:
        gate.release(point)


def kill_peer(_process: Process, pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


def kill_launcher(process: Process, _pid: int) -> None:
    process.kill()


def interrupt(process: Process, _pid: int) -> None:
    ctrl_c(process)


@linux
@pytest.mark.parametrize(
    ("point", "end_run"),
    [
        ("trains 2 1", kill_peer),
        ("stored 2 1", kill_peer),
        ("trained 0 2", interrupt),
        ("stored 3 2", kill_launcher),
        ("stored 0 3", kill_launcher),
    ],
)
def test_a_run_is_resumed_from_its_logs(
    tmp_path: Path, point: str, end_run: Callable[[Process, int], None]
) -> None:
    with (
        Gate() as gate,
        kseed(*launch(), folder=tmp_path, environment=gate.environment) as process,
    ):
        [pid] = gate.hold(point)
        end_run(process, pid)
        assert end_of(process).status != 0
        wait_until_all_ended(process)
    before = logs(tmp_path / "run")
    assert any(before.values())
    resumed = run(*launch(resume=True), folder=tmp_path)
    assert resumed.status == 0
    options = SMALL | {"out": str(tmp_path / "simulated")}
    expected = simulate(experiment_from(options))
    assert resumed.summary["digests"] == expected["digests"]
    assert resumed.summary["entries"] == expected["entries"]
    after = logs(tmp_path / "run")
    whole = next(iter(after.values()))
    assert len(whole) == expected["entries"]["published"]
    for path, held in before.items():
        # Nothing is forgotten or rewritten, and no logged round is trained again (C9).
        assert after[path] == whole
        assert held.items() <= whole.items()
        peer = int(path.parent.name.removeprefix("peer-"))
        trained = Counter(re.findall(r"trains in round (\d+)", read_output(path.parent)))
        mine = [sequence for origin, sequence in held if origin == peer]
        assert all(trained[str(n)] == 1 for n in mine if n < SMALL["rounds"])


def read_output(folder: Path) -> str:
    return (folder / "output.log").read_text()


def failure(peer: int, reason: str) -> str:
    log = f"run/launch/peer-{peer}/output.log"
    return f"kseed: peer {peer} failed: {reason} (see {log})\n"


def test_an_error_in_training_is_named_with_its_peer(tmp_path: Path) -> None:
    with (
        Gate() as gate,
        kseed(*launch(), folder=tmp_path, environment=gate.environment) as process,
    ):
        gate.hold("trains 2 1")
        gate.fail("trains 2 1", "no memory left\nSee the manual.")
        end = end_of(process)
    assert end == (1, "", failure(2, "ArithmeticError: no memory left"))
    output = read_output(tmp_path / "run" / "launch" / "peer-2")
    assert "Traceback" in output
    assert "See the manual." in output


@linux
def test_a_peer_that_cannot_open_its_sockets_is_named(tmp_path: Path) -> None:
    with (
        Gate() as gate,
        kseed(*launch(), folder=tmp_path, environment=gate.environment) as process,
    ):
        [pid] = gate.hold("binds 2")
        most = 1 + max(int(path.name) for path in Path(f"/proc/{pid}/fd").iterdir())
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (most, most))
        gate.open()
        end = end_of(process)
    told = "16 more open files are needed: Too many open files (see ulimit -n)"
    assert end == (1, "", failure(2, told))


def test_damaged_rows_are_told_in_one_line(
    tmp_path: Path, tiny_model: Path, tiny_data: Path
) -> None:
    real = {"trainer": "zeroth-order", "model": tiny_model, "data": tiny_data, "eval_rows": 12}
    with (
        Gate() as gate,
        kseed(*launch(**real), folder=tmp_path, environment=gate.environment) as process,
    ):
        gate.hold(*(f"started {peer}" for peer in range(4)))
        rows = tmp_path / "run" / "launch" / "rows.npz"
        rows.write_bytes(rows.read_bytes()[:-100])
        gate.open()
        end = end_of(process)
    assert (end.status, end.out) == (1, "")
    assert re.fullmatch(r"kseed: peer \d failed: .*rows\.npz.* \(see .*\)\n", end.err)
