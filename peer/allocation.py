"""How many coordinates each block of an update gets (Ferret, section 4.1, Proposition 2).

The error of a block-wise reconstruction is bounded by the sum of |Delta_l| / (rho_l K_l) over the
blocks, which K_l proportional to sqrt(|Delta_l| / rho_l) minimises; rho_l is the variance of the
entries of a basis vector of block l whose norm is at most 1. Signs divided by sqrt(d_l) have
rho_l = 1/d_l, and so have Gaussian numbers, whose norm is 1 in expectation only; the paper's
truncated normal has almost a third of it. The third cancels, so all of them allot alike.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

_RESOLUTION: Final = 2.0**30
"""Shares are rounded to this part of the largest, so that all that follows is exact."""


def allot(
    norms: NDArray[np.float64], variances: NDArray[np.float64], total: int, most: int
) -> NDArray[np.int64]:
    """Return K_l of each block, shape (L,): they add up to `total`, and none is above `most`.

    A block that would get more than `most` gets that, and the others share the rest in proportion.
    Halves and the like go to the largest remainders, of equal ones to the first. A block without an
    update gets nothing unless all others have `most`.

    Args:
        norms: |Delta_l|, shape (L,), finite and at least 0.
        variances: rho_l, shape (L,), above 0.
        total: B, from 0 to L * most, and below 2**33.
        most: K, at least 1.
    """
    ideal = np.sqrt(norms / variances)
    shares = np.rint(ideal * (_RESOLUTION / (ideal.max() or 1.0))).astype(np.int64)
    counts = _fill(shares, total, most)
    left = total - int(counts.sum())
    if left:
        # Only blocks without a share have room now.
        counts += _fill((shares == 0).astype(np.int64), left, most)
    return counts


def _fill(shares: NDArray[np.int64], total: int, most: int) -> NDArray[np.int64]:
    """Return at most `most` for each block, in proportion to shares; what has no room is left."""
    counts = np.zeros(len(shares), dtype=np.int64)
    sharing = shares > 0
    left = total
    while sharing.any():
        whole = int(shares[sharing].sum())
        full = sharing & (shares * left >= most * whole)
        if not full.any():
            quotas = np.where(sharing, shares * left, 0)
            counts += quotas // whole
            order = np.argsort(-(quotas % whole), kind="stable")
            counts[order[: total - int(counts.sum())]] += 1
            break
        counts[full] = most
        left -= most * int(full.sum())
        sharing &= ~full
    return counts


def sign_variances(sizes: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return rho_l = 1 / d_l of signs divided by sqrt(d_l), for the sizes d_l of blocks."""
    return 1.0 / sizes
