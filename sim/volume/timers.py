"""What neighbours tell each other besides entries: a model of greetings, ticks and digests.

It follows from a `Timeline` alone; no entry is sent. A peer's digest at a time is that of the
entries which have come by then: here the sum of a random number for each, so equal sums are equal
sets. Who gets a digest that is not its own answers with what is new to it, and who holds everything
leaves when its neighbours do (`peer.reconciliation`, `peer.ending`). Left out is what links that
lose nothing seldom need: whole version vectors, and asking for what comes by itself. Which of two
events at one instant is the first is not followed either; links that are all alike have many such.
"""

from __future__ import annotations

import heapq
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from math import inf

import numpy as np
from numpy.typing import NDArray

from peer import wire
from peer.latency import Edge
from peer.links import HEARTBEAT_TICKS, Link
from peer.log import DIGEST_BYTES
from peer.protocol import Protocol
from peer.traffic import LinkCount
from peer.zmtp import framing_bytes
from sim.volume.frames import Published
from sim.volume.timeline import Timeline


class _What(IntEnum):
    TICK = 0
    DIGEST = 1
    WHOLE = 2
    LEAVE = 3
    BYE = 4


class _Holding:
    """What one peer holds at which time.

    Args:
        arrivals: when it has each entry, shape (M,).
        own: which of them are its own histories, shape (M,).
        marks: a random number for each entry, shape (M,).
    """

    def __init__(
        self,
        arrivals: NDArray[np.float64],
        own: NDArray[np.bool_],
        marks: NDArray[np.uint64],
    ) -> None:
        self._order = np.argsort(arrivals, kind="stable")
        self._times = arrivals[self._order]
        self._sums = np.concatenate([np.zeros(1, np.uint64), np.cumsum(marks[self._order])])
        self._own = dict(zip(arrivals[own].tolist(), marks[own].tolist(), strict=True))
        self.whole_at = float(self._times[-1])
        self.whole = self.digest(self.whole_at)

    def digest(self, now: float) -> bytes:
        """Return the digest of what has come by now."""
        return int(self._sums[self._until(now)]).to_bytes(DIGEST_BYTES, sys.byteorder)

    def digest_at_tick(self, now: float) -> bytes:
        """Return the digest that a tick tells.

        A tick was set long before a frame that comes at the same instant was sent, so it is first;
        but a peer's own steps began before that.
        """
        before = int(self._sums[np.searchsorted(self._times, now, side="left")])
        own: int = self._own.get(now, 0)
        return ((before + own) % 2**64).to_bytes(DIGEST_BYTES, sys.byteorder)

    def next_after(self, now: float) -> float:
        """Return when the next entry comes."""
        at = self._until(now)
        return float(self._times[at]) if at < len(self._times) else inf

    def between(self, after: float, now: float) -> NDArray[np.intp]:
        """Return which entries come later than `after` and by now."""
        return self._order[self._until(after) : self._until(now)]

    def _until(self, now: float) -> int:
        return int(np.searchsorted(self._times, now, side="right"))


@dataclass(slots=True)
class _Peer:
    holding: _Holding
    over_at: float
    links: dict[int, Link]
    next_tick: float
    told: bytes = bytes(DIGEST_BYTES)
    ticks: tuple[float, float] = (-inf, -inf)
    settled_since: float | None = None
    gone: bool = False


