"""`Gossip` machines on links that anything may happen to.

A `Network` moves only when it is told to: a frame is delivered, lost, doubled or overtaken, a peer
trains, dies or comes back, time passes. After each move the peer that it was about is checked, as
`gossip_checks` says. `test_state_machine` lets Hypothesis choose the moves, `scenarios/soak` a
random generator; both find the same network again from the same numbers.

A peer has a disk. An output is carried out in the driver's order, first the disk and then the
messages, one thing at a time, and a crash may fall between any two of them.
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict, deque
from collections.abc import Iterable

import numpy as np
from gossip_checks import Checks, Disk
from gossip_plan import Plan
from mesh import counts_of

from peer.base import Base
from peer.entry import Kind, make_history
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
from peer.signatures import signer
from peer.trainer import LocalRound
from peer.wire import Entries, decode, encode

QUEUE = 400
"""Frames that a link holds; one more and the oldest is lost."""

LATENCY = 0.01
QUIET_SWEEPS = 50_000


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
        self.checks = Checks(plan)
        self._bases: dict[int, Base] = {}

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
        self.checks.check(gossip, self.disks[peer])
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
        steps = [source.uniform(-1, 1) for _ in range(self.protocol.seeds.numbers)]
        steps[0] = float("nan") if source.random() < 0.1 else steps[0]
        made = LocalRound(np.array(steps), 0.0, counts_of(self.protocol, self.figures["trained"]))
        self._follow(peer, self.lives[peer].trained(started, made, self.now))

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
        archive = self.checks.archive
        own = sorted(at for at in archive if at[0] == peer)
        histories = [at for at in own if archive[at].kind is Kind.HISTORY]
        holds = self.plan.holds_without({*self.liars, peer})
        if not (self.plan.signed and histories and holds):
            return
        entry = archive[histories[place % len(histories)]]
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
        self.checks.forged[peer, entry.sequence] = forged
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
        self.checks.check_end(self.ended, dead)

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
                    self.checks.record(peer, action.entry)
                self.disks[peer].store(action)
        for event in output.events:
            self._look(peer, event)
        if gossip.base is not None and gossip.base is not self._bases.get(peer):
            self._bases[peer] = gossip.base
            self.figures["folds"] += 1
        self.checks.check(gossip, self.disks[peer])
        if gossip.finished is not None:
            self.ended[peer] = self.lives.pop(peer)
            self.pending.pop(peer, None)
            self.doomed.pop(peer, None)

    def _send(self, sender: int, receiver: int, frame: bytes) -> None:
        stored, message = self.disks[sender].entries, decode(frame)
        if isinstance(message, Entries) and sender not in self.liars:
            for entry in message.entries:
                at = (entry.origin, entry.sequence)
                assert stored.get(at) == entry, f"{at} was sent before it was stored"
        if receiver not in self.lives and not self.plan.patient:
            self.figures["lost"] += 1
            return
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
