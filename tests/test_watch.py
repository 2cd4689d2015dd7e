"""Watching a network: what is made of statuses, how it is drawn, what hostile answers can do."""

from __future__ import annotations

import asyncio
import io
import json
import os
import re
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console
from scenarios.gate import Gate
from scenarios.processes import ctrl_c, end_of, flags, free_range, kseed, run
from statuses import neighbour, status, statuses, telling

from peer.errors import UserError
from peer.metrics_address import MetricsAddress
from peer.metrics_ports import HOST
from peer.status import Accusation, PeerStatus
from peer.status_server import StatusServer
from sim.cli import main
from sim.watch import asking
from sim.watch.answers import Heard, Silence
from sim.watch.conduct import Screen
from sim.watch.drawing import draw
from sim.watch.network import LOOKS, Network, Picture, Presence, links_of, sent_by
from sim.watch.one import in_words
from sim.watch.places import places
from sim.watch.words import plain_line, troubles
from sim.words import printable

FEW = settings(deadline=None, max_examples=40)
"""Networks are large to draw."""

GONE = Silence("nobody listens there", gone=True)
MUTE = Silence("no answer within 8 s")


def heard(peer: int, **changes: Any) -> Heard:
    ahead = changes.pop("clock_ahead", 0.0)
    return Heard(status(peer, **changes), ahead)


def seen(*looks: Mapping[str, Heard | Silence]) -> Picture:
    """What is known after looks a second apart."""
    network = Network(list(looks[0]))
    for now, answers in enumerate(looks):
        network.take(answers, float(now))
    return network.picture(float(len(looks) - 1))


ANSWERS = st.one_of(
    st.builds(Heard, statuses(), st.floats(-1e6, 1e6)),
    st.builds(Silence, st.text(max_size=30), st.booleans()),
)


@st.composite
def pictures(draw: st.DrawFn) -> tuple[list[str], list[dict[str, Heard | Silence]], Picture]:
    """Addresses, what each said in every look, and what is known then."""
    addresses = [f"a:{port}" for port in range(draw(st.integers(1, 5)))]
    look = st.fixed_dictionaries(dict.fromkeys(addresses, ANSWERS))
    looks = draw(st.lists(look, min_size=1, max_size=3))
    return addresses, looks, seen(*looks)


@FEW
@given(pictures())
def test_a_picture_holds_everybody_once_with_what_was_heard_last(
    case: tuple[list[str], list[dict[str, Heard | Silence]], Picture],
) -> None:
    addresses, looks, picture = case
    rows = {row.address: row for row in picture.rows}
    assert sorted(rows) == sorted(addresses)
    assert len(picture.rows) == len(addresses)
    for address, row in rows.items():
        told = [look[address] for look in looks]
        last = next((a.status for a in reversed(told) if isinstance(a, Heard)), None)
        assert row.status == last
        assert (row.presence is Presence.UNSEEN) == (last is None)
        if isinstance(told[-1], Heard):
            ended = told[-1].status.phase == "ended"
            assert row.presence is (Presence.ENDED if ended else Presence.HERE)
            assert (row.silent_seconds, row.why) == (0.0, "")
    assert picture.sent == sum(sent_by(row.status) for row in picture.rows if row.status)
    assert picture.rate is None or picture.rate >= 0
    told_rows = [row for row in picture.rows if row.status is not None]
    assert [r.status.peer for r in told_rows if r.status] == sorted(
        r.status.peer for r in told_rows if r.status
    )


@FEW
@given(pictures())
def test_digests_are_compared_after_as_many_rounds_only(
    case: tuple[list[str], list[dict[str, Heard | Silence]], Picture],
) -> None:
    picture = case[2]
    by_round: dict[int, list[Any]] = {}
    for row in picture.rows:
        known = row.status and row.presence in (Presence.HERE, Presence.ENDED)
        if known and row.status and row.status.cut_round is not None:
            by_round.setdefault(row.status.cut_round, []).append(row)
        else:
            assert not row.differs
    for rows in by_round.values():
        digests = {row.status.digest for row in rows}
        usual = {row.status.digest for row in rows if not row.differs}
        assert len(usual) == 1
        assert any(row.differs for row in rows) == (len(digests) > 1)
        assert 2 * sum(row.differs for row in rows) <= len(rows)
    assert picture.compared == sum(len(rows) for rows in by_round.values() if len(rows) > 1)