class TimerModel:
    """The control messages of a sync run on static links that lose nothing.

    Args:
        protocol: the agreement of the run.
        entries: what it publishes.
        times: when that comes.
        neighbours: for each peer, whom it has links to.
        latencies: seconds that a frame takes, by directed link.
        curve: whether links are encrypted.

    Attributes:
        messages: how many of each kind are sent.
        total: their number, bytes and framing.
        ended_at: when the last peer leaves.
    """

    def __init__(
        self,
        protocol: Protocol,
        entries: Published,
        times: Timeline,
        neighbours: Mapping[int, Sequence[int]],
        latencies: Mapping[Edge, float],
        *,
        curve: bool,
    ) -> None:
        self.messages: Counter[str] = Counter()
        self.total = LinkCount()
        self.ended_at = 0.0
        self._tick, self._linger = protocol.tick, protocol.linger
        self._latencies, self._curve = latencies, curve
        self._origins = entries.origins.tolist()
        self._lengths = _lengths(entries, times)
        self._heap: list[tuple[float, int, _What, int, int, wire.Digest | None]] = []
        self._count = 0
        marks = np.random.Generator(np.random.Philox(0)).integers(
            2**64, size=len(self._origins), dtype=np.uint64
        )
        self._peers = [
            _Peer(
                _Holding(
                    times.arrivals[:, peer], entries.histories & (entries.origins == peer), marks
                ),
                float(times.starts[-1, peer]),
                {other: Link(open=True, digest=bytes(DIGEST_BYTES)) for other in neighbours[peer]},
                protocol.tick,
            )
            for peer in neighbours
        ]
        for me, peer in enumerate(self._peers):
            for answer in (False, True):
                hello = wire.Hello(me, protocol.digest, bytes(DIGEST_BYTES), answer, 0.0)
                for _ in peer.links:
                    self._send(hello)
            self._at(peer.next_tick, _What.TICK, me)
            self._at(peer.holding.whole_at, _What.WHOLE, me)
        self._run()

    def _run(self) -> None:
        while self._heap:
            now, _, what, me, other, digest = heapq.heappop(self._heap)
            peer = self._peers[me]
            if peer.gone:
                continue
            match what:
                case _What.TICK:
                    if now == peer.next_tick:
                        self._tell(me, peer, now, peer.holding.digest_at_tick(now))
                case _What.WHOLE:
                    # Said once, ahead of the tick: a complete log does not grow any more.
                    if peer.holding.digest(now) != peer.told:
                        self._tell(me, peer, now, peer.holding.digest(now))
                case _What.DIGEST:
                    assert digest is not None
                    self._hear(peer, peer.links[other], digest, now)
                    self._wake(me, peer, now)
                case _What.BYE:
                    peer.links[other].left = True
                case _What.LEAVE:
                    pass
            self._settle(me, peer, now)

    def _tell(self, me: int, peer: _Peer, now: float, digest: bytes) -> None:
        """Tell the neighbours the digest, and set the next tick; see `Reconciliation.tick`."""
        complete = digest == peer.holding.whole
        peer.told, peer.ticks = digest, (peer.ticks[1], now)
        message = wire.Digest(digest, complete)
        restless, last_told = now >= peer.over_at, now
        for other, link in peer.links.items():
            if link.left:
                continue
            restless |= link.digest != digest
            if link.digest_is_due(digest, complete, now, self._tick):
                self._send(message)
                self._at(now + self._latencies[me, other], _What.DIGEST, other, me, message)
            last_told = min(last_told, link.told_at)
        quiet = last_told + HEARTBEAT_TICKS * self._tick
        peer.next_tick = now + self._tick if restless else max(now + self._tick, quiet)
        # The next entry that comes wakes the peer, if that is earlier.
        peer.next_tick = min(peer.next_tick, peer.holding.next_after(now) + self._tick)
        self._at(peer.next_tick, _What.TICK, me)

    def _hear(self, peer: _Peer, link: Link, theirs: wire.Digest, now: float) -> None:
        """Take a neighbour's digest; answer with what is new if it is another one."""
        link.digest, link.complete = theirs.digest, theirs.complete
        digest = peer.holding.digest(now)
        if digest == theirs.digest or now < link.answered_at + self._tick:
            return
        news = peer.holding.between(peer.ticks[0], now).tolist()
        if news and link.announced != digest:
            link.announced, link.answered_at = digest, now
            grown: dict[int, int] = {}
            for place in news:
                origin = self._origins[place]
                grown[origin] = max(grown.get(origin, 0), self._lengths[place])
            self._send(wire.Announce(grown))

    def _wake(self, me: int, peer: _Peer, now: float) -> None:
        soon = now + self._tick
        if soon >= peer.next_tick:
            return
        digest = peer.holding.digest(now)
        if any(link.digest != digest for link in peer.links.values()):
            peer.next_tick = soon
            self._at(soon, _What.TICK, me)

    def _settle(self, me: int, peer: _Peer, now: float) -> None:
        """Leave when every neighbour that has not left holds the same whole log."""
        if now < peer.holding.whole_at:
            return
        digest = peer.holding.digest(now)
        if not all(link.left or link.agrees(digest) for link in peer.links.values()):
            return
        if peer.settled_since is None:
            peer.settled_since = now
            self._at(now + self._linger, _What.LEAVE, me)
        if now >= peer.settled_since + self._linger:
            peer.gone, self.ended_at = True, now
            for other, link in peer.links.items():
                if not link.left:
                    self._send(wire.Bye())
                    self._at(now + self._latencies[me, other], _What.BYE, other, me)

    def _at(
        self, time: float, what: _What, me: int, other: int = -1, digest: wire.Digest | None = None
    ) -> None:
        self._count += 1
        heapq.heappush(self._heap, (time, self._count, what, me, other, digest))

    def _send(self, message: wire.Message) -> None:
        frame = wire.encode(message)
        self.messages[wire.kind_of(frame)] += 1
        self.total.count(frame, framing_bytes(len(frame), curve=self._curve))


def _lengths(entries: Published, times: Timeline) -> list[int]:
    """Return how long its origin's log is with each entry."""
    lengths, logs = [0] * len(entries.origins), Counter[int]()
    for place in np.argsort(times.published, kind="stable").tolist():
        origin = int(entries.origins[place])
        logs[origin] += 1
        lengths[place] = logs[origin]
    return lengths
