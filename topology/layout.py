"""Where to put peers on paper, so that a picture shows what kind of graph it is."""

from __future__ import annotations

from collections.abc import Callable
from math import ceil, sqrt

import networkx as nx
import numpy as np
from numpy.typing import NDArray

from topology.families import build, sides
from topology.graph import Topology, TopologyError

Points = NDArray[np.float64]

STRESS_LIMIT = 400
"""The most peers that are placed by their distances; beyond, a graph without a layout of its own
goes on a circle, since its picture would show little but its density anyway."""

_STRESS_STEPS = 200


def positions(topology: Topology) -> Points:
    """Return a place for every peer, the same for the same graph.

    The layout is that of the family whose name the topology bears, provided that it has that
    family's links. In other graphs distances on paper are like hops, as well as they can be.

    Returns:
        Shape (N, 2), x to the right and y upwards, in a box around the origin that keeps its
        proportions and whose longer side is 2.
    """
    family = _family(topology)
    peers = len(topology.nodes)
    if family is not None:
        return _fitted(_LAYOUTS[family](peers))
    return _fitted(_circle(peers) if peers > STRESS_LIMIT else _by_distance(topology))


def paths(topology: Topology, points: Points) -> list[Points]:
    """Return the line to draw for every link, given `positions`.

    A line is straight unless that would hide it behind the peers it passes: links around a torus
    bow out of their row or column, and links across a circle bow towards its centre.

    Returns:
        A polyline of shape (n, 2) for each link, in the order of `topology.edges`.
    """
    lines = [points[list(edge)] for edge in topology.edges]
    family = _family(topology)
    if family == "torus":
        step = min(float(np.linalg.norm(line[1] - line[0])) for line in lines)
        return [_around(line, step) for line in lines]
    if family in ("exponential", "one-peer-exponential", "watts-strogatz"):
        step = float(np.linalg.norm(points[1] - points[0]))
        return [_across(line, step) for line in lines]
    return lines


def _family(topology: Topology) -> str | None:
    """Return the family whose layout fits this very graph, if there is one."""
    if topology.name not in _LAYOUTS:
        return None
    if topology.name in _RANDOM_LAYOUTS:
        return topology.name
    try:
        same = build(topology.name, len(topology.nodes)).edges == topology.edges
    except TopologyError:
        return None
    return topology.name if same else None


def _around(line: Points, step: float) -> Points:
    along = line[1] - line[0]
    length = np.linalg.norm(along)
    if length < 1.5 * step:
        return line
    share = np.linspace(0, 1, 33)[:, None]
    # Off the lattice soon after the start and until near the end, less than half way to the next.
    height = 0.3 * step * (1 - (2 * share - 1) ** 8)
    return np.asarray(line[0] + share * along + height * along[::-1] * [-1, 1] / length)


def _across(line: Points, step: float) -> Points:
    if np.linalg.norm(line[1] - line[0]) < 1.01 * step:
        return line
    share = np.linspace(0, 1, 17)[:, None]
    middle = line.mean(axis=0)
    # By 0.6 steps, which clears a peer's dot, and less where the line keeps clear by itself.
    control = middle * (1 - min(0.2, 1.2 * step / max(float(np.linalg.norm(middle)), step)))
    return np.asarray(
        (1 - share) ** 2 * line[0] + 2 * share * (1 - share) * control + share**2 * line[1]
    )


def _fitted(points: Points) -> Points:
    low, high = points.min(axis=0), points.max(axis=0)
    # Rounded, so that the last bits of other processors' arithmetic do not change a picture.
    return np.asarray(np.round((2 * points - low - high) / (high - low).max(), 5))


def _circle(peers: int) -> Points:
    """Clockwise from the top."""
    angles = 2 * np.pi * np.arange(peers) / peers
    return np.stack([np.sin(angles), np.cos(angles)], axis=1)


def _hub(peers: int) -> Points:
    return np.concatenate([np.zeros((1, 2)), _circle(peers - 1)])


