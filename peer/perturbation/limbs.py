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
_EXACT: Final = 2**53


def split(sums: NDArray[np.int64], bound: int) -> NDArray[np.int64]:
    """Return the limbs of some accumulators, the lowest first.

    Args:
        sums: shape (P, K), |sums| < 2**51.
        bound: the largest |units| that they will be multiplied by, below 2**15.

    Returns:
        Shape (P, 1, K), the sums themselves, when no total can reach 2**53; otherwise shape
        (P, 2, K), |limbs| <= 2**25, with sums = limbs[:, 0] + 2**26 * limbs[:, 1].
    """
    if all(sum(map(abs, row)) * bound < _EXACT for row in sums.tolist()):
        return sums[:, None, :]
    half = 1 << (LIMB_BITS - 1)
    high = (sums + half) >> LIMB_BITS
    return np.stack([sums - (high << LIMB_BITS), high], axis=1)
