"""Several `Gossip` machines joined in memory, for tests: no sockets, no `World`, seeded faults.

Time is virtual. A frame takes `LATENCY` and, with jitter, longer, so that frames overtake each
other; it may be lost or come twice. A peer has a disk: an entry is on it before any message of the
same output leaves, so a crash between two calls is one that a real peer may have at any moment.
"""

from __future__ import annotations

import heapq
import math
import random
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import networkx as nx
import numpy as np

from peer.entry import Entry, make_history, pack_indices
from peer.events import EntryAdded, Event, Output, Rejected, RoundStarted
from peer.gossip import Gossip
from peer.gradients import encode as encode_gradients
from peer.log import EntryLog
from peer.protocol import Protocol
from peer.roster import Roster
from peer.trainer import SyntheticTrainer, Trainer
from peer.units import choose_units
from peer.wire import Entries, Hello, Message, decode, encode

LATENCY = 0.01
STEP_SECONDS = 0.1


def agreement(peers: int, **changes: Any) -> Protocol:
    """A small run: 3 rounds of 5 steps over 16 candidate seeds, unless told otherwise."""
    run: dict[str, Any] = {
        "rounds": 3,
        "local_steps": 5,
        "candidate_seeds": 16,
        "gradient_bytes": 4,
        "gradient_bound": 1.0,
        "weighted_draws": False,
        "learning_rate": 1e-4,
        "fields": {"root_seed": b"01234567", "rounds": b"abcdefgh"},
    }
    participation = changes.pop("participation", 1.0)
    rows = tuple(changes.pop("rows", range(1, peers + 1)))
    run |= changes
    units = choose_units(
        run["learning_rate"], run["rounds"], run["local_steps"], run["gradient_bound"], peers
    )
    return Protocol(roster=Roster(rows, participation, 7), units=units, **run)


def history(
    protocol: Protocol, origin: int, sequence: int, round_: int, fill: float = 0.5, **changes: Any
) -> Entry:
    """An entry that an honest peer could publish, unless it is told to change a field."""
    tau = protocol.local_steps
    data, scale = encode_gradients(np.full(tau, fill), protocol.gradient_bytes)
    indices = pack_indices(np.arange(tau) % protocol.candidate_seeds, protocol.candidate_seeds)
    fields: dict[str, Any] = {
        "weight": protocol.roster.weight(origin, round_, protocol.step_size),
        "cut": bytes(8),
        "scale": scale,
        "gradients": data,
        "indices": indices if protocol.weighted_draws else None,
    }
    return make_history(origin, sequence, round_, **(fields | changes))


def met(
    me: int, neighbours: Iterable[int], protocol: Protocol, log: EntryLog | None = None
) -> tuple[Gossip, Output]:
    """A started peer to whom every neighbour has answered, and what it did upon the last answer."""
    gossip = Gossip(me, neighbours, protocol, log)
    output = gossip.start(0.0)
    for neighbour in neighbours:
        hello = Hello(neighbour, protocol.fields, {}, answer=True)
        output = gossip.receive(encode(hello), neighbour, 0.0)
    return gossip, output


@dataclass(frozen=True)
class Faults:
    """What befalls frames until `until`; afterwards every frame arrives, once and in order."""

    loss: float = 0.0
    duplication: float = 0.0
    jitter: float = 0.0
    until: float = math.inf
    seed: int = 0


@dataclass
class Life:
    """One peer's life from a start to a crash or the end of the run."""

    gossip: Gossip
    events: list[tuple[float, Event]] = field(default_factory=list)
    wakes: int = 0

    def of(self, kind: type) -> list[Any]:
        return [event for _, event in self.events if isinstance(event, kind)]