def _lattice(peers: int) -> Points:
    """Rows from top to bottom."""
    shape = sides(peers)
    assert shape is not None
    row, column = np.divmod(np.arange(peers), shape[1])
    return np.stack([column, -row], axis=1).astype(float)


def _snake(peers: int) -> Points:
    """Rows from top to bottom, read to the right and to the left by turns."""
    columns = peers if peers <= 10 else ceil(sqrt(2 * peers))
    row, column = np.divmod(np.arange(peers), columns)
    column = np.where(row % 2 == 0, column, columns - 1 - column)
    return np.stack([column, -row], axis=1).astype(float)


def _layers(peers: int) -> Points:
    """The root at the top, every peer midway above its two children's places."""
    ranks = np.arange(1, peers + 1)
    depths = np.floor(np.log2(ranks)).astype(int)
    x = (ranks - 2.0**depths + 0.5) / 2.0**depths
    return np.stack([2.0 * x, -depths / max(depths.max(), 1)], axis=1)


def _ranks(peers: int) -> Points:
    """Peer 0 at the bottom, above it those with one bit set, with two, and so on."""
    bits_set = np.array([peer.bit_count() for peer in range(peers)])
    points = np.zeros((peers, 2))
    for rank in range(bits_set.max() + 1):
        members = np.flatnonzero(bits_set == rank)
        points[members, 0] = np.arange(len(members)) - (len(members) - 1) / 2
        points[members, 1] = rank
    widest, highest = np.ptp(points, axis=0)
    points[:, 1] *= max(widest, 1) / highest
    return points


def _by_distance(topology: Topology) -> Points:
    """Minimise sum (|x_i - x_j| / d_ij - 1)^2 over pairs at d_ij hops, from a circle.

    Kamada and Kawai's energy (1989), brought down by majorisation: each step solves the problem
    whose optimum bounds it from above (Gansner, Koren and North, "Graph drawing by stress
    majorization", 2004, section 2).
    """
    peers = len(topology.nodes)
    hops = np.zeros((peers, peers))
    for source, lengths in nx.all_pairs_shortest_path_length(topology.graph):
        hops[source, list(lengths)] = list(lengths.values())
    np.fill_diagonal(hops, 1.0)
    weights = 1 / hops**2
    np.fill_diagonal(weights, 0.0)
    # One more in every entry fixes the centre of mass, which the energy leaves free.
    inverse = np.linalg.inv(np.diag(weights.sum(axis=1)) - weights + 1.0)
    points = _circle(peers) * hops.max() / 2
    for _ in range(_STRESS_STEPS):
        between = points[:, None] - points[None]
        apart = np.hypot(between[..., 0], between[..., 1])
        pull = weights * hops / np.maximum(apart, 1e-9)
        points = inverse @ (pull.sum(axis=1)[:, None] * points - pull @ points)
    return _separated(points)


def _separated(points: Points) -> Points:
    """Move peers apart that would cover each other, and nothing else."""
    least = 0.5 * sqrt(np.ptp(points, axis=0).prod() / len(points))
    for _ in range(50):
        between = points[:, None] - points[None]
        apart = np.hypot(between[..., 0], between[..., 1])
        lack = np.maximum(least - apart, 0) / np.maximum(apart, 1e-9)
        points = points + 0.4 * (lack[..., None] * between).sum(axis=1)
    return np.asarray(points)


_LAYOUTS: dict[str, Callable[[int], Points]] = {
    "ring": _circle,
    "line": _snake,
    "star": _hub,
    "complete": _circle,
    "grid": _lattice,
    "torus": _lattice,
    "hypercube": _ranks,
    "tree": _layers,
    "exponential": _circle,
    "one-peer-exponential": _circle,
    "random-matching": _circle,
    "watts-strogatz": _circle,
}

_RANDOM_LAYOUTS = ("watts-strogatz",)
