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

import numpy as np
from numpy.typing import NDArray


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
        error: standard error of one load's estimate, root mean square; 0: all are exact.
    """

    mean: float
    deviation: float
    low: float
    median: float
    high: float
    most: float
    error: float


def loads_of(estimates: NDArray[np.float64], left: float) -> Loads:
    """Return how loads differ.

    Args:
        estimates: shape (1, n): the loads; or (2, n): their estimates by halves of a sample.
        left: the share of the population that is not in the sample.
    """
    loads = estimates.mean(axis=0)
    mean, error = float(loads.mean()), 0.0
    if len(estimates) == 2:
        error = float(np.sqrt(np.square(estimates[0] - estimates[1]).mean() / 4 * left))
        seen = float(loads.var())
        if seen:
            loads = mean + (loads - mean) * np.sqrt(max(0.0, 1 - error**2 / seen))
    low, median, high, most = np.quantile(loads, [0.05, 0.5, 0.95, 1.0]).tolist()
    return Loads(mean, float(loads.std()), low, median, high, most, error)
