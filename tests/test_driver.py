import asyncio
import dataclasses
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zmq
from numpy.typing import NDArray

from peer import wire
from peer.accumulator import Accumulator
from peer.addresses import LOOPBACK
from peer.driver import drive
from peer.events import (
    EntryAdded,
    Event,
    Finished,
    LinkRefused,
    Rejected,
    RoundStarted,
)
from peer.gossip import Gossip
from peer.log import EntryLog
from peer.protocol import Protocol, field_digest
from peer.roster import Roster
from peer.store import EntryStore
from peer.traffic import Traffic
from peer.trainer import LocalRound, SyntheticTrainer, Trainer
from peer.units import choose_units
from peer.zeromq import Transport, sockets
from sim.world import World

PATIENCE = 20.0
ROOT_SEED = 7


@pytest.fixture(autouse=True)
def _short_linger(monkeypatch: pytest.MonkeyPatch) -> None:
    # Here the last BYE is often for a neighbour that has gone, so closing takes all of it.
    monkeypatch.setattr(sockets, "LINGER", 0.2)


def agreement(peers: int, rounds: int = 3, **changes: object) -> Protocol:
    protocol = Protocol(
        Roster(tuple(range(1, peers + 1)), participation=1.0, root_seed=ROOT_SEED),
        rounds=rounds,
        local_steps=20,
        candidate_seeds=64,
        gradient_bytes=4,
        gradient_bound=1024.0,
        seeding="uniform",
        learning_rate=1e-4,
        units=choose_units(1e-4, rounds, 20, 1024.0, peers),
        fields={"a": field_digest(1)},
        tick=0.1,
        linger=0.1,
    )
    return dataclasses.replace(protocol, **changes)


def ring(peers: int) -> dict[int, list[int]]:
    return {peer: sorted({(peer - 1) % peers, (peer + 1) % peers}) for peer in range(peers)}


def run_world(protocol: Protocol) -> World:
    neighbours = ring(len(protocol.roster.rows))
    world = World(neighbours, protocol, SyntheticTrainer(ROOT_SEED), step_seconds=0.01)
    world.run()
    return world


def digest_of(gossip: Gossip) -> str:
    return gossip.rounds.accumulator.digest()


class Peer:
    """One peer with all that drives it."""

    def __init__(
        self,
        me: int,
        protocol: Protocol,
        folder: Path,
        *,
        address: str = LOOPBACK,
        trainer: Trainer | None = None,
        traffic: Traffic | None = None,
        transport: type[Transport] = Transport,
    ) -> None:
        self.neighbours = ring(len(protocol.roster.rows))[me]
        self.store = EntryStore(folder / f"{me}.log")
        self.gossip = Gossip(me, self.neighbours, protocol, EntryLog(self.store.load()))
        self.transport = transport(me, address)
        self.trainer = trainer or SyntheticTrainer(ROOT_SEED)
        self.traffic = traffic or Traffic()
        self.events: list[Event] = []
        self.cut_off_from: Callable[[int], bool] = lambda _neighbour: False

    async def run(self) -> Finished:
        try:
            doors = (self.transport, self.trainer, self.store, self.traffic)
            cut = self.cut_off_from
            return await drive(self.gossip, *doors, self.events.append, cut_off_from=cut)
        finally:
            self.store.close()

    def seen(self, kind: type[Event]) -> list[Event]:
        return [event for event in self.events if isinstance(event, kind)]


def meet_in_ring(made: list[Peer]) -> list[Peer]:
    """Connect peers that listen on free ports."""
    for peer in made:
        near = peer.neighbours
        peer.transport.connect({other: made[other].transport.endpoint for other in near})
    return made


def make_ring(protocol: Protocol, folder: Path, **options: Any) -> list[Peer]:
    peers = range(len(protocol.roster.rows))
    return meet_in_ring([Peer(me, protocol, folder, **options) for me in peers])


def make_local(me: int, protocol: Protocol, folder: Path, trainer: Trainer | None = None) -> Peer:
    """Return a peer whose neighbours' addresses are known before these are there."""
    addresses = {peer: f"ipc://{folder}/{peer}" for peer in range(len(protocol.roster.rows))}
    peer = Peer(me, protocol, folder, address=addresses[me], trainer=trainer)
    peer.transport.connect({other: addresses[other] for other in peer.neighbours})
    return peer


async def run_all(peers: Iterable[Peer]) -> list[Finished]:
    return await asyncio.wait_for(asyncio.gather(*(peer.run() for peer in peers)), PATIENCE)


