"""Runs of real processes, started, held and ended by the helpers in `scenarios`."""

import json
import os
import re
import resource
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest
from scenarios.gate import Gate
from scenarios.processes import (
    Process,
    ctrl_c,
    end_of,
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

slow = pytest.mark.slow
linux = pytest.mark.skipif(sys.platform != "linux", reason="looks at processes through /proc")


def launch(**options: Any) -> list[str]:
    """The command's arguments for a small run."""
    words = ["launch", "--json"]
    for key, value in (SMALL | options).items():
        flag = "--" + key.replace("_", "-")
        words += [flag] if value is True else [flag, str(value)]
    return words


def simulated(folder: Path, **options: Any) -> dict[str, Any]:
    return simulate(experiment_from(SMALL | options | {"out": str(folder / "simulated")}))


def keys(values: Mapping[str, Any], above: str = "") -> set[str]:
    inner = [keys(v, f"{above}{k}.") for k, v in values.items() if isinstance(v, dict)]
    return {above + key for key in values}.union(*inner)


def logs(folder: Path) -> dict[Path, dict[tuple[int, int], bytes]]:
    """What is on each peer's disk: log -> (origin, sequence) -> content."""
    found = {}
    for path in sorted(folder.glob("launch/peer-*/log.sqlite")):
        with EntryStore(path) as store:
            found[path] = {(e.origin, e.sequence): e.content for e in store.load()}
    return found


def rounds_of(folder: Path) -> list[tuple[str, Any]]:
    lines = (folder / "rounds.jsonl").read_text().splitlines()
    return [(line["accumulator"], line["eval_loss"]) for line in map(json.loads, lines)]


def assert_same_run(launched: Mapping[str, Any], simulated: Mapping[str, Any]) -> None:
    """A launched run, in the folder `run`, is the simulated one (C5)."""
    assert launched["digests"] == simulated["digests"]
    assert launched["digests"]["all_equal"]
    assert launched["entries"] == simulated["entries"]
    for name in ("payload_total", "lower_bound_payload_total", "redundancy"):
        assert launched["bytes"][name] == simulated["bytes"][name]
    assert launched["eval_loss"] == simulated["eval_loss"]
    for summary in launched, simulated:
        assert summary["timeouts_fired"] == 0
        assert summary["rejected_messages"] == 0
        assert summary["missing_peers"] == []
    assert keys(launched) - keys(simulated) == {"processes"}
    assert keys(simulated) - keys(launched) == {"seconds.virtual"}


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({"topology": "ring", "peers": 4}, marks=slow),
        {
            "topology": "torus",
            "peers": 6,
            "method": "fedkseed-pro",
            "participation": 0.5,
            "gradient_bytes": 1,
        },
        {"topology": "barabasi-albert", "peers": 8, "degree": 2, "gradient_bytes": 2},
    ],
    ids=["ring", "torus", "barabasi-albert"],
)
def test_processes_and_simulator_agree(tmp_path: Path, options: dict[str, Any]) -> None:
    end = run(*launch(**options), folder=tmp_path)
    assert end.status == 0
    summary, expected = end.summary, simulated(tmp_path, **options)
    assert_same_run(summary, expected)
    assert rounds_of(tmp_path / "run") == rounds_of(tmp_path / "simulated")
    processes = summary["processes"]
    assert [process["peer"] for process in processes] == list(range(options["peers"]))
    assert len({process["address"] for process in processes}) == options["peers"]
    for process in processes:
        with pytest.raises(ProcessLookupError):
            os.kill(process["pid"], 0)
    names = {path.name for path in (tmp_path / "simulated").iterdir()} - {"sim"} | {"launch"}
    # Pictures are the command's, not the engine's.
    assert {path.name for path in (tmp_path / "run").iterdir()} == names | {"plots"}


