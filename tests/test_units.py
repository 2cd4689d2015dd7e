"""The choice of units: no sum can overflow, whatever the peers send, and no bit is given away."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from peer.errors import UserError
from peer.protocol import WEIGHT_TOLERANCE
from peer.units import (
    MAX_FRACTION_BITS,
    MIN_FRACTION_BITS,
    SUM_LIMIT,
    Units,
    choose_units,
    power_below,
)

rates = st.floats(1e-30, 1e3)
powers = st.integers(0, 15).map(lambda power: 2.0**power)


def worst_sum(units: Units, rate: float, steps: int, bound: float, rows: list[int]) -> int:
    """What every peer can add to one seed, at most, if every step of every round goes there.

    Each sends the largest gradient with the largest weight that its neighbours still take.
    """
    step_size = rate / 2.0**units.exponent
    each_step = 0
    for row in rows:
        weight = float(np.float32(row / sum(rows) * step_size))
        largest = np.float32(weight * (1 + WEIGHT_TOLERANCE))
        each_step += round(Fraction(float(largest)) * Fraction(bound) * 2**units.fraction_bits)
    return steps * each_step


@given(st.floats(min_value=5e-324, allow_infinity=False, allow_nan=False))
@example(1.0)
@example(math.nextafter(1.0, 0.0))
@example(5e-324)
def test_power_below(value: float) -> None:
    exponent = power_below(value)
    assert Fraction(2) ** exponent <= Fraction(value) < Fraction(2) ** (exponent + 1)


@given(
    rates,
    st.integers(1, 2**24),
    st.integers(1, 2**18),
    powers,
    st.lists(st.integers(1, 10**6), min_size=1, max_size=40),
)
@example(math.nextafter(2.0, 0.0), 2**14, 2**9, 2.0**15, [1] * 7)
@example(1.0, 2**19 - 2**16, 2**18 - 1, 1.0, [1, 1])
def test_no_sum_overflows(
    rate: float, rounds: int, local_steps: int, bound: float, rows: list[int]
) -> None:
    try:
        units = choose_units(rate, rounds, local_steps, bound, len(rows))
    except UserError:
        assume(False)
    steps = rounds * local_steps
    assert worst_sum(units, rate, steps, bound, rows) < SUM_LIMIT
    assert len(rows) * steps * int(bound * 2**units.magnitude_bits) < 2**63


@given(rates, st.integers(2**13, 2**20), st.integers(20, 39), powers)
@example(math.nextafter(2.0, 0.0), 2**14 - 1, 38, 1.0)
@example(math.nextafter(2.0, 0.0), 2**14 - 1, 37, 1.0)
def test_a_crowd_cannot_overflow_a_sum_by_rounding_up(
    rate: float, peers: int, log_steps: int, bound: float
) -> None:
    """Many equal peers: the contribution of each may be just past half a unit, and count as one."""
    steps = int(0.87 * 2**log_steps)
    try:
        units = choose_units(rate, 1, steps, bound, peers)
    except UserError:
        assume(False)
    share = float(np.float32(rate / 2.0**units.exponent / peers))
    each = round(
        Fraction(float(np.float32(share * (1 + WEIGHT_TOLERANCE))))
        * Fraction(bound)
        * 2**units.fraction_bits
    )
    assert steps * peers * each < SUM_LIMIT


@given(rates, st.integers(1, 2**20), st.integers(1, 2**18), powers, st.integers(1, 1000))
def test_no_bit_is_given_away(
    rate: float, rounds: int, local_steps: int, bound: float, peers: int
) -> None:
    steps = rounds * local_steps
    limit = SUM_LIMIT * 7 // 8 - steps * peers // 2

    def fits(bits: int) -> bool:
        return 2 * steps * int(bound) * 2**bits < limit

    try:
        units = choose_units(rate, rounds, local_steps, bound, peers)
    except UserError:
        assert not fits(MIN_FRACTION_BITS)
        return
    bits = units.fraction_bits
    assert MIN_FRACTION_BITS <= bits <= MAX_FRACTION_BITS
    assert fits(bits)
    assert bits == MAX_FRACTION_BITS or not fits(bits + 1)
    assert units.exponent == power_below(rate)
    assert 0 <= units.magnitude_bits <= MAX_FRACTION_BITS


@given(st.integers(12, 45), powers, st.integers(1, 100))
def test_a_run_that_is_too_long_is_refused_with_the_limit(
    log_steps: int, bound: float, peers: int
) -> None:
    steps = 2**log_steps
    largest = steps * int(bound)
    assume(largest >= 2**38)
    with pytest.raises(UserError) as caught:
        choose_units(1e-4, steps, 1, bound, peers)
    text = str(caught.value)
    assert "\n" not in text
    assert f"= {largest} is too large" in text
    limit = int(text.rsplit(" ", 1)[1])
    assert limit < largest
    if limit >= steps:
        kept = choose_units(1e-4, steps, 1, limit // steps, peers)
        assert kept.fraction_bits >= MIN_FRACTION_BITS


@pytest.mark.parametrize(
    ("run", "units"),
    [
        ((1e-4, 8, 50, 1024.0, 8), Units(-14, 24, 24)),
        ((3e-7, 60, 200, 1024.0, 200), Units(-22, 24, 24)),
        ((1.0, 1000, 200, 1024.0, 100), Units(0, 22, 24)),
        ((0.75, 40_000, 200, 1024.0, 1000), Units(-1, 16, 19)),
        ((2.0, 1, 1, 1.0, 2), Units(1, 24, 24)),
        # With 17 bits the sum could come to 7/8 of the limit exactly.
        ((1.0, 1, 1, 7.0 * 2**30, 1), Units(0, 16, 24)),
    ],
)
def test_golden_units(run: tuple[float, int, int, float, int], units: Units) -> None:
    assert choose_units(*run) == units
