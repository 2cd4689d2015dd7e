"""FedKSeed-Pro's probabilities against equations 13 and 14 written out in floats and decimals."""

from __future__ import annotations

import math
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from peer.accumulator import Accumulator
from peer.importance import WEIGHT_BITS, amplitudes, probabilities, sampling_weights
from peer.units import Units

UNITS = Units(exponent=-10, fraction_bits=24, magnitude_bits=20)
NAN = float("nan")

histories = st.lists(
    st.lists(st.one_of(st.floats(-1024.0, 1024.0, width=32), st.just(NAN)), max_size=5),
    min_size=1,
    max_size=12,
)
"""For each candidate seed the scalar gradients that were met at it."""


def filled(per_seed: list[list[float]], weight: float = 0.5) -> Accumulator:
    accumulator = Accumulator.empty(len(per_seed), UNITS)
    for index, gradients in enumerate(per_seed):
        values = np.array(gradients, dtype=np.float32)
        accumulator.add(np.full(len(values), index), values, weight)
    return accumulator


def paper(per_seed: list[list[float]]) -> list[float]:
    """Equations 13 and 14, with the mean of the normalised amplitudes for seeds never drawn."""
    amplitude: dict[int, float] = {}
    for index, gradients in enumerate(per_seed):
        # In the accumulator's units, the only rounding on the way in.
        met = [round(abs(g) * 2**20) / 2**20 for g in gradients if not math.isnan(g)]
        if met:
            amplitude[index] = math.fsum(met) / len(met)
    low, high = min(amplitude.values(), default=0.0), max(amplitude.values(), default=0.0)
    if low == high:
        return [1.0 / len(per_seed)] * len(per_seed)
    normal = {index: (psi - low) / (high - low) for index, psi in amplitude.items()}
    mean = math.fsum(normal.values()) / len(normal)
    exponentials = [math.exp(normal.get(index, mean)) for index in range(len(per_seed))]
    return [value / math.fsum(exponentials) for value in exponentials]


@given(histories)
def test_probabilities_are_the_paper_s(per_seed: list[list[float]]) -> None:
    got = probabilities(filled(per_seed))
    np.testing.assert_allclose(got, paper(per_seed), rtol=1e-9)
    assert math.isclose(float(got.sum()), 1.0, rel_tol=1e-12)


@given(histories)
def test_no_seed_is_more_than_e_times_as_likely_as_another(per_seed: list[list[float]]) -> None:
    weights = [int(weight) for weight in sampling_weights(filled(per_seed))]
    assert min(weights) >= 2**WEIGHT_BITS
    assert Decimal(max(weights)) / min(weights) <= Decimal(1).exp()
    assert 4096 * max(weights) < 2**54


def test_the_extremes_are_reached() -> None:
    weights = sampling_weights(filled([[1.0], [5.0], [3.0]])).tolist()
    assert weights[0] == 2**WEIGHT_BITS
    assert weights[1] == int(Decimal(1).exp() * 2**WEIGHT_BITS)
    assert weights[2] == int(Decimal("0.5").exp() * 2**WEIGHT_BITS)


@given(histories)
def test_a_weight_is_its_exponential_to_the_last_bit_but_one(per_seed: list[list[float]]) -> None:
    accumulator = filled(per_seed)
    pairs = zip(amplitudes(accumulator).tolist(), sampling_weights(accumulator), strict=True)
    for x, weight in pairs:
        assert 0.0 <= x <= 1.0
        assert abs(int(weight) - int(Decimal(x).exp() * 2**WEIGHT_BITS)) <= 1


@given(histories)
def test_a_seed_never_drawn_gets_the_mean_of_the_others(per_seed: list[list[float]]) -> None:
    got = amplitudes(filled([*per_seed, []]))
    drawn = [any(g == g for g in gradients) for gradients in per_seed]
    known = [x for x, is_drawn in zip(got, drawn, strict=False) if is_drawn]
    unknown = [x for x, is_drawn in zip(got, [*drawn, False], strict=True) if not is_drawn]
    assert len(set(unknown)) == 1
    if len(set(known)) > 1:
        assert math.isclose(unknown[0], math.fsum(known) / len(known), rel_tol=1e-12)


@pytest.mark.parametrize(
    "per_seed",
    [
        [[], [], []],
        [[NAN], [], [NAN, NAN]],
        [[2.0], [-2.0], [2.0, -2.0, 2.0]],
        [[2.0], [], []],
        [[0.0], [0.0], []],
        [[]],
        [[7.0]],
    ],
)
def test_without_a_difference_all_are_equally_likely(per_seed: list[list[float]]) -> None:
    weights = sampling_weights(filled(per_seed))
    assert len(set(weights.tolist())) == 1
    assert probabilities(filled(per_seed)).tolist() == [1.0 / len(per_seed)] * len(per_seed)


@given(histories)
def test_a_larger_amplitude_is_never_less_likely(per_seed: list[list[float]]) -> None:
    accumulator = filled(per_seed)
    drawn = np.flatnonzero(accumulator.counts)
    psi = accumulator.magnitudes[drawn] / accumulator.counts[drawn]
    by_psi = sampling_weights(accumulator)[drawn][np.argsort(psi, kind="stable")]
    assert np.all(np.diff(by_psi) >= 0)


@given(histories, st.randoms(use_true_random=False), st.floats(0.0, 1.0, width=32))
def test_only_the_state_counts(per_seed: list[list[float]], random: Any, weight: float) -> None:
    """Not the way to it, not the weights of the entries, and asking changes nothing."""
    accumulator = filled(per_seed)
    before = accumulator.digest()
    weights = sampling_weights(accumulator)
    assert accumulator.digest() == before
    steps = [(index, g) for index, gradients in enumerate(per_seed) for g in gradients]
    random.shuffle(steps)
    other = Accumulator.empty(len(per_seed), UNITS)
    for index, gradient in steps:
        other.add(np.array([index]), np.array([gradient], dtype=np.float32), weight)
    assert sampling_weights(other).tobytes() == weights.tobytes()
    assert sampling_weights(accumulator.copy()).tobytes() == weights.tobytes()


def test_golden_weights() -> None:
    per_seed = [[0.5, -3.0], [], [1024.0, NAN], [7.25], [-0.125], [NAN]]
    weights = sampling_weights(filled(per_seed))
    assert weights.dtype == np.int64
    assert weights.tolist() == [
        1101258056776,
        1414820400701,
        2988782477962,
        1107189656442,
        1099511627776,
        1414820400701,
    ]
