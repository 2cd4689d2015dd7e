"""Philox4x32-10, the counter-based generator behind perturbations and draws.

Salmon et al., "Parallel random numbers: as easy as 1, 2, 3" (SC 2011). A block of four 32-bit words
is a function of a 128-bit counter and a 64-bit key: there is no state, so any part of any stream
can be made alone, on any device, and comes out the same.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

ROUNDS = 10
MULTIPLIER_0 = 0xD2511F53
MULTIPLIER_1 = 0xCD9E8D57
WEYL_0 = 0x9E3779B9
WEYL_1 = 0xBB67AE85

_MASK = np.uint64(0xFFFFFFFF)
_SHIFT = np.uint64(32)


def philox(
    key: int, low: NDArray[np.uint64], high: NDArray[np.uint64] | int = 0
) -> NDArray[np.uint32]:
    """Return the blocks at 128-bit counters `high * 2**64 + low` under a 64-bit `key`.

    Args:
        key: 0 <= key < 2**64.
        low: shape (n,), the low halves of the counters.
        high: the high halves: shape (n,) or one number for all.

    Returns:
        Shape (n, 4): words 0 to 3 of each block, as in the paper's and Random123's order.
    """
    low = np.asarray(low, dtype=np.uint64)
    high = np.broadcast_to(np.asarray(high, dtype=np.uint64), low.shape)
    c0, c1, c2, c3 = low & _MASK, low >> _SHIFT, high & _MASK, high >> _SHIFT
    k0, k1 = key & 0xFFFFFFFF, key >> 32
    for _ in range(ROUNDS):
        product_0 = c0 * np.uint64(MULTIPLIER_0)
        product_1 = c2 * np.uint64(MULTIPLIER_1)
        c0, c1, c2, c3 = (
            (product_1 >> _SHIFT) ^ c1 ^ np.uint64(k0),
            product_1 & _MASK,
            (product_0 >> _SHIFT) ^ c3 ^ np.uint64(k1),
            product_0 & _MASK,
        )
        k0, k1 = (k0 + WEYL_0) & 0xFFFFFFFF, (k1 + WEYL_1) & 0xFFFFFFFF
    return np.stack([c0, c1, c2, c3], axis=1).astype(np.uint32)
