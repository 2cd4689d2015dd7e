"""Peers that are started by hand, each by `kseed peer` with a file of its own."""

import json
import os
import re
import signal
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from socket import create_server
from typing import Any

import pytest
from scenarios.gate import Gate
from scenarios.processes import (
    End,
    Process,
    end_of,
    free_addresses,
    kseed,
    run,
    write_options,
    write_peer,
)

from peer import own_place
from peer.config import experiment_from
from peer.records import RunFolder
from peer.store import EntryStore
from peer.traffic import LinkCount
from peer.zeromq import itself
from sim.cli import main
from sim.runner import simulate

pytestmark = pytest.mark.slow

PEERS = 3
SMALL = {
    "trainer": "synthetic",
    "peers": PEERS,
    "rounds": 3,
    "local_steps": 5,
    "candidate_seeds": 64,
}
IMPATIENT = {"round_timeout": 3.0, "settle_timeout": 3.0}


def simulated(folder: Path, **options: Any) -> dict[str, Any]:
    return simulate(experiment_from(SMALL | options | {"out": str(folder / "simulated")}))


def write_peers(folder: Path, addresses: Sequence[str] | None = None, **options: Any) -> list[Path]:
    """A file for each peer, in a folder of its own, as on hosts of their own."""
    addresses = addresses or free_addresses(PEERS)
    paths = []
    for peer in range(PEERS):
        host = folder / f"host-{peer}"
        host.mkdir()
        paths.append(write_peer(host, peer, addresses, SMALL | options))
    return paths


def start(stack: ExitStack, path: Path, environment: Mapping[str, str] | None = None) -> Process:
    return stack.enter_context(kseed("peer", path, folder=path.parent, environment=environment))


def start_together(stack: ExitStack, gate: Gate, paths: Sequence[Path]) -> list[Process]:
    """Start the first peers; none greets before all of them can hear it."""
    processes = [start(stack, path, gate.environment) for path in paths]
    points = [f"greets {peer}" for peer in range(len(paths))]
    gate.hold(*points)
    for point in points:
        gate.release(point)
    return processes


def printed(digests: Mapping[str, Any], peer: int) -> str:
    """What a peer prints on standard output at its end."""
    lines = [f"accumulator {digests['accumulator'][peer]}\n"]
    if digests["model"] is not None:
        lines.append(f"model       {digests['model'][peer]}\n")
    return "".join(lines)


def log_of(path: Path) -> dict[tuple[int, int], bytes]:
    [store] = path.parent.glob("run-*/peer/log.sqlite")
    with EntryStore(store) as log:
        return {(entry.origin, entry.sequence): entry.content for entry in log.load_archive()}


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        pytest.param("tcp", {}, id="fedkseed"),
        pytest.param("tcp", {"method": "fedkseed-pro", "gradient_bytes": 1}, id="pro"),
        pytest.param("ipc", {}, id="ipc"),
    ],
)
def test_three_peers_started_in_any_order(
    tmp_path: Path, kind: str, options: dict[str, Any]
) -> None:
    ipc = [f"ipc://{tmp_path}/{peer}" for peer in range(PEERS)]
    paths = write_peers(tmp_path, ipc if kind == "ipc" else None, **options)
    with Gate() as gate, ExitStack() as stack:
        early = {peer: start(stack, paths[peer], gate.environment) for peer in (2, 0)}
        gate.hold("greets 2", "greets 0")
        gate.open()
        processes = [early[0], start(stack, paths[1]), early[2]]
        ends = [end_of(process) for process in processes]
    expected = simulated(tmp_path, **options)
    assert [end.status for end in ends] == [0, 0, 0]
    assert [end.out for end in ends] == [printed(expected["digests"], me) for me in range(PEERS)]
    folders = [RunFolder(path.parent / f"run-{me}") for me, path in enumerate(paths)]
    payload = sum(folder.read_links().total().payload_bytes for folder in folders)
    assert payload == expected["bytes"]["payload_total"]
    for me, end in enumerate(ends):
        listening, *lines = end.err.splitlines()
        assert listening.startswith(f"kseed: peer {me} listens on {kind}://")
        assert lines == [
            f"kseed: peer {me} {what} in round {round_}"
            for round_ in range(SMALL["rounds"])
            for what in ("trains", "has trained")
        ]


