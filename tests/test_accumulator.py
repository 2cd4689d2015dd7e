"""The accumulator: exact rounding, indifferent to order, and a digest that covers all of it."""

from __future__ import annotations

import doctest
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from numpy.typing import NDArray

import peer.accumulator
from peer.accumulator import Accumulator, contributions
from peer.units import SUM_LIMIT, Units

NAN = float("nan")
UNITS = Units(exponent=-14, fraction_bits=24, magnitude_bits=20)
CANDIDATES = 7

gradients_32 = st.one_of(st.floats(-1024.0, 1024.0, width=32), st.just(NAN))
weights_32 = st.floats(0.0, 2.0, width=32)


def single(values: list[float]) -> NDArray[np.float32]:
    return np.array(values, dtype=np.float32)


def half_to_even(value: Fraction) -> int:
    """By the definition, without relying on `round`."""
    below = value.numerator // value.denominator
    rest = value - below
    return below + (rest > Fraction(1, 2) or (rest == Fraction(1, 2) and below % 2 == 1))


@st.composite
def entries(draw: Any) -> tuple[NDArray[np.int64], NDArray[np.float32], float]:
    steps = draw(st.lists(st.tuples(st.integers(0, CANDIDATES - 1), gradients_32), max_size=8))
    indices = np.array([index for index, _ in steps], dtype=np.int64)
    return indices, single([gradient for _, gradient in steps]), draw(weights_32)


def filled(added: list[Any]) -> Accumulator:
    accumulator = Accumulator.empty(CANDIDATES, UNITS)
    for indices, gradients, weight in added:
        accumulator.add(indices, gradients, weight)
    return accumulator


def same(one: Accumulator, other: Accumulator) -> bool:
    return all(
        getattr(one, name).tobytes() == getattr(other, name).tobytes()
        for name in ("sums", "magnitudes", "counts")
    )


# Contributions


@given(st.lists(gradients_32, max_size=20), weights_32, st.integers(12, 24))
@example([2.0**-24, 3 * 2.0**-24, 5 * 2.0**-24, -(2.0**-24), -3 * 2.0**-24], 0.5, 24)
@example([2.0**-149, -(2.0**-149)], 2.0**-149, 12)
def test_a_contribution_is_rounded_once_and_half_to_even(
    gradients: list[float], weight: float, bits: int
) -> None:
    got = contributions(single(gradients), weight, bits)
    assert got.dtype == np.int64
    assert got.tolist() == [
        0 if g != g else half_to_even(Fraction(g) * Fraction(weight) * 2**bits) for g in gradients
    ]


@given(st.integers(-(2**22), 2**22), st.integers(12, 24))
def test_ties_go_to_the_even_unit(half_units: int, bits: int) -> None:
    tie = single([float(Fraction(2 * half_units + 1, 2 ** (bits + 1)))])
    (got,) = contributions(tie, 1.0, bits).tolist()
    assert got % 2 == 0
    assert abs(got - Fraction(2 * half_units + 1, 2)) == Fraction(1, 2)


@given(st.lists(gradients_32, max_size=8), weights_32)
def test_opposite_steps_cancel(gradients: list[float], weight: float) -> None:
    one = contributions(single(gradients), weight, 24)
    other = contributions(-single(gradients), weight, 24)
    assert not np.any(one + other)


# Sums


@given(st.lists(entries(), max_size=6))
def test_sums_are_the_sums_of_fractions(added: list[Any]) -> None:
    sums, magnitudes, counts = ([0] * CANDIDATES for _ in range(3))
    for indices, gradients, weight in added:
        for index, gradient in zip(indices.tolist(), gradients.tolist(), strict=True):
            if gradient == gradient:
                sums[index] += half_to_even(Fraction(gradient) * Fraction(weight) * 2**24)
                magnitudes[index] += half_to_even(abs(Fraction(gradient)) * 2**20)
                counts[index] += 1
    accumulator = filled(added)
    assert accumulator.sums.tolist() == sums
    assert accumulator.magnitudes.tolist() == magnitudes
    assert accumulator.counts.tolist() == counts


@given(st.lists(entries(), max_size=8), st.randoms(use_true_random=False))
def test_any_order_of_arrival_gives_the_same_bits(added: list[Any], random: Any) -> None:
    shuffled = list(added)
    random.shuffle(shuffled)
    assert same(filled(added), filled(shuffled))
    assert filled(added).digest() == filled(shuffled).digest()


