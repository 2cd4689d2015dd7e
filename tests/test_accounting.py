"""What peers say they have sent is what a relay between them has carried, byte for byte."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TypeVar

import pytest
import zmq
from relay import Relay

from peer.driver import drive
from peer.events import Finished
from peer.gossip import Gossip
from peer.keys import Security, make_keys
from peer.log import EntryLog
from peer.protocol import Protocol, field_digest
from peer.roster import Roster
from peer.store import EntryStore
from peer.traffic import LinkCount, Traffic
from peer.trainer import SyntheticTrainer
from peer.units import choose_units
from peer.wire import FRAME_LIMIT
from peer.zeromq import Transport, sockets
from peer.zmtp import ROUTING_ID_BYTES, framing_bytes, handshake_bytes
from sim.world import World

PATIENCE = 30.0
ROOT_SEED = 7
RING = {0: [1, 2], 1: [0, 2], 2: [0, 1]}
SHORT = [*range(3), *range(215, 230), *range(250, 260)]
LONG = [65_535, 65_536, FRAME_LIMIT]

T = TypeVar("T")


@pytest.fixture(autouse=True)
def _short_linger(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sockets, "LINGER", 0.2)


@pytest.fixture(params=[False, True], ids=["null", "curve"])
def curve(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


async def soon(awaited: Awaitable[T]) -> T:
    return await asyncio.wait_for(awaited, PATIENCE)


async def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0)


class Node:
    """A peer's transport, and what it says that it has sent."""

    def __init__(self, me: int, security: Security | None) -> None:
        self.me = me
        self.transport = Transport(me, security=security)
        self.traffic = Traffic(curve=security is not None)

    def connect(self, addresses: Mapping[int, str]) -> None:
        def shook_hands(neighbour: int, dialled: bool) -> None:
            self.traffic.count_handshake(self.me, neighbour, dialled=dialled)

        self.transport.connect(addresses, shook_hands)

    def send(self, neighbour: int, frame: bytes) -> None:
        assert self.transport.send(neighbour, frame)
        self.traffic.count(self.me, neighbour, frame)

    def said(self, neighbour: int) -> LinkCount:
        return {to: count for _, to, count in self.traffic.links()}.get(neighbour, LinkCount())


Relays = dict[tuple[int, int], Relay]


@asynccontextmanager
async def network(curve: bool, folder: Path) -> AsyncIterator[tuple[list[Node], Relays]]:
    """Three peers in a ring, with a relay before each place that is dialled."""
    if curve:
        make_keys(len(RING), folder)
    securities = [Security.read(folder, me, len(RING)) if curve else None for me in RING]
    async with AsyncExitStack() as stack:
        nodes = [Node(me, security) for me, security in enumerate(securities)]
        for node in nodes:
            stack.push_async_callback(node.transport.close)
        relays = {
            (me, other): await stack.enter_async_context(Relay(nodes[other].transport.endpoint))
            for me in RING
            for other in RING[me]
        }
        for node in nodes:
            node.connect({other: relays[node.me, other].endpoint for other in RING[node.me]})
        yield nodes, relays


async def close(nodes: list[Node], relays: Relays) -> None:
    """Close all transports, and wait until all that they have sent is counted."""
    for node in nodes:
        await soon(node.transport.close())
    for relay in relays.values():
        await soon(relay.drained())


def carried(relays: Relays, sender: int, receiver: int) -> int:
    return relays[sender, receiver].dialled + relays[receiver, sender].answered


def assert_exact(nodes: list[Node], relays: Relays) -> None:
    for sender, receiver in relays:
        said = nodes[sender].said(receiver)
        assert carried(relays, sender, receiver) == said.wire_bytes
    for node in nodes:
        assert {sender for sender, *_ in node.traffic.links()} == {node.me}


def test_frames_of_every_length_are_counted_exactly(tmp_path: Path, curve: bool) -> None:
    async def main() -> None:
        async with network(curve, tmp_path) as (nodes, relays):
            zero, one = nodes[0], nodes[1]
            zero.send(1, b"the first one, which has come with the handshake")
            await soon(one.transport.receive())
            for length in (*SHORT, *LONG):
                before = relays[0, 1].dialled
                zero.send(1, bytes(length))
                assert await soon(one.transport.receive()) == (0, bytes(length))
                sent = relays[0, 1].dialled - before
                assert sent == length + framing_bytes(length, curve=curve)
            for sender, receiver in relays:
                nodes[sender].send(receiver, b"that an answered handshake is noticed")
            for node in nodes:
                for _ in RING[node.me]:
                    await soon(node.transport.receive())
            await close(nodes, relays)
            assert_exact(nodes, relays)
            assert {relay.connections for relay in relays.values()} == {1}

    asyncio.run(main())


@pytest.mark.parametrize(
    ("curve", "expected"),
    [(False, [2] * 4 + [9] * 3), (True, [35, 35, 42, 42, 42, 42, 42])],
)
def test_what_surrounds_a_frame(curve: bool, expected: list[int]) -> None:
    lengths = [0, 222, 223, 255, 256, 65_536, FRAME_LIMIT]
    assert [framing_bytes(length, curve=curve) for length in lengths] == expected