class Mesh:
    """Peers at the nodes of a graph."""

    def __init__(
        self,
        graph: nx.Graph,
        protocol: Protocol | dict[int, Protocol],
        *,
        trainer: Trainer | None = None,
        faults: Faults | None = None,
        step_seconds: float = STEP_SECONDS,
        blocked: Callable[[int, int, float], bool] = lambda *_: False,
    ) -> None:
        self.now = 0.0
        self.graph = graph
        self.protocols = (
            protocol if isinstance(protocol, dict) else dict.fromkeys(graph.nodes, protocol)
        )
        self.trainer = trainer or SyntheticTrainer(7)
        self.step_seconds = step_seconds
        self.blocked = blocked
        self.disks: defaultdict[int, list[Entry]] = defaultdict(list)
        self.lives: dict[int, Life] = {}
        self.past_lives: list[Life] = []
        self.sent: list[tuple[float, int, int, bytes]] = []
        self.trained: list[tuple[int, int]] = []
        self._faults = faults or Faults()
        self._random = random.Random(self._faults.seed)
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self._tickets = count()

    # What happens to peers

    def start(self, *peers: int) -> None:
        """Start peers, from what is on their disks; without names, all of them."""
        for peer in peers or sorted(self.graph.nodes):
            log = EntryLog(self.disks[peer])
            gossip = Gossip(peer, self.graph[peer], self.protocols[peer], log)
            self.lives[peer] = Life(gossip)
            self.follow(peer, gossip.start(self.now))

    def crash(self, peer: int) -> None:
        self.past_lives.append(self.lives.pop(peer))

    def gossip(self, peer: int) -> Gossip:
        return self.lives[peer].gossip

    def deliver(self, sender: int, receiver: int, frame: bytes) -> Output | None:
        """Hand a frame over at once, whoever may have made it."""
        life = self.lives.get(receiver)
        if life is None or life.gossip.finished is not None:
            return None
        output = life.gossip.receive(frame, sender, self.now)
        self.follow(receiver, output)
        return output

    # Time

    def at(self, time: float, action: Callable[[], None]) -> None:
        heapq.heappush(self._queue, (time, next(self._tickets), action))

    def run(self, until: float = math.inf) -> None:
        """Go on until nothing is left to happen, or until a time."""
        for _ in range(500_000):
            due, peer = min(
                (
                    (timer, peer)
                    for peer, life in self.lives.items()
                    if (timer := life.gossip.timer) is not None
                ),
                default=(math.inf, -1),
            )
            first = self._queue[0][0] if self._queue else math.inf
            if min(due, first) > until or min(due, first) == math.inf:
                self.now = max(self.now, until) if until < math.inf else self.now
                return
            if first <= due:
                self.now, _, action = heapq.heappop(self._queue)
                action()
                continue
            self.now = max(self.now, due)
            life = self.lives[peer]
            life.wakes += 1
            output = life.gossip.advance(self.now)
            timer = life.gossip.timer
            assert timer is None or timer > self.now, "a timer in the past would be a busy loop"
            self.follow(peer, output)
        raise AssertionError("the run does not come to an end")

    # What peers want done

    def follow(self, peer: int, output: Output) -> None:
        life = self.lives[peer]
        for event in output.events:
            life.events.append((self.now, event))
            if isinstance(event, EntryAdded):
                self.disks[peer].append(event.entry)
        stored = {entry.content for entry in self.disks[peer]}
        for neighbour, frame in output.messages:
            assert neighbour in self.graph[peer]
            assert all(e.content in stored for e in entries_in(frame)), "sent before it was stored"
            self._send(peer, neighbour, frame)
        for event in output.events:
            if isinstance(event, RoundStarted) and event.indices is not None:
                self._train(peer, event)

    def _send(self, sender: int, receiver: int, frame: bytes) -> None:
        self.sent.append((self.now, sender, receiver, frame))
        faults = self._faults if self.now < self._faults.until else Faults()
        copies = 1
        if self.blocked(sender, receiver, self.now) or self._random.random() < faults.loss:
            copies = 0
        elif self._random.random() < faults.duplication:
            copies = 2
        for _ in range(copies):
            arrival = self.now + LATENCY + self._random.random() * faults.jitter
            self.at(arrival, lambda: self.deliver(sender, receiver, frame) and None)

    def _train(self, peer: int, start: RoundStarted) -> None:
        life = self.lives[peer]
        self.trained.append((peer, start.round))
        assert start.indices is not None
        indices = start.indices

        def publish() -> None:
            if self.lives.get(peer) is not life:
                return
            made = self.trainer.train(peer, start.round, start.cut, indices)
            digest = start.cut.digest()
            self.follow(
                peer, life.gossip.publish(start.round, indices, made.gradients, digest, self.now)
            )

        self.at(self.now + self.step_seconds * len(indices), publish)

    # What can be seen

    def accumulators(self) -> set[str]:
        return {life.gossip.rounds.accumulator.digest() for life in self.lives.values()}

    def logs(self) -> set[bytes]:
        return {life.gossip.log.digest() for life in self.lives.values()}

    def rejected(self) -> list[Rejected]:
        return [event for life in self.lives.values() for event in life.of(Rejected)]

    def pushes(self) -> Counter[bytes]:
        """How often each entry was sent over any link."""
        return Counter(e.content for _, _, _, frame in self.sent for e in entries_in(frame))

    def equivocations(self) -> list[tuple[int, int]]:
        """The (origin, sequence) under which two contents were sent or stored."""
        everywhere = [e for disk in self.disks.values() for e in disk]
        everywhere += [e for _, _, _, frame in self.sent for e in entries_in(frame)]
        contents: defaultdict[tuple[int, int], set[bytes]] = defaultdict(set)
        for entry in everywhere:
            contents[entry.origin, entry.sequence].add(entry.content)
        return [place for place, different in contents.items() if len(different) > 1]


