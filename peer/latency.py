"""How long frames take on simulated links: laws of chance, and what to expect of every link.

| text                | latency                                                        |
| ------------------- | -------------------------------------------------------------- |
| 0.05                | the same everywhere, in seconds                                |
| uniform:0.02-0.08   | anything from 0.02 to 0.08 seconds is as likely                |
| lognormal:0.05:0.5  | median 0.05 seconds; its logarithm has standard deviation 0.5  |
| links.csv           | a file says it for each link, see `peer.link_latencies`        |

What is expected of a link follows from the law, the experiment's seed and the link's two ends, so
every peer can compute it alike for the whole graph.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from peer.errors import UserError
from peer.seeds import Domain, words_at

FORMS = "a number of seconds, uniform:LOW-HIGH, lognormal:MEDIAN:SIGMA, or a .csv file"
LONGEST = 1e6
"""Seconds: the most that a link, or the median of links, can take."""

MOST_SPREAD = 3.0
"""The largest sigma of a log-normal latency; the 97.7th percentile is then 400 medians."""

Edge = tuple[int, int]
Shares = NDArray[np.float64]

_NUMBER = r"((?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?)"


@dataclass(frozen=True)
class Constant:
    """The same everywhere."""

    seconds: float

    @property
    def mean(self) -> float:
        """The expected value, in seconds."""
        return self.seconds

    def quantiles(self, shares: Shares) -> NDArray[np.float64]:
        """Return the latencies that these shares of all stay below, each in (0, 1)."""
        return np.full(shares.shape, self.seconds)


@dataclass(frozen=True)
class Uniform:
    """From low to high, all alike."""

    low: float
    high: float

    @property
    def mean(self) -> float:
        """The expected value, in seconds."""
        return (self.low + self.high) / 2

    def quantiles(self, shares: Shares) -> NDArray[np.float64]:
        """Return the latencies that these shares of all stay below, each in (0, 1)."""
        return self.low + (self.high - self.low) * shares


@dataclass(frozen=True)
class LogNormal:
    """median * exp(sigma * z) for a standard normal z."""

    median: float
    sigma: float

    @property
    def mean(self) -> float:
        """The expected value, in seconds."""
        return self.median * math.exp(self.sigma**2 / 2)

    def quantiles(self, shares: Shares) -> NDArray[np.float64]:
        """Return the latencies that these shares of all stay below, each in (0, 1)."""
        normal = NormalDist().inv_cdf
        # Not numpy's exp, whose last bits differ between processors.
        return np.array([self.median * math.exp(self.sigma * normal(s)) for s in shares.tolist()])


Law = Constant | Uniform | LogNormal


def parse_latency(text: str) -> Law | None:
    """Return the law that a text of the table above stands for; None for a file.

    Raises:
        UserError: it is none of them.
    """
    if text.lower().endswith(".csv"):
        return None
    law: Law | None = None
    if numbers := _numbers(_NUMBER, text):
        law = Constant(*numbers)
    elif (numbers := _numbers(f"uniform:{_NUMBER}-{_NUMBER}", text)) and numbers[0] <= numbers[1]:
        law = Uniform(*numbers)
    elif (numbers := _numbers(f"lognormal:{_NUMBER}:{_NUMBER}", text)) and numbers[0] > 0:
        law = LogNormal(*numbers) if numbers[1] <= MOST_SPREAD else None
    if law is None:
        raise UserError(f"latency = {text!r} is not allowed: must be {FORMS}")
    return law


def _numbers(pattern: str, text: str) -> list[float]:
    """Return the numbers of a text that has this form; none if it has not, or one is too large."""
    match = re.fullmatch(pattern, text)
    numbers = [float(number) for number in match.groups()] if match else []
    return numbers if all(number <= LONGEST for number in numbers) else []


def expected_latencies(
    law: Law, per_frame: bool, root_seed: int, edges: Sequence[Edge]
) -> dict[Edge, float]:
    """Return the seconds that a frame is expected to take on every link.

    Args:
        law: of the latencies.
        per_frame: whether each frame draws anew, which makes all links alike; else each link
            draws once, the same in both directions.
        root_seed: the experiment's.
        edges: pairs (i, j) with i < j.

    Returns:
        Both directions, (i, j) and (j, i), of every edge.
    """
    if per_frame:
        drawn = [law.mean] * len(edges)
    else:
        ends = np.array(edges, dtype=np.uint64).reshape(-1, 2)
        words = words_at(root_seed, Domain.LATENCIES, ends[:, 0], ends[:, 1])
        # The middle of one of 2**53 equal parts, so neither 0 nor 1.
        shares = (words >> np.uint64(11)).astype(np.float64) * 2.0**-53 + 2.0**-54
        drawn = law.quantiles(shares).tolist()
    expected = {}
    for (i, j), seconds in zip(edges, drawn, strict=True):
        expected[i, j] = expected[j, i] = seconds
    return expected
