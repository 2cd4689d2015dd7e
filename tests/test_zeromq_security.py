"""Strangers and neighbours gone bad at a peer's sockets."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack, asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TypeVar

import pytest
import zmq
from zmtp_client import Client, Credentials, command, greeting, header

from peer.addresses import LOOPBACK
from peer.connections import OUTSTANDING, STRANGERS, Connections
from peer.keys import Security, make_keys
from peer.wire import FRAME_LIMIT
from peer.zeromq import sockets
from peer.zeromq.transport import GARBAGE, Transport

PATIENCE = 30.0
PEERS = 5
T = TypeVar("T")

linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells what has come in")


@pytest.fixture(autouse=True)
def _short_linger(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sockets, "LINGER", 0.2)


@pytest.fixture
def roster(tmp_path: Path) -> list[Security]:
    make_keys(PEERS, tmp_path / "keys")
    return [Security.read(tmp_path / "keys", peer, PEERS) for peer in range(PEERS)]


@pytest.fixture
def strange(tmp_path: Path) -> Security:
    make_keys(1, tmp_path / "strange")
    return Security.read(tmp_path / "strange", 0, 1)


async def soon(awaited: Awaitable[T]) -> T:
    return await asyncio.wait_for(awaited, PATIENCE)


async def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0)


@asynccontextmanager
async def opened(
    me: int, security: Security | None = None, largest: int = FRAME_LIMIT
) -> AsyncIterator[Transport]:
    transport = Transport(me, LOOPBACK, security, largest)
    try:
        yield transport
    finally:
        await soon(transport.close())


@asynccontextmanager
async def a_pair(
    roster: list[Security] | None, *others: int, largest: int = FRAME_LIMIT
) -> AsyncIterator[tuple[Transport, Transport]]:
    """Peers 0 and 2, linked; peer 0 knows of the others too, where nobody listens.

    Peer 0 reads frames up to `largest`.
    """
    securities = roster or [None] * PEERS
    async with (
        opened(0, securities[0], largest=largest) as zero,
        opened(2, securities[2]) as two,
    ):
        zero.connect({2: two.endpoint, **dict.fromkeys(others, LOOPBACK.replace("*", "1"))})
        two.connect({0: zero.endpoint})
        two.send(0, b"hello")
        assert await soon(zero.receive()) == (2, b"hello")
        yield zero, two


async def still_heard(zero: Transport, two: Transport) -> None:
    two.send(0, b"still here")
    assert await soon(zero.receive()) == (2, b"still here")


def bad(zero: Transport, roster: list[Security] | None, claim: bytes, who: int = 1) -> Client:
    """Dial peer 0 as another peer of the roster, under any name."""
    keys = Credentials.of(roster[who], 0) if roster is not None else None
    return Client(zero.endpoint, claim, keys)


def apart(call: Callable[[], T]) -> Awaitable[T]:
    """Run what waits for the peer's answer beside the event loop."""
    return soon(asyncio.to_thread(call))


def test_who_has_a_key_of_the_roster_is_heard(roster: list[Security]) -> None:
    async def main() -> None:
        async with a_pair(roster) as (zero, two):
            for frame in (b"", bytes(222), bytes(223), bytes(FRAME_LIMIT)):
                assert two.send(0, frame)
                assert await soon(zero.receive()) == (2, frame)
            assert zero.send(2, b"back")
            assert await soon(two.receive()) == (0, b"back")
            assert (zero.garbage, zero.unheard, zero.banned) == (0, 0, {})

    asyncio.run(main())


def test_strangers_are_not_let_in(roster: list[Security], strange: Security) -> None:
    async def main() -> None:
        async with a_pair(roster) as (zero, two):
            server = roster[0].secret.public_curve
            unknown = Credentials(strange.secret.curve, strange.secret.public_curve, server)
            ones_own = Credentials.of(roster[0], 0)
            without = Credentials.of(roster[1], 3)
            for dial in (
                partial(Client, zero.endpoint, b"000002/0", unknown),
                partial(Client, zero.endpoint, b"000000/0", ones_own),
                partial(Client, zero.endpoint, b"000001/0", without),
                partial(Client, zero.endpoint, b"000002/0"),
            ):
                before = zero.unheard
                with pytest.raises(OSError, match=r"."):
                    await apart(dial)
                await until(lambda before=before: zero.unheard > before)  # type: ignore[misc]
            for garbage in (
                b"GET / HTTP/1.1\r\n\r\n" * 10,
                bytes(100),
                b"\xff" * 100,
                greeting("PLAIN") + command("HELLO", b"\1a\1b"),
                greeting("CURVE") + command("HELLO", bytes(194)),
                greeting("CURVE") + command("INITIATE", bytes(300)),
                greeting("CURVE") + header(0, 2**40),
                greeting("NULL") + command("READY", b"") + header(0, 3) + b"abc",
            ):
                with socket.create_connection(("127.0.0.1", port(zero)), PATIENCE) as raw:
                    raw.sendall(garbage)
                    assert await apart(partial(is_ended, raw)), garbage
            await still_heard(zero, two)
            assert zero.garbage == 0
            await until(lambda: len(zero._connections) == 1)

    asyncio.run(main())