def entries_in(frame: bytes) -> Iterable[Entry]:
    message = decode(frame)
    return message.entries if isinstance(message, Entries) else ()


def whole_run(graph: nx.Graph, **changes: Any) -> Mesh:
    """A run of `agreement(...)` from its start to its end."""
    mesh = Mesh(graph, agreement(len(graph), **changes))
    mesh.start()
    mesh.run()
    return mesh


def kinds(output: Output) -> list[tuple[int, type]]:
    """To whom which kinds of messages go."""
    return [(neighbour, type(decode(frame))) for neighbour, frame in output.messages]


def receive(gossip: Gossip, message: Message, sender: int, now: float) -> Output:
    return gossip.receive(encode(message), sender, now)


def publish(gossip: Gossip, round_: int, now: float) -> Output:
    indices = gossip.protocol.draw(
        gossip.me, gossip.log.length(gossip.me), gossip.rounds.accumulator
    )
    return gossip.publish(round_, indices, np.full(len(indices), 0.25), "00" * 16, now)


def state(gossip: Gossip) -> tuple[Any, ...]:
    """What a hostile frame must not change."""
    return (
        gossip.log.digest(),
        gossip.log.versions(),
        gossip.rounds.current,
        gossip.rounds.accumulator.digest(),
        gossip.waiting_for,
        gossip.complete,
    )


def in_the_middle(**changes: Any) -> Gossip:
    """Peer 0 of five, met by its neighbours 1 and 2, in round 1, with an early entry of round 2."""
    protocol = agreement(5, rounds=4, **changes)
    gossip, _ = met(0, [1, 2], protocol)
    first = protocol.roster.active(0)
    for peer in first:
        entry = history(protocol, peer, 0, 0, fill=0.125 * peer)
        gossip.receive(encode(Entries((entry,))), 1, 1.0)
    early = history(protocol, 3, gossip.log.length(3), 2)
    gossip.receive(encode(Entries((early,))), 1, 1.0)
    assert gossip.rounds.current == 1
    assert not gossip.rejections
    return gossip


def refused(gossip: Gossip, frame: bytes, reason: str, sender: int = 1) -> Output:
    """Deliver a frame that must be rejected, counted and named, and change nothing."""
    before, counted = state(gossip), gossip.rejections[sender]
    output = gossip.receive(frame, sender, 2.0)
    assert state(gossip) == before
    assert gossip.rejections[sender] == counted + 1
    (event,) = output.events
    assert isinstance(event, Rejected)
    assert event.neighbour == sender
    assert reason in event.reason
    assert "\n" not in event.reason
    return output