@slow
@pytest.mark.parametrize(
    "options",
    [
        {"peers": 4, "method": "fedkseed"},
        {"peers": 4, "method": "fedkseed-pro", "dtype": "bfloat16", "perturbation": "rademacher"},
        {"peers": 8, "topology": "complete", "partition": "iid", "batch_size": 2},
    ],
    ids=["fedkseed", "pro", "eight"],
)
def test_processes_and_simulator_train_the_same_model(
    tmp_path: Path, tiny_model: Path, tiny_data: Path, options: dict[str, Any]
) -> None:
    options |= {
        "trainer": "zeroth-order",
        "model": str(tiny_model),
        "data": str(tiny_data),
        "eval_rows": 12,
        "learning_rate": 1e-3,
    }
    end = run(*launch(**options), folder=tmp_path)
    assert end.status == 0
    expected = simulated(tmp_path, **options)
    assert_same_run(end.summary, expected)
    assert len(end.summary["digests"]["model"]) == options["peers"]
    assert end.summary["eval_loss"]["final"] != end.summary["eval_loss"]["initial"]
    assert rounds_of(tmp_path / "run") == rounds_of(tmp_path / "simulated")


def imports(module: str, reports: Iterable[str]) -> int:
    """How many processes have imported a module, by what -X importtime has said of them."""
    line = re.compile(rf"^import time:.*\| +{re.escape(module)}$", re.MULTILINE)
    return sum(len(line.findall(report)) for report in reports)


def reports_of(folder: Path, options: dict[str, Any]) -> list[str]:
    """What the processes of a run have said of their imports."""
    told = {"PYTHONPROFILEIMPORTTIME": "1"}
    with kseed(*launch(**options), folder=folder, environment=told) as process:
        end = end_of(process)
    assert end.status == 0
    outputs = [path.read_text() for path in folder.glob("run/launch/peer-*/output.log")]
    assert len(outputs) == options.get("peers", SMALL["peers"])
    return [end.err, *outputs]


def test_nobody_imports_torch_without_a_model(tmp_path: Path) -> None:
    reports = reports_of(tmp_path, {})
    assert imports("torch", reports) == 0
    # The launcher and the server that peers are forked from.
    assert imports("peer.process", reports) == 2


@slow
def test_all_peers_share_one_import_of_torch(
    tmp_path: Path, tiny_model: Path, tiny_data: Path
) -> None:
    real = {"trainer": "zeroth-order", "model": tiny_model, "data": tiny_data, "eval_rows": 12}
    reports = reports_of(tmp_path, real)
    for module in ("torch", "numba", "transformers.modeling_utils"):
        assert imports(module, reports) == 2
    # Nothing is left of either for a peer to import, not even the model's own module.
    for output in reports[1:]:
        assert not re.search(r"^import time:.*\| +(torch|transformers)\b", output, re.MULTILINE)


@linux
@pytest.mark.parametrize(
    "point",
    [
        "started 2",
        pytest.param("listens 2", marks=slow),
        "trains 2 1",
        pytest.param("stored 2 3", marks=slow),
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
        pytest.param("started 0", marks=slow),
        "started 3",
        pytest.param("listens 1", marks=slow),
        "trains 2 1",
        pytest.param("stored 0 3", marks=slow),
    ],
)
def test_ctrl_c_is_told_in_one_line(tmp_path: Path, point: str) -> None:
    scenarios = str(Path(__file__).with_name("scenarios"))
    (tmp_path / "sitecustomize.py").write_text(SERVER_ASKS.format(scenarios=scenarios))
    with Gate() as gate:
        environment = {**gate.environment}
        if point == "serves":
            environment["PYTHONPATH"] = str(tmp_path)
        with kseed(*launch(), folder=tmp_path, environment=environment) as process:
            gate.hold(point)
            ctrl_c(process)
            gate.open()
            end = end_of(process)
            wait_until_all_ended(process)
    assert end == (130, "", "kseed: interrupted\n")


