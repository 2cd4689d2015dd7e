"""A network of hosts: its roster and keys by one command, and a peer on each by `kseed peer`."""

import os
import re
import signal
import stat
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from socket import create_server, gethostname
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scenarios.gate import Gate
from scenarios.processes import End, Process, end_of, free_addresses, kseed, run, write_options

from peer.addresses import is_place, is_remote, listening, listening_at
from peer.config import experiment_from
from peer.errors import UserError
from peer.hosts import roster_of
from peer.keys import PUBLIC, Security, secret_name
from peer.records import RunFolder
from peer.roster_file import ROSTER, RosterFile, read_roster
from sim.cli import main
from sim.runner import simulate

PEERS = 3
SMALL = {
    "trainer": "synthetic",
    "peers": PEERS,
    "rounds": 3,
    "local_steps": 5,
    "candidate_seeds": 64,
}
EXPERIMENT = "experiment.toml"


@pytest.fixture
def network(tmp_path: Path) -> Path:
    """A folder with an experiment."""
    write_options(tmp_path / EXPERIMENT, SMALL)
    return tmp_path


def make(folder: Path, hosts: str, *flags: str) -> int:
    return main(["roster", str(folder / EXPERIMENT), "--hosts", hosts, "--to", str(folder), *flags])


def local_hosts() -> str:
    """Hosts of this machine by name, with ports that nobody listens on."""
    return ",".join(address.replace("tcp://127.0.0.1", "localhost") for address in free())


def free() -> list[str]:
    return free_addresses(PEERS)


# Where peers listen


@pytest.mark.parametrize(
    ("address", "where"),
    [
        ("tcp://a:5555", "tcp://0.0.0.0:5555"),
        ("tcp://10.0.0.7:5555", "tcp://0.0.0.0:5555"),
        ("tcp://localhost:5555", "tcp://127.0.0.1:5555"),
        ("tcp://127.0.0.1:5555", "tcp://127.0.0.1:5555"),
        ("tcp://127.1.2.3:5555", "tcp://127.1.2.3:5555"),
        ("ipc:///tmp/a", "ipc:///tmp/a"),
    ],
)
def test_a_peer_listens_everywhere_unless_all_are_on_its_machine(address: str, where: str) -> None:
    assert listening_at(address) == where
    if address.startswith("tcp://"):
        assert f"tcp://{listening(address[6:])}" == where


# Rosters of hosts

NAMES = st.sampled_from(["a", "A", "b", "c.example", "10.0.0.7"])
PORTS = st.integers(1, 65000)


@given(
    hosts=st.lists(st.tuples(NAMES, st.none() | PORTS), min_size=2, max_size=6),
    port=PORTS,
    metrics_port=st.just(0) | PORTS,
)
def test_no_two_peers_have_one_place(
    hosts: list[tuple[str, int | None]], port: int, metrics_port: int
) -> None:
    named = [host if given is None else f"{host}:{given}" for host, given in hosts]
    fixed = [name.lower() for name in named if ":" in name]
    if len(set(fixed)) < len(fixed):
        with pytest.raises(UserError, match="is named twice"):
            roster_of(named, port, metrics_port)
        return
    roster = roster_of(named, port, metrics_port)
    places = [address.removeprefix("tcp://") for address in roster.addresses]
    watched = [place for place in roster.metrics if place]
    assert len(watched) == (len(hosts) if metrics_port else 0)
    assert all(is_place(place) for place in places + watched)
    assert len({place.lower() for place in places + watched}) == len(places + watched)
    for (host, given_), place in zip(hosts, places, strict=True):
        assert place.partition(":")[0] == host
        assert given_ is None or place == f"{host}:{given_}"


def test_a_host_with_several_peers_has_ports_one_after_the_other() -> None:
    hosts = ["a", "b", "a:5556", "a", "b:9464"]
    assert roster_of(hosts, 5555, 9464) == RosterFile(
        ("tcp://a:5555", "tcp://b:5555", "tcp://a:5556", "tcp://a:5557", "tcp://b:9464"),
        ("a:9464", "b:9465", "a:9465", "a:9466", "b:9466"),
    )