@FEW
@given(st.lists(statuses(), max_size=5, unique_by=lambda one: one.peer))
def test_every_link_is_told_once_with_what_either_end_said(told: list[PeerStatus]) -> None:
    links = links_of(told)
    said = {(one.peer, n.peer): n.sent_bytes for one in told for n in one.neighbours}
    pairs = [(link.low, link.high) for link in links]
    assert len(set(pairs)) == len(pairs)
    assert set(pairs) == {(min(pair), max(pair)) for pair in said}
    for link in links:
        assert link.low <= link.high
        assert link.upward == said.get((link.low, link.high))
        assert link.downward == said.get((link.high, link.low))
    totals = [link.total for link in links]
    assert totals == sorted(totals, reverse=True)


@settings(deadline=None, max_examples=30)
@given(pictures(), st.integers(40, 220), st.integers(16, 60))
def test_a_picture_fits_the_terminal_and_moves_no_cursor(
    case: tuple[list[str], list[dict[str, Heard | Silence]], Picture], width: int, height: int
) -> None:
    text = drawn(case[2], width, height)
    lines = text.splitlines()
    assert len(lines) <= height
    assert all(character.isprintable() for character in text if character != "\n")
    for line in (plain_line(case[2]), *troubles(case[2])):
        assert line.isprintable()


def drawn(picture: Picture, width: int, height: int) -> str:
    out = io.StringIO()
    console = Console(file=out, width=width, height=height, color_system=None)
    console.print(draw(picture, width, height))
    return out.getvalue()


def network(peers: int, **changes: Any) -> dict[str, Heard | Silence]:
    """A ring of peers, all well."""
    return {
        f"a:{peer}": heard(
            peer,
            peers=peers,
            neighbours=sorted({(peer - 1) % peers, (peer + 1) % peers}),
            **changes,
        )
        for peer in range(peers)
    }


@pytest.mark.parametrize(("width", "height"), [(80, 24), (160, 50)])
@pytest.mark.parametrize("peers", [3, 8, 64])
def test_who_is_in_trouble_is_always_drawn(peers: int, width: int, height: int) -> None:
    before = network(peers)
    now = {**before, f"a:{peers - 1}": MUTE, "a:1": heard(1, digest="cd" * 16, peers=peers)}
    text = drawn(seen(before, now), width, height)
    assert f"! peer {peers - 1} is silent for 1 s, last in round 3: no answer within 8 s\n" in text
    assert "! digests differ from most others': peer 1\n" in text
    assert f"1 of {peers - 1} digests differ" in text
    rows = [line.split()[:3] for line in text.splitlines()]
    assert [str(peers - 1), "✗", "silent"] in rows
    assert ["1", "●", "training"] in rows


def test_all_is_well() -> None:
    picture = seen(network(3))
    assert picture.well
    assert not picture.over
    assert troubles(picture) == []
    assert plain_line(picture) == (
        "round 3 of 8; mean loss 4.2500; digests equal (3 peers); 2.36 kB sent"
    )


def test_rates_are_taken_over_some_looks_and_begin_anew_after_a_silence() -> None:
    def look(sent: int) -> dict[str, Heard | Silence]:
        one = status(0, neighbours=())
        return {"a:0": Heard(replace(one, neighbours=(neighbour(1, payload_bytes=sent),)), 0.0)}

    looks = [look(1000 * n * n) for n in range(LOOKS + 3)]
    last = LOOKS + 2
    window = LOOKS - 1
    assert seen(*looks).rate == 1000 * (last**2 - (last - window) ** 2) / window
    assert seen(look(0)).rate is None
    assert seen(look(9), {"a:0": MUTE}, look(12)).rate is None
    assert seen(look(9), look(3)).rate is None


@pytest.mark.parametrize(
    ("phase", "answer", "presence", "over"),
    [
        ("ended", GONE, Presence.ENDED, True),
        ("ending", GONE, Presence.ENDED, True),
        ("ending", MUTE, Presence.SILENT, False),
        ("training", GONE, Presence.SILENT, True),
        ("training", MUTE, Presence.SILENT, False),
        ("ended", MUTE, Presence.ENDED, True),
    ],
)
def test_who_is_gone_has_ended_if_it_had_said_so(
    phase: str, answer: Silence, presence: Presence, over: bool
) -> None:
    picture = seen({"a:0": heard(0, phase=phase)}, {"a:0": answer})
    [row] = picture.rows
    assert (row.presence, picture.over) == (presence, over)
    assert picture.well == (presence is Presence.ENDED)


