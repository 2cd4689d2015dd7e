import asyncio
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import TypeVar

import pytest
import zmq
from relay import Relay

from peer.addresses import LOOPBACK
from peer.errors import UserError
from peer.wire import FRAME_LIMIT
from peer.zeromq import Transport
from peer.zeromq.sockets import SEND_QUEUE

PATIENCE = 10.0
T = TypeVar("T")


async def soon(awaited: Awaitable[T]) -> T:
    return await asyncio.wait_for(awaited, PATIENCE)


async def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0)


@asynccontextmanager
async def opened(me: int, address: str = LOOPBACK) -> AsyncIterator[Transport]:
    transport = Transport(me, address)
    try:
        yield transport
    finally:
        await soon(transport.close())


@contextmanager
def stranger(endpoint: str, routing_id: bytes | None = None) -> Iterator[zmq.Socket[bytes]]:
    """A raw socket; what it was given has left it when the block ends."""
    with zmq.Context() as context, context.socket(zmq.DEALER) as socket:
        socket.set(zmq.LINGER, 5000)
        if routing_id is not None:
            socket.set(zmq.ROUTING_ID, routing_id)
        socket.connect(endpoint)
        yield socket


@pytest.fixture(params=["tcp", "ipc"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return LOOPBACK if request.param == "tcp" else f"ipc://{tmp_path}/a"


def test_frames_arrive_in_order_and_name_their_sender(address: str) -> None:
    frames = [b"", b"\x00", bytes(255), bytes(256), bytes(FRAME_LIMIT)]

    async def main() -> None:
        async with opened(0, address) as a, opened(12) as b:
            a.connect({12: b.endpoint})
            b.connect({0: a.endpoint})
            assert [b.send(0, frame) for frame in frames] == [True] * len(frames)
            assert [await soon(a.receive()) for _ in frames] == [(12, frame) for frame in frames]
            assert a.send(12, b"back")
            assert await soon(b.receive()) == (0, b"back")

    asyncio.run(main())


def test_the_endpoint_is_a_real_one() -> None:
    async def main() -> None:
        async with opened(0) as a, opened(1, "tcp://127.0.0.1:0") as b:
            for transport in (a, b):
                assert int(transport.endpoint.removeprefix("tcp://127.0.0.1:")) > 0
            assert a.endpoint != b.endpoint

    asyncio.run(main())


def test_frames_wait_for_a_neighbour_that_is_late(tmp_path: Path) -> None:
    address = f"ipc://{tmp_path}/late"

    async def main() -> None:
        async with opened(0) as early:
            early.connect({1: address})
            assert early.send(1, b"first")
            assert early.send(1, b"second")
            async with opened(1, address) as late:
                late.connect({0: early.endpoint})
                assert await soon(late.receive()) == (0, b"first")
                assert await soon(late.receive()) == (0, b"second")

    asyncio.run(main())


def test_a_full_queue_drops_frames_and_counts_them(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(0) as transport, opened(2) as other:
            transport.connect({1: f"ipc://{tmp_path}/never", 2: other.endpoint})
            other.connect({0: transport.endpoint})
            taken = [transport.send(1, b"frame") for _ in range(SEND_QUEUE + 5)]
            assert taken == [True] * SEND_QUEUE + [False] * 5
            assert transport.dropped == {1: 5}
            assert transport.send(2, b"frame")
            assert await soon(other.receive()) == (0, b"frame")

    asyncio.run(main())


@pytest.mark.parametrize(
    "routing_id",
    [
        None,
        b"000001",
        b"000022",
        b"2",
        b"00002_",
        b"+00002",
        b"000002\x00",
        "00000٢".encode(),
        b"/000002",
        b"\xff" * 255,
    ],
)
def test_who_is_no_neighbour_is_not_heard(routing_id: bytes | None) -> None:
    async def main() -> None:
        async with opened(0) as transport, opened(2) as neighbour:
            transport.connect({2: neighbour.endpoint})
            neighbour.connect({0: transport.endpoint})
            receiving = asyncio.ensure_future(transport.receive())
            with stranger(transport.endpoint, routing_id) as socket:
                socket.send(b"one frame")
                socket.send_multipart([b"two", b"frames"])
            await until(lambda: transport.garbage == 2)
            assert not receiving.done()
            neighbour.send(0, b"frame")
            assert await soon(receiving) == (2, b"frame")

    asyncio.run(main())


def test_messages_of_many_frames_are_garbage_from_a_neighbour_too() -> None:
    async def main() -> None:
        async with opened(0) as transport:
            transport.connect({2: LOOPBACK.replace("*", "1")})
            with stranger(transport.endpoint, b"000002") as socket:
                socket.send_multipart([b"two", b"frames"])
                socket.send_multipart([b""] * 10_000)
                socket.send(b"one")
            assert await soon(transport.receive()) == (2, b"one")
            assert transport.garbage == 2

    asyncio.run(main())


def test_a_frame_past_the_limit_is_not_read() -> None:
    async def main() -> None:
        async with opened(0) as transport, opened(2) as neighbour:
            transport.connect({2: neighbour.endpoint})
            neighbour.connect({0: transport.endpoint})
            with stranger(transport.endpoint, b"000002/large") as socket:
                socket.send(b"small")
                socket.send(bytes(FRAME_LIMIT + 1))
            assert await soon(transport.receive()) == (2, b"small")
            neighbour.send(0, b"frame")
            assert await soon(transport.receive()) == (2, b"frame")
            assert transport.garbage == 0

    asyncio.run(main())


def test_who_claims_a_number_does_not_silence_its_owner() -> None:
    async def main() -> None:
        async with opened(0) as transport, opened(2) as neighbour:
            transport.connect({2: neighbour.endpoint})
            with stranger(transport.endpoint, b"000002") as socket:
                socket.send(b"claim")
                assert await soon(transport.receive()) == (2, b"claim")
                neighbour.connect({0: transport.endpoint})
                neighbour.send(0, b"frame")
                assert await soon(transport.receive()) == (2, b"frame")

    asyncio.run(main())


def test_a_neighbour_that_restarts_is_heard_again() -> None:
    # The reader is busy meanwhile: it has seen neither the end of the first life nor what it said.
    async def main() -> None:
        async with opened(0) as transport:
            transport.connect({2: LOOPBACK.replace("*", "1")})
            for frame in (b"first life", b"second life", b"third life"):
                async with opened(2) as neighbour:
                    neighbour.connect({0: transport.endpoint})
                    neighbour.send(0, frame)
            heard = {await soon(transport.receive()) for _ in range(3)}
            assert heard == {(2, b"first life"), (2, b"second life"), (2, b"third life")}

    asyncio.run(main())


def test_a_connection_that_breaks_is_made_again() -> None:
    async def main() -> None:
        async with opened(0) as transport, Relay(transport.endpoint) as relay, opened(2) as other:
            transport.connect({2: other.endpoint})
            other.connect({0: relay.endpoint})
            other.send(0, b"before")
            assert await soon(transport.receive()) == (2, b"before")
            relay.cut()
            # What is sent before the break is noticed is lost, so it is said until it is heard.
            receiving = asyncio.ensure_future(transport.receive())
            while not receiving.done():
                assert other.send(0, b"after")
                await asyncio.wait({receiving}, timeout=0.05)
            assert await receiving == (2, b"after")

    asyncio.run(asyncio.wait_for(main(), 2 * PATIENCE))


@pytest.mark.parametrize(
    "address",
    [
        "",
        "127.0.0.1:5000",
        "tcp://",
        "tcp://127.0.0.1",
        "tcp://127.0.0.1:port",
        "tcp://127.0.0.1:70000",
        "tcp://127.0.0.1 :5000",
        "udp://127.0.0.1:5000",
        "inproc://peer",
        "ipc://" + "long/" * 40,
        "ipc:///tmp/a\0b",
    ],
)
def test_a_bad_address_is_told_in_one_line(address: str) -> None:
    async def main() -> None:
        with pytest.raises(UserError) as refusal:
            Transport(0, address)
        assert str(refusal.value).startswith(f"cannot listen on {address}: ")
        assert "\n" not in str(refusal.value)
        async with opened(0) as transport:
            with pytest.raises(UserError) as refusal:
                transport.connect({7: address})
            assert str(refusal.value).startswith(f"cannot connect to peer 7 at {address}: ")
            assert "\n" not in str(refusal.value)

    asyncio.run(main())


def test_an_address_in_use_is_told_and_is_free_after_closing() -> None:
    async def main() -> None:
        async with opened(0) as first:
            with pytest.raises(UserError, match=f"{first.endpoint}: Address already in use"):
                Transport(1, first.endpoint)
        async with opened(1, first.endpoint) as second:
            assert second.endpoint == first.endpoint

    asyncio.run(main())


def test_a_path_that_another_listens_on_is_not_taken_from_it(tmp_path: Path) -> None:
    address = f"ipc://{tmp_path}/socket"

    async def main() -> None:
        async with opened(0, address) as first, opened(1) as second:
            with pytest.raises(UserError, match=f"{address}: Address already in use"):
                Transport(0, address)
            first.connect({1: second.endpoint})
            second.connect({0: address})
            assert second.send(0, b"hello")
            assert await soon(first.receive()) == (1, b"hello")

    asyncio.run(main())


def test_a_path_that_a_killed_peer_has_left_is_taken(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(f"{tmp_path}/socket")

    async def main() -> None:
        async with opened(0, f"ipc://{tmp_path}/socket"):
            pass

    asyncio.run(main())


def test_a_file_is_not_replaced_by_a_socket(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("precious")

    async def main() -> None:
        with pytest.raises(UserError, match="there is a file that is no socket"):
            Transport(0, f"ipc://{path}")

    asyncio.run(main())
    assert path.read_text() == "precious"


def test_closing_twice_is_closing_once() -> None:
    async def main() -> None:
        async with opened(0) as transport:
            transport.connect({1: LOOPBACK.replace("*", "1")})
            await soon(transport.close())

    asyncio.run(main())


def test_closing_delivers_what_was_sent() -> None:
    async def main() -> None:
        async with opened(0) as receiver:
            receiver.connect({1: LOOPBACK.replace("*", "1")})
            async with opened(1) as sender:
                sender.connect({0: receiver.endpoint})
                assert [sender.send(0, b"%d" % i) for i in range(90)] == [True] * 90
            assert [await soon(receiver.receive()) for _ in range(90)] == [
                (1, b"%d" % i) for i in range(90)
            ]

    asyncio.run(main())
