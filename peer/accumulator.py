"""The scalar gradient accumulator: K integer sums that, with w0, are the model (C2).

>>> import numpy as np
>>> from peer.units import Units
>>> a = Accumulator.empty(4, Units(exponent=-14, fraction_bits=24, magnitude_bits=24))
>>> a.add(np.array([2, 2]), np.array([0.5, 0.25], dtype=np.float32), weight=1.0)
>>> (a.sums / 2**24).tolist()
[0.0, 0.0, 0.75, 0.0]
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from peer.units import SUM_LIMIT, Units


def contributions(
    gradients: NDArray[np.float32], weight: float, fraction_bits: int
) -> NDArray[np.int64]:
    """Return what an entry's steps add, in units of 2**-fraction_bits.

    Weight and scalar gradient are float32, so their product is exact in float64 and the rounding,
    half to even, is the only one. It depends on the entry alone. A skipped step adds nothing.
    """
    scaled = np.ldexp(gradients.astype(np.float64) * weight, fraction_bits)
    units: NDArray[np.int64] = np.rint(np.nan_to_num(scaled, nan=0.0)).astype(np.int64)
    return units


@dataclass
class Accumulator:
    """Sums over entries, indifferent to their order. K is the number of candidate seeds.

    Attributes:
        units: what one unit of a sum is worth.
        sums: int64, shape (K,): sum of weight * g, in units of 2**-u.
        magnitudes: int64, shape (K,): sum of |g|, unweighted (FedKSeed-Pro, equation 13).
        counts: int64, shape (K,): the number of scalar gradients behind each of them. FedKSeed
            draws no seeds by importance, so it leaves these two at 0.
    """

    units: Units
    sums: NDArray[np.int64]
    magnitudes: NDArray[np.int64]
    counts: NDArray[np.int64]

    @classmethod
    def empty(cls, candidates: int, units: Units) -> Accumulator:
        """Return the accumulator of a run that has not begun."""
        zeros = np.zeros((3, candidates), dtype=np.int64)
        return cls(units, zeros[0], zeros[1], zeros[2])

    def add(
        self,
        indices: NDArray[np.int64],
        gradients: NDArray[np.float32],
        weight: float,
        *,
        importance: bool = True,
    ) -> None:
        """Add one entry (Algorithm 1, line 7, with the weight c_i eta_r / 2**e).

        Args:
            indices: shape (tau,), the seed index of each step.
            gradients: shape (tau,), decoded; NaN for a skipped step.
            weight: the entry's, a float32 number.
            importance: whether magnitudes and counts are kept (FedKSeed-Pro).
        """
        units = contributions(gradients, weight, self.units.fraction_bits)
        np.add.at(self.sums, indices, units)
        if importance:
            taken = ~np.isnan(gradients)
            magnitudes = np.ldexp(np.abs(gradients).astype(np.float64), self.units.magnitude_bits)
            rounded = np.rint(magnitudes[taken]).astype(np.int64)
            np.add.at(self.magnitudes, indices[taken], rounded)
            np.add.at(self.counts, indices[taken], 1)
        assert np.all(np.abs(self.sums[indices]) < SUM_LIMIT), "bounded by the choice of units"

    def copy(self) -> Accumulator:
        """Return one that does not change with this one."""
        return Accumulator(self.units, self.sums.copy(), self.magnitudes.copy(), self.counts.copy())

    def digest(self) -> str:
        """Return 32 hexadecimal digits; equal ones mean equal accumulators."""
        hasher = hashlib.blake2b(digest_size=16)
        hasher.update(repr(self.units).encode())
        for numbers in (self.sums, self.magnitudes, self.counts):
            hasher.update(numbers.astype("<i8").tobytes())
        return hasher.hexdigest()
