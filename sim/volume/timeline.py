"""When entries are published and when they come, on static links that lose nothing.

No message is sent for it: an entry takes the path that brings it first (flooding) or that of its
origin's tree, a round starts at a peer when the last entry of the round before has come, and its
local steps take their time. All times are in virtual seconds.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import inf

import numpy as np
from numpy.typing import NDArray

from peer.latency import Edge
from peer.protocol import Protocol
from sim.volume.frames import Published

Times = NDArray[np.float64]


@dataclass(frozen=True)
class Timeline:
    """The times of a whole run.

    Attributes:
        starts: when each peer starts each round, and closes its log; shape (rounds + 1, N).
        published: when each entry is; shape (M,), in the order of `Published`.
        arrivals: when each peer has each entry, its origin at once; shape (M, N).
    """

    starts: Times
    published: Times
    arrivals: Times

    def seconds_to_last(self) -> Times:
        """Return how long each entry takes to the last peer, shape (M,)."""
        times: Times = self.arrivals.max(axis=1) - self.published
        return times


def timeline(
    protocol: Protocol,
    entries: Published,
    neighbours: Mapping[int, Sequence[int]],
    latencies: Mapping[Edge, float],
    train_seconds: Sequence[float],
) -> Timeline:
    """Return the times of a sync run.

    Args:
        protocol: the agreement of the run, whose mode is `flood` or `tree`.
        entries: of the whole run.
        neighbours: for each peer, whom it has links to.
        latencies: seconds that a frame takes, by directed link.
        train_seconds: that each peer's local steps of a round take.
    """
    peers = len(neighbours)
    paths = _Paths(protocol, neighbours, latencies)
    training = np.array(train_seconds)
    starts = np.empty((protocol.rounds + 1, peers))
    # The first round begins when the greetings of all neighbours are there.
    starts[0] = [max(latencies[other, peer] for other in neighbours[peer]) for peer in range(peers)]
    published = np.empty(len(entries.origins))
    arrivals = np.empty((len(published), peers))
    for round_, at in enumerate(entries.by_round(protocol.rounds + 1)):
        origins, trained = entries.origins[at], entries.histories[at]
        published[at] = starts[round_, origins] + np.where(trained, training[origins], 0.0)
        for place, origin in enumerate(origins.tolist(), at.start):
            arrivals[place] = paths.arrivals(origin, round_, float(published[place]))
        if round_ < protocol.rounds:
            last = arrivals[at][trained].max(axis=0)
            starts[round_ + 1] = np.maximum(last, starts[round_])
    return Timeline(starts, published, arrivals)


class _Paths:
    """How entries travel: from whom each peer has those of an origin first."""

    def __init__(
        self,
        protocol: Protocol,
        neighbours: Mapping[int, Sequence[int]],
        latencies: Mapping[Edge, float],
    ) -> None:
        self._trees = protocol.trees if protocol.gossip == "tree" else None
        self._neighbours = neighbours
        self._latencies = latencies
        self._known: dict[int, list[tuple[int, int, float]]] = {}

    def arrivals(self, origin: int, round_: int, published: float) -> Times:
        """Return when each peer has an entry, shape (N,); infinite where no path leads."""
        if origin not in self._known:
            self._known[origin] = list(self._find(origin, round_))
        times = np.full(len(self._neighbours), inf)
        times[origin] = published
        # Link by link, as the simulator adds: other roundings would tell other times apart.
        for sender, receiver, latency in self._known[origin]:
            times[receiver] = times[sender] + latency
        return times

    def _find(self, origin: int, round_: int) -> Iterator[tuple[int, int, float]]:
        """Walk (sender, receiver, seconds), nearest first: shortest paths (Dijkstra)."""
        reached = {origin}
        heap = [(0.0, 0, origin, origin)]
        count = 0
        while heap:
            seconds, _, sender, peer = heapq.heappop(heap)
            if peer != origin:
                if peer in reached:
                    continue
                reached.add(peer)
                yield sender, peer, self._latencies[sender, peer]
            for other in self._next(origin, round_, peer):
                if other not in reached:
                    count += 1
                    longer = seconds + self._latencies[peer, other]
                    heapq.heappush(heap, (longer, count, peer, other))

    def _next(self, origin: int, round_: int, peer: int) -> Sequence[int]:
        if self._trees is None:
            return self._neighbours[peer]
        return self._trees.children(origin, round_, peer)
