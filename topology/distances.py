"""How far apart peers are, in hops, for all pairs at once.

One breadth-first search per peer would take minutes of Python at a few thousand peers. Here 64
searches share a word: bit b of a row says whether source b has reached that row's peer, and one
step of all the searches is a bitwise OR over neighbours.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from topology.graph import Topology

_BLOCK = 4096
"""Searches taken together: rows of 512 bytes, so that thousands of peers stay in the cache."""

_BITS_SET = np.array([word.bit_count() for word in range(1 << 16)], dtype=np.uint8)


def hop_counts(topology: Topology) -> NDArray[np.int64]:
    """Return how many ordered pairs of distinct peers are 1, 2, ... hops apart.

    Returns:
        Shape (diameter,): entry h - 1 counts the pairs at a distance of h hops; all entries are
        positive and their sum is N (N - 1).
    """
    steps = _neighbour_slots(topology)
    blocks = [
        _reached(topology, steps, sources)
        for sources in np.array_split(
            np.arange(len(topology.nodes)), -(-len(topology.nodes) // _BLOCK)
        )
    ]
    counts = np.zeros(max(map(len, blocks)), dtype=np.int64)
    for block in blocks:
        counts[: len(block)] += block
    return counts


def _neighbour_slots(topology: Topology) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Return for k = 0, 1, ... the peers that have a neighbour k, and that neighbour of each.

    Whole rows of bits are then combined by one indexed OR for each k.
    """
    degrees = np.array([len(topology.neighbours(peer)) for peer in topology.nodes])
    slots = []
    for k in range(degrees.max()):
        peers = np.flatnonzero(degrees > k)
        neighbours = np.array([topology.neighbours(peer)[k] for peer in peers.tolist()])
        slots.append((peers, neighbours))
    return slots


def _reached(
    topology: Topology,
    slots: list[tuple[NDArray[np.int64], NDArray[np.int64]]],
    sources: NDArray[np.int64],
) -> NDArray[np.int64]:
    """Return how many (source, peer) pairs are first reached at hop 1, 2, ..."""
    reach = np.zeros((len(topology.nodes), -(-len(sources) // 64)), dtype=np.uint64)
    bits = np.arange(len(sources))
    reach[sources, bits // 64] = np.uint64(1) << (bits % 64).astype(np.uint64)
    totals = [len(sources)]
    while totals[-1] < len(sources) * len(topology.nodes):
        before = reach.copy()
        for peers, neighbours in slots:
            if len(peers) == len(reach):
                reach |= before[neighbours]
            else:
                reach[peers] |= before[neighbours]
        totals.append(int(_BITS_SET[reach.view(np.uint16)].sum(dtype=np.int64)))
    return np.diff(totals)
