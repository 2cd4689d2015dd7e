"""How fast averaging with neighbours brings all peers to one value: the spectral gap."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from topology.graph import Topology

_TOLERANCE = 1e-9
"""The gap is taken when doubling the number of Lanczos steps changes it by less, relatively."""

_BREAKDOWN = 1e-12
"""A Lanczos vector this short is rounding: the space is exhausted and the eigenvalues are exact."""


def spectral_gap(topology: Topology) -> float:
    """Return 1 - max |lambda| over the eigenvalues of the mixing matrix W but the first, 1.

    W is the Metropolis-Hastings matrix of the graph: W_ij = 1 / (1 + max(d_i, d_j)) for neighbours
    i and j of degrees d_i and d_j, and W_ii makes each row sum to 1 (Xiao, Boyd and Kim,
    "Distributed average consensus with least-mean-square deviation", 2007, section 2). Each
    averaging step shrinks the distance from consensus at least by the factor 1 - gap: 1 is the
    complete graph, which agrees in one step; near 0 is slow.

    The eigenvalues come from the Lanczos iteration in the space orthogonal to the first
    eigenvector. The start is fixed, so a graph always has the same gap.
    """
    peers = len(topology.nodes)
    start = np.random.default_rng(0).standard_normal(peers)
    process = _Lanczos(topology, start)
    steps, gap = 16, np.inf
    while True:
        ended = process.run(steps)
        before, gap = gap, 1.0 - process.largest_magnitude()
        # Rounding makes the vectors lose their orthogonality, which repeats eigenvalues that are
        # found already and delays the rest; it does not falsify the outermost. So more steps than
        # peers can be needed.
        if ended or abs(before - gap) <= _TOLERANCE * gap or steps > 64 * peers:
            return gap
        steps *= 2


class _Lanczos:
    """The tridiagonal matrix that W is in the Krylov space of a start vector, grown on demand."""

    def __init__(self, topology: Topology, start: NDArray[np.float64]) -> None:
        degrees = np.array([len(topology.neighbours(peer)) for peer in topology.nodes])
        self._neighbours = np.concatenate([topology.neighbours(peer) for peer in topology.nodes])
        self._first = np.concatenate([[0], np.cumsum(degrees)[:-1]])
        owner_degrees = np.repeat(degrees, degrees)
        self._weights = 1.0 / (1.0 + np.maximum(owner_degrees, degrees[self._neighbours]))
        self._own = 1.0 - np.add.reduceat(self._weights, self._first)
        self._diagonal: list[float] = []
        self._beside: list[float] = []
        self._previous = np.zeros_like(start)
        start = start - start.mean()
        self._current = start / np.linalg.norm(start)

    def _mixed(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return W times `values`, shape (N,)."""
        sums = np.add.reduceat(self._weights * values[self._neighbours], self._first)
        return np.asarray(self._own * values + sums)

    def run(self, steps: int) -> bool:
        """Grow the matrix to `steps` rows; return whether the space was exhausted before."""
        while len(self._diagonal) < steps:
            if self._beside and self._beside[-1] < _BREAKDOWN:
                return True
            after = self._mixed(self._current)
            self._diagonal.append(float(after @ self._current))
            after -= self._diagonal[-1] * self._current
            if self._beside:
                after -= self._beside[-1] * self._previous
            after -= after.mean()
            self._beside.append(float(np.linalg.norm(after)))
            self._previous, self._current = self._current, after / max(self._beside[-1], _BREAKDOWN)
        return False

    def largest_magnitude(self) -> float:
        """Return the largest absolute eigenvalue of the matrix, by bisection with Sturm counts."""
        low, high = 0.0, 1.0
        for _ in range(60):
            middle = (low + high) / 2
            if self._below(-middle) or self._below(middle) < len(self._diagonal):
                low = middle
            else:
                high = middle
        return (low + high) / 2

    def _below(self, bound: float) -> int:
        """Return how many eigenvalues are less than `bound`: the negative pivots of T - bound."""
        count = 0
        pivot = 1.0
        beside = 0.0
        for diagonal, following in zip(self._diagonal, self._beside, strict=True):
            pivot = diagonal - bound - beside * beside / pivot
            if pivot == 0.0:
                pivot = 1e-300
            count += pivot < 0.0
            beside = following
        return count