def test_nobody_is_missed_before_somebody_was_seen() -> None:
    assert not seen({"a:0": GONE, "a:1": GONE}).over
    assert not seen({"a:0": heard(0), "a:1": GONE}).over
    assert seen({"a:0": heard(0, phase="ended"), "a:1": GONE}).over


def test_what_is_wrong_in_words() -> None:
    ahead, behind = heard(0, clock_ahead=7200.0), heard(1, clock_ahead=-61.0)
    stranger = heard(2, agreement="11" * 8, accused=(Accusation(1, "lied\x1b[2J"),))
    answers = {"a:0": ahead, "a:1": behind, "a:2": stranger, "a:3": heard(1), "a:4": GONE}
    assert troubles(seen(answers)) == [
        "not seen yet: a:4: nobody listens there",
        "in another experiment than most: peer 2",
        "several say to be the same peer: 1 at a:1, 1 at a:3",
        "peer 0: its clock is 2 h 00 min ahead of this host's",
        "peer 1: its clock is 1 min 01 s behind this host's",
        "peer 2 accuses peer 1: lied\\x1b[2J",
    ]


def test_what_goes_on_being_wrong_is_told_once(capsys: pytest.CaptureFixture[str]) -> None:
    network = Network(["a:0", "a:1"])
    screen = Screen()
    said = []
    for now, other in enumerate([heard(1), MUTE, MUTE, heard(1), MUTE]):
        network.take({"a:0": heard(0), "a:1": other}, float(now))
        screen.show(network.picture(float(now)))
        said.append(capsys.readouterr().out.splitlines()[1:])
    silent = "  peer 1 is silent for 1 s, last in round 3: no answer within 8 s"
    assert said == [[], [silent], [], [], [silent]]


def test_places(tmp_path: Path) -> None:
    assert places(["h:7-9", "h:8", "[::1]:5-6"], None) == [
        *(MetricsAddress("h", port) for port in (7, 8, 9)),
        *(MetricsAddress("::1", port) for port in (5, 6)),
    ]
    roster = tmp_path / "roster.toml"
    roster.write_text(
        '[[peer]]\naddress = "tcp://127.0.0.1:1"\nmetrics = "127.0.0.1:9"\n'
        '[[peer]]\naddress = "tcp://127.0.0.1:2"\n'
    )
    assert places([], roster) == [MetricsAddress("127.0.0.1", 9)]
    roster.write_text(
        '[[peer]]\naddress = "tcp://127.0.0.1:1"\n[[peer]]\naddress = "tcp://127.0.0.1:2"\n'
    )
    with pytest.raises(UserError, match="does not say where any peer offers its metrics"):
        places([], roster)


@contextmanager
def answering(answer: bytes, *, endless: bool = False) -> Iterator[str]:
    """A server that answers anything with this, once or again and again; its address."""
    loop = asyncio.new_event_loop()

    async def say(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            writer.write(answer)
            while endless:
                await writer.drain()
                await asyncio.sleep(0.01)
                writer.write(answer)
            await writer.drain()
            writer.write_eof()
            await reader.read()
        except ConnectionError:
            pass
        finally:
            writer.close()

    server = loop.run_until_complete(asyncio.start_server(say, HOST, 0))
    thread = Thread(target=loop.run_forever)
    thread.start()
    try:
        yield f"{HOST}:{server.sockets[0].getsockname()[1]}"
    finally:

        async def end() -> None:
            server.close()
            others = asyncio.all_tasks() - {asyncio.current_task()}
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)

        asyncio.run_coroutine_threadsafe(end(), loop).result(20.0)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


OK = b"HTTP/1.0 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n"

