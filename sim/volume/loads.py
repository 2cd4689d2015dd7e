"""How loads differ between links or peers, told from all origins or from a sample of them.

A load from a sample is off by chance, so loads from a sample differ more than loads do, and the
largest of millions is large by luck. Two halves of the sample tell by how much: half the difference
of their two estimates is as far off, on average, as the estimate by both. Estimates are therefore
drawn towards their mean until they differ as much as loads do (Efron and Morris, "Data analysis
using Stein's estimator", 1975; here as Louis 1984 has it, so that the spread comes out right), and
then sorted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

LARGEST: Final = 16
"""So many of the largest loads together tell how far off the largest one is."""


@dataclass(frozen=True)
class Loads:
    """How loads differ, in bytes.

    Attributes:
        mean: of all; exact.
        deviation: the standard deviation.
        low: 5% are below.
        median: half are below.
        high: 5% are above.
        most: the largest.
        error: standard error of one load's estimate, root mean square over all; 0: all are exact.
            What is said of all loads, but for the largest, is as far off or less, mostly.
        most_error: of the largest: the same over the `LARGEST` largest, and no less than `error`.
    """

    mean: float
    deviation: float
    low: float
    median: float
    high: float
    most: float
    error: float
    most_error: float


def loads_of(estimates: NDArray[np.float64], left: float) -> Loads:
    """Return how loads differ.

    Args:
        estimates: shape (1, n): the loads; or (2, n): their estimates by halves of a sample.
        left: the share of the population that is not in the sample.
    """
    loads = estimates.mean(axis=0)
    mean = float(loads.mean())
    error = most_error = 0.0
    if len(estimates) == 2:
        squares = np.square(estimates[0] - estimates[1]) * (left / 4)
        largest = np.argpartition(loads, -LARGEST)[-LARGEST:] if len(loads) > LARGEST else ...
        error = float(squares.mean() ** 0.5)
        most_error = max(error, float(squares[largest].mean() ** 0.5))
        seen = float(loads.var())
        if seen:
            loads = mean + (loads - mean) * max(0.0, 1 - error**2 / seen) ** 0.5
    low, median, high, most = np.quantile(loads, [0.05, 0.5, 0.95, 1.0]).tolist()
    return Loads(mean, float(loads.std()), low, median, high, most, error, most_error)