async def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0)


class SteeredTrainer:
    """Waits for a gate to open, fails in one round, and remembers what it was asked for."""

    def __init__(self, *, shut: bool = False, fails: int | None = None) -> None:
        self.gate = threading.Event()
        self.rounds: list[int] = []
        if not shut:
            self.gate.set()
        self._fails = fails

    def train(
        self, peer: int, round_: int, cut: Accumulator, indices: NDArray[np.int64]
    ) -> LocalRound:
        self.rounds.append(round_)
        assert self.gate.wait(PATIENCE)
        if round_ == self._fails:
            raise ArithmeticError("no memory left for the model")
        return SyntheticTrainer(ROOT_SEED).train(peer, round_, cut, indices)


@pytest.mark.parametrize(
    ("kind", "peers", "changes"),
    [
        ("tcp", 2, {}),
        ("tcp", 8, {"seeding": "weighted", "gradient_bytes": 1}),
        ("ipc", 4, {"gradient_bytes": 2}),
    ],
)
def test_sockets_and_simulator_agree(
    tmp_path: Path, kind: str, peers: int, changes: Mapping[str, object]
) -> None:
    protocol, traffic = agreement(peers, **changes), Traffic()

    async def main() -> list[Peer]:
        if kind == "tcp":
            made = make_ring(protocol, tmp_path)
        else:
            made = [make_local(me, protocol, tmp_path) for me in range(peers)]
        for peer in made:
            peer.traffic = traffic
        assert set(await run_all(made)) == {Finished(())}
        return made

    made = asyncio.run(main())
    world = run_world(protocol)
    assert {digest_of(peer.gossip) for peer in made} == {digest_of(world.peers[0])}
    assert {peer.gossip.log.digest() for peer in made} == {world.peers[0].log.digest()}
    real, simulated = traffic.total(), world.traffic.total()
    assert real.payload_bytes == simulated.payload_bytes
    assert real.payload_messages == simulated.payload_messages
    for peer in made:
        faults = (peer.gossip.timeouts, len(peer.seen(Rejected)), peer.transport.garbage)
        assert (*faults, peer.transport.dropped) == (0, 0, 0, {})
        with EntryStore(tmp_path / f"{peer.gossip.me}.log") as store:
            assert EntryLog(store.load()).digest() == peer.gossip.log.digest()


class CheckingTransport(Transport):
    """Holds every frame against what is on disk when it is sent."""

    store: EntryStore
    checked = 0

    def send(self, neighbour: int, frame: bytes) -> bool:
        stored = EntryLog(self.store.load())
        match wire.decode(frame):
            case wire.Entries(entries):
                assert all(stored.holds(entry) for entry in entries)
                CheckingTransport.checked += 1
            case wire.Versions(versions):
                assert not stored.missing(versions)
            case wire.Digest(digest):
                assert digest == stored.digest()
        return super().send(neighbour, frame)


def test_an_entry_is_on_disk_before_it_is_sent(tmp_path: Path) -> None:
    CheckingTransport.checked = 0

    async def main() -> None:
        made = make_ring(agreement(4, rounds=2), tmp_path, transport=CheckingTransport)
        for peer in made:
            assert isinstance(peer.transport, CheckingTransport)
            peer.transport.store = peer.store
        assert set(await run_all(made)) == {Finished(())}

    asyncio.run(main())
    entries, copies = 4 * (2 + 1), 2 * 4 - 4 + 1
    assert CheckingTransport.checked == entries * copies


def test_another_experiment_is_refused_and_named(tmp_path: Path) -> None:
    protocol = agreement(2, rounds=1, round_timeout=0.5, settle_timeout=0.5)
    other = dataclasses.replace(protocol, fields={"a": field_digest(2)})

    async def main() -> None:
        made = meet_in_ring([Peer(0, protocol, tmp_path), Peer(1, other, tmp_path)])
        assert await run_all(made) == [Finished((1,)), Finished((0,))]
        assert [LinkRefused(1 - p.gossip.me, ("a",)) in p.events for p in made] == [True, True]
        assert [peer.gossip.log.versions() for peer in made] == [{0: 2}, {1: 2}]

    asyncio.run(main())


