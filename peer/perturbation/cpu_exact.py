"""The ends of a rebuild on the CPU: is w0 finite, exact sums of floats, and the new weights."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from peer.perturbation.cpu_kernel import kernel


@kernel
def fold(
    total: NDArray[np.float64], rest: NDArray[np.float64], x: NDArray[np.float64], unit: float
) -> None:
    """Add unit * x, exact products of whole numbers, to the exact pairs (see `limbs`)."""
    for i in range(total.shape[0]):
        y = unit * x[i]
        s = total[i] + y
        v = s - total[i]
        rest[i] += (total[i] - (s - v)) + (y - v)
        total[i] = s


@kernel
def write(
    out: NDArray[np.float32], w0: NDArray[np.float32], sums: NDArray[np.float64], scale: float
) -> None:
    """Set out to w0 - scale * sums, rounded as `reference` says; all of shape (n,)."""
    for i in range(out.shape[0]):
        out[i] = np.float32(np.float64(w0[i]) - scale * sums[i])


@kernel
def first_not_finite(bits: NDArray[np.uint32], exponent: np.uint32) -> int:
    """Return the index of the first number whose exponent bits are all set, or -1.

    Args:
        bits: the numbers' bits, in whatever integer type has their size.
        exponent: which bits those are.
    """
    for at in range(0, bits.shape[0], 4096):
        part = bits[at : at + 4096]
        found = 0
        for i in range(part.shape[0]):
            found += (part[i] & exponent) == exponent
        if found:
            for i in range(part.shape[0]):
                if (part[i] & exponent) == exponent:
                    return at + i
    return -1
