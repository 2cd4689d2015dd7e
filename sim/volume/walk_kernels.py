"""How one entry spreads over a graph, link by link, compiled: 0.2 s at a million peers.

Both kernels count an entry on the N - 1 directed links by which peers get it first; these make a
tree. They take a graph as `topology.arrays.Links` holds it: starts (N + 1,) and ends (2E,).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeVar

import numba
import numpy as np
from numpy.typing import NDArray

from peer.trees import EAGER_CAP

_F = TypeVar("_F", bound=Callable[..., Any])

Starts = NDArray[np.int64]
Ends = NDArray[np.int32]
Counts = NDArray[np.int64]

_CAP: Final = EAGER_CAP
_NONE: Final = -1


def _kernel(function: _F) -> _F:
    """Have a function compiled when it is first called, in 2 seconds; others run beside it."""
    compiled: Any = numba.njit(nogil=True, error_model="numpy")(function)
    return compiled  # type: ignore[no-any-return]


@_kernel
def flood(
    starts: Starts, ends: Ends, origin: int, weights: Counts, firsts: Counts
) -> tuple[int, int]:
    """Flood one entry over links that are all alike.

    A peer that gets the entry sends it on at once, to its neighbours in ascending order, and frames
    that are under way equally long arrive in the order in which they were sent, as in the
    simulator: so it is a breadth-first search.

    Args:
        starts: of the graph.
        ends: of the graph.
        origin: where the entry begins.
        weights: shape (W,), what is counted for it.
        firsts: shape (2E, W): `weights` is added to each link by which somebody gets it first.

    Returns:
        The hops to the last peer, and the sum of the hops to each.
    """
    peers = len(starts) - 1
    reached = np.zeros(peers, dtype=np.uint8)
    queue = np.empty(peers, dtype=np.int32)
    reached[origin] = 1
    queue[0] = origin
    taken, found, level_end = 0, 1, 1
    depth, total = 0, 0
    while taken < found:
        if taken == level_end:
            depth += 1
            total += depth * (found - level_end)
            level_end = found
        peer = queue[taken]
        taken += 1
        for link in range(starts[peer], starts[peer + 1]):
            other = ends[link]
            if reached[other] == 0:
                reached[other] = 1
                queue[found] = other
                found += 1
                for which in range(len(weights)):
                    firsts[link, which] += weights[which]
    return depth, total


@_kernel
def _mix(origin: int, parent: int, child: int) -> int:
    """Return the number that decides between equal paths, as `peer.trees` does."""
    return (origin * 0x9E37 + parent * 0x85EB + child * 0xC2B3) % 0xFFFB


@_kernel
def _precedes(origin: int, child: int, parent: int, other: int) -> bool:
    """Tell whether a peer prefers one parent to another, both at the same depth."""
    mixed, than = _mix(origin, parent, child), _mix(origin, other, child)
    return mixed < than or (mixed == than and parent < other)


@_kernel
def _sort(origin: int, children: Ends, parent: Ends) -> None:
    """Sort peers by the number that decides between equal paths, then by their own, in place."""
    keys = np.empty(len(children), dtype=np.int64)
    for place in range(len(children)):
        child = children[place]
        keys[place] = (_mix(origin, parent[child], child) << 32) | child
    keys.sort()
    for place in range(len(children)):
        children[place] = keys[place] & 0xFFFFFFFF


@_kernel
def push(
    starts: Starts, ends: Ends, origin: int, weights: Counts, firsts: Counts
) -> tuple[int, int]:
    """Push one entry along its origin's first tree, all peers being there.

    The tree is that of `peer.trees.Trees` without latencies, which is written to be read; this
    finds the same one 30 times as fast. Level by level, each peer that waits takes the neighbour
    which comes first in the order of the mixed number, and a peer that is asked by more than it has
    room for takes the first of them in that order.

    Args:
        starts: of the graph.
        ends: of the graph.
        origin: where the entry begins.
        weights: shape (W,), what is counted for it.
        firsts: shape (2E, W): `weights` is added to each link of the tree, away from the origin.

    Returns:
        The hops to the last peer, and the sum of the hops to each.
    """
    peers = len(starts) - 1
    hops = np.full(peers, _NONE, dtype=np.int32)
    room = np.full(peers, _CAP, dtype=np.int32)
    asked = np.zeros(peers, dtype=np.int32)
    choice = np.full(peers, _NONE, dtype=np.int32)
    parent = np.empty(peers, dtype=np.int32)
    order = np.empty(peers, dtype=np.int32)
    hops[origin] = 0
    order[0] = origin
    found = 1
    first, last = 0, 1
    while found < peers:
        crowded = True
        while crowded:
            # Who waits beside the level makes its choice, and is noted behind those found.
            chosen = found
            for place in range(first, last):
                peer = order[place]
                if room[peer] == 0:
                    continue
                for link in range(starts[peer], starts[peer + 1]):
                    other = ends[link]
                    if hops[other] != _NONE:
                        continue
                    if choice[other] == _NONE:
                        order[chosen] = other
                        chosen += 1
                    elif not _precedes(origin, other, peer, parent[other]):
                        continue
                    choice[other] = link
                    parent[other] = peer
            crowded = False
            for place in range(found, chosen):
                peer = parent[order[place]]
                asked[peer] += 1
                crowded |= asked[peer] > room[peer]
            for place in range(found, chosen):
                asked[parent[order[place]]] = 0
            if crowded:
                _sort(origin, order[found:chosen], parent)
            begun = found
            for place in range(begun, chosen):
                other = order[place]
                peer = parent[other]
                if room[peer] == 0:
                    choice[other] = _NONE
                    continue
                room[peer] -= 1
                hops[other] = hops[peer] + 1
                for which in range(len(weights)):
                    firsts[choice[other], which] += weights[which]
                order[found] = other
                found += 1
        # The level that was found, or everybody once the cap has left somebody out.
        if found > last:
            first, last = last, found
        else:
            first, last = 0, found
            room[:] = peers
    return hops.max(), hops.astype(np.int64).sum()
