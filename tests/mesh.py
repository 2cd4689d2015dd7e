"""Several `Gossip` machines joined in memory, for tests: no sockets, no `World`, seeded faults.

Time is virtual. A frame takes `LATENCY` and, with jitter, longer, so that frames overtake each
other; it may be lost or come twice. A peer has a disk: an entry is on it before any message of the
same output leaves, so a crash between two calls is one that a real peer may have at any moment.
Bases that neighbours have sent and proofs of equivocations are on it too.
"""

from __future__ import annotations

import dataclasses
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
from hypothesis import strategies as st
from numpy.typing import NDArray

from peer.base import Base
from peer.entry import Entry, Sign, make_history
from peer.events import (
    Banned,
    Convicted,
    EntryAdded,
    Event,
    Output,
    Rejected,
    RoundStarted,
    SnapshotTaken,
)
from peer.gossip import Gossip
from peer.gradients import encode as encode_gradients
from peer.log import EntryLog
from peer.protocol import Protocol
from peer.roster import Roster
from peer.seeding import most_hits
from peer.signatures import public_key, signer
from peer.trainer import SyntheticTrainer, Trainer
from peer.trees import Trees
from peer.units import choose_units
from peer.wire import Entries, Hello, Message, Proof, decode, encode

LATENCY = 0.01
STEP_SECONDS = 0.1


def agreement(peers: int, *, signed: bool = False, **changes: Any) -> Protocol:
    """A small run: 3 rounds of 5 steps over 16 candidate seeds, unless told otherwise."""
    run: dict[str, Any] = {
        "rounds": 3,
        "local_steps": 5,
        "candidate_seeds": 16,
        "gradient_bytes": 4,
        "gradient_bound": 1.0,
        "seeding": "uniform",
        "learning_rate": 1e-4,
        "fields": {"root_seed": b"01234567", "rounds": b"abcdefgh"},
    }
    roster = Roster(
        tuple(changes.pop("rows", range(1, peers + 1))),
        changes.pop("participation", 1.0),
        7,
        changes.pop("first", ()),
        changes.pop("last", ()),
        changes.pop("evicted", frozenset()),
    )
    run |= changes
    if run["seeding"] == "blocks":
        run = {"blocks": 3, "coordinates": run["local_steps"]} | run
    hits = most_hits(run["seeding"], run["local_steps"])
    units = choose_units(run["learning_rate"], run["rounds"], hits, run["gradient_bound"], peers)
    keys = tuple(public_key(secret(peer)) for peer in range(peers)) if signed else ()
    return Protocol(roster=roster, units=units, public_keys=keys, **run)


def seeding(pro: bool) -> str:
    """How the seeds of FedKSeed are drawn, or those of FedKSeed-Pro."""
    return "weighted" if pro else "uniform"


