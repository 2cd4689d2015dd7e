"""The integer units of the accumulator, chosen before a run so that no sum can overflow (C2).

Let 2**e be the power of two at or below the learning rate eta. Sums count multiples of 2**(e - u):
an entry's weight is c_i * eta_r / 2**e, below 2, and its contribution weight * g is rounded to
2**-u. The c_i of a round add up to 1, so after R rounds of tau steps with |g| <= g_max no sum can
pass 2 * R * tau * g_max, but for roundings. u is the largest number, at most 24, that keeps this
below 7/8 of 2**51 units less half a unit per step and peer, which is what the contributions may be
rounded up by; the last eighth is more than the weights may be.

FedKSeed-Pro's sums of |g| are not weighted, so N peers take part in their bound, and they get a
unit of their own.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from peer.errors import UserError

SUM_LIMIT: Final = 2**51
"""No sum ever reaches this many units, so the rebuild can split it in two 26-bit limbs."""

MAX_FRACTION_BITS: Final = 24
MIN_FRACTION_BITS: Final = 12
_MAGNITUDE_LIMIT: Final = 2**62


@dataclass(frozen=True)
class Units:
    """What one unit of a sum is worth.

    Attributes:
        exponent: e, with 2**e <= eta < 2**(e + 1).
        fraction_bits: u; a sum of a_j units stands for a_j * 2**(e - u) along z_j.
        magnitude_bits: FedKSeed-Pro's sums of |g| are in units of 2**-magnitude_bits.
    """

    exponent: int
    fraction_bits: int
    magnitude_bits: int


def power_below(value: float) -> int:
    """Return e such that 2**e <= value < 2**(e + 1); value > 0."""
    return math.frexp(value)[1] - 1


def choose_units(
    learning_rate: float, rounds: int, local_steps: int, gradient_bound: float, peers: int
) -> Units:
    """Return the units of a run.

    Raises:
        UserError: the run is so long that less than 12 bits would be left behind the point.
    """
    steps = rounds * local_steps
    largest = steps * math.ceil(gradient_bound)
    limit = max(1, SUM_LIMIT - SUM_LIMIT // 8 - steps * peers // 2)
    fraction_bits = min(MAX_FRACTION_BITS, _bits_below(limit, 2 * largest))
    if fraction_bits < MIN_FRACTION_BITS:
        raise UserError(
            f"rounds x local_steps x gradient_bound = {largest} is too large: the accumulator "
            f"of {peers} peers holds at most {(limit - 1) >> (MIN_FRACTION_BITS + 1)}"
        )
    magnitude_bits = min(MAX_FRACTION_BITS, _bits_below(_MAGNITUDE_LIMIT, peers * largest))
    return Units(power_below(learning_rate), fraction_bits, magnitude_bits)


def _bits_below(limit: int, largest: int) -> int:
    """Return the greatest b with largest * 2**b < limit."""
    return ((limit - 1) // largest).bit_length() - 1
