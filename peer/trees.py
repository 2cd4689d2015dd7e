"""The first spanning tree of each origin, which everybody computes alike from the known graph.

It is the tree of shortest paths from the origin, by the expected latencies of the links where they
are known and by their number where not, so an entry pushed along it arrives when flooding would
have brought it. No peer gets more than `EAGER_CAP` children as long as others can take them: a
star's hub has no choice, but in a complete graph one peer would have to upload everybody's copy.
"""

from __future__ import annotations

import heapq
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from peer.roster import Roster

EAGER_CAP: Final = 8
"""Children that a peer has at most in an origin's tree, if the graph allows it."""

_NOBODY: Final = -1
_TREES_KEPT: Final = 2**9

Latency = Callable[[int, int], float]
"""The seconds that a frame is expected to take over a link (one end, other end)."""

Peers = NDArray[np.int32]
_T = TypeVar("_T", int, NDArray[np.intp])


class Trees:
    """The trees of all origins over one graph.

    Args:
        neighbours: for each peer from 0 on, whom it has links to.
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
        self._latency = latency
        self._changes = roster.changes()
        self._tree = lru_cache(_TREES_KEPT)(self._find_tree)
        self._peers = list(range(len(neighbours) + 1))
        degrees = [len(neighbours[peer]) for peer in range(len(neighbours))]
        self._starts = np.concatenate([[0], np.cumsum(degrees)])
        ends = [other for peer in range(len(neighbours)) for other in neighbours[peer]]
        self._ends = np.array(ends, dtype=np.int32)

    def children(self, origin: int, round_: int, peer: int) -> list[int]:
        """Return whom a peer pushes an origin's entries of a round to, in ascending order."""
        epoch = bisect_right(self._changes, round_) if self._changes else 0
        order, starts = self._tree(origin, epoch)
        return order[starts[peer] : starts[peer + 1]]

    def _find_tree(self, origin: int, epoch: int) -> tuple[list[int], list[int]]:
        """Return all peers but the origin by their parents, and where each one's children begin."""
        since = self._changes[epoch - 1] if epoch else 0
        present = np.zeros(len(self._neighbours), dtype=bool)
        present[list(self._roster.members(since))] = True
        present[origin] = True
        find = self._by_links if self._latency is None else self._by_latency
        parents = find(origin, present)
        order = np.argsort(parents, kind="stable")
        starts = np.searchsorted(parents[order], np.arange(len(parents) + 1))
        # Lists are the quickest to slice; their numbers are shared by all trees.
        return [self._peers[at] for at in order], [self._peers[at] for at in starts]

    def _by_links(self, origin: int, present: NDArray[np.bool_]) -> Peers:
        """Return each peer's parent, all links being alike: level by level."""
        parents = np.full(len(present), _NOBODY, dtype=np.int32)
        room = np.full(len(present), EAGER_CAP)
        waiting = present.copy()
        waiting[origin] = False
        level = np.array([origin])
        capped = True
        while waiting.any():
            found = [self._adopt(origin, level, waiting, room, parents)]
            while len(found[-1]):
                # Whoever found its first choice full takes the next one.
                found.append(self._adopt(origin, level, waiting, room, parents))
            level = np.concatenate(found)
            if not len(level):
                if not capped:
                    # Who waits still cannot be reached by those who are there.
                    break
                # The cap may leave somebody out: from here on everybody takes whom it can.
                capped = False
                level = np.flatnonzero(present & ~waiting)
                room[:] = len(present)
        return parents

    def _adopt(
        self,
        origin: int,
        level: NDArray[np.intp],
        waiting: NDArray[np.bool_],
        room: NDArray[np.int64],
        parents: Peers,
    ) -> NDArray[np.intp]:
        """Let peers of a level take children from those that wait, and return these."""
        level = level[room[level] > 0]
        counts = self._starts[level + 1] - self._starts[level]
        firsts = np.repeat(self._starts[level] - np.cumsum(counts) + counts, counts)
        children = self._ends[firsts + np.arange(len(firsts))].astype(np.intp)
        offers = np.repeat(level, counts)
        offers, children = offers[waiting[children]], children[waiting[children]]
        choice = np.lexsort((offers, preference(origin, offers, children)))
        _, first = np.unique(children[choice], return_index=True)
        chosen = choice[np.sort(first)]
        offers, children = offers[chosen], children[chosen]
        by_parent = np.argsort(offers, kind="stable")
        offers, children = offers[by_parent], children[by_parent]
        rank = np.arange(len(offers)) - np.searchsorted(offers, offers)
        taken = rank < room[offers]
        offers, children = offers[taken], children[taken]
        parents[children] = offers
        waiting[children] = False
        np.subtract.at(room, offers, 1)
        return children

    def _by_latency(self, origin: int, present: NDArray[np.bool_]) -> Peers:
        """Return each peer's parent on the quickest path (Dijkstra)."""
        assert self._latency is not None
        parents = np.full(len(present), _NOBODY, dtype=np.int32)
        children: dict[int, int] = {}
        reached = {origin: 0.0}
        heap: list[tuple[float, int, int, int]] = []

        def offer(parent: int) -> None:
            assert self._latency is not None
            for child in self._neighbours[parent]:
                if present[child] and child not in reached:
                    length = reached[parent] + self._latency(parent, child)
                    heapq.heappush(heap, (length, preference(origin, parent, child), parent, child))

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
        for peer in list(reached):
            offer(peer)
        grow(len(present))
        return parents


def preference(origin: int, parent: _T, child: _T) -> _T:
    """Return a number that decides between equal paths, so that not all trees prefer one peer."""
    return (origin * 0x9E37 + parent * 0x85EB + child * 0xC2B3) % 0xFFFB