def counts_of(protocol: Protocol, *place: int) -> NDArray[np.int64] | None:
    """How many of its coordinates an origin may give to each block, another way at each place."""
    if protocol.seeding != "blocks":
        return None
    blocks, most = protocol.blocks, protocol.candidate_seeds
    chosen = random.Random(f"{place}").sample(range(blocks * most), protocol.coordinates)
    return np.bincount([one // most for one in chosen], minlength=blocks)


def secret(peer: int) -> bytes:
    """The key that a peer signs with."""
    return peer.to_bytes(32, "big")


def sign_as(peer: int, protocol: Protocol) -> Sign | None:
    """What signs a peer's entries, None in a run without signatures."""
    if not protocol.public_keys:
        return None
    make = signer(secret(peer))
    return lambda body: make(protocol.signed(body))


def over(graph: nx.Graph, protocol: Protocol) -> Protocol:
    """The same agreement with the trees of a graph."""
    trees = Trees({node: sorted(graph[node]) for node in graph}, protocol.roster)
    return dataclasses.replace(protocol, trees=trees)


def hello(
    sender: int, protocol: Protocol, log: EntryLog | None = None, answer: bool = True
) -> Hello:
    """The greeting of a peer of this run, which holds `log`."""
    return Hello(sender, protocol.digest, (log or EntryLog()).digest(), answer, 0.0)


def history(
    protocol: Protocol, origin: int, sequence: int, round_: int, fill: float = 0.5, **changes: Any
) -> Entry:
    """An entry that an honest peer could publish, unless it is told to change a field."""
    numbers, seeds = protocol.seeds.numbers, protocol.seeds
    data, scale = encode_gradients(np.full(numbers, fill), protocol.gradient_bytes)
    chosen = counts_of(protocol, origin, round_)
    if chosen is None:
        chosen = np.arange(numbers) % protocol.candidate_seeds
    fields: dict[str, Any] = {
        "weight": protocol.roster.weight(origin, round_, protocol.step_size),
        "cut": bytes(8),
        "scale": scale,
        "gradients": data,
        "indices": seeds.pack(chosen),
        "sign": sign_as(origin, protocol),
    }
    return make_history(origin, sequence, round_, **(fields | changes))


def met(
    me: int, neighbours: Iterable[int], protocol: Protocol, log: EntryLog | None = None
) -> tuple[Gossip, Output]:
    """A started peer to whom every neighbour has answered, and what it did upon the last answer.

    They hold what it holds.
    """
    sign = signer(secret(me)) if protocol.public_keys else None
    gossip = Gossip(me, neighbours, protocol, log, sign=sign)
    output = gossip.start(0.0)
    for neighbour in neighbours:
        answer = hello(neighbour, protocol, gossip.log)
        output = gossip.receive(encode(answer), neighbour, 0.0)
    return gossip, output


@dataclass(frozen=True)
class Faults:
    """What befalls frames until `until`; afterwards every frame arrives, once and in order."""

    loss: float = 0.0
    duplication: float = 0.0
    jitter: float = 0.0
    until: float = math.inf
    seed: int = 0


def bad_links(
    until: float, loss: float = 0.3, duplication: float = 0.3, jitter: float = 1.0
) -> st.SearchStrategy[Faults]:
    """Draw any faults, each up to a share of the frames, or to so many seconds."""
    return st.builds(
        Faults,
        loss=st.floats(0.0, loss),
        duplication=st.floats(0.0, duplication),
        jitter=st.floats(0.0, jitter),
        until=st.just(until),
        seed=st.integers(0, 2**32),
    )


@dataclass
class Life:
    """One peer's life from a start to a crash or the end of the run."""

    gossip: Gossip
    events: list[tuple[float, Event]] = field(default_factory=list)
    wakes: int = 0

    def of(self, kind: type) -> list[Any]:
        return [event for _, event in self.events if isinstance(event, kind)]


class Mesh:
    """Peers at the nodes of a graph.

    Args:
        graph: who has links to whom.
        protocol: one for all, or one for each peer.
        trainer: makes the histories.
        faults: of all links.
        step_seconds: of a local step, for all, or for each peer.
        blocked: tells of (sender, receiver, time) that nothing arrives.
        absent: peers that `start()` leaves out.
    """

    def __init__(
        self,
        graph: nx.Graph,
        protocol: Protocol | dict[int, Protocol],
        *,
        trainer: Trainer | None = None,
        faults: Faults | None = None,
        step_seconds: float | dict[int, float] = STEP_SECONDS,
        blocked: Callable[[int, int, float], bool] = lambda *_: False,
        absent: Iterable[int] = (),
    ) -> None:
        self.now = 0.0
        self.graph = graph
        if isinstance(protocol, Protocol):
            shared = over(graph, protocol) if protocol.gossip == "tree" else protocol
            protocol = dict.fromkeys(graph.nodes, shared)
        self.protocols = protocol
        self.trainer = trainer or SyntheticTrainer(7)
        self.step_seconds = (
            step_seconds
            if isinstance(step_seconds, dict)
            else dict.fromkeys(graph.nodes, step_seconds)
        )
        self.blocked = blocked
        self.disks: defaultdict[int, list[Entry]] = defaultdict(list)
        self.bases: dict[int, Base] = {}
        self.proofs: defaultdict[int, list[Proof]] = defaultdict(list)
        self.lives: dict[int, Life] = {}
        self.past_lives: list[Life] = []
        self.banned: set[tuple[int, int]] = set()
        self.sent: list[tuple[float, int, int, bytes]] = []
        self.trained: list[tuple[int, int]] = []
        self.highest_round = -1
        self._absent = set(absent)
        self._rounds: list[tuple[int, Callable[[], object]]] = []
        self._faults = faults or Faults()
        self._random = random.Random(self._faults.seed)
        self._queue: list[tuple[float, int, Callable[[], object]]] = []
        self._tickets = count()

    # What happens to peers

    def start(self, *peers: int) -> None:
        """Start peers, from what is on their disks; without names, all that are not absent."""
        for peer in peers or sorted(set(self.graph.nodes) - self._absent):
            protocol = self.protocols[peer]
            base = self.bases.get(peer)
            lengths, below = (base.versions, base.sum) if base is not None else ({}, 0)
            above = [e for e in self.disks[peer] if e.sequence >= lengths.get(e.origin, 0)]
            gossip = Gossip(
                peer,
                self.graph[peer],
                protocol,
                EntryLog(above, lengths, below),
                base=base,
                proofs=self.proofs[peer],
                sign=signer(secret(peer)) if protocol.public_keys else None,
            )
            self.lives[peer] = Life(gossip)
            self.follow(peer, gossip.start(self.now))

    def crash(self, peer: int) -> None:
        self.past_lives.append(self.lives.pop(peer))

    def gossip(self, peer: int) -> Gossip:
        return self.lives[peer].gossip

    def link_up(self, one: int, other: int) -> None:
        for peer, neighbour in ((one, other), (other, one)):
            self.follow(peer, self.gossip(peer).link_up(neighbour, self.now))

    def link_down(self, one: int, other: int) -> None:
        for peer, neighbour in ((one, other), (other, one)):
            self.follow(peer, self.gossip(peer).link_down(neighbour, self.now))

    def deliver(self, sender: int, receiver: int, frame: bytes) -> Output | None:
        """Hand a frame over at once, whoever may have made it."""
        life = self.lives.get(receiver)
        if life is None or life.gossip.finished is not None:
            return None
        if (sender, receiver) in self.banned or (receiver, sender) in self.banned:
            return None
        output = life.gossip.receive(frame, sender, self.now)
        self.follow(receiver, output)
        return output

    # Time

    def at(self, time: float, action: Callable[[], object]) -> None:
        heapq.heappush(self._queue, (time, next(self._tickets), action))

    def at_round(self, round_: int, action: Callable[[], object]) -> None:
        """Do something when the first peer starts a round."""
        self._rounds.append((round_, action))

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
            match event:
                case EntryAdded(entry):
                    self.disks[peer].append(entry)
                case SnapshotTaken(base):
                    self.bases[peer] = base
                case Convicted(first, second):
                    self.proofs[peer].append(Proof(first, second))
                case Banned(neighbour, _):
                    self.banned.add((peer, neighbour))
        stored = {entry.content for entry in self.disks[peer]}
        for neighbour, frame in output.messages:
            assert neighbour in self.graph[peer]
            assert all(e.content in stored for e in entries_in(frame)), "sent before it was stored"
            self._send(peer, neighbour, frame)
        for event in output.events:
            if isinstance(event, RoundStarted):
                self._reach(event.round)
                if event.indices is not None:
                    self._train(peer, event)

    def _reach(self, round_: int) -> None:
        if round_ > self.highest_round:
            self.highest_round = round_
            for due, action in self._rounds:
                if due <= round_:
                    self.at(self.now, action)
            self._rounds = [one for one in self._rounds if one[0] > round_]

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
            self.at(arrival, lambda: self.deliver(sender, receiver, frame))

    def _train(self, peer: int, start: RoundStarted) -> None:
        life = self.lives[peer]
        self.trained.append((peer, start.round))
        assert start.indices is not None
        indices = start.indices

        def publish() -> None:
            if self.lives.get(peer) is not life:
                return
            made = self.trainer.train(peer, start.round, start.cut, indices)
            self.follow(peer, life.gossip.trained(start, made, self.now))

        steps = self.protocols[peer].local_steps
        self.at(self.now + self.step_seconds[peer] * steps, publish)

    # What can be seen

    def accumulators(self) -> set[str]:
        return {life.gossip.rounds.accumulator.digest() for life in self.lives.values()}

    def logs(self) -> set[bytes]:
        return {life.gossip.log.digest() for life in self.lives.values()}

    def rejected(self) -> list[Rejected]:
        return [event for life in self.lives.values() for event in life.of(Rejected)]

    def bans(self) -> list[Banned]:
        return [event for life in self.lives.values() for event in life.of(Banned)]

    def entries(self, peer: int) -> list[Entry]:
        """What a peer's log stands for; what came within a base is looked up with the others."""
        log = self.gossip(peer).log
        found: dict[tuple[int, int], Entry] = {}
        for disk in (self.disks[peer], *self.disks.values()):
            for entry in disk:
                if log.holds(entry):
                    found.setdefault((entry.origin, entry.sequence), entry)
        return list(found.values())

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
    indices = gossip.protocol.draw(gossip.me, round_, gossip.rounds.accumulator)
    return gossip.publish(round_, indices, np.full(len(indices), 0.25), now)


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
