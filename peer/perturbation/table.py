"""The quantile table that turns sixteen random bits into one Gaussian number.

table[i] is the standard normal quantile at (i + 1/2) / 65536, times `STRETCH`, in units of
2**-12, rounded half to even. Only the upper half is computed; the lower is its mirror image, so the
mean is exactly 0. `STRETCH` makes up for the tails that 65536 points cannot reach: with it the mean
square is 1 to within 2e-6. No value lies so near to the middle between two units that the last bits
of a mathematics library could decide how it is rounded.
"""

from __future__ import annotations

from functools import lru_cache
from statistics import NormalDist
from typing import Final

import numpy as np
from numpy.typing import NDArray

TABLE_SIZE: Final = 65536
UNIT_BITS: Final = 12
STRETCH: Final = 1.00001
LARGEST: Final = 17715
"""The last value of the table, and so the bound of a Gaussian perturbation, in units."""


def upper_quantiles() -> NDArray[np.float64]:
    """Return the upper half of the table before rounding, in units: shape (32768,), ascending."""
    quantile = NormalDist().inv_cdf
    upper = range(TABLE_SIZE // 2, TABLE_SIZE)
    scale = STRETCH * 2.0**UNIT_BITS
    return np.array([quantile((i + 0.5) / TABLE_SIZE) * scale for i in upper])


@lru_cache(maxsize=1)
def quantile_table() -> NDArray[np.int16]:
    """Return the table: shape (65536,), ascending, read-only."""
    upper = np.rint(upper_quantiles()).astype(np.int16)
    table = np.concatenate([-upper[::-1], upper])
    table.flags.writeable = False
    return table
