"""How much slower than others each simulated peer is, as a function of the experiment's seed."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np

from peer.config import Experiment
from peer.seeds import Domain, random_words

_DECIMALS = 6
"""Beyond these the exponential function may differ from one machine to the next."""


def slowness(experiment: Experiment) -> list[float]:
    """Return by what factor each peer's local steps take longer than `step_seconds`."""
    peers, sigma = experiment.peers, experiment.speed_spread
    factors = [1.0] * peers
    if sigma:
        words = random_words(experiment.seed, Domain.SPEEDS, 0, 0, peers)
        # The middle of one of 2**53 equal parts, so neither 0 nor 1.
        shares = (words >> np.uint64(11)).astype(np.float64) * 2.0**-53 + 2.0**-54
        normal = NormalDist().inv_cdf
        factors = [round(math.exp(sigma * normal(share)), _DECIMALS) for share in shares.tolist()]
    ranks = random_words(experiment.seed, Domain.SPEEDS, 1, 0, peers)
    for peer in np.argsort(ranks, kind="stable")[: round(experiment.stragglers * peers)].tolist():
        factors[peer] *= experiment.slowdown
    return factors
