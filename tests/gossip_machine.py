"""`Gossip` machines on links that anything may happen to, and what has to hold whatever happens.

A `Network` moves only when it is told to: a frame is delivered, lost, doubled or overtaken, a peer
trains, dies or comes back, time passes. After each move the peer that it was about is checked
against everything that was ever stored, by code that shares nothing with the accumulators, bases
and cuts of the protocol. `test_state_machine` lets Hypothesis choose the moves, `scenarios/soak`
a random generator; both find the same network again from the same numbers.

A peer has a disk. An output is carried out in the driver's order, first the disk and then the
messages, one thing at a time, and a crash may fall between any two of them.
"""

from __future__ import annotations

import operator
import random
from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import networkx as nx
import numpy as np

from peer.accumulator import Accumulator
from peer.base import Base
from peer.entry import Entry, Kind, make_history
from peer.events import (
    Banned,
    Convicted,
    EntryAdded,
    Event,
    LinkRefused,
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
from peer.signatures import public_key, signer
from peer.trees import Trees
from peer.units import choose_units
from peer.wire import Entries, Proof, decode, encode

CANDIDATES = 4
TICK = 1.0
ROUND_TIMEOUT = 6.0
SETTLE_TIMEOUT = 120.0
QUEUE = 400
"""Frames that a link holds; one more and the oldest is lost."""

LATENCY = 0.01
QUIET_SWEEPS = 50_000

Place = tuple[int, int]
"""Origin and sequence number of an entry."""


@dataclass(frozen=True)
class Plan:
    """A run: who takes part, how, and over which links.

    Attributes:
        seed: of the graph, the keys and the gradients.
        first: the rounds from which peers are members; some join late.
        last: the rounds from which they are none any more, None for those who stay.
    """

    seed: int
    peers: int
    gossip: str
    schedule: str
    weighted: bool
    signed: bool
    rounds: int
    participation: float = 1.0
    gradient_bytes: int = 4
    first: tuple[int, ...] = ()
    last: tuple[int | None, ...] = ()

    @cached_property
    def graph(self) -> nx.Graph:
        """A connected graph: a random tree and some edges more."""
        source = random.Random(self.seed)
        graph = nx.Graph((peer, source.randrange(peer)) for peer in range(1, self.peers))
        for _ in range(source.randrange(self.peers)):
            graph.add_edge(*source.sample(range(self.peers), 2))
        return graph

    @cached_property
    def leaving(self) -> set[int]:
        """The peers that do not stay to the last round."""
        last = self.protocol.roster.last_of
        return {peer for peer in range(self.peers) if last(peer, self.rounds) < self.rounds}

    def holds_without(self, gone: Iterable[int]) -> bool:
        """Tell whether the links connect all who stay to the end, but for some that are gone."""
        rest = set(range(self.peers)) - self.leaving - set(gone)
        return nx.is_connected(self.graph.subgraph(rest))

    @cached_property
    def secrets(self) -> list[bytes]:
        """The signing keys."""
        return [random.Random(f"{self.seed}/{p}").randbytes(32) for p in range(self.peers)]

    @cached_property
    def protocol(self) -> Protocol:
        """The agreement: 2 steps a round over 4 candidate seeds."""
        rows = tuple(range(1, self.peers + 1))
        roster = Roster(rows, self.participation, self.seed, self.first, self.last)
        neighbours = {peer: sorted(self.graph[peer]) for peer in range(self.peers)}
        return Protocol(
            roster=roster,
            rounds=self.rounds,
            local_steps=2,
            candidate_seeds=CANDIDATES,
            gradient_bytes=self.gradient_bytes,
            gradient_bound=1.0,
            weighted_draws=self.weighted,
            learning_rate=1e-4,
            units=choose_units(1e-4, self.rounds, 2, 1.0, self.peers),
            schedule=self.schedule,
            gossip=self.gossip,
            trees=Trees(neighbours, roster),
            public_keys=tuple(map(public_key, self.secrets)) if self.signed else (),
            tick=TICK,
            round_timeout=ROUND_TIMEOUT,
            settle_timeout=SETTLE_TIMEOUT,
        )


def draw_plan(source: random.Random) -> Plan:
    """Return a run as the generator has it."""
    peers, rounds = source.randint(5, 8), source.choice([4, 8, 16, 48])
    # Two peers at least are there all the time.
    late = [source.randrange(rounds) if source.random() < 0.3 else 0 for _ in range(peers - 2)]
    gone = [source.randint(first + 1, rounds) if source.random() < 0.1 else None for first in late]
    plan = Plan(
        seed=source.randrange(2**32),
        peers=peers,
        gossip=source.choice(["tree", "flood", "antientropy"]),
        schedule=source.choice(["sync", "sync", "async"]),
        weighted=source.random() < 0.5,
        signed=source.random() < 0.4,
        rounds=rounds,
        participation=source.choice([1.0, 1.0, 0.3]),
        gradient_bytes=source.choice([4, 1]),
        first=(*late, 0, 0),
        last=(*gone, None, None),
    )
    return plan if plan.holds_without(()) else replace(plan, last=())


class Disk:
    """What a peer has stored; it forgets nothing, as a base stands for entries and drops none."""

    def __init__(self) -> None:
        self.entries: dict[Place, Entry] = {}
        self.base: Base | None = None
        self.proofs: list[Proof] = []
        self._lengths: Counter[int] = Counter()

    def store(self, event: Event) -> None:
        """Store what an event brings, if that has to be stored."""
        match event:
            case EntryAdded(entry):
                place = (entry.origin, entry.sequence)
                assert self.entries.get(place, entry) == entry, f"two contents at {place}"
                assert entry.sequence <= self.length(entry.origin), f"a gap before {place}"
                self.entries[place] = entry
            case SnapshotTaken(base):
                below = {} if self.base is None else self.base.versions
                assert all(base.versions[o] >= n for o, n in below.items()), "a smaller base"
                self.base = base
                self._lengths |= base.versions
            case Convicted(first, second):
                self.proofs.append(Proof(first, second))

    def length(self, origin: int) -> int:
        """Return how long the run of an origin is that begins where its base ends."""
        while (origin, self._lengths[origin]) in self.entries:
            self._lengths[origin] += 1
        return self._lengths[origin]

    def log(self) -> EntryLog:
        """Return what a peer starts from."""
        below = {} if self.base is None else dict(self.base.versions)
        held = [
            self.entries[place]
            for place in sorted(self.entries)
            if place[1] >= below.get(place[0], 0)
        ]
        return EntryLog(held, below, 0 if self.base is None else self.base.sum)


class Network:
    """Peers at the nodes of the plan's graph, started one by one."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.protocol = plan.protocol
        self.now = 0.0
        self.lives: dict[int, Gossip] = {}
        self.ended: dict[int, Gossip] = {}
        self.disks = [Disk() for _ in range(plan.peers)]
        self.pending: defaultdict[int, deque[tuple[RoundStarted, str]]] = defaultdict(deque)
        self.links = sorted((a, b) for edge in plan.graph.edges for a, b in (edge, edge[::-1]))
        self.queues: dict[tuple[int, int], list[bytes]] = {link: [] for link in self.links}
        self.cut_off: set[tuple[int, int]] = set()
        self.told = False
        self.doomed: dict[int, int] = {}
        self.liars: set[int] = set()
        self.reached = 0
        self.figures: Counter[str] = Counter()
        # Everything below is for the checks.
        self.archive: dict[Place, Entry] = {}
        self.forged: dict[Place, Entry] = {}
        self._bases: dict[int, Base] = {}
        self._versions: dict[int, Mapping[int, int]] = {}
        self._digests: dict[Any, bytes] = {}
        self._sums: dict[Any, str] = {}
        self._rows: dict[bytes, list[int]] = {}
        self._seen: dict[int, tuple[Any, ...]] = {}

    # Moves

    def start(self, peer: int) -> None:
        """Start a peer that does not run, from its disk."""
        if peer in self.lives or peer in self.liars:
            return
        disk, plan = self.disks[peer], self.plan
        self.ended.pop(peer, None)
        gossip = self.lives[peer] = Gossip(
            peer,
            sorted(plan.graph[peer]),
            self.protocol,
            disk.log(),
            base=disk.base,
            proofs=disk.proofs,
            sign=signer(plan.secrets[peer]) if plan.signed else None,
        )
        self.check(peer)
        for a, b in sorted(self.cut_off) if self.told else ():
            if a == peer:
                gossip.link_down(b, self.now)
        self.figures["restarts" if disk.entries or disk.base else "starts"] += 1
        self._follow(peer, gossip.start(self.now))

    def join(self, peer: int) -> None:
        """Start a peer that does not run, not before the round ahead of its first."""
        reached = max((gossip.rounds.current for gossip in self.lives.values()), default=0)
        self.reached = max(reached, self.reached)
        if self.reached + 1 >= self.protocol.roster.first_of(peer):
            self.start(peer)

    def crash(self, peer: int) -> None:
        """End a peer's life at once."""
        if self.lives.pop(peer, None) is not None:
            self.figures["crashes"] += 1
        self.pending.pop(peer, None)
        self.doomed.pop(peer, None)

    def doom(self, peer: int, actions: int) -> None:
        """Let a peer die within its next output, after so many of its entries and messages."""
        if peer in self.lives:
            self.doomed[peer] = actions

    def train(self, peer: int) -> None:
        """Finish the local steps of the first round that a peer has still to publish."""
        if not self.pending[peer]:
            return
        started, digest = self.pending[peer].popleft()
        assert started.cut.digest() == digest, "the cut of a round has changed"
        assert started.indices is not None
        self.figures["trained"] += 1
        # No history is ever made twice, so that training a logged round again would show.
        source = random.Random(f"{self.plan.seed}/{self.figures['trained']}")
        steps = [source.uniform(-1, 1) for _ in started.indices]
        steps[0] = float("nan") if source.random() < 0.1 else steps[0]
        gradients, gossip = np.array(steps), self.lives[peer]
        self._follow(peer, gossip.publish(started.round, started.indices, gradients, self.now))

    def deliver(self, link: tuple[int, int], place: int = 0) -> None:
        """Deliver a frame; what was sent before it is overtaken."""
        sender, peer = link
        queue = self.queues[link]
        if queue and peer in self.lives and link not in self.cut_off:
            frame = queue.pop(place % len(queue))
            self.figures["delivered"] += 1
            self._follow(peer, self.lives[peer].receive(frame, sender, self.now))

    def lose(self, link: tuple[int, int], place: int) -> None:
        """Lose a frame."""
        queue = self.queues[link]
        if queue:
            queue.pop(place % len(queue))
            self.figures["lost"] += 1

    def double(self, link: tuple[int, int], place: int) -> None:
        """Have a frame come twice."""
        queue = self.queues[link]
        if queue:
            queue.append(queue[place % len(queue)])
            self.figures["doubled"] += 1

    def cut(self, group: Iterable[int], *, told: bool) -> None:
        """Cut a group off from the others; `told` says whether the peers get to know of it."""
        self.mend()
        group = set(group)
        self.told = told
        self.cut_off = {(a, b) for a, b in self.links if (a in group) != (b in group)}
        for a, b in sorted(self.cut_off) if told else ():
            if a in self.lives:
                self._follow(a, self.lives[a].link_down(b, self.now))
        self.figures["partitions"] += 1

    def mend(self) -> None:
        """Mend what was cut."""
        cut, self.cut_off = sorted(self.cut_off), set()
        for a, b in cut if self.told else ():
            if a in self.lives:
                self._follow(a, self.lives[a].link_up(b, self.now))

    def wait(self, seconds: float | None = None) -> None:
        """Let time pass, by default until the next timer; who has something due does it."""
        timers = [t for gossip in self.lives.values() if (t := gossip.timer) is not None]
        if seconds is None and timers:
            self.now = max(self.now, min(timers))
        self.now += seconds or 0.0
        for peer in sorted(self.lives):
            timer = self.lives[peer].timer
            if timer is not None and timer <= self.now:
                self.figures["timers"] += 1
                gossip = self.lives[peer]
                output = gossip.advance(self.now)
                after = gossip.timer
                assert after is None or after > self.now, "a timer in the past is a busy loop"
                self._follow(peer, output)

    def lie(self, peer: int, place: int) -> None:
        """Have a peer sign a second content for one of its entries, tell a neighbour, and go."""
        own = sorted(at for at in self.archive if at[0] == peer)
        histories = [at for at in own if self.archive[at].kind is Kind.HISTORY]
        holds = self.plan.holds_without({*self.liars, peer})
        if not (self.plan.signed and histories and holds):
            return
        entry = self.archive[histories[place % len(histories)]]
        secret = signer(self.plan.secrets[peer])
        data, scale = encode_gradients(np.array([0.5, 0.25]), self.plan.gradient_bytes)
        forged = make_history(
            peer,
            entry.sequence,
            entry.round,
            weight=entry.weight,
            cut=entry.cut,
            scale=scale,
            gradients=data,
            indices=entry.indices,
            sign=lambda body: secret(self.protocol.signed(body)),
        )
        self.forged[peer, entry.sequence] = forged
        self.crash(peer)
        self.ended.pop(peer, None)
        self.liars.add(peer)
        self.figures["lies"] += 1
        neighbours = sorted(self.plan.graph[peer])
        self._send(peer, neighbours[place % len(neighbours)], encode(Entries((forged,))))

    def move(self, source: random.Random, mishaps: float = 0.02) -> None:
        """Do one thing or another, as the generator has it; `mishaps`: how many befall peers."""
        chance = source.random()
        busy = [link for link in self.links if self.queues[link]]
        if chance < 0.75 and busy:
            link = source.choice(busy)
            place = 0 if source.random() < 0.9 else source.randrange(QUEUE)
            if chance < 0.70:
                self.deliver(link, place)
            elif chance < 0.73:
                self.lose(link, place)
            else:
                self.double(link, place)
        elif chance < 0.88:
            self.train(source.randrange(self.plan.peers))
        elif chance < 1.0 - mishaps:
            self.wait()
        else:
            self.mishap(source)

    def mishap(self, source: random.Random) -> None:
        """Let something happen to a peer, or to many."""
        peer, chance = source.randrange(self.plan.peers), source.random()
        if chance < 0.15:
            self.crash(peer)
        elif chance < 0.3:
            self.doom(peer, source.randrange(6))
        elif chance < 0.65:
            self.join(peer)
        elif chance < 0.72:
            group = source.sample(range(self.plan.peers), source.randrange(1, self.plan.peers))
            self.cut(group, told=source.random() < 0.5)
        elif chance < 0.93:
            self.mend()
        elif chance < 0.99:
            self.wait(source.choice([0.3, 2.0, 10.0]))
        elif len(self.liars) < 1:
            self.lie(peer, source.randrange(8))

    # The end

    def calm(self, dead: Iterable[int] = ()) -> None:
        """Let nothing happen any more to anybody but the dead, until nothing goes on.

        Args:
            dead: peers that stay away; the others come back, and are connected without them.
        """
        dead = {*dead, *self.liars}
        dead = dead if self.plan.holds_without(dead) else set(self.liars)
        self.mend()
        self.ended.clear()
        for peer in dead:
            self.crash(peer)
        for peer in range(self.plan.peers):
            self.doomed.pop(peer, None)
        self._run_dry(dead)
        self._check_end(dead)

    def sweep(self) -> None:
        """Have the oldest frame of each link delivered and all local steps done; time goes on."""
        moved = False
        for link in self.links:
            if self.queues[link] and link[1] in self.lives:
                self.deliver(link)
                moved = True
        for peer in sorted(self.lives):
            moved = moved or bool(self.pending[peer])
            self.train(peer)
        self.wait(LATENCY if moved else None)

    def _run_dry(self, dead: set[int]) -> None:
        for _ in range(QUIET_SWEEPS):
            for peer in range(self.plan.peers):
                if peer not in dead and peer not in self.ended:
                    self.join(peer)
            if not self.lives:
                return
            self.sweep()
        raise AssertionError("a quiet network does not come to an end")

    # What outputs want done

    def _follow(self, peer: int, output: Output) -> None:
        gossip = self.lives[peer]
        # What a driver does, in its order.
        events = [e for e in output.events if isinstance(e, EntryAdded | SnapshotTaken | Convicted)]
        for action in (*events, *output.messages):
            if self.doomed.get(peer) == 0:
                self.crash(peer)
                return
            if peer in self.doomed:
                self.doomed[peer] -= 1
            if isinstance(action, tuple):
                self._send(peer, *action)
            else:
                if isinstance(action, EntryAdded):
                    self._record(peer, action.entry)
                self.disks[peer].store(action)
        for event in output.events:
            self._look(peer, event)
        if gossip.base is not None and gossip.base is not self._bases.get(peer):
            self._bases[peer] = gossip.base
            self.figures["folds"] += 1
        self.check(peer)
        if gossip.finished is not None:
            self.ended[peer] = self.lives.pop(peer)
            self.pending.pop(peer, None)
            self.doomed.pop(peer, None)

    def _record(self, peer: int, entry: Entry) -> None:
        """Enter a new entry in the archive of all that was ever published."""
        at = (entry.origin, entry.sequence)
        if self.forged.get(at) != entry:
            assert at in self.archive or entry.origin == peer, f"nobody has published {at}"
            assert self.archive.setdefault(at, entry) == entry, f"a second content for {at}"

    def _send(self, sender: int, receiver: int, frame: bytes) -> None:
        stored, message = self.disks[sender].entries, decode(frame)
        if isinstance(message, Entries) and sender not in self.liars:
            for entry in message.entries:
                at = (entry.origin, entry.sequence)
                assert stored.get(at) == entry, f"{at} was sent before it was stored"
        queue = self.queues[sender, receiver]
        queue.append(frame)
        if len(queue) > QUEUE:
            queue.pop(0)
            self.figures["lost"] += 1

    def _look(self, peer: int, event: Event) -> None:
        match event:
            case RoundStarted(_, cut, indices) if indices is not None:
                self.pending[peer].append((event, cut.digest()))
            case SnapshotTaken(base):
                self.figures["snapshots"] += 1
                self._bases[peer] = base
            case Rejected(neighbour, reason):
                assert self.liars, (
                    f"peer {peer} rejects what its neighbour {neighbour} sends: {reason}"
                )
            case Banned(neighbour, reason):
                assert neighbour in self.liars, f"peer {peer} bans {neighbour}: {reason}"
            case LinkRefused():
                raise AssertionError(f"{peer}: {event}")
            case Convicted(first, _):
                assert first.origin in self.liars, f"peer {first.origin} was convicted"
                self.figures["convictions"] += 1

    # What has to hold

    def check(self, peer: int) -> None:
        """Check a peer against what was ever stored, and against all who had the same."""
        gossip = self.lives[peer]
        seen = (gossip.log.digest(), gossip.base, gossip.rounds.current, gossip.rounds.cut)
        before = self._seen.get(peer)
        if before is not None and all(map(operator.is_, seen, before)):
            return
        self._seen[peer] = seen
        versions, convictions = gossip.log.versions(), dict(gossip.log.convictions)
        self._check_log(peer, versions, convictions)
        twins = {at for at, twin in self.forged.items() if gossip.log.get(*at) == twin}
        held = (*versions.items(), *sorted(convictions.items()), *sorted(twins))
        # Which of two contents lies in a base does not show here.
        if not any(at[1] < gossip.log.base_length(at[0]) for at in self.forged):
            digest = gossip.log.digest()
            assert self._digests.setdefault(held, digest) == digest, "equal logs, other digests"
        last = gossip.rounds.current if self.plan.schedule == "sync" else self.plan.rounds
        if (held, last) not in self._sums:
            self._sums[held, last] = self._reference(versions, last, twins)
        found = gossip.rounds.accumulator.digest()
        assert found == self._sums[held, last], f"peer {peer} has other sums than its entries"

    def _check_log(
        self, peer: int, versions: Mapping[int, int], convictions: Mapping[int, int]
    ) -> None:
        """Check that a log has only grown, and is the one on disk."""
        log = self.lives[peer].log
        for origin, length in self._versions.get(peer, {}).items():
            least = min(length, convictions.get(origin, length))
            assert versions.get(origin, 0) >= least, f"peer {peer} has forgotten of {origin}"
        self._versions[peer] = versions
        for origin, length in versions.items():
            stored = self.disks[peer].length(origin)
            stored = min(stored, convictions.get(origin, stored))
            stored = max(stored, log.base_length(origin))
            assert length == stored, f"peer {peer} has not stored its log of {origin}"

    def _reference(self, versions: Mapping[int, int], last: int, twins: set[Place]) -> str:
        """Return the digest of the sums of the first entries of each log, by plain addition."""
        rows = [[0] * 3 * CANDIDATES]
        for origin, length in versions.items():
            for at in ((origin, sequence) for sequence in range(length)):
                entry = self.forged[at] if at in twins else self.archive[at]
                if entry.kind is Kind.HISTORY and entry.round < last:
                    rows.append(self._row(entry))
        sums = np.array([sum(column) for column in zip(*rows, strict=True)], dtype=np.int64)
        return Accumulator(self.protocol.units, *sums.reshape(3, CANDIDATES)).digest()

    def _row(self, entry: Entry) -> list[int]:
        """Return what an entry adds to sums, magnitudes and counts, one after the other."""
        if entry.content not in self._rows:
            protocol, row = self.protocol, [0] * 3 * CANDIDATES
            gradients = protocol.gradients(entry).tolist()
            for index, gradient in zip(protocol.indices(entry).tolist(), gradients, strict=True):
                # A step that was skipped is NaN, and adds nothing.
                if gradient == gradient:
                    units = protocol.units
                    row[index] += round(gradient * entry.weight * 2**units.fraction_bits)
                    if self.plan.weighted:
                        row[CANDIDATES + index] += round(abs(gradient) * 2**units.magnitude_bits)
                        row[2 * CANDIDATES + index] += 1
            self._rows[entry.content] = row
        return self._rows[entry.content]

    def _check_end(self, dead: set[int]) -> None:
        """Check that all who stayed to the end agree, and lack only who was not there."""
        stayed = {p: gossip for p, gossip in self.ended.items() if p not in self.plan.leaving}
        for peer, gossip in stayed.items():
            finished = gossip.finished
            assert finished is not None
            assert set(finished.missing) <= dead, f"peer {peer} ends with {finished}"
            assert not finished.differing, f"peer {peer} ends with {finished}"
        ends = {
            (gossip.log.digest(), *gossip.log.versions().items(), *gossip.log.convictions.items())
            for gossip in stayed.values()
        }
        assert len(ends) == 1, f"{len(ends)} different logs at the end"
        log = next(iter(stayed.values())).log
        for peer in self.ended.keys() - stayed.keys():
            for origin, length in self.ended[peer].log.versions().items():
                least = min(length, log.convictions.get(origin, length))
                assert log.length(origin) >= least, f"peer {peer} has left with what nobody has"