def test_three_peers_with_keys(tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    assert main(["keys", str(PEERS), "--to", str(keys)]) == 0
    paths = write_peers(tmp_path, curve="on", keys=str(keys))
    with ExitStack() as stack:
        ends = [end_of(process) for process in [start(stack, path) for path in paths]]
    expected = simulated(tmp_path, curve="on")
    assert [end.status for end in ends] == [0, 0, 0]
    assert [end.out for end in ends] == [printed(expected["digests"], me) for me in range(PEERS)]
    total = LinkCount()
    for me, path in enumerate(paths):
        links = RunFolder(path.parent / f"run-{me}").read_links()
        assert {sender for sender, *_ in links.links()} == {me}
        total.add(links.total())
    assert total.handshake_bytes == expected["bytes"]["handshake_total"]
    assert total.payload_bytes == expected["bytes"]["payload_total"]


def test_three_peers_train_the_model_of_the_simulator(
    tmp_path: Path, tiny_model: Path, tiny_data: Path
) -> None:
    options = {
        "trainer": "zeroth-order",
        "model": str(tiny_model),
        "data": str(tiny_data),
        "eval_rows": 12,
        "learning_rate": 1e-3,
    }
    with ExitStack() as stack:
        processes = [start(stack, path) for path in write_peers(tmp_path, **options)]
        ends = [end_of(process) for process in processes]
    digests = simulated(tmp_path, **options)["digests"]
    assert [end.status for end in ends] == [0, 0, 0]
    assert [end.out for end in ends] == [printed(digests, me) for me in range(PEERS)]
    assert all(re.search(r"has trained in round 2: loss \d\.\d{4}$", e.err, re.M) for e in ends)


@pytest.mark.parametrize(
    ("point", "signal_"),
    [
        ("trains 1 1", signal.SIGKILL),
        ("trained 1 0", signal.SIGTERM),
        ("stored 1 1", signal.SIGKILL),
        ("trains 1 2", signal.SIGINT),
    ],
)
def test_a_peer_that_is_killed_goes_on_from_its_log(
    tmp_path: Path, point: str, signal_: int
) -> None:
    paths = write_peers(tmp_path)
    with Gate() as gate, ExitStack() as stack:
        processes = [start(stack, path, gate.environment) for path in paths]
        assert gate.hold(point) == [processes[1].pid]
        os.kill(processes[1].pid, signal_)
        first = end_of(processes[1])
        assert (first.status, first.out) == (-signal_, "")
        assert "Traceback" not in first.err
        held = log_of(paths[1])
        processes[1] = start(stack, paths[1], gate.environment)
        gate.open()
        ends = [end_of(process) for process in processes]
    digests = simulated(tmp_path)["digests"]
    assert [end.status for end in ends] == [0, 0, 0]
    assert [end.out for end in ends] == [printed(digests, me) for me in range(PEERS)]
    logged = {sequence for origin, sequence in held if origin == 1}
    again = {int(round_) for round_ in re.findall(r"trains in round (\d)", ends[1].err)}
    assert again == set(range(SMALL["rounds"])) - logged
    assert held.items() <= log_of(paths[1]).items()
    assert log_of(paths[0]) == log_of(paths[1]) == log_of(paths[2])
    assert not any("closed round" in end.err for end in ends)


def test_a_finished_peer_may_be_started_again(tmp_path: Path) -> None:
    paths = write_peers(tmp_path, **IMPATIENT)
    with Gate() as gate, ExitStack() as stack:
        processes = start_together(stack, gate, paths)
        gate.open()
        ends = [end_of(process) for process in processes]
    assert [end.status for end in ends] == [0, 0, 0]
    again = run("peer", paths[1], folder=paths[1].parent)
    assert (again.status, again.out) == (0, ends[1].out)
    assert "trains" not in again.err


@pytest.mark.parametrize("curve", ["off", "on"])
def test_another_experiment_is_refused_by_both_sides(tmp_path: Path, curve: str) -> None:
    keys = tmp_path / "keys"
    assert main(["keys", str(PEERS), "--to", str(keys)]) == 0
    paths = write_peers(tmp_path, **IMPATIENT, curve=curve, keys=str(keys))
    paths[2].write_text(paths[2].read_text() + "learning_rate = 0.0003\n")
    with Gate() as gate, ExitStack() as stack:
        processes = start_together(stack, gate, paths)
        gate.open()
        ends = [end_of(process) for process in processes]
    assert [end.status for end in ends[:2]] == [3, 3]
    assert ends[0].out == ends[1].out != ends[2].out
    for me, other in ((0, 2), (1, 2), (2, 0), (2, 1)):
        assert f"kseed: peers {me} and {other} differ in: learning_rate, units\n" in ends[me].err
    assert told_missing(ends[:2]) == ["2", "2"]
    if curve == "on":
        # It has nobody to go on with, and knows that it was they who said so.
        assert (ends[2].status, ends[2].out) == (2, "")
        assert ends[2].err.splitlines()[-1] == (
            "kseed: peer 2 is refused by all its neighbours (0, 1), which differ from it in: "
            "learning_rate, units"
        )
    else:
        assert ends[2].status == 3
        assert told_missing(ends[2:]) == ["0, 1"]


def told_missing(ends: Sequence[End]) -> list[str]:
    last = [end.err.splitlines()[-1] for end in ends]
    assert all(line.startswith("kseed: ended without the logs of peers ") for line in last)
    return [line.removeprefix("kseed: ended without the logs of peers ") for line in last]


def test_a_peer_that_never_came_is_named(tmp_path: Path) -> None:
    paths = write_peers(tmp_path, **IMPATIENT)
    with Gate() as gate, ExitStack() as stack:
        processes = start_together(stack, gate, paths[:2])
        gate.open()
        ends = [end_of(process) for process in processes]
    assert [end.status for end in ends] == [3, 3]
    assert ends[0].out == ends[1].out
    assert told_missing(ends) == ["2", "2"]


def test_an_error_in_training_ends_the_peer(tmp_path: Path) -> None:
    paths = write_peers(tmp_path, **IMPATIENT)
    with Gate() as gate, ExitStack() as stack:
        processes = start_together(stack, gate, paths)
        gate.hold("trains 1 1")
        gate.fail("trains 1 1", "no memory left")
        gate.open()
        ends = [end_of(process) for process in processes]
    assert [end.status for end in ends] == [3, 1, 3]
    assert ends[1].err.splitlines()[-1] == "ArithmeticError: no memory left"
    assert told_missing([ends[0], ends[2]]) == ["1", "1"]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"id": PEERS}, "id = 3 is not allowed: there are peers 0 to 2"),
        ({"id": -1}, "id = -1 is not allowed: there are peers 0 to 2"),
        ({"id": "0"}, "id = '0' is not allowed: must be a whole number"),
        ({"id": None}, "there is no `id` in the file: a peer needs a whole number there"),
        ({"bind": None}, "there is no `bind` in the file: a peer needs a text there"),
        ({"addresses": None}, "there is no `addresses` in the file: a peer needs a list of texts"),
        ({"addresses": ["tcp://127.0.0.1:9"]}, "one text for each of the 3 peers is wanted"),
        ({"addresses": [1, 2, 3]}, "one text for each of the 3 peers is wanted"),
        ({"addresses": ["a", "b", "c"]}, "cannot connect to peer 1 at b: an address is tcp://"),
        (
            {"addresses": ["", "tcp://127.0.0.1:65536", ""]},
            "cannot connect to peer 1 at tcp://127.0.0.1:65536: an address is tcp://host:port",
        ),
        ({"bind": "127.0.0.1:9"}, "cannot listen on 127.0.0.1:9: an address is tcp://host:port"),
        (
            {"bind": "tcp://192.0.2.1:9"},
            "tcp://192.0.2.1:9 is beyond this machine, so links need keys: make them with "
            '`kseed keys 3 --to DIR`, and give keys = "DIR"; or say curve = "off"',
        ),
        (
            {"bind": "tcp://192.0.2.1:9", "curve": "off"},
            "cannot listen on tcp://192.0.2.1:9: ",
        ),
        ({"metrics": 9464}, "metrics = 9464 is not allowed: must be a text"),
        ({"metrics": "9464"}, "'9464' is no address of metrics: must be host:port"),
        ({"metrics": "192.0.2.1:9464"}, "cannot offer metrics on 192.0.2.1:9464: "),
        ({"curve": "on"}, 'curve = "on", so links need keys: make them with `kseed keys 3'),
        ({"curve": "on", "keys": "nowhere"}, "cannot read nowhere/public.toml: No such file"),
        ({"keys": 7}, "keys = 7 is not allowed: must be a text"),
        ({"learning_rat": 1e-3}, "there is no such option; did you mean learning_rate?"),
        ({"rounds": 0}, "rounds = 0 is not allowed: must be a whole number at least 1"),
        ({"topology": "rung"}, "rung"),
    ],
)
def test_a_mistake_in_the_file_is_told_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], changes: dict[str, Any], told: str
) -> None:
    values = SMALL | {
        "id": 0,
        "bind": "tcp://127.0.0.1:*",
        "addresses": free_addresses(PEERS),
        "out": str(tmp_path / "run"),
        "log_level": "warning",
    }
    values |= changes
    path = tmp_path / "peer.toml"
    write_options(path, {key: value for key, value in values.items() if value is not None})
    before = signal.getsignal(signal.SIGINT)
    assert main(["peer", str(path)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert re.fullmatch(f"kseed: .*{re.escape(told)}.*\n", err)
    assert list(tmp_path.iterdir()) == [path]
    assert signal.getsignal(signal.SIGINT) is before


def test_an_address_in_use_is_told_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with create_server(("127.0.0.1", 0)) as server:
        taken = f"tcp://127.0.0.1:{server.getsockname()[1]}"
        addresses = [taken, *free_addresses(PEERS - 1)]
        path = write_peer(tmp_path, 0, addresses, SMALL)
        assert main(["peer", str(path)]) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert re.fullmatch(rf"kseed: cannot listen on {taken}: Address already in use.*\n", err)
        assert list(tmp_path.iterdir()) == [path]
        metrics = taken.removeprefix("tcp://")
        addresses = free_addresses(PEERS)
        path = write_peer(tmp_path, 0, addresses, SMALL | {"metrics": metrics})
        assert main(["peer", str(path)]) == 2
    told = f"kseed: cannot offer metrics on {metrics}: Address already in use\n"
    assert capsys.readouterr() == ("", told)
    assert list(tmp_path.iterdir()) == [path]


def test_what_has_no_effect_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with create_server(("127.0.0.1", 0)) as server:
        taken = f"tcp://127.0.0.1:{server.getsockname()[1]}"
        addresses = [taken, *free_addresses(PEERS - 1)]
        path = write_peer(tmp_path, 0, addresses, SMALL | {"side_by_side": 2})
        assert main(["peer", str(path)]) == 2
    told, _ = capsys.readouterr().err.splitlines()
    assert told == "kseed: without effect in this experiment, and ignored: side_by_side"


def test_a_peer_cannot_run_twice(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(itself, "GRACE", 1.0)
    monkeypatch.setattr(own_place, "PATIENCE", 5.0)
    addresses = free_addresses(PEERS)
    paths = write_peers(tmp_path, addresses)
    with Gate() as gate, ExitStack() as stack:
        processes = [start(stack, path, gate.environment) for path in paths]
        gate.hold("trains 1 1")
        assert main(["peer", str(paths[1])]) == 2
        assert "Address already in use" in capsys.readouterr().err
        elsewhere = re.sub("bind = .*", 'bind = "tcp://127.0.0.1:*"', paths[1].read_text())
        paths[1].write_text(elsewhere + 'log_level = "warning"\n')
        assert main(["peer", str(paths[1])]) == 2
        assert re.fullmatch(
            r"kseed: another process listens at tcp://127\.0\.0\.1:\d+, the place of peer 1 in the "
            r"roster: is peer 1 running already, on another host\?\n",
            capsys.readouterr().err,
        )
        [free] = free_addresses(1)
        moved = re.sub("bind = .*", f'bind = "{free}"', paths[1].read_text())
        paths[1].write_text(moved.replace(json.dumps(addresses[1]), json.dumps(free)))
        assert main(["peer", str(paths[1])]) == 2
        told = r"kseed: entry store \S+log\.sqlite: database is locked\n"
        assert re.fullmatch(told, capsys.readouterr().err)
        gate.open()
        assert [end_of(process).status for process in processes] == [0, 0, 0]


def test_peers_that_average_keep_no_log_and_do_not_come_back(tmp_path: Path) -> None:
    options = {"method": "fedprompt", "virtual_tokens": 2, "round_timeout": 20.0}
    paths = write_peers(tmp_path, **options)
    with ExitStack() as stack:
        ends = [end_of(process) for process in [start(stack, path) for path in paths]]
    digests = simulated(tmp_path, **options)["digests"]["accumulator"]
    assert [(end.status, end.out) for end in ends] == [
        (0, f"weights     {digest}\n") for digest in digests
    ]
    again = run("peer", paths[0], folder=paths[0].parent)
    assert again.status == 2
    assert again.err.endswith("already holds a run; choose another folder\n")