@linux
@pytest.mark.parametrize("signal_", [signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize(
    "point", ["started 3", pytest.param("listens 1", marks=slow), "trains 2 1"]
)
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
        pytest.param("trains 2 1", kill_peer, marks=slow),
        ("stored 2 1", kill_peer),
        ("trained 0 2", interrupt),
        pytest.param("stored 3 2", kill_launcher, marks=slow),
        pytest.param("stored 0 3", kill_launcher, marks=slow),
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
    expected = simulated(tmp_path)
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


def test_a_finished_run_is_continued_with_more_rounds(tmp_path: Path) -> None:
    first = run(*launch(), folder=tmp_path).summary
    again = run(*launch(resume=True), folder=tmp_path).summary
    assert again["digests"] == first["digests"] == simulated(tmp_path)["digests"]
    more = run(*launch(resume=True, rounds=5), folder=tmp_path).summary
    assert more["digests"] == simulated(tmp_path, rounds=5, resume=True)["digests"]
    assert more["digests"] != first["digests"]
    assert rounds_of(tmp_path / "run") == rounds_of(tmp_path / "simulated")


def failure(peer: int, reason: str) -> str:
    log = f"run/launch/peer-{peer}/output.log"
    return f"kseed: peer {peer} failed: {reason} (see {log})\n"


def test_an_error_in_training_is_named_with_its_peer(tmp_path: Path) -> None:
    with (
        Gate() as gate,
        kseed(*launch(), folder=tmp_path, environment=gate.environment) as process,
    ):
        gate.hold("trains 2 1")
        gate.fail("trains 2 1", "no memory left")
        end = end_of(process)
    assert end == (1, "", failure(2, "ArithmeticError: no memory left"))
    assert "Traceback" in read_output(tmp_path / "run" / "launch" / "peer-2")


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
    assert end == (1, "", failure(2, "ZMQError: Too many open files"))


@slow
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


def test_what_comes_late_is_not_lost(tmp_path: Path) -> None:
    options = {"round_timeout": 0.2, "settle_timeout": 30.0}
    with (
        Gate() as gate,
        kseed(*launch(**options), folder=tmp_path, environment=gate.environment) as process,
    ):
        gate.hold("trains 2 1")
        # The END of each of the others.
        gate.hold("stored 0 3", "stored 1 3", "stored 3 3")
        gate.open()
        end = end_of(process)
    assert end.status == 0
    assert end.summary["timeouts_fired"] >= 3
    # These histories do not hang on the cut that they start from.
    assert end.summary["digests"] == simulated(tmp_path)["digests"]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"topology": "rung"}, "rung"),
        ({"peers": 1}, "peers = 1 is not allowed"),
        ({"resume": True, "out": ""}, "resume = True is not allowed"),
    ],
)
def test_a_mistake_is_told_before_anything_is_written(
    tmp_path: Path, options: dict[str, Any], told: str
) -> None:
    end = run(*launch(**options), folder=tmp_path)
    assert (end.status, end.out) == (2, "")
    assert re.fullmatch(f"kseed: .*{re.escape(told)}.*\n", end.err)
    assert list(tmp_path.iterdir()) == []


@slow
def test_many_peers_on_few_processors(tmp_path: Path) -> None:
    options = {"topology": "watts-strogatz", "peers": 24, "rounds": 20, "local_steps": 50}
    end = run(*launch(**options), folder=tmp_path)
    assert end.status == 0
    assert_same_run(end.summary, simulated(tmp_path, **options))


@linux
@slow
@pytest.mark.parametrize("name", ["interrupted", "by_hand", "crowd"])
def test_scenarios_end_well(tmp_path: Path, name: str) -> None:
    script = Path(__file__).parent / "scenarios" / f"{name}.py"
    told = subprocess.run(
        [sys.executable, script], cwd=tmp_path, capture_output=True, text=True, timeout=280
    )
    assert (told.returncode, told.stderr) == (0, "")
