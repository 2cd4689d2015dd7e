"""What a round would take as a sum up and down one spanning tree: a cost model, and no more.

The protocol sends histories, one copy for every peer (`histories_bytes`). Instead the peers could
add up: each sends its parent the sums of the seeds that its subtree has drawn, and when the root
has them all, the sums of the whole round go down again. Beyond the leaves that saves bytes as soon
as the same seeds come again and again.

This is not built, for a sum is not idempotent: what comes twice counts twice, and what a broken
branch has lost nobody can tell. If it is ever offered, each epoch must be numbered by the exact set
of its contributors, taken whole or not at all, and histories must be there to fall back to.

The formula. Of n draws from K seeds, all alike, a seed is missed by each with probability 1 - 1/K,
so E(n) = K (1 - (1 - 1/K)^n) different ones are expected. A message holds each as its index and
the 8 bytes of its sum, or, where that is shorter, all K sums in a row: with indices of 2 bytes

    M(n) = min(10 E(n), 8 K).

The link above a peer whose subtree has drawn n_v carries M(n_v) up, and every link of the tree
carries M(n) down, n being the draws of all:

    bytes = sum over all v but the root of M(n_v)  +  (N - 1) M(n).

Headers and framing are left out, as they are for histories. M takes the minimum after the mean, so
where sparse and dense are about as long it is a little too high; `simulated_sums_bytes` does not.

Which of the shortest paths a tree takes is free. For 100 peers on a torus, K = 4096 and tau = 1,
20, 50, 200, trees of shortest paths give 0.10, 1.66, 3.08 to 3.09 and 3.95 to 4.03 MB; the one of
`breadth_first` gives 0.10, 1.66, 3.09 and 3.97, which were the figures of the prototype too.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from peer.entry import index_type
from peer.roster import Roster
from peer.trees import Trees
from topology import Topology
from topology.arrays import Links

SUM_BYTES: Final = 8
"""A sum on the wire: int64, for sums have up to 52 bits."""

_NOBODY: Final = -1
_HALVINGS: Final = 60


@dataclass(frozen=True)
class SumTree:
    """A rooted spanning tree of N peers.

    Attributes:
        order: all peers, each after its parent; the root is the first.
        parents: of each peer, by its number; -1 for the root.
    """

    order: Sequence[int]
    parents: Sequence[int]

    def height(self) -> int:
        """Return the links between the root and the peer that is furthest from it."""
        depths = [0] * len(self.parents)
        for peer in self.order[1:]:
            depths[peer] = depths[self.parents[peer]] + 1
        return max(depths)

    def below(self, values: Sequence[float] | NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the sum of each subtree's values, without the root's.

        Args:
            values: of each peer, shape (N,).

        Returns:
            Shape (N - 1,), one for each link of the tree, in the order of `order`.
        """
        sums = list(values)
        for peer in reversed(self.order[1:]):
            sums[self.parents[peer]] += sums[peer]
        return np.array([sums[peer] for peer in self.order[1:]], dtype=np.float64)


@dataclass(frozen=True)
class SumsBytes:
    """Bytes of a round, all links together."""

    up: float
    down: float

    @property
    def total(self) -> float:
        """Both."""
        return self.up + self.down


def breadth_first(links: Links, root: int = 0) -> SumTree:
    """Return a tree of shortest paths; whoever is reached takes its neighbours from the last on."""
    parents = [_NOBODY] * links.peers
    parents[root] = root
    order = [root]
    for peer in order:
        for other in links.neighbours(peer)[::-1].tolist():
            if parents[other] == _NOBODY:
                parents[other] = peer
                order.append(other)
    parents[root] = _NOBODY
    return SumTree(order, parents)


def push_tree(graph: Topology, origin: int) -> SumTree:
    """Return the tree along which the entries of an origin are pushed; see `peer.trees`."""
    peers = len(graph.nodes)
    neighbours = {peer: graph.neighbours(peer) for peer in graph.nodes}
    trees = Trees(neighbours, Roster((1,) * peers, 1.0, 0))
    parents = [_NOBODY] * peers
    order = [origin]
    for peer in order:
        children = trees.children(origin, 0, peer)
        order.extend(children)
        for child in children:
            parents[child] = peer
    return SumTree(order, parents)