HOSTILE = {
    "nothing": (b"", "no kseed peer: it does not speak HTTP"),
    "another protocol": (b"SSH-2.0-OpenSSH\r\n", "no kseed peer: it does not speak HTTP"),
    "an empty body": (OK, "no kseed peer: no JSON: Expecting value: line 1 column 1 (char 0)"),
    "another program": (OK + b'{"status": "success"}', "no kseed peer: no status: schema is"),
    "a deep body": (OK + b"[" * 10**5, "no kseed peer: no JSON: "),
    "not found": (b"HTTP/1.1 404 Not Found\r\n\r\n", "no kseed peer: HTTP status 404 Not Found"),
    "an escape": (b"HTTP/1.1 404 \x1b[2J\r\n\r\n", "no kseed peer: it does not speak HTTP"),
    "starting": (b"HTTP/1.0 503 the peer is starting\r\n\r\n", "the peer is starting"),
    "an escape in a key": (OK + b'{"\\u001b[2J": 1', "no kseed peer: no JSON: Expecting "),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_whatever_answers_is_told_in_one_line(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    answer, why = HOSTILE[name]
    with answering(answer) as address:
        assert main(["status", address]) == 1
        out, err = capsys.readouterr()
        assert out == ""
        assert err.startswith(f"kseed: {address}: {why}")
        assert err.count("\n") == 1
        assert err.rstrip("\n").isprintable()
        assert main(["watch", "--once", address]) == 3
        assert why in capsys.readouterr().out


def test_an_answer_without_end_is_read_to_the_limit(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(asking, "ANSWER_BYTES", 2**16)
    with answering(OK + b" " * 2**12, endless=True) as address:
        assert main(["status", address]) == 1
        assert "it says more than 65,536 bytes\n" in capsys.readouterr().err


def test_an_answer_that_drips_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(asking, "PATIENCE", 0.3)
    with answering(b" ", endless=True) as address:
        began = time.monotonic()
        assert main(["status", address]) == 1
        assert time.monotonic() < began + 20
        assert capsys.readouterr().err == f"kseed: {address}: no answer within 0.3 s\n"


@pytest.fixture
def told() -> PeerStatus:
    return status(
        1,
        neighbours=[0, 2],
        method="fed\x1b[31mkseed",
        waiting_for=(0, 2),
        phase="waiting",
        timeouts=2,
        now=time.time() + 7200,
    )


def test_a_peer_is_asked(told: PeerStatus, capsys: pytest.CaptureFixture[str]) -> None:
    with telling(told) as source, StatusServer("127.0.0.1:0", source) as server:
        assert main(["status", server.address]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert all(line.isprintable() for line in lines)
        assert lines[:2] == [
            "peer       1 of 3, fed\\x1b[31mkseed on ring",
            "does       waiting, round 3 of 8",
        ]
        assert "waits for  0, 2" in lines
        assert "faults     2 time-outs" in lines
        assert any(line.startswith("clock      its clock is 2 h 00 min ahead of") for line in lines)
        assert lines[-3:] == [
            "neighbour  link    heard   sent  payload  messages",
            "        0  open  0 s ago  394 B    300 B         5",
            "        2  open  0 s ago  394 B    300 B         5",
        ]
        assert main(["status", server.address, "--json"]) == 0
        said = json.loads(capsys.readouterr().out)
        assert said["peer"] == 1
        assert 7100 < said["clock_ahead_seconds"] < 7300
        assert main(["watch", "--once", server.address]) == 0
        words = capsys.readouterr().out.splitlines()
        assert words[0].startswith("round 3 of 8; mean loss 4.2500; no digests to compare; ")
        assert words[1] == "  peer 1: its clock is 2 h 00 min ahead of this host's"


@pytest.mark.slow
def test_who_reads_no_more_ends_it_without_a_word(told: PeerStatus, tmp_path: Path) -> None:
    with (
        telling(told) as source,
        StatusServer("127.0.0.1:0", source) as server,
        kseed("watch", server.address, "--interval", "0.1", folder=tmp_path) as watch,
    ):
        assert watch.stdout is not None
        assert watch.stderr is not None
        assert watch.stdout.readline().startswith("round 3 of 8")
        watch.stdout.close()
        with watch.stderr:
            assert watch.stderr.read() == ""
        assert watch.wait(60.0) == 1


@pytest.mark.slow
def test_signs_that_cannot_be_printed_are_replaced(told: PeerStatus, tmp_path: Path) -> None:
    told = replace(told, method="größe", loss=None)
    ascii_only = {"PYTHONIOENCODING": "ascii"}
    with (
        telling(told) as source,
        StatusServer("127.0.0.1:0", source) as server,
        kseed("status", server.address, folder=tmp_path, environment=ascii_only) as process,
    ):
        status_, out, err = end_of(process)
    assert (status_, err) == (0, "")
    assert "gr??e on ring" in out


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["status", "here"], "'here' is no address of metrics: must be host:port"),
        (["status", "tcp://a:1"], "'tcp://a:1' is no address of metrics"),
        (["watch"], "say whom to watch"),
        (["watch", "a:9-8"], "'a:9-8' is no range: it ends before it begins"),
        (["watch", "a:0-9999"], "10,000 addresses are too many"),
        (["watch", "a:1-65536"], "'a:65536' is no address of metrics"),
        (["watch", "a:1", "--interval", "0"], "--interval '0' is not allowed: must be 0.1 to 3600"),
        (["watch", "a:1", "--interval", "nan"], "--interval 'nan' is not allowed"),
        (["watch", "--roster", "missing.toml"], "cannot read missing.toml: No such file"),
    ],
)
def test_a_mistake_is_told_in_one_line(
    arguments: list[str], why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"kseed: {why}")
    assert err.count("\n") == 1


def test_nobody_there_is_told_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    address = f"{HOST}:{free_range(1)}"
    assert main(["status", address]) == 1
    assert capsys.readouterr().err == f"kseed: {address}: nobody listens there\n"


@given(st.text())
def test_no_text_moves_the_cursor(text: str) -> None:
    assert printable(text).isprintable()


RUN = {"trainer": "synthetic", "peers": 4, "rounds": 3, "round_timeout": 60.0}


@pytest.mark.slow
def test_a_stopped_peer_is_silent_and_the_end_is_seen(tmp_path: Path) -> None:
    first = free_range(4)
    where = f"{HOST}:{first}-{first + 3}"
    options = flags(RUN | {"metrics_port": first})
    with (
        Gate() as gate,
        kseed(
            "launch", *options, "--out", "run", folder=tmp_path, environment=gate.environment
        ) as launch,
    ):
        [pid] = gate.hold("trains 2 1")
        os.kill(pid, signal.SIGSTOP)
        # The others go on to where they wait for this one.
        gate.open()
        look = run("watch", "--once", where, folder=tmp_path)
        assert look.status == 3
        head, trouble = look.out.splitlines()
        assert head.startswith("round 2 of 3; digests equal (3 peers); ")
        assert head.endswith(f"; silent: {HOST}:{first + 2}")
        assert trouble == f"  not seen yet: {HOST}:{first + 2}: no answer within 8 s"
        with kseed("watch", where, "--interval", "0.2", folder=tmp_path) as watch:
            assert watch.stdout is not None
            assert any(line.startswith("round 2 of 3; ") for line in watch.stdout)
            os.kill(pid, signal.SIGCONT)
            watched, launched = end_of(watch), end_of(launch)
    assert (launched.status, watched.status) == (0, 0), watched
    assert watched.err == ""
    last = watched.out.splitlines()[-1]
    assert last.startswith("round 3 of 3; digests equal (4 peers); ")
    assert last.endswith("; 4 of 4 ended")


@pytest.mark.slow
def test_ctrl_c_ends_a_watch(tmp_path: Path) -> None:
    with kseed("watch", f"{HOST}:{free_range(1)}", "--interval", "60", folder=tmp_path) as watch:
        assert watch.stdout is not None
        assert "silent" in watch.stdout.readline()
        ctrl_c(watch)
        end = end_of(watch)
    assert (end.status, end.err) == (130, "kseed: interrupted\n")


@pytest.mark.slow
def test_ports_in_use_are_told_before_anything_is_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with telling(status()) as source, StatusServer("127.0.0.1:0", source) as server:
        port = int(server.address.rpartition(":")[2])
        out = str(tmp_path / "run")
        options = flags(RUN | {"metrics_port": port - 1})
        assert main(["launch", *options, "--out", out]) == 2
    assert capsys.readouterr().err == (
        f"kseed: metrics_port = {port - 1}: peer 1 cannot have port {port}: "
        "Address already in use\n"
    )
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (
            {"metrics_port": 65533},
            "metrics_port = 65533 is not allowed: at most 65532 with 4 peers",
        ),
        (
            {"metrics_port": 9000, "isolate": "netns"},
            "metrics_port = 9000 is not allowed: peers in network namespaces are out of reach",
        ),
    ],
)
def test_ports_that_cannot_be_had(
    tmp_path: Path, options: dict[str, Any], why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "run")
    assert main(["launch", *flags(RUN | options), "--out", out]) == 2
    assert capsys.readouterr().err == f"kseed: {why}\n"
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("changes", "link"),
    [
        ({}, "open"),
        ({"banned": True}, "banned"),
        ({"open": False}, "closed"),
        ({"open": False, "silent_seconds": None}, "not heard"),
        ({"open": False, "silent_seconds": None, "reached": False}, "not reached"),
    ],
)
def test_which_way_of_a_link_is_shut(changes: dict[str, Any], link: str) -> None:
    told = replace(status(), neighbours=(neighbour(1, **changes),))
    [line] = in_words(Heard(told, 0.0)).splitlines()[-1:]
    assert re.match(rf" *1  {link}  ", line)
