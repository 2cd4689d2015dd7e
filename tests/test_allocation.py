"""Proposition 2 in whole numbers: sums, bounds, proportion, and the paper's variance."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from peer.allocation import allot, sign_variances

norms_of = st.floats(1e-6, 1e6) | st.just(0.0)
blocks_of = st.lists(st.tuples(norms_of, st.integers(1, 10**6)), min_size=1, max_size=12)
quick = settings(deadline=None, max_examples=200)


def allotted(blocks, total, most):
    norms = np.array([norm for norm, _ in blocks])
    return allot(norms, sign_variances(np.array([size for _, size in blocks])), total, most)


def shares_of(blocks):
    return [math.sqrt(norm * size) for norm, size in blocks]


@given(blocks=blocks_of, most=st.integers(1, 300), data=st.data())
@quick
def test_counts_add_up_and_stay_within_bounds(blocks, most, data):
    total = data.draw(st.integers(0, most * len(blocks)))
    counts = allotted(blocks, total, most)
    assert counts.dtype == np.int64
    assert counts.sum() == total
    assert counts.min() >= 0
    assert counts.max() <= most


@given(blocks=blocks_of, most=st.integers(1, 300), data=st.data())
@quick
def test_blocks_without_an_update_get_nothing_while_others_have_room(blocks, most, data):
    total = data.draw(st.integers(0, most * len(blocks)))
    counts = allotted(blocks, total, most)
    shares = shares_of(blocks)
    nothing = np.array([norm == 0.0 for norm, _ in blocks])
    # A share of less than a part in 2**30 of the largest counts as none.
    assume(all(share == 0.0 or share > max(shares) / 2**20 for share in shares))
    if counts[nothing].any():
        assert (counts[~nothing] == most).all()


@given(blocks=blocks_of, most=st.integers(1, 300), data=st.data())
@quick
def test_more_norm_never_gets_less(blocks, most, data):
    counts = allotted(blocks, data.draw(st.integers(0, most * len(blocks))), most)
    shares = shares_of(blocks)
    for a, more in enumerate(shares):
        for b, less in enumerate(shares):
            if more > less:
                # The same share after rounding: the first block gets what is over.
                near = more - less <= max(shares) / 2**29
                assert counts[a] >= counts[b] - near


@given(blocks=blocks_of, power=st.integers(-30, 30), data=st.data())
@quick
def test_only_proportions_of_norms_count(blocks, power, data):
    total = data.draw(st.integers(0, 100 * len(blocks)))
    # sqrt(4**power) is exact.
    scaled = [(norm * 4.0**power, size) for norm, size in blocks]
    assert (allotted(scaled, total, 100) == allotted(blocks, total, 100)).all()


@given(blocks=blocks_of, total=st.integers(0, 1000))
@quick
def test_without_a_limit_each_is_within_one_of_its_proportion(blocks, total):
    shares = shares_of(blocks)
    assume(max(shares) > 0)
    counts = allotted(blocks, total, 1000)
    for count, share in zip(counts.tolist(), shares, strict=True):
        ideal = Fraction(total) * Fraction(share) / sum(map(Fraction, shares))
        assert abs(count - ideal) < 1.001


def test_what_is_above_the_limit_goes_to_the_others_in_proportion():
    counts = allotted([(1e6, 1), (4.0, 1), (1.0, 1), (0.0, 1)], 40, 25)
    assert counts.tolist() == [25, 10, 5, 0]
    assert allotted([(1.0, 1), (0.0, 1), (0.0, 1)], 9, 4).tolist() == [4, 3, 2]


def test_equal_remainders_go_to_the_first():
    assert allotted([(1.0, 1)] * 3, 5, 5).tolist() == [2, 2, 1]


def test_larger_blocks_get_more_by_the_root_of_their_size():
    assert allotted([(1.0, 100), (1.0, 900)], 40, 40).tolist() == [10, 30]


@pytest.mark.parametrize("size", [1, 2, 10, 1000])
def test_the_papers_variance_is_a_third_of_that_of_signs_so_both_allot_alike(size):
    # 1 - 2 psi(t) t / (2 Phi(t) - 1) with t = 1/sqrt(d), below equation 6.
    t = 1 / math.sqrt(size)
    density = math.exp(-t * t / 2) / math.sqrt(2 * math.pi)
    papers = 1 - 2 * density * t / math.erf(t / math.sqrt(2))
    (signs,) = sign_variances(np.array([size]))
    assert 3 * papers / signs == pytest.approx(1.0, abs=0.2 / size)