@given(entries(), st.randoms(use_true_random=False))
def test_the_order_of_the_steps_does_not_count_either(entry: Any, random: Any) -> None:
    indices, gradients, weight = entry
    order = list(range(len(indices)))
    random.shuffle(order)
    assert same(filled([entry]), filled([(indices[order], gradients[order], weight)]))


def test_16_replicas_and_20_000_updates_in_16_orders() -> None:
    """What floats cannot do: here 16 float32 sums of the same numbers differ, the integers not."""
    generator = np.random.default_rng(5)
    steps = 20_000
    indices = generator.integers(0, 256, steps)
    gradients = (generator.standard_normal(steps) * 30).astype(np.float32)
    digests, floats = set(), set()
    for _ in range(16):
        order = generator.permutation(steps)
        accumulator = Accumulator.empty(256, UNITS)
        accumulator.add(indices[order], gradients[order], 0.3125)
        digests.add(accumulator.digest())
        sums = np.zeros(256, dtype=np.float32)
        np.add.at(sums, indices[order], gradients[order])
        floats.add(sums.tobytes())
    assert len(digests) == 1
    assert len(floats) > 1


def test_a_skipped_step_adds_and_counts_nothing() -> None:
    accumulator = filled([(np.array([1, 1, 2]), single([NAN, 0.0, NAN]), 1.0)])
    assert not accumulator.sums.any()
    assert not accumulator.magnitudes.any()
    assert accumulator.counts.tolist() == [0, 1, 0, 0, 0, 0, 0]


def test_magnitudes_are_not_weighted() -> None:
    accumulator = filled([(np.array([0, 0]), single([-2.0, 0.5]), 0.25)])
    assert accumulator.sums[0] == -1.5 * 0.25 * 2**24
    assert accumulator.magnitudes[0] == 2.5 * 2**20


def test_the_guard_watches_the_limit() -> None:
    accumulator = Accumulator.empty(2, UNITS)
    accumulator.sums[1] = SUM_LIMIT - 2
    accumulator.add(np.array([1]), single([2.0**-24]), 1.0)
    assert accumulator.sums[1] == SUM_LIMIT - 1
    with pytest.raises(AssertionError, match="units"):
        accumulator.add(np.array([1]), single([2.0**-24]), 1.0)


# Copies and digests


def test_copies_are_independent() -> None:
    one = filled([(np.array([3]), single([1.5]), 1.0)])
    before = one.digest()
    other = one.copy()
    assert same(one, other)
    other.add(np.array([3, 4]), single([1.0, 2.0]), 0.5)
    assert one.digest() == before
    one.add(np.array([0]), single([1.0]), 1.0)
    assert one.counts.tolist() == [1, 0, 0, 1, 0, 0, 0]
    assert other.counts.tolist() == [0, 0, 0, 2, 1, 0, 0]


def test_a_digest_covers_every_number() -> None:
    accumulator = filled([(np.arange(CANDIDATES), single([1.5] * CANDIDATES), 1.0)])
    digests = [accumulator.digest()]
    for name in ("sums", "magnitudes", "counts"):
        for place in range(CANDIDATES):
            for change in (1, -1, 2**40):
                changed = accumulator.copy()
                getattr(changed, name)[place] += change
                digests.append(changed.digest())
    swapped = accumulator.copy()
    swapped.sums, swapped.magnitudes = accumulator.magnitudes, accumulator.sums
    digests.append(swapped.digest())
    assert len(set(digests)) == len(digests)


def test_a_digest_covers_the_units_and_the_number_of_candidates() -> None:
    empty = [
        Accumulator.empty(4, Units(-14, 24, 24)),
        Accumulator.empty(4, Units(-13, 24, 24)),
        Accumulator.empty(4, Units(-14, 23, 24)),
        Accumulator.empty(4, Units(-14, 24, 23)),
        Accumulator.empty(5, Units(-14, 24, 24)),
    ]
    assert len({accumulator.digest() for accumulator in empty}) == len(empty)


def test_golden_digest() -> None:
    assert Accumulator.empty(4, Units(-14, 24, 24)).digest() == "87ca45eb609fbd0cd7a0511898399e9c"
    assert (
        filled([(np.array([1, 6]), single([0.5, -3.0]), 0.75)]).digest()
        == "0be2155f15523bf89219ec29503b1e0c"
    )


def test_the_example_in_the_module() -> None:
    result = doctest.testmod(peer.accumulator)
    assert result.attempted > 0
    assert result.failed == 0
