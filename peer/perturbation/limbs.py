"""How a sum of integers past 2**53 is taken exactly in float64 (C4).

S = sum_j a_j units_j has up to 66 bits for each seed. Each a_j is split into limbs of 26 bits. A
group of at most 4096 seeds then sums |limb| * bound <= 2**25 * 2**15 * 2**12 < 2**53, so its
partial sums are whole numbers that float64 holds exactly, in any order. The partial sums of all
groups and limbs are folded into a pair (total, rest) by Knuth's TwoSum, which keeps the rounding
error of each addition:

    s = total + x;  v = s - total;  rest += (total - (s - v)) + (x - v);  total = s

Each error is a whole number, at most half a unit in the last place of a number below 2**66 K, so
`rest` stays exact as well (below 2**53 for every K up to 2**24), and total + rest, one addition,
is S rounded half to even, once.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

LIMB_BITS: Final = 26
GROUP: Final = 4096

_SAFE: Final = 2.0**52
"""Totals that reach this in float64 might reach 2**53."""


def split(sums: NDArray[np.int64], bound: int) -> NDArray[np.int64]:
    """Return the limbs of some accumulators, the lowest first.

    Args:
        sums: shape (P, K), |sums| < 2**51.
        bound: the largest |units| that they will be multiplied by, below 2**15.

    Returns:
        Shape (P, 1, K), the sums themselves, when no total can reach 2**53; otherwise shape
        (P, 2, K), |limbs| <= 2**25, with sums = limbs[:, 0] + 2**26 * limbs[:, 1].
    """
    limbs, counts = split_blocks(sums, np.array([0, sums.shape[1]]), bound)
    return limbs[:, : counts[0]]


def split_blocks(
    sums: NDArray[np.int64], firsts: NDArray[np.int64], bound: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Split the sums of each block for itself.

    Args:
        sums: shape (P, m), those of one block after those of the other.
        firsts: where those of a block begin, and m: shape (L + 1,).
        bound: as for `split`.

    Returns:
        Limbs, shape (P, 2, m), and how many of them count in each block, shape (L,).
    """
    block = np.repeat(np.arange(len(firsts) - 1), np.diff(firsts))
    totals = [np.bincount(block, row, len(firsts) - 1) for row in np.abs(sums)]
    two = np.max(totals, axis=0) * bound >= _SAFE
    half = 1 << (LIMB_BITS - 1)
    high = np.where(two[block], (sums + half) >> LIMB_BITS, 0)
    return np.stack([sums - (high << LIMB_BITS), high], axis=1), 1 + two.astype(np.int64)
