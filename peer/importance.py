"""FedKSeed-Pro: how likely each candidate seed is to be drawn (equations 13 and 14).

The amplitude psi_j is the mean |g| over the scalar gradients of seed j, not weighted by c_i, as in
the paper. Amplitudes are brought to [0, 1] by their least and greatest, and p_j is their softmax at
temperature 1, so no seed is more than e times as likely as another.

The paper leaves open what a seed gets that was never drawn. Here it gets the mean of the
normalised amplitudes of the others: nothing is known about it, so it is neither favoured nor
starved (the published program gives it the lowest). While no two amplitudes differ, all seeds are
equally likely.

Probabilities are integer weights made with additions, multiplications and divisions alone, which
IEEE 754 fixes to the last bit, so equal accumulators give equal probabilities on every machine.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from peer.accumulator import Accumulator

WEIGHT_BITS: Final = 40
"""A weight is floor(exp(x) * 2**40)."""

MOST_SEEDS: Final = 2**21
"""So many weights add up to less than 2**63."""

_TAYLOR_TERMS: Final = 20
"""On [0, 1] the first term left out is below 2**-61."""


def amplitudes(accumulator: Accumulator) -> NDArray[np.float64]:
    """Return psi (equation 13), normalised to [0, 1]; shape (K,)."""
    drawn = accumulator.counts > 0
    normalised = np.full(len(accumulator.counts), 0.5)
    psi = accumulator.magnitudes[drawn] / accumulator.counts[drawn]
    if len(psi) == 0 or psi.min() == psi.max():
        return normalised
    known = (psi - psi.min()) / (psi.max() - psi.min())
    # cumsum adds from left to right; sum may pair terms differently from one build to the next.
    normalised[:] = np.cumsum(known)[-1] / len(known)
    normalised[drawn] = known
    return normalised


def sampling_weights(accumulator: Accumulator) -> NDArray[np.int64]:
    """Return the integer weights, shape (K,), in whose proportion seeds are drawn (equation 14)."""
    x = amplitudes(accumulator)
    exponential = np.ones_like(x)
    for term in range(_TAYLOR_TERMS, 0, -1):
        exponential = exponential * x / term + 1.0
    return np.floor(exponential * 2.0**WEIGHT_BITS).astype(np.int64)


def probabilities(accumulator: Accumulator) -> NDArray[np.float64]:
    """Return p (equation 14), for people to read; shape (K,)."""
    weights = sampling_weights(accumulator)
    return weights / int(weights.sum())