def histories_bytes(peers: int, local_steps: float, step_bytes: int) -> float:
    """Return the bytes of a round's histories: from every peer to each other one, one copy.

    Args:
        peers: N, all of them active.
        local_steps: tau.
        step_bytes: of a scalar gradient, and of its seed index if that travels.
    """
    return peers * (peers - 1) * local_steps * step_bytes


def index_bytes(candidates: int) -> int:
    """Return the bytes of a seed index on the wire, K being the number of candidate seeds."""
    return index_type(candidates).itemsize


def expected_distinct(draws: NDArray[np.float64], candidates: int) -> NDArray[np.float64]:
    """Return how many different seeds so many draws give on average: K (1 - (1 - 1/K)^n)."""
    return np.asarray(candidates * (1.0 - (1.0 - 1.0 / candidates) ** draws))


def message_bytes(distinct: NDArray[np.float64], candidates: int) -> NDArray[np.float64]:
    """Return the bytes of the sums of so many different seeds, sparse or dense."""
    sparse = (index_bytes(candidates) + SUM_BYTES) * distinct
    return np.asarray(np.minimum(sparse, SUM_BYTES * candidates))


def sums_bytes(tree: SumTree, local_steps: float, candidates: int) -> SumsBytes:
    """Return the expected bytes of a round in which every peer draws tau seeds."""
    peers = len(tree.parents)
    return sums_bytes_of_draws(
        tree.below([1.0] * peers) * local_steps, peers * local_steps, candidates
    )


def sums_bytes_of_draws(below: NDArray[np.float64], all_draws: float, candidates: int) -> SumsBytes:
    """Return the expected bytes of a round, given who has drawn how often.

    Args:
        below: draws of the subtree below each link, shape (N - 1,); see `SumTree.below`.
        all_draws: of all peers.
        candidates: K.
    """
    up = message_bytes(expected_distinct(below, candidates), candidates)
    down = message_bytes(expected_distinct(np.array([all_draws]), candidates), candidates)
    return SumsBytes(float(up.sum()), len(below) * float(down[0]))


def simulated_sums_bytes(
    tree: SumTree, drawn: Iterable[NDArray[np.int64]], candidates: int
) -> SumsBytes:
    """Return the bytes of one round whose draws are known, counted seed by seed.

    Args:
        tree: along which it goes.
        drawn: for each peer from 0 on, the seed indices of its steps.
        candidates: K. N K bytes of memory are taken.
    """
    seen = np.zeros((len(tree.parents), candidates), dtype=bool)
    for peer, indices in enumerate(drawn):
        seen[peer, indices] = True
    for peer in reversed(tree.order[1:]):
        seen[tree.parents[peer]] |= seen[peer]
    distinct = seen.sum(axis=1)[list(tree.order)].astype(np.float64)
    lengths = message_bytes(distinct, candidates)
    return SumsBytes(float(lengths[1:].sum()), (len(distinct) - 1) * float(lengths[0]))


def break_even(tree: SumTree, step_bytes: int, candidates: int) -> float:
    """Return the tau, not a whole number, at which histories and sums take as many bytes.

    There is exactly one. Sums are a concave function of tau that begins at 0 and is bounded;
    histories are a straight line, which begins less steeply, since a step takes at most 8 bytes
    and a seed's sum with its index at least 10.
    """
    peers = len(tree.parents)
    below = tree.below([1.0] * peers)
    # Not even dense messages both ways are longer.
    low, high = 0.0, 2.0 * SUM_BYTES * candidates / (peers * step_bytes)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        sums = sums_bytes_of_draws(below * middle, peers * middle, candidates).total
        if sums > histories_bytes(peers, middle, step_bytes):
            low = middle
        else:
            high = middle
    return high
