"""The links of large graphs as two arrays: a million peers in tens of megabytes and a second.

A `Topology` keeps a Python object for every link, which at a million peers takes longer to make
than most questions about the graph take to answer. `Links` is the same graph as a compressed
adjacency (CSR):

>>> links = build_links("line", 3)
>>> links.starts.tolist(), links.ends.tolist()
([0, 1, 3, 4], [1, 0, 2, 1])
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import networkx as nx
import numpy as np
from numpy.typing import NDArray

from topology.counts import count_links
from topology.drawn import distinct, draw_pairs
from topology.families import check, draw, hypercube_dimension, mesh_sides
from topology.graph import Topology, TopologyError
from topology.varying import VARYING, Varying

MOST_LINKS = 2**26
"""The most links, both directions counted: some 3 GB with all that is counted on each."""

SAME_DRAW = 2**18
"""Up to so many peers random-regular and erdos-renyi are the very graphs that `build` draws."""

_REDRAWN = ("random-regular", "erdos-renyi")

Pairs = tuple[NDArray[np.int64], NDArray[np.int64]]
"""One end of every link, and the other; a link may come twice, and either way round."""


@dataclass(frozen=True, eq=False)
class Links:
    """A simple, connected, undirected graph of peers 0 to N - 1, as arrays.

    Attributes:
        name: a family's name, or that of the graph a file holds.
        starts: shape (N + 1,): peer i's links are those from starts[i] up to starts[i + 1].
        ends: shape (2E,): each peer's neighbours, in ascending order.
        notes: one sentence for each thing that was changed to make the graph.
    """

    name: str
    starts: NDArray[np.int64]
    ends: NDArray[np.int32]
    notes: tuple[str, ...] = ()

    @property
    def peers(self) -> int:
        """N."""
        return len(self.starts) - 1

    @property
    def count(self) -> int:
        """E: how many links there are, each counted once."""
        return len(self.ends) // 2

    @property
    def degrees(self) -> NDArray[np.int64]:
        """How many neighbours each peer has, shape (N,)."""
        return np.diff(self.starts)

    def neighbours(self, peer: int) -> NDArray[np.int32]:
        """Return the neighbours of a peer, 0 <= peer < N, in ascending order."""
        return self.ends[self.starts[peer] : self.starts[peer + 1]]

    def senders(self) -> NDArray[np.int32]:
        """Return where each entry of `ends` is reached from, shape (2E,)."""
        return np.repeat(np.arange(self.peers, dtype=np.int32), self.degrees)


def links_of(topology: Topology) -> Links:
    """Return the links of a graph.

    Raises:
        TopologyError: it varies over time.
    """
    if isinstance(topology, Varying):
        raise _varies(topology.name)
    pairs = np.array(topology.edges, dtype=np.int64).reshape(-1, 2)
    return _links(topology.name, len(topology.nodes), (pairs[:, 0], pairs[:, 1]), topology.notes)


def build_links(name: str, peers: int, *, degree: int = 4, seed: int = 0) -> Links:
    """Return the links of a family's graph; the same arguments give the same graph.

    It is the graph that `topology.build` returns, except that random-regular and erdos-renyi of
    more than `SAME_DRAW` peers are drawn from the same distribution by other means (see
    `topology.drawn`), and a note says so.

    Args:
        name: a family that does not vary over time.
        peers: the number of peers, at least 2.
        degree: as for `build`.
        seed: as for `build`.

    Raises:
        TopologyError: as for `build`, or more than `MOST_LINKS` links.
    """
    check(name, peers)
    if name in VARYING:
        raise _varies(name)
    directed = 2 * count_links(name, peers, degree=degree)
    if directed > MOST_LINKS:
        raise TopologyError(
            f"{name} of {peers:,} peers has {directed:,} links, both directions counted; "
            f"there is room for {MOST_LINKS:,}"
        )
    if name in _PAIRS:
        return _links(name, peers, _PAIRS[name](peers))
    if name in _REDRAWN and peers > SAME_DRAW:
        pairs, notes = draw_pairs(name, peers, degree=degree, seed=seed)
        return _links(name, peers, pairs, notes)
    graph, notes = draw(name, peers, degree=degree, seed=seed)
    return _links(name, peers, _pairs_of(graph), notes)


def _links(name: str, peers: int, pairs: Pairs, notes: tuple[str, ...] = ()) -> Links:
    """Return the compressed adjacency of links that may be given more than once."""
    a, b = pairs
    # Sorted numbers a N + b are links sorted by sender and then by receiver.
    keys = distinct(np.concatenate([a * peers + b, b * peers + a]))
    starts = np.searchsorted(keys, np.arange(peers + 1, dtype=np.int64) * peers)
    return Links(name, starts, (keys % peers).astype(np.int32), notes)


def _pairs_of(graph: nx.Graph) -> Pairs:
    ends = (end for edge in graph.edges for end in edge)
    both = np.fromiter(ends, np.int64, 2 * graph.number_of_edges())
    return both[0::2], both[1::2]


def _varies(name: str) -> TopologyError:
    return TopologyError(f"{name} varies over time; arrays hold graphs that stay as they are")


def _ring(peers: int) -> Pairs:
    here = np.arange(peers)
    return here, (here + 1) % peers


def _line(peers: int) -> Pairs:
    return np.arange(peers - 1), np.arange(1, peers)


def _star(peers: int) -> Pairs:
    return np.zeros(peers - 1, dtype=np.int64), np.arange(1, peers)


def _complete(peers: int) -> Pairs:
    a, b = np.triu_indices(peers, 1)
    return a, b


def _tree(peers: int) -> Pairs:
    children = np.arange(1, peers)
    return (children - 1) // 2, children


def _mesh(name: str, peers: int) -> Pairs:
    places = np.arange(peers).reshape(mesh_sides(name, peers))
    pairs = []
    for axis in (0, 1):
        after = np.roll(places, -1, axis)
        # The last of each row and column has no next one in a grid.
        kept = slice(None) if name == "torus" else slice(-1)
        where = (kept, slice(None)) if axis == 0 else (slice(None), kept)
        pairs.append((places[where].ravel(), after[where].ravel()))
    return _together(pairs)


def _hypercube(peers: int) -> Pairs:
    here = np.arange(peers)
    return _together([(here, here ^ (1 << bit)) for bit in range(hypercube_dimension(peers))])


def _exponential(peers: int) -> Pairs:
    here = np.arange(peers)
    distances = [2**k for k in range((peers - 1).bit_length())]
    return _together([(here, (here + distance) % peers) for distance in distances])


def _together(pairs: list[Pairs]) -> Pairs:
    return np.concatenate([a for a, _ in pairs]), np.concatenate([b for _, b in pairs])


_PAIRS: dict[str, Callable[[int], Pairs]] = {
    "ring": _ring,
    "line": _line,
    "star": _star,
    "complete": _complete,
    "grid": lambda peers: _mesh("grid", peers),
    "torus": lambda peers: _mesh("torus", peers),
    "hypercube": _hypercube,
    "tree": _tree,
    "exponential": _exponential,
}
"""The links of the families that index arithmetic gives, equal to those of `build`."""