def is_ended(raw: socket.socket) -> bool:
    """Wait until the other side has ended a connection; return False if it does not."""
    try:
        while raw.recv(1000):
            pass
    except TimeoutError:
        return False
    except ConnectionError:
        pass
    return True


def port(transport: Transport) -> int:
    return int(transport.endpoint.rpartition(":")[2])


@pytest.mark.parametrize("claim", [b"000002", b"000002/x", b"000003/x", b"", b"\xff", b"000001"])
def test_a_neighbour_that_speaks_under_anothers_number_is_named(
    roster: list[Security], claim: bytes
) -> None:
    async def main() -> None:
        async with a_pair(roster, 1) as (zero, two):
            receiving = asyncio.ensure_future(zero.receive())
            with await apart(partial(bad, zero, roster, claim)) as client:
                client.send(b"I am another")
                if claim == b"000001":
                    assert await soon(receiving) == (1, b"I am another")
                else:
                    await until(lambda: zero.garbage == 1)
                    assert zero.guilty == {1: 1}
                    two.send(0, b"I am I")
                    assert await soon(receiving) == (2, b"I am I")

    asyncio.run(main())


def test_a_neighbour_that_speaks_under_the_peers_own_number_is_named_while_that_looks(
    roster: list[Security], caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with a_pair(roster, 1) as (zero, _):
            zero.look_for_itself(zero.endpoint)
            receiving = asyncio.ensure_future(zero.receive())
            with await apart(partial(bad, zero, roster, b"000000/x")) as client:
                client.send(b"I am you")
                await until(lambda: zero.garbage == 1)
            assert zero.guilty == {1: 1}
            receiving.cancel()

    asyncio.run(main())
    assert caplog.messages == []


def test_a_peer_that_is_no_neighbour_is_garbage_and_named(roster: list[Security]) -> None:
    async def main() -> None:
        async with a_pair(roster) as (zero, two):
            receiving = asyncio.ensure_future(zero.receive())
            with await apart(partial(bad, zero, roster, b"000003/x", 3)) as client:
                client.send(b"hello")
                await until(lambda: zero.garbage == 1)
            assert zero.guilty == {3: 1}
            two.send(0, b"frame")
            assert await soon(receiving) == (2, b"frame")

    asyncio.run(main())


@pytest.mark.parametrize("curve", [False, True])
def test_many_frames_are_garbage(roster: list[Security], curve: bool) -> None:
    async def main() -> None:
        async with a_pair(roster if curve else None, 1) as (zero, _):
            with await apart(partial(bad, zero, roster if curve else None, b"000001/x")) as client:
                client.send(b"two", more=True)
                client.send(b"frames")
                client.send(b"one")
                assert await soon(zero.receive()) == (1, b"one")
            assert zero.garbage == 1
            assert zero.guilty == ({1: 1} if curve else {})

    asyncio.run(main())


def test_a_neighbour_that_goes_on_with_garbage_is_banned(roster: list[Security]) -> None:
    async def main() -> None:
        async with a_pair(roster, 1) as (zero, two):
            with await apart(partial(bad, zero, roster, b"000001/x")) as client:
                for number in range(GARBAGE + 1):
                    client.send(b"two", more=True)
                    client.send(b"frames")
                    if number == GARBAGE - 1:
                        client.send(b"one")
                        assert await soon(zero.receive()) == (1, b"one")
                        assert zero.banned == {}
                await still_heard(zero, two)
                assert await apart(client.ended)
            assert zero.guilty == {1: GARBAGE + 1}
            assert zero.banned == {1: "sent what is not one frame under its own number"}

    asyncio.run(main())


@pytest.mark.parametrize("largest", [300, 10_000, FRAME_LIMIT])
@pytest.mark.parametrize("curve", [False, True])
def test_a_frame_past_the_limit_ends_its_connection(
    roster: list[Security], curve: bool, largest: int
) -> None:
    keys = roster if curve else None

    async def main() -> None:
        async with a_pair(keys, 1, largest=largest) as (zero, two):
            with await apart(partial(bad, zero, keys, b"000001/x")) as client:
                await apart(partial(client.send, bytes(largest)))
                assert await soon(zero.receive()) == (1, bytes(largest))
                client.socket.sendall(client.frame(bytes(largest + 1))[:100])
                assert await apart(client.ended)
            await still_heard(zero, two)

    asyncio.run(main())


@pytest.mark.parametrize("curve", [False, True])
def test_a_banned_neighbour_does_not_come_back(roster: list[Security], curve: bool) -> None:
    keys = roster if curve else None

    async def main() -> None:
        async with a_pair(keys, 1) as (zero, two):
            with await apart(partial(bad, zero, keys, b"000001/x")) as client:
                client.send(b"hello")
                assert await soon(zero.receive()) == (1, b"hello")
                zero.ban(1, "it lies")
                assert zero.banned == {1: "it lies"}
                assert not zero.send(1, b"frame")
                assert await apart(client.ended)
            receiving = asyncio.ensure_future(zero.receive())
            for _ in range(3):
                if curve:
                    with pytest.raises(OSError, match=r"ERROR|ended"):
                        await apart(partial(bad, zero, keys, b"000001/x"))
                else:
                    with await apart(partial(bad, zero, keys, b"000001/y")) as client:
                        client.send(b"it is me again")
                        assert await apart(client.ended)
            two.send(0, b"frame")
            assert await soon(receiving) == (2, b"frame")
            zero.ban(1, "it lies again")
            assert zero.banned == {1: "it lies"}

    asyncio.run(main())


def test_what_a_banned_neighbour_has_sent_before_is_not_read(roster: list[Security]) -> None:
    async def main() -> None:
        async with a_pair(roster) as (zero, two):
            assert [two.send(0, b"%d" % i) for i in range(50)] == [True] * 50
            assert await soon(zero.receive()) == (2, b"0")
            receiving = asyncio.ensure_future(zero.receive())
            zero.ban(2, "it lies")
            await until(lambda: len(zero._connections) == 0)
            assert not receiving.done()
            receiving.cancel()

    asyncio.run(main())


ENDLESS = [pytest.param(0, marks=pytest.mark.slow), 100, 10_000, FRAME_LIMIT]


def endless(client: Client, size: int) -> bool:
    """Send frames without end, in pieces of 64 KiB or one frame; return whether that was ended."""
    number = max(1, 2**16 // (size + 42))
    sent = 0
    try:
        while sent < 40 * OUTSTANDING:
            piece = b"".join(client.frame(bytes(size), more=True) for _ in range(number))
            client.socket.sendall(piece)
            sent += len(piece)
    except ConnectionError:
        return True
    return False


@linux
@pytest.mark.parametrize("size", ENDLESS)
@pytest.mark.parametrize("first", [True, False])
def test_an_endless_message_is_ended_and_who_sends_it_is_banned(
    roster: list[Security], size: int, first: bool
) -> None:
    async def main() -> None:
        async with a_pair(roster, 1) as (zero, two):
            with await apart(partial(bad, zero, roster, b"000001/x")) as client:
                if not first:
                    client.send(b"hello")
                    assert await soon(zero.receive()) == (1, b"hello")
                assert await apart(partial(endless, client, size))
            await until(lambda: 1 in zero.banned)
            assert "unfinished" in zero.banned[1]
            with pytest.raises(OSError, match=r"ERROR|ended"):
                await apart(partial(bad, zero, roster, b"000001/x"))
            await still_heard(zero, two)
            assert len(zero._connections) == 1

    asyncio.run(main())


@linux
@pytest.mark.parametrize("claim", [b"stranger", b"000002/x"])
def test_without_keys_an_endless_message_is_ended_and_nobody_is_blamed(claim: bytes) -> None:
    async def main() -> None:
        async with a_pair(None) as (zero, two):
            with await apart(partial(bad, zero, None, claim)) as client:
                assert await apart(partial(endless, client, 10_000))
            assert zero.banned == {}
            await still_heard(zero, two)
            await until(lambda: len(zero._connections) == 1)

    asyncio.run(main())


@linux
@pytest.mark.slow
def test_commands_without_end_are_ended_too() -> None:
    async def main() -> None:
        async with a_pair(None) as (zero, two):
            with await apart(partial(bad, zero, None, b"000001/x")) as client:
                ping = command("PING", bytes(2)) * 1000
                client.socket.setblocking(False)

                def insist() -> bool:
                    sent, deadline = 0, time.monotonic() + PATIENCE
                    try:
                        while sent < 4 * OUTSTANDING and time.monotonic() < deadline:
                            with suppress(BlockingIOError):
                                sent += client.socket.send(ping)
                            # Who does not read the answers is not read any more.
                            with suppress(BlockingIOError):
                                while client.socket.recv(2**20):
                                    pass
                    except ConnectionError:
                        return True
                    return False

                assert await apart(insist)
            await still_heard(zero, two)

    asyncio.run(main())


@linux
@pytest.mark.parametrize("curve", [False, True])
def test_the_largest_frames_to_a_busy_reader_never_reach_the_limit(
    roster: list[Security], curve: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    held: list[int] = []
    outstanding = Connections._outstanding

    def remembered(connections: Connections, connection: object) -> int:
        held.append(outstanding(connections, connection))  # type: ignore[arg-type]
        return held[-1]

    monkeypatch.setattr(Connections, "_outstanding", remembered)

    async def main() -> None:
        async with a_pair(roster if curve else None) as (zero, two):
            number = 60
            assert all(two.send(0, bytes(FRAME_LIMIT)) for _ in range(number))

            def looked() -> bool:
                return list(zero._connections.end_costly()) == [] and max(held) >= 2 * FRAME_LIMIT

            await until(looked)
            for _ in range(100):
                assert looked()
                await asyncio.sleep(0)
            for _ in range(number):
                assert await soon(zero.receive()) == (2, bytes(FRAME_LIMIT))
                looked()
            assert max(held) <= OUTSTANDING
            assert held[-1] == 0
            assert zero.banned == {}

    asyncio.run(main())


def descriptors() -> int:
    return len(os.listdir("/dev/fd"))


@pytest.mark.parametrize("curve", [False, True])
def test_strangers_do_not_use_up_connections(roster: list[Security], curve: bool) -> None:
    """Neither those that say nothing, nor those that make the handshake and say nothing."""
    said = b"" if curve else greeting("NULL")

    async def main() -> None:
        async with a_pair(roster if curve else None) as (zero, two):
            before = descriptors()
            number = 3 * STRANGERS
            with ExitStack() as stack:
                for _ in range(number):
                    raw = socket.create_connection(("127.0.0.1", port(zero)))
                    stack.enter_context(raw)
                    raw.sendall(said)
                    await asyncio.sleep(0)
                await until(lambda: descriptors() <= before + number + STRANGERS + 1)
                await until(lambda: len(zero._connections) <= STRANGERS + 2)
                await still_heard(zero, two)
                # Who is honest still gets in, if not at the first attempt.
                async with opened(1, roster[1] if curve else None) as one:
                    zero.connect({1: one.endpoint})
                    one.connect({0: zero.endpoint})
                    one.send(0, b"late")
                    assert await soon(zero.receive()) == (1, b"late")
            await until(lambda: len(zero._connections) == 1)
            assert zero.garbage == 0

    asyncio.run(main())


@pytest.mark.parametrize("curve", [False, True])
@pytest.mark.parametrize("said", [b"", b"\xff", greeting("NULL"), greeting("CURVE")])
def test_who_does_not_finish_its_handshake_is_cut_off(
    roster: list[Security], curve: bool, said: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sockets, "HANDSHAKE", 0.3)

    async def main() -> None:
        async with a_pair(roster if curve else None) as (zero, two):
            with socket.create_connection(("127.0.0.1", port(zero)), PATIENCE) as raw:
                raw.sendall(said)

                assert await apart(partial(is_ended, raw))
            await still_heard(zero, two)

    asyncio.run(main())


def test_a_link_with_other_keys_is_told(
    roster: list[Security], strange: Security, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        wrong = Security(strange.secret, roster[1].public)
        async with opened(0, roster[0]) as zero, opened(1, wrong) as one:
            one.connect({0: zero.endpoint})
            await until(lambda: zero.unheard == 1)
            await until(lambda: "peer 1 and peer 0 have other keys" in caplog.text)

    asyncio.run(main())


def test_closing_at_once_leaves_nothing(roster: list[Security]) -> None:
    async def main() -> None:
        before = descriptors()
        for _ in range(5):
            async with opened(0, roster[0]) as zero, opened(1, roster[1]) as one:
                zero.connect({1: one.endpoint})
                one.connect({0: zero.endpoint})
                zero.send(1, b"frame")
        assert descriptors() <= before + 1

    asyncio.run(main())


def test_libzmq_still_is_one_that_does_all_this() -> None:
    assert zmq.has("curve")