@contextmanager
def strangers(
    endpoints: Iterable[str], messages: Iterable[list[bytes]], routing_id: bytes | None
) -> Iterator[None]:
    """Raw sockets that have sent messages to all endpoints, and stay connected."""
    with zmq.Context() as context, ExitStack() as sockets:
        for endpoint in endpoints:
            socket = sockets.enter_context(context.socket(zmq.DEALER))
            socket.set(zmq.LINGER, 0)
            if routing_id is not None:
                socket.set(zmq.ROUTING_ID, routing_id)
            socket.connect(endpoint)
            for message in messages:
                socket.send_multipart(message)
        yield


def test_garbage_changes_nothing(tmp_path: Path) -> None:
    # Without CURVE nobody is disconnected: who speaks is not known.
    protocol, trainer = agreement(4, disconnects=False), SteeredTrainer(shut=True)
    dice = np.random.default_rng(1)
    frames = [dice.bytes(int(size)) for size in dice.integers(0, 400, 30)]
    frames += [wire.encode(wire.Bye())[:-1], b"\x92\x02\x91\xc4\x00", b""]
    singles = [[frame] for frame in frames]
    many = [[b"a", b"b"], [b""] * 100]

    async def main() -> list[Peer]:
        made = make_ring(protocol, tmp_path, trainer=trainer)
        endpoints = [peer.transport.endpoint for peer in made]
        with (
            strangers(endpoints, singles + many, None),
            strangers(endpoints, singles + many, b"99"),
            strangers(endpoints[1:2], singles + many, b"000002"),
            strangers(endpoints[2:3], singles + many, b"000001/0"),
        ):
            running = asyncio.ensure_future(run_all(made))
            nobody, neighbour = 2 * len(singles + many), len(many)
            garbage = [nobody, nobody + neighbour, nobody + neighbour, nobody]
            await until(lambda: [peer.transport.garbage for peer in made] == garbage)
            await until(lambda: [len(p.seen(Rejected)) for p in made] == [0, 33, 33, 0])
            trainer.gate.set()
            assert set(await running) == {Finished(())}
        return made

    made = asyncio.run(main())
    assert {digest_of(peer.gossip) for peer in made} == {digest_of(run_world(protocol).peers[0])}
    assert [peer.gossip.rejections for peer in made] == [{}, {2: 33}, {1: 33}, {}]


def test_all_wait_for_one_that_starts_late(tmp_path: Path) -> None:
    protocol = agreement(4)

    async def main() -> list[Peer]:
        made = [make_local(me, protocol, tmp_path) for me in range(3)]
        running = asyncio.ensure_future(run_all(made))
        await until(lambda: [p.gossip.waiting_for for p in made] == [(3,), (0, 2, 3), (3,)])
        made.append(make_local(3, protocol, tmp_path))
        assert await run_all(made[3:]) == [Finished(())]
        assert set(await running) == {Finished(())}
        return made

    made = asyncio.run(main())
    assert {digest_of(peer.gossip) for peer in made} == {digest_of(run_world(protocol).peers[0])}
    assert [peer.gossip.timeouts for peer in made] == [0, 0, 0, 0]


def test_one_that_never_comes_is_named_missing(tmp_path: Path) -> None:
    # In the middle, peer 1 is ahead of the two that wait for the fourth, so it has to be patient.
    protocol = agreement(4, rounds=2, round_timeout=0.3, settle_timeout=1.5)

    async def main() -> None:
        made = [make_local(me, protocol, tmp_path) for me in range(3)]
        assert await run_all(made) == [Finished((3,))] * 3
        assert {len(peer.gossip.log) for peer in made} == {3 * (2 + 1)}
        assert len({digest_of(peer.gossip) for peer in made}) == 1

    asyncio.run(main())


def test_an_error_in_training_ends_the_peer_and_only_that(tmp_path: Path) -> None:
    protocol = agreement(2, rounds=2, round_timeout=0.5, settle_timeout=0.5)

    async def main() -> None:
        failing = Peer(0, protocol, tmp_path, trainer=SteeredTrainer(fails=1))
        made = meet_in_ring([failing, Peer(1, protocol, tmp_path)])
        failure, finished = await asyncio.wait_for(
            asyncio.gather(*(peer.run() for peer in made), return_exceptions=True), PATIENCE
        )
        assert isinstance(failure, ArithmeticError)
        assert finished == Finished((0,))
        assert made[1].gossip.log.versions() == {0: 1, 1: 3}
        # All is closed: the address is free again.
        await Transport(0, made[0].transport.endpoint).close()

    asyncio.run(main())


