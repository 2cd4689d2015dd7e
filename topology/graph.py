"""What a topology is: who is whose neighbour among peers 0 to N-1.

Everything that is known of one is checked here once, so whoever holds a `Topology` holds a simple,
connected graph of at least two peers.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import networkx as nx


class TopologyError(ValueError):
    """A graph that cannot be had, told in one line: what was given, and what is allowed."""


@dataclass(frozen=True)
class Topology:
    """A simple, connected, undirected graph of peers.

    Two are equal when all four fields are; neither the seed nor the file they came from is kept.

    Raises:
        TopologyError: fewer than two peers, a name that is empty, repeated or not printable, or a
            graph that is not connected.
        ValueError: edges that are not sorted pairs i < j of peers, each once.
    """

    name: str
    """A family's name, or that of the graph a file holds."""

    edges: tuple[tuple[int, int], ...]
    """The links, each once as (i, j) with i < j, in ascending order."""

    names: tuple[str, ...]
    """What each peer is called; peer i is names[i]. Their number is the number of peers."""

    notes: tuple[str, ...] = ()
    """One sentence for each thing that was changed to make the graph."""

    def __post_init__(self) -> None:
        peers = len(self.names)
        for name in (self.name, *self.names):
            if not (name and name.isprintable()):
                raise TopologyError(f"names are printable text, which {name!a} is not")
        if peers < 2:
            raise TopologyError(f"a topology needs at least 2 peers; {self.name} has {peers}")
        if len(set(self.names)) < peers:
            raise TopologyError(f"two peers of {self.name} have the same name")
        if not all(0 <= i < j < peers for i, j in self.edges):
            raise ValueError(f"edges are pairs (i, j) with 0 <= i < j < {peers}")
        if not all(a < b for a, b in pairwise(self.edges)):
            raise ValueError("edges are sorted, each once")
        self._check_connected()

    def _check_connected(self) -> None:
        components = [sorted(component) for component in nx.connected_components(self.graph)]
        if len(components) > 1:
            components.sort()
            a, b = (self.names[component[0]] for component in components[:2])
            raise TopologyError(
                f"{self.name} is not connected: it falls into {len(components)} components, "
                f"and no path joins {a} to {b}"
            )

    @property
    def nodes(self) -> range:
        """The peers, 0 to N-1."""
        return range(len(self.names))

    @cached_property
    def graph(self) -> nx.Graph:
        """The same as a networkx graph, nodes and edges in ascending order. Not to be changed."""
        graph = nx.Graph(name=self.name)
        graph.add_nodes_from(self.nodes)
        graph.add_edges_from(self.edges)
        return graph

    @property
    def adjacency(self) -> dict[int, tuple[int, ...]]:
        """The neighbours of every peer, by its number."""
        return dict(enumerate(self._adjacency))

    def neighbours(self, peer: int) -> tuple[int, ...]:
        """Return the neighbours of `peer`, 0 <= peer < N, in ascending order."""
        return self._adjacency[peer]

    @cached_property
    def _adjacency(self) -> tuple[tuple[int, ...], ...]:
        adjacency: list[list[int]] = [[] for _ in self.nodes]
        # Sorted edges bring every peer's lower neighbours first, then its higher ones, each in
        # ascending order.
        for i, j in self.edges:
            adjacency[j].append(i)
        for i, j in self.edges:
            adjacency[i].append(j)
        return tuple(map(tuple, adjacency))
