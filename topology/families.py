"""The families of graphs that can be asked for by name.

| family          | the graph                                              | `degree` is         |
| --------------- | ------------------------------------------------------ | ------------------- |
| ring            | a cycle                                                |                     |
| line            | a path                                                 |                     |
| star            | peer 0 in the middle, everyone else at it              |                     |
| complete        | everyone linked to everyone                            |                     |
| grid            | a mesh of rows x columns, numbered row by row          |                     |
| torus           | the same, with both ends of each row and column linked |                     |
| hypercube       | peers whose binary numbers differ in one bit           |                     |
| tree            | balanced binary: peer i has children 2i + 1 and 2i + 2 |                     |
| random-regular  | drawn at random among the graphs of one degree         | every peer's degree |
| erdos-renyi     | each pair linked with the same probability             | the expected degree |
| watts-strogatz  | a ring lattice, each link rewired with probability 0.1 | the lattice's, even |
| barabasi-albert | each new peer attaches to degree / 2 older ones        | twice that number   |
| exponential     | peer i linked to i + 2^k and i - 2^k, modulo N         |                     |

Two more, one-peer-exponential and random-matching, vary over time: see `topology.varying`.

The sides of grid and torus are the most square pair of factors of N, rows <= columns, both at
least 2. The exponential graph is the static one of Ying et al., "Exponential graph is provably
efficient for decentralized deep training" (NeurIPS 2021), taken as undirected.

The random families depend on the seed and on networkx's generators, so one seed may give another
graph under another release of networkx. Runs keep the graph itself, not only its seed.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from math import ceil, isqrt, log

import networkx as nx

from topology.graph import Topology, TopologyError
from topology.varying import VARYING, build_varying

TRIES = 100
"""How many graphs are drawn before a random family is said not to be connected."""

REWIRING = 0.1
"""The probability that watts-strogatz rewires a link: short paths, and still much clustering."""


def build(name: str, peers: int, *, degree: int = 4, seed: int = 0) -> Topology:
    """Return the graph of a family; the same arguments give the same graph.

    Args:
        name: one of `FAMILIES`.
        peers: the number of peers, at least 2.
        degree: see the table above; families that it says nothing for ignore it. One that does not
            suit the number of peers is changed, and a note says so.
        seed: where the random families start; the others ignore it.

    Raises:
        TopologyError: an unknown family, a number of peers or a degree that the family cannot
            have, or no connected graph in `TRIES` draws.
    """
    check(name, peers)
    if name in _FIXED:
        return _topology(name, _FIXED[name](peers))
    if name in VARYING:
        return build_varying(name, peers, seed)
    return _topology(name, *draw(name, peers, degree=degree, seed=seed))


def check(name: str, peers: int) -> None:
    """Refuse what no graph can be built of.

    Raises:
        TopologyError: an unknown family, or fewer than two peers.
    """
    if name not in FAMILIES:
        raise TopologyError(f"no family is called {name!r}; there are {', '.join(FAMILIES)}")
    if peers < 2:
        raise TopologyError(f"a topology needs at least 2 peers; {peers} given")


def draw(name: str, peers: int, *, degree: int, seed: int) -> tuple[nx.Graph, tuple[str, ...]]:
    """Return the graph that `build` draws of a random family, and its notes.

    Raises:
        TopologyError: as for `build`.
    """
    fitted, notes = fit_degree(name, peers, degree)
    for attempt in range(TRIES):
        graph = _RANDOM[name][1](peers, fitted, random.Random(f"{seed}/{attempt}"))
        if nx.is_connected(graph):
            return graph, notes
    raise not_connected(name, peers, fitted)


def fit_degree(name: str, peers: int, degree: int) -> tuple[int, tuple[str, ...]]:
    """Return the degree that a random family takes instead of this one, and a note if it differs.

    Raises:
        TopologyError: a degree that the family cannot have.
    """
    if degree < 1:
        raise TopologyError(f"a degree is at least 1; {degree} given")
    return _RANDOM[name][0](name, peers, degree)


def not_connected(name: str, peers: int, degree: int) -> TopologyError:
    """Return what to say when no draw was connected."""
    return TopologyError(
        f"none of {TRIES} {name} graphs of {peers} peers with degree {degree} was connected; "
        f"try a degree of {max(degree + 1, ceil(log(peers)))} or more"
    )


def _topology(name: str, graph: nx.Graph, notes: tuple[str, ...] = ()) -> Topology:
    edges = sorted((min(edge), max(edge)) for edge in graph.edges)
    names = tuple(str(peer) for peer in range(graph.number_of_nodes()))
    return Topology(name, tuple(edges), names, notes)


def sides(peers: int) -> tuple[int, int] | None:
    """Return (rows, columns) of the most square mesh, 2 <= rows <= columns, or None."""
    for rows in range(isqrt(peers), 1, -1):
        if peers % rows == 0:
            return rows, peers // rows
    return None


def _star(peers: int) -> nx.Graph:
    return nx.star_graph(peers - 1)


def mesh_sides(name: str, peers: int) -> tuple[int, int]:
    """Return (rows, columns) of a grid or torus.

    Raises:
        TopologyError: there is none of so many peers.
    """
    shape = sides(peers)
    if shape is None:
        near = [count for count in (peers - 1, peers + 1, peers + 2) if sides(count)][:2]
        raise TopologyError(
            f"a {name} needs rows x columns peers with both at least 2, which {peers} is not; "
            f"{' and '.join(map(str, near))} would do"
        )
    return shape


def _mesh(peers: int, *, name: str, wrap: bool) -> nx.Graph:
    return _numbered(nx.grid_2d_graph(*mesh_sides(name, peers), periodic=wrap))


def hypercube_dimension(peers: int) -> int:
    """Return log2 of the number of peers.

    Raises:
        TopologyError: it is no whole number.
    """
    dimension = peers.bit_length() - 1
    if peers != 2**dimension:
        raise TopologyError(
            f"a hypercube needs a power of two peers, which {peers} is not; "
            f"{2**dimension} and {2 ** (dimension + 1)} would do"
        )
    return dimension


def _hypercube(peers: int) -> nx.Graph:
    return _numbered(nx.hypercube_graph(hypercube_dimension(peers)))


def _numbered(graph: nx.Graph) -> nx.Graph:
    return nx.convert_node_labels_to_integers(graph, ordering="sorted")


def _tree(peers: int) -> nx.Graph:
    return nx.full_rary_tree(2, peers)


def _exponential(peers: int) -> nx.Graph:
    return nx.circulant_graph(peers, [2**k for k in range((peers - 1).bit_length())])


def _any_degree(_name: str, peers: int, degree: int) -> tuple[int, tuple[str, ...]]:
    if degree < peers:
        return degree, ()
    return peers - 1, (
        f"The degree was lowered from {degree} to {peers - 1}, the most that {peers} peers allow.",
    )


def _regular_degree(name: str, peers: int, degree: int) -> tuple[int, tuple[str, ...]]:
    fitted, notes = _any_degree(name, peers, degree)
    _refuse_pairs(name, peers, fitted)
    if fitted * peers % 2 == 0:
        return fitted, notes
    # Upwards: it is always possible (N - 1 is even here), and degree 3 cut to 2 would be rings.
    return fitted + 1, (
        f"The degree was raised from {degree} to {fitted + 1}, because an odd degree needs "
        f"an even number of peers and {peers} is odd.",
    )


def _even_degree(name: str, peers: int, degree: int) -> tuple[int, tuple[str, ...]]:
    fitted, notes = _any_degree(name, peers, degree)
    _refuse_pairs(name, peers, fitted)
    if fitted % 2 == 0 or peers == 2:
        return fitted, notes
    return fitted - 1, (
        f"The degree was lowered from {degree} to {fitted - 1}, because {name} takes "
        f"an even degree of at most {peers - 1}.",
    )


def _refuse_pairs(name: str, peers: int, degree: int) -> None:
    if degree < 2 < peers:
        raise TopologyError(f"{name} with {peers} peers needs a degree of at least 2; 1 given")


def _random_regular(peers: int, degree: int, rng: random.Random) -> nx.Graph:
    rest = peers - 1 - degree
    if rest < degree:
        # Drawing a dense graph can take minutes; its complement is as random and is drawn at once.
        return nx.complement(nx.random_regular_graph(rest, peers, seed=rng))
    return nx.random_regular_graph(degree, peers, seed=rng)


def _erdos_renyi(peers: int, degree: int, rng: random.Random) -> nx.Graph:
    return nx.fast_gnp_random_graph(peers, degree / (peers - 1), seed=rng)


# Two peers have one graph only, at degree 1; the generators below must still be given even degrees.


def _watts_strogatz(peers: int, degree: int, rng: random.Random) -> nx.Graph:
    return nx.watts_strogatz_graph(peers, max(degree, 2), REWIRING, seed=rng)


def _barabasi_albert(peers: int, degree: int, rng: random.Random) -> nx.Graph:
    return nx.barabasi_albert_graph(peers, max(degree // 2, 1), seed=rng)


_FIXED: dict[str, Callable[[int], nx.Graph]] = {
    "ring": nx.cycle_graph,
    "line": nx.path_graph,
    "star": _star,
    "complete": nx.complete_graph,
    "grid": lambda peers: _mesh(peers, name="grid", wrap=False),
    "torus": lambda peers: _mesh(peers, name="torus", wrap=True),
    "hypercube": _hypercube,
    "tree": _tree,
    "exponential": _exponential,
}

_Fit = Callable[[str, int, int], tuple[int, tuple[str, ...]]]
_Draw = Callable[[int, int, random.Random], nx.Graph]
_RANDOM: dict[str, tuple[_Fit, _Draw]] = {
    "random-regular": (_regular_degree, _random_regular),
    "erdos-renyi": (_any_degree, _erdos_renyi),
    "watts-strogatz": (_even_degree, _watts_strogatz),
    "barabasi-albert": (_even_degree, _barabasi_albert),
}

FAMILIES: tuple[str, ...] = (*_FIXED, *_RANDOM, *VARYING)
"""The names that `build` takes."""