def test_a_peer_goes_on_from_its_store(tmp_path: Path) -> None:
    protocol = agreement(4)

    async def main() -> list[Peer]:
        first_life = make_local(1, protocol, tmp_path, SteeredTrainer(fails=1))
        made = [make_local(me, protocol, tmp_path) for me in (0, 2, 3)]
        running = asyncio.ensure_future(run_all(made))
        with pytest.raises(ArithmeticError):
            await first_life.run()
        trainer = SteeredTrainer()
        second_life = make_local(1, protocol, tmp_path, trainer)
        assert second_life.gossip.log.length(1) == 1
        assert await run_all([second_life]) == [Finished(())]
        assert set(await running) == {Finished(())}
        assert trainer.rounds == [1, 2]
        return [*made, second_life]

    made = asyncio.run(main())
    assert {digest_of(peer.gossip) for peer in made} == {digest_of(run_world(protocol).peers[0])}
    assert [peer.gossip.timeouts for peer in made] == [0, 0, 0, 0]


class ListeningWatch(Traffic):
    """Opens a gate when a peer speaks that has heard of an entry since it began to train."""

    def __init__(self, gate: threading.Event) -> None:
        super().__init__()
        self.events: list[Event] = []
        self._gate = gate

    def count(self, sender: int, receiver: int, frame: bytes) -> None:
        super().count(sender, receiver, frame)
        begun, *later = [type(event) for event in self.events] or [None]
        if begun is RoundStarted and EntryAdded in later:
            self._gate.set()


def test_a_peer_speaks_and_listens_while_it_trains(tmp_path: Path) -> None:
    protocol, trainer = agreement(2), SteeredTrainer(shut=True)

    async def main() -> None:
        watch = ListeningWatch(trainer.gate)
        trains = Peer(0, protocol, tmp_path, trainer=trainer, traffic=watch)
        watch.events = trains.events
        made = meet_in_ring([trains, Peer(1, protocol, tmp_path)])
        assert set(await run_all(made)) == {Finished(())}
        assert [event.entry.origin for event in trains.seen(EntryAdded)][:2] == [1, 0]
        assert trains.gossip.timeouts == 0

    asyncio.run(main())


def test_a_cancelled_peer_lets_go_of_its_address(tmp_path: Path) -> None:
    async def main() -> None:
        peer = make_local(0, agreement(2), tmp_path)
        running = asyncio.ensure_future(peer.run())
        await until(lambda: peer.traffic.total().control_messages > 0)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(running, PATIENCE)
        await Transport(0, peer.transport.endpoint).close()

    asyncio.run(main())


def test_nothing_comes_through_a_partition_until_it_is_repaired(tmp_path: Path) -> None:
    protocol = agreement(4, round_timeout=0.3, settle_timeout=PATIENCE)
    groups: set[frozenset[int]] = {frozenset({0, 1}), frozenset({2, 3})}

    def cut_off(me: int) -> Callable[[int], bool]:
        return lambda other: any((me in group) != (other in group) for group in groups)

    async def main() -> list[Peer]:
        made = make_ring(protocol, tmp_path)
        for peer in made:
            peer.cut_off_from = cut_off(peer.gossip.me)
        running = asyncio.ensure_future(run_all(made))
        # Each side goes through all rounds without the other.
        await until(lambda: all(peer.gossip.rounds.over for peer in made))
        for peer in made:
            side = {0, 1} if peer.gossip.me < 2 else {2, 3}
            origins = {event.entry.origin for event in peer.seen(EntryAdded)}
            assert origins == side
            crossing = [(a, b) for a, b, _ in peer.traffic.links() if (a < 2) != (b < 2)]
            assert crossing == []
        groups.clear()
        assert set(await running) == {Finished(())}
        return made

    made = asyncio.run(main())
    # What is late is not lost (C7), and these histories do not hang on the cut they start from.
    assert {digest_of(peer.gossip) for peer in made} == {digest_of(run_world(protocol).peers[0])}


class BrokenTransport(Transport):
    """Fails when it is to bring something."""

    async def receive(self) -> tuple[int, bytes]:
        raise ZeroDivisionError


def test_an_error_of_the_transport_ends_the_peer(tmp_path: Path) -> None:
    async def main() -> None:
        made = make_ring(agreement(2), tmp_path, transport=BrokenTransport)
        with pytest.raises(ZeroDivisionError):
            await made[0].run()
        await made[1].transport.close()
        made[1].store.close()

    asyncio.run(main())