def test_one_command_makes_roster_and_keys(
    network: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert make(network, "a,b.example:6000, 10.0.0.7") == 0
    out, err = capsys.readouterr()
    assert out == (
        f"{network / ROSTER} is for every host, {network / secret_name(0)} for peer 0 on a alone, "
        "and so on\n"
    )
    assert err == ""
    roster = read_roster(network / ROSTER)
    assert roster.addresses == ("tcp://a:5555", "tcp://b.example:6000", "tcp://10.0.0.7:5555")
    assert roster.metrics == ("a:9464", "b.example:9464", "10.0.0.7:9464")
    assert roster.keys is not None
    for peer in range(PEERS):
        secret = network / secret_name(peer)
        assert stat.S_IMODE(secret.stat().st_mode) == 0o600
        assert Security.among(roster.keys, network, peer).public is roster.keys
    names = {EXPERIMENT, ROSTER, *map(secret_name, range(PEERS))}
    assert {path.name for path in network.iterdir()} == names


def test_a_pattern_stands_for_all_hosts(network: Path) -> None:
    assert make(network, "kseed-{}.kseed", "--port", "7000", "--metrics-port", "0") == 0
    roster = read_roster(network / ROSTER)
    assert roster.addresses == tuple(f"tcp://kseed-{peer}.kseed:7000" for peer in range(PEERS))
    assert roster.metrics == ("", "", "")


def test_the_number_of_peers_is_that_of_the_topology(network: Path) -> None:
    (network / "graph.edgelist").write_text("a b\nb c\nc d\n")
    write_options(network / EXPERIMENT, {**SMALL, "topology": str(network / "graph.edgelist")})
    assert make(network, "h{}", "--metrics-port", "0") == 0
    assert len(read_roster(network / ROSTER).addresses) == 4


def test_each_training_task_has_a_host(network: Path, tiny_model: Path, tiny_data: Path) -> None:
    by_task = {"partition": "by-task", "model": str(tiny_model), "data": str(tiny_data)}
    write_options(network / EXPERIMENT, {**by_task, "eval_rows": 12})
    assert main(["roster", str(network / EXPERIMENT), "--hosts", "h{}", "--to", str(network)]) == 0
    assert len(read_roster(network / ROSTER).addresses) == 3


def test_a_new_roster_can_keep_the_keys(network: Path, capsys: pytest.CaptureFixture[str]) -> None:
    keys = network / "keys"
    assert main(["keys", str(PEERS), "--to", str(keys)]) == 0
    for job, hosts in (("first", "a,b,c"), ("second", "c,d,e")):
        arguments = ["--hosts", hosts, "--keys", str(keys), "--to", str(network / job)]
        assert main(["roster", str(network / EXPERIMENT), *arguments]) == 0
        assert capsys.readouterr().out.endswith(f"{network / job / ROSTER} is for every host\n")
        assert {path.name for path in (network / job).iterdir()} == {ROSTER}
    first, second = (read_roster(network / job / ROSTER) for job in ("first", "second"))
    assert first.addresses != second.addresses
    assert first.keys == second.keys != None  # noqa: E711
    assert {path.name for path in keys.iterdir()} == {PUBLIC, *map(secret_name, range(PEERS))}


def test_peers_of_one_machine_need_no_keys(network: Path) -> None:
    assert make(network, "localhost,localhost,127.0.0.9", "--no-keys") == 0
    assert read_roster(network / ROSTER).keys is None
    assert {path.name for path in network.iterdir()} == {EXPERIMENT, ROSTER}


@pytest.mark.parametrize(
    ("hosts", "flags", "told"),
    [
        ("a,b", [], "hosts = 'a,b' are 2: the experiment has 3"),
        ("a,b,c,d", [], "are 4: the experiment has 3"),
        ("a,,c", [], "hosts = '' is not allowed: must be a name or an IPv4 address"),
        ("a,b c,d", [], "hosts = 'b c' is not allowed"),
        ("a,[::1],c", [], "hosts = '[::1]' is not allowed"),
        ("a,b:0,c", [], "hosts = 'b:0' is not allowed"),
        ("a,b:65536,c", [], "hosts = 'b:65536' is not allowed"),
        ("a,0.0.0.0,c", [], "hosts = '0.0.0.0' is not allowed"),
        ("a:7,b,A:7", [], "hosts = 'A:7' is not allowed: is named twice"),
        ("a-{},b,c", [], "a pattern with {} stands alone"),
        ("a-{}-{}", [], "hosts = 'a-{}-{}' is not allowed"),
        ("a,b,c", ["--port", "0"], "port = '0' is not allowed"),
        ("a,b,c", ["--port", "five"], "port = 'five' is not allowed"),
        ("a,b,c", ["--metrics-port", "65536"], "metrics_port = '65536' is not allowed"),
        ("a,a,a", ["--port", "65534"], "a has no port left from 65534 on: the highest is 65535"),
        ("a,b,c", ["--no-keys"], "tcp://a:5555 is beyond this machine, so the roster needs keys"),
        ("a,b,c", ["--keys", "nowhere"], "cannot read nowhere/public.toml: No such file"),
        ("a,b,c", ["--keys", "k", "--no-keys"], "not allowed with argument"),
    ],
)
def test_what_is_wrong_with_hosts_is_told_in_one_line(
    network: Path, capsys: pytest.CaptureFixture[str], hosts: str, flags: list[str], told: str
) -> None:
    assert make(network, hosts, *flags) == 2
    assert_told(capsys, told)
    assert {path.name for path in network.iterdir()} == {EXPERIMENT}


def assert_told(capsys: pytest.CaptureFixture[str], told: str) -> None:
    out, err = capsys.readouterr()
    assert out == ""
    assert re.fullmatch(f"kseed: .*{re.escape(told)}.*\n", err)


@pytest.mark.parametrize("there", [ROSTER, secret_name(2)])
def test_nothing_is_overwritten(
    network: Path, capsys: pytest.CaptureFixture[str], there: str
) -> None:
    (network / there).write_text("precious")
    ways: list[Sequence[str]] = [()] if there != ROSTER else [(), ("--no-keys",)]
    for flags in ways:
        assert make(network, "localhost,localhost,localhost", *flags) == 2
        assert_told(capsys, f"{network / there} is there already")
        assert {path.name for path in network.iterdir()} == {EXPERIMENT, there}
        assert (network / there).read_text() == "precious"


# One peer on its host: mistakes


@pytest.fixture
def ready(network: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """A folder with an experiment whose links are encrypted, and a roster of this machine."""
    options(curve="on")(network)
    assert make(network, local_hosts(), "--metrics-port", "0") == 0
    capsys.readouterr()
    return network


def peer(folder: Path, *flags: str) -> int:
    return main(["peer", "--experiment", str(folder / EXPERIMENT), *flags])


def rewrite(name: str, change: Callable[[str], str]) -> Callable[[Path], None]:
    def do(folder: Path) -> None:
        (folder / name).write_text(change((folder / name).read_text()))

    return do


def options(**values: Any) -> Callable[[Path], None]:
    return lambda folder: write_options(folder / EXPERIMENT, SMALL | {"curve": "on"} | values)


def remove(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def swap_keys(folder: Path) -> None:
    (folder / secret_name(1)).replace(folder / secret_name(0))


@pytest.mark.parametrize(
    ("change", "flags", "told"),
    [
        (options(), ["--index", "3"], "index = 3 is not allowed: there are peers 0 to 2"),
        (options(), ["--index", "first"], "index = 'first' is not allowed: must be a number"),
        (options(), ["--index", "slurm"], "index = 'slurm' needs the variable SLURM_PROCID"),
        (options(), ["--index", "host"], "index = 'host': no address of the roster is at"),
        (options(), [], "a peer needs --experiment FILE and --index I, or a file of its own"),
        (remove(EXPERIMENT), ["--index", "0"], f"{EXPERIMENT}: No such file"),
        (remove(ROSTER), ["--index", "0"], f"{ROSTER}: `kseed roster` makes one"),
        (options(), ["--index", "0", "--roster", "no.toml"], "there is no roster no.toml"),
        (rewrite(ROSTER, lambda _: "?"), ["--index", "0"], f"{ROSTER} is no TOML file"),
        (options(peers=4), ["--index", "0"], f"{ROSTER} has 3 peers, and the experiment 4"),
        (options(topology="random-matching"), ["--index", "0"], "varies over time, which only"),
        (options(rounds=0), ["--index", "0"], "rounds = 0 is not allowed"),
        (options(id=0), ["--index", "0"], "id = 0: there is no such option"),
        (
            remove(secret_name(0)),
            ["--index", "0"],
            f"{secret_name(0)}: No such file or directory",
        ),
        (options(), ["--index", "0", "--keys", "no"], f"cannot read no/{secret_name(0)}"),
        (swap_keys, ["--index", "0"], "holds other keys than those of peer 0 that all know"),
        (
            rewrite(ROSTER, lambda text: re.sub('(curve|ed25519) = ".*"\n', "", text)),
            ["--index", "0"],
            'curve = "on", so links need keys: `kseed roster` makes them; or say curve = "off"',
        ),
        (options(), ["--index", "0", "--bind", "127.0.0.1:5"], "cannot listen on 127.0.0.1:5: an"),
        (options(), ["--index", "0", "--bind", "tcp://192.0.2.1:9"], "cannot listen on tcp://192"),
    ],
)
def test_a_mistake_is_told_in_one_line_and_leaves_nothing(
    ready: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    change: Callable[[Path], None],
    flags: list[str],
    told: str,
) -> None:
    monkeypatch.chdir(ready)
    monkeypatch.delenv("SLURM_PROCID", raising=False)
    change(ready)
    before = sorted(ready.iterdir())
    assert peer(ready, *flags) == 2
    assert_told(capsys, told)
    assert sorted(ready.iterdir()) == before


def test_signatures_need_keys(network: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_options(network / EXPERIMENT, SMALL | {"sign": True})
    assert make(network, local_hosts(), "--no-keys") == 0
    capsys.readouterr()
    assert peer(network, "--index", "0") == 2
    assert_told(capsys, "sign = true needs keys: `kseed roster` makes them")


def test_the_two_forms_do_not_mix(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["peer", "peer.toml", "--index", "0"]) == 2
    assert_told(capsys, "peer.toml is a peer's own file, and goes without --index")
    assert main(["peer"]) == 2
    assert_told(capsys, "a peer needs --experiment FILE and --index I, or a file of its own")


def test_an_address_in_use_is_told(network: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with create_server(("127.0.0.1", 0)) as server:
        taken = f"localhost:{server.getsockname()[1]}"
        assert make(network, f"{taken},localhost:1,localhost:2", "--metrics-port", "0") == 0
        capsys.readouterr()
        before = sorted(network.iterdir())
        assert peer(network, "--index", "0") == 2
        assert_told(capsys, "Address already in use")
    assert sorted(network.iterdir()) == before


# Networks of real processes


def simulated(folder: Path, **more: Any) -> dict[str, Any]:
    return simulate(experiment_from(SMALL | more | {"out": str(folder / "simulated")}))


def start(
    stack: ExitStack, folder: Path, *flags: str, environment: Mapping[str, str] | None = None
) -> Process:
    arguments = ("peer", "--experiment", EXPERIMENT, *flags)
    return stack.enter_context(kseed(*arguments, folder=folder, environment=environment))


def digests_of(ends: Sequence[End]) -> list[str]:
    return [end.out.removeprefix("accumulator ").strip() for end in ends]


SECURE = {"curve": "on", "sign": True}


@pytest.mark.slow
def test_hosts_come_up_in_any_order_to_the_digests_of_the_simulator(network: Path) -> None:
    write_options(network / EXPERIMENT, SMALL | SECURE)
    assert make(network, local_hosts(), "--metrics-port", "0") == 0
    with Gate() as gate, ExitStack() as stack:
        late = {}
        for me in (2, 0):
            late[me] = start(stack, network, "--index", str(me), environment=gate.environment)
            # This one is there, and alone, before the next is started.
            gate.hold(f"greets {me}")
        gate.open()
        late[1] = start(stack, network, "--index", "slurm", environment={"SLURM_PROCID": "1"})
        ends = [end_of(late[me]) for me in range(PEERS)]
    assert [end.status for end in ends] == [0, 0, 0]
    expected = simulated(network, **SECURE)
    assert digests_of(ends) == expected["digests"]["accumulator"]
    folders = {path.name for path in (network / "runs" / "experiment").iterdir()}
    assert folders == {f"peer-{me}" for me in range(PEERS)}
    assert all("127.0.0.1" in end.err.splitlines()[0] for end in ends)
    # Minutes may lie between hosts, unless the experiment says otherwise.
    for me in range(PEERS):
        config = RunFolder(network / "runs" / "experiment" / f"peer-{me}").experiment()
        assert (config.start_timeout, config.round_timeout) == (600.0, 60.0)


@pytest.mark.slow
def test_a_peer_that_is_killed_goes_on_from_its_log(network: Path) -> None:
    write_options(network / EXPERIMENT, SMALL | SECURE)
    assert make(network, local_hosts(), "--metrics-port", "0") == 0
    with Gate() as gate, ExitStack() as stack:
        peers = [
            start(stack, network, "--index", str(me), environment=gate.environment)
            for me in range(PEERS)
        ]
        assert gate.hold("trains 1 1") == [peers[1].pid]
        twin = run("peer", "--experiment", EXPERIMENT, "--index", "1", folder=network)
        assert twin.status == 2
        assert re.fullmatch(
            "kseed: cannot listen on .*: Address already in use.*, "
            "maybe by another peer with this index\n",
            twin.err,
        )
        os.kill(peers[1].pid, signal.SIGKILL)
        assert end_of(peers[1]).status == -signal.SIGKILL
        peers[1] = start(stack, network, "--index", "1", environment=gate.environment)
        gate.open()
        ends = [end_of(process) for process in peers]
    assert [end.status for end in ends] == [0, 0, 0]
    assert digests_of(ends) == simulated(network, **SECURE)["digests"]["accumulator"]
    assert "peer 1 trains in round 0" not in ends[1].err


@pytest.mark.slow
def test_another_roster_is_refused_and_named(network: Path) -> None:
    impatient = {"start_timeout": 1.0, "round_timeout": 1.0, "settle_timeout": 1.0}
    write_options(network / EXPERIMENT, SMALL | impatient)
    assert make(network, local_hosts(), "--metrics-port", "0", "--no-keys") == 0
    other = network / "other.toml"
    moved = re.sub(r"(# 1\naddress = )\".*\"", r'\1"tcp://localhost:1"', roster_text(network))
    other.write_text(moved)
    with Gate() as gate, ExitStack() as stack:
        peers = [
            start(stack, network, "--index", str(me), *flags, environment=gate.environment)
            for me, flags in enumerate([[], [], ["--roster", "other.toml"]])
        ]
        points = [f"greets {me}" for me in range(PEERS)]
        gate.hold(*points)
        for point in points:
            gate.release(point)
        gate.open()
        ends = [end_of(process) for process in peers]
    assert "kseed: peers 0 and 2 differ in: roster_file\n" in ends[0].err
    assert "kseed: peers 2 and 0 differ in: roster_file\n" in ends[2].err
    assert ends[2].status == 3


def roster_text(folder: Path) -> str:
    return (folder / ROSTER).read_text()


@pytest.mark.slow
def test_a_peer_may_move_to_another_address_and_what_it_has_signed_holds(network: Path) -> None:
    write_options(network / EXPERIMENT, SMALL | SECURE)
    keys = network / "keys"
    assert main(["keys", str(PEERS), "--to", str(keys)]) == 0

    def begin(stack: ExitStack, job: str, gate: Gate) -> list[Process]:
        arguments = ["--hosts", local_hosts(), "--keys", str(keys), "--metrics-port", "0"]
        to = ["--to", str(network / job)]
        assert main(["roster", str(network / EXPERIMENT), *arguments, *to]) == 0
        flags = ["--roster", f"{job}/{ROSTER}", "--keys", "keys"]
        return [
            start(stack, network, "--index", str(me), *flags, environment=gate.environment)
            for me in range(PEERS)
        ]

    with Gate() as gate, ExitStack() as stack:
        first = begin(stack, "first", gate)
        gate.hold("trains 1 1")
        for process in first:
            process.kill()
        gate.release("trains 1 1")
        for process in first:
            end_of(process)
        second = begin(stack, "second", gate)
        gate.open()
        ends = [end_of(process) for process in second]
    assert [end.status for end in ends] == [0, 0, 0]
    assert digests_of(ends) == simulated(network, **SECURE)["digests"]["accumulator"]
    assert "peer 1 trains in round 0" not in ends[1].err


@pytest.mark.slow
def test_a_host_finds_its_place_by_its_name(network: Path) -> None:
    name = gethostname()
    if not is_place(f"{name}:1") or not is_remote(f"tcp://{name}:1"):
        pytest.skip(f"{name!r}, this machine's name, is none of a roster")
    port = free()[0].rpartition(":")[2]
    assert make(network, f"elsewhere.invalid,{name}:{port},nowhere.invalid") == 0
    write_options(network / EXPERIMENT, SMALL)
    with Gate() as gate, ExitStack() as stack:
        process = start(stack, network, "--index", "host", environment=gate.environment)
        assert gate.hold("greets 1") == [process.pid]
        process.kill()
        assert f"peer 1 listens on tcp://0.0.0.0:{port}" in end_of(process).err
