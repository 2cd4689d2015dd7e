"""How many links a family's graph has, without making the graph."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from topology.families import check, fit_degree, hypercube_dimension, mesh_sides
from topology.graph import TopologyError
from topology.varying import VARYING

EXPECTED_ONLY: Final = ("erdos-renyi",)
"""The families whose number of links is left to chance; the expected one stands for it."""


def count_links(name: str, peers: int, *, degree: int = 4) -> int:
    """Return E, the number of links; of the families in `EXPECTED_ONLY` the nearest to expect.

    Raises:
        TopologyError: as for `topology.build`, short of drawing; or a family that varies over time.
    """
    check(name, peers)
    if name in VARYING:
        raise TopologyError(f"{name} varies over time: it has no one number of links")
    if name in _FIXED:
        return _FIXED[name](peers)
    fitted, _ = fit_degree(name, peers, degree)
    return _RANDOM[name](peers, fitted)


def _mesh(name: str, peers: int) -> int:
    rows, columns = mesh_sides(name, peers)
    if name == "grid":
        return 2 * peers - rows - columns
    # Around a side of two there is no further link.
    return 2 * peers - columns * (rows == 2) - rows * (columns == 2)


def _exponential(peers: int) -> int:
    # Peers at opposite ends of a circle share one link of this distance.
    distances = {min(2**k, peers - 2**k) for k in range((peers - 1).bit_length())}
    return sum(peers // 2 if 2 * distance == peers else peers for distance in distances)


_FIXED: Final[dict[str, Callable[[int], int]]] = {
    "ring": lambda peers: peers if peers > 2 else 1,
    "line": lambda peers: peers - 1,
    "star": lambda peers: peers - 1,
    "complete": lambda peers: peers * (peers - 1) // 2,
    "grid": lambda peers: _mesh("grid", peers),
    "torus": lambda peers: _mesh("torus", peers),
    "hypercube": lambda peers: peers * hypercube_dimension(peers) // 2,
    "tree": lambda peers: peers - 1,
    "exponential": _exponential,
}

_RANDOM: Final[dict[str, Callable[[int, int], int]]] = {
    "random-regular": lambda peers, degree: peers * degree // 2,
    "erdos-renyi": lambda peers, degree: round(peers * degree / 2),
    "watts-strogatz": lambda peers, degree: peers * degree // 2,
    "barabasi-albert": lambda peers, degree: max(degree // 2, 1) * (peers - max(degree // 2, 1)),
}
