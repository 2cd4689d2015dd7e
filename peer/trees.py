"""The first spanning tree of each origin, which everybody computes alike from the known graph.

It is the tree of shortest paths from the origin, by the expected latencies of the links where they
are known and by their number where not, so an entry pushed along it arrives when flooding would
have brought it. No peer gets more than `EAGER_CAP` children as long as others can take them: a
star's hub has no choice, but in a complete graph one peer would have to upload everybody's copy.
"""

from __future__ import annotations

import heapq
from array import array
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Final

from peer.roster import Roster

EAGER_CAP: Final = 8
"""Children that a peer has at most in an origin's tree, if the graph allows it."""

_NOBODY: Final = 2**32 - 1
_TREES_KEPT: Final = 2**12

Latency = Callable[[int, int], float]
"""The seconds that a frame is expected to take over a link (one end, other end)."""


class Trees:
    """The trees of all origins over one graph.

    Args:
        neighbours: for each peer, whom it has links to.
        roster: says who is there in which round.
        latency: of each link; None: all alike.
    """

    def __init__(
        self,
        neighbours: Mapping[int, Sequence[int]],
        roster: Roster,
        latency: Latency | None = None,
    ) -> None:
        self._neighbours = neighbours
        self._roster = roster
        self._latency = latency or (lambda _a, _b: 1.0)
        self._changes = roster.changes()
        self._parents = lru_cache(_TREES_KEPT)(self._find_parents)

    def children(self, origin: int, round_: int, peer: int) -> list[int]:
        """Return whom a peer pushes an origin's entries of a round to."""
        epoch = bisect_right(self._changes, round_) if self._changes else 0
        parents = self._parents(origin, epoch)
        return [other for other in self._neighbours[peer] if parents[other] == peer]

    def _find_parents(self, origin: int, epoch: int) -> array[int]:
        """Return each peer's parent in the tree of an origin, `_NOBODY` for who has none."""
        since = self._changes[epoch - 1] if epoch else 0
        present = {*self._roster.members(since), origin}
        parents = array("L", [_NOBODY]) * len(self._neighbours)
        children: dict[int, int] = {}
        reached = {origin: 0.0}
        heap: list[tuple[float, int, int, int]] = []

        def offer(parent: int) -> None:
            for child in self._neighbours[parent]:
                if child in present and child not in reached:
                    length = reached[parent] + self._latency(parent, child)
                    heapq.heappush(heap, (length, _mix(origin, parent, child), parent, child))

        def grow(cap: int) -> None:
            while heap:
                length, _, parent, child = heapq.heappop(heap)
                if child in reached or children.get(parent, 0) >= cap:
                    continue
                reached[child] = length
                parents[child] = parent
                children[parent] = children.get(parent, 0) + 1
                offer(child)

        offer(origin)
        grow(EAGER_CAP)
        if len(reached) < len(present):
            for peer in list(reached):
                offer(peer)
            grow(len(present))
        return parents


def _mix(origin: int, parent: int, child: int) -> int:
    """Return a number that decides between equal paths, so that not all trees prefer one peer."""
    return (origin * 0x9E3779B1 + parent * 0x85EBCA6B + child * 0xC2B2AE35) % 0xFFFFFFFB