def test_what_makes_a_connection(tmp_path: Path, curve: bool) -> None:
    expected = {False: (130, 107), True: (590, 301)}[curve]
    dialled, answered = (handshake_bytes(dialled=side, curve=curve) for side in (True, False))
    assert (dialled, answered) == expected

    async def main() -> None:
        async with network(curve, tmp_path) as (nodes, relays):
            relay = relays[0, 1]
            # Either side may have said all that it says before the other has.
            await until(lambda: relay.dialled >= expected[0] and relay.answered >= expected[1])
            assert (relay.dialled, relay.answered) == expected
            # Who dials knows at once; who answers knows at the first message.
            await until(lambda: nodes[0].said(1).handshake_bytes > 0)
            assert nodes[0].said(1).wire_bytes == dialled
            assert nodes[1].said(0).handshake_bytes in (0, dialled)
            nodes[0].send(1, b"first")
            nodes[0].send(1, b"second")
            await soon(nodes[1].transport.receive())
            await soon(nodes[1].transport.receive())
            await until(lambda: nodes[1].said(0).handshake_bytes == dialled + answered)

    asyncio.run(main())


def test_every_peer_has_a_routing_id_of_one_length() -> None:
    for peer in (0, 9, 10, 99_999, 2**18 - 1):
        assert len(sockets.routing_id(peer)) == ROUTING_ID_BYTES
        assert sockets.routing_id(peer) != sockets.routing_id(peer)


def test_a_connection_that_is_made_again_counts_again(tmp_path: Path, curve: bool) -> None:
    async def main() -> None:
        async with network(curve, tmp_path) as (nodes, relays):
            for life in range(3):
                for sender, receiver in relays:
                    nodes[sender].send(receiver, b"life %d" % life)
                for node in nodes:
                    for _ in RING[node.me]:
                        await soon(node.transport.receive())
                if life < 2:
                    relays[0, 1].cut()
                    # What is sent before the break is noticed would be lost.
                    made = partial(relays[0, 1].__getattribute__, "connections")
                    await until(lambda made=made, life=life: made() == life + 2)  # type: ignore[misc]
            await close(nodes, relays)
            assert_exact(nodes, relays)
            assert relays[0, 1].connections == 3
            dialled, answered = (handshake_bytes(dialled=d, curve=curve) for d in (True, False))
            assert nodes[0].said(1).handshake_bytes == 3 * dialled + answered
            assert nodes[1].said(0).handshake_bytes == dialled + 3 * answered
            assert nodes[0].said(2).handshake_bytes == dialled + answered

    asyncio.run(main())


def test_a_message_of_many_frames_costs_what_its_frames_cost() -> None:
    """Our peers send none, but what they hold back is told from what came in."""

    async def main() -> int:
        async with AsyncExitStack() as stack:
            transport = Transport(0)
            stack.push_async_callback(transport.close)
            relay = await stack.enter_async_context(Relay(transport.endpoint))
            receiving = asyncio.ensure_future(transport.receive())
            context = stack.enter_context(zmq.Context())
            dealer = stack.enter_context(context.socket(zmq.DEALER))
            dealer.set(zmq.LINGER, 0)
            dealer.set(zmq.ROUTING_ID, bytes([65]) * ROUTING_ID_BYTES)
            dealer.connect(relay.endpoint)
            dealer.send_multipart([bytes(length) for length in (0, 255, 256, 0, 1)])
            await until(lambda: transport.garbage == 1)
            receiving.cancel()
            return relay.dialled

    framing = 2 + 2 + 9 + 2 + 2
    sent = asyncio.run(main())
    assert sent == handshake_bytes(dialled=True, curve=False) + (255 + 256 + 1) + framing


def agreement() -> Protocol:
    return Protocol(
        Roster((1, 2, 3), participation=1.0, root_seed=ROOT_SEED),
        rounds=3,
        local_steps=40,
        candidate_seeds=64,
        gradient_bytes=4,
        gradient_bound=1024.0,
        seeding="uniform",
        learning_rate=1e-4,
        units=choose_units(1e-4, 3, 40, 1024.0, 3),
        fields={"a": field_digest(1)},
        tick=0.1,
        linger=0.3,
    )


def test_a_whole_run_is_counted_exactly(tmp_path: Path, curve: bool) -> None:
    protocol = agreement()

    async def take_part(node: Node) -> Finished:
        with EntryStore(tmp_path / f"{node.me}.log") as store:
            gossip = Gossip(node.me, RING[node.me], protocol, EntryLog())
            doors = (node.transport, SyntheticTrainer(ROOT_SEED), store, node.traffic)
            return await drive(gossip, *doors, lambda _event: None)

    async def main() -> list[Node]:
        async with network(curve, tmp_path / "keys") as (nodes, relays):
            finished = await soon(asyncio.gather(*map(take_part, nodes)))
            assert set(finished) == {Finished(())}
            await close(nodes, relays)
            assert {relay.connections for relay in relays.values()} == {1}
            assert_exact(nodes, relays)
            return nodes

    nodes = asyncio.run(main())
    world = World(
        RING, protocol, SyntheticTrainer(ROOT_SEED), step_seconds=0.01, traffic=Traffic(curve=curve)
    )
    world.run()
    simulated = {(sender, receiver): count for sender, receiver, count in world.traffic.links()}
    for (sender, receiver), count in simulated.items():
        assert nodes[sender].said(receiver).handshake_bytes == count.handshake_bytes
    total = LinkCount()
    for node in nodes:
        total.add(node.traffic.total())
    expected = world.traffic.total()
    payload = ("payload_bytes", "payload_messages", "handshake_bytes")
    assert [getattr(total, name) for name in payload] == [
        getattr(expected, name) for name in payload
    ]
