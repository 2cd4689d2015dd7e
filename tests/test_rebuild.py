"""The rebuild: exact in every backend for every accumulator, and digests that prove it."""

import functools
import math
import re
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import peer.weights_digest
from peer.accumulator import Accumulator
from peer.perturbation import DISTRIBUTIONS, cpu, perturbation, portable, reference
from peer.perturbation.limbs import GROUP, split
from peer.perturbation.portable import PortablePerturbation
from peer.perturbation.reference import GAUSSIAN, RADEMACHER
from peer.perturbation.table import LARGEST
from peer.seeds import candidate_seeds
from peer.units import Units
from peer.weights_digest import weights_digest

KNOWN = {"gaussian": GAUSSIAN, "rademacher": RADEMACHER}
BACKENDS = {
    f"{name}-{backend}": kernel
    for name, distribution in KNOWN.items()
    for backend, kernel in {
        "cpu-1": perturbation(name, "cpu", threads=1),
        "cpu-3": perturbation(name, "cpu", threads=3),
        "portable": PortablePerturbation(distribution, torch.device("cpu")),
    }.items()
}
SUM_BOUND = 2**51 - 1

every_backend = pytest.mark.parametrize("kernel", BACKENDS.values(), ids=BACKENDS)
backends = st.sampled_from(sorted(BACKENDS)).map(BACKENDS.__getitem__)
dtypes = st.sampled_from([torch.float32, torch.bfloat16, torch.float16])
seeds = st.integers(0, 2**64 - 1)
quick = settings(deadline=None, max_examples=20)


@pytest.fixture(autouse=True, scope="module")
def _small_shares():
    """Cut small weights into many shares, copies and chunks, none a multiple of another."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cpu, "_SHARE", 1000)
        patch.setattr(cpu, "_COPY", 700)
        patch.setattr(portable, "CHUNK", 1500)
        yield


def some_weights(count, dtype=torch.float32):
    return torch.randn(count, generator=torch.Generator().manual_seed(0)).to(dtype)


def rebuilt(kernel, w0, ids, sums, exponent):
    out = torch.full_like(w0, math.nan)
    kernel.rebuild(out, w0, np.array(ids, np.uint64), np.array(sums, np.int64), exponent)
    return out


@st.composite
def accumulators(draw):
    """Draw seeds and their sums, many of them zero or as large as can be."""
    largest = draw(st.sampled_from([1, 2**20, 2**36, 2**39, SUM_BOUND]))
    sums = st.one_of(st.sampled_from([0, largest, -largest]), st.integers(-largest, largest))
    pairs = draw(st.lists(st.tuples(seeds, sums), max_size=6))
    return [seed for seed, _ in pairs], [a for _, a in pairs]


@given(
    kernel=backends,
    dtype=dtypes,
    accumulator=accumulators(),
    exponent=st.integers(-80, -10),
    start=st.one_of(st.integers(0, 5000), st.integers(0, 2**62 - 20000)),
    length=st.integers(0, 5000),
)
@quick
def test_every_backend_equals_the_reference(kernel, dtype, accumulator, exponent, start, length):
    ids, sums = np.array(accumulator[0], np.uint64), np.array(accumulator[1], np.int64)
    w0 = some_weights(length, dtype)
    kept, out = w0.clone(), torch.full_like(w0, math.nan)
    expected = reference.rebuild(kernel.distribution, w0, ids, sums, exponent, start)
    kernel.rebuild(out, w0, ids, sums, exponent, start)
    assert weights_digest(out) == weights_digest(expected)
    assert weights_digest(w0) == weights_digest(kept)
    kernel.rebuild(w0, w0, ids, sums, exponent, start)
    assert weights_digest(w0) == weights_digest(expected)


@given(kernel=backends, dtype=dtypes, seed=seeds, a=st.integers(-(2**24), 2**24))
@quick
def test_one_seed_is_one_pass_over_the_weights(kernel, dtype, seed, a):
    w0 = some_weights(2000, dtype)
    out = rebuilt(kernel, w0, [seed], [a], -30)
    kernel.axpy_(w0, seed, -a * 2.0**-30)
    assert torch.equal(out, w0)


@given(kernel=backends, accumulator=accumulators(), order=st.randoms(use_true_random=False))
@quick
def test_the_order_of_seeds_cannot_change_a_bit(kernel, accumulator, order):
    pairs = list(zip(*accumulator, strict=True))
    w0 = some_weights(300)
    out = rebuilt(kernel, w0, *accumulator, -50)
    order.shuffle(pairs)
    again = rebuilt(kernel, w0, [seed for seed, _ in pairs], [a for _, a in pairs], -50)
    assert weights_digest(again) == weights_digest(out)


@given(
    kernel=backends,
    dtype=dtypes,
    ids=st.lists(seeds, max_size=70),
    replicas=st.integers(1, 9),
    largest=st.sampled_from([1, 2**30, 2**39, SUM_BOUND]),
    start=st.one_of(st.integers(0, 5000), st.integers(0, 2**62 - 20000)),
    length=st.integers(0, 5000),
)
@quick
def test_several_accumulators_at_once_are_one_after_the_other(
    kernel, dtype, ids, replicas, largest, start, length
):
    generator = np.random.default_rng(len(ids))
    sums = generator.integers(-largest, largest, (replicas, len(ids)), endpoint=True)
    # Some seeds serve no accumulator, and some not all of them.
    sums[:, ::5] = 0
    sums[: replicas // 2, ::3] = 0
    w0 = some_weights(length, dtype)
    outs = torch.full((replicas, length), math.nan, dtype=dtype)
    kernel.rebuild_many(outs, w0, np.array(ids, np.uint64), sums, -50, start)
    for out, row in zip(outs, sums, strict=True):
        expected = torch.empty_like(w0)
        kernel.rebuild(expected, w0, np.array(ids, np.uint64), row, -50, start)
        assert torch.equal(out, expected)


@given(
    kernel=backends,
    dtype=dtypes,
    sizes=st.lists(st.integers(0, 5000), min_size=1, max_size=5),
    replicas=st.integers(1, 5),
    largest=st.sampled_from([1, 2**30, SUM_BOUND]),
    start=st.integers(0, 5000) | st.integers(0, 2**62 - 30_000),
    data=st.data(),
)
@quick
def test_blocks_in_one_call_are_one_after_the_other(
    kernel, dtype, sizes, replicas, largest, start, data
):
    """And so they are in pieces whose ends lie within blocks, which have any number of seeds."""
    offsets = start + np.cumsum([0, *sizes])
    ids = candidate_seeds(4, 40)
    generator = np.random.default_rng(len(sizes))
    sums = generator.integers(-largest, largest, (replicas, len(sizes), 40), endpoint=True)
    for block in range(len(sizes)):
        sums[:, block, data.draw(st.integers(0, 40)) :] = 0
    w0 = some_weights(sum(sizes), dtype)
    expected = torch.empty(replicas, len(w0), dtype=dtype)
    for block, (first, stop) in enumerate(pairwise((offsets - start).tolist())):
        for out, row in zip(expected, sums[:, block], strict=True):
            kernel.rebuild(out[first:stop], w0[first:stop], ids, row, -50, start + first)
    cut = data.draw(st.integers(0, len(w0)))
    for some in (slice(0, cut), slice(cut, len(w0))):
        outs = torch.full((replicas, len(w0[some])), math.nan, dtype=dtype)
        kernel.rebuild_blocks(outs, w0[some], ids, sums, offsets, -50, start + some.start)
        assert torch.equal(outs, expected[:, some])


@pytest.mark.parametrize(
    ("offsets", "message"),
    [
        ([0, 5, 9], "weights 0 to 10 do not lie in them"),
        ([1, 5, 10], "weights 0 to 10 do not lie in them"),
        ([0, 10], "2 and at least 1"),
        ([0, 11, 10], "must lie in a row"),
        ([0.0, 5.0, 10.0], "float64"),
    ],
)
@every_backend
def test_what_are_no_blocks_is_refused(kernel, offsets, message):
    outs = torch.zeros(1, 10)
    with pytest.raises(ValueError, match=message):
        kernel.rebuild_blocks(outs, W, IDS, np.ones((1, 2, 2), np.int64), np.array(offsets), -24)
    assert outs.count_nonzero() == 0


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_several_accumulators_of_more_seeds_than_a_group(name):
    generator = np.random.default_rng(3)
    ids = generator.integers(0, 2**64, GROUP + 40, dtype=np.uint64)
    sums = generator.integers(-SUM_BOUND, SUM_BOUND, (5, len(ids)), endpoint=True)
    sums[0], sums[1] = SUM_BOUND, -SUM_BOUND
    w0, outs = some_weights(140), torch.empty(5, 140)
    kernel = BACKENDS[f"{name}-cpu-1"]
    kernel.rebuild_many(outs, w0, ids, sums, -75)
    scale = 2.0 ** (-75 - kernel.unit_bits)
    for out, total in zip(outs, exact_sums(name, ids, sums, 140), strict=True):
        assert torch.equal(out, (w0.double() - scale * near(total, 0)).float())


def exact_sums(name, ids, sums, count):
    """Return S of the first weights as Python's integers, for each row of sums."""
    z = np.stack([reference.units(KNOWN[name], seed, 0, count) for seed in ids.tolist()])
    return (sums.astype(object) @ z.astype(object)).tolist()


@functools.cache
def sums_near_the_bound(name, seed_count):
    """Return seeds, sums and the exact S of 300 weights."""
    generator = np.random.default_rng(seed_count)
    ids = generator.integers(0, 2**64, seed_count, dtype=np.uint64)
    sums = generator.integers(-SUM_BOUND, SUM_BOUND, seed_count, endpoint=True)
    sums[::3] = SUM_BOUND
    sums[1::3] = -SUM_BOUND
    return ids, sums, exact_sums(name, ids, sums[None], 300)[0]


def near(total, direction):
    """Return S rounded to float64, or its neighbours: the tensor of a list of integers."""
    rounded = torch.tensor([float(s) for s in total], dtype=torch.float64)
    return rounded.nextafter(torch.full_like(rounded, direction)) if direction else rounded


@pytest.mark.parametrize("seed_count", [7, GROUP + 1])
@every_backend
def test_all_53_bits_of_the_sum_are_kept(kernel, seed_count, monkeypatch):
    if isinstance(kernel, PortablePerturbation):
        # Its groups may be small, and thousands of seeds would take it seconds.
        monkeypatch.setattr(portable, "GROUP", 64)
        seed_count = min(seed_count, 64 + 1)
    ids, sums, total = sums_near_the_bound(kernel.distribution.name, seed_count)
    # What such a w0 leaves of S brings its last bits within reach of a float32.
    w0 = near(total, 0).float()
    out = rebuilt(kernel, w0, ids, sums, kernel.unit_bits)
    assert torch.equal(out, (w0.double() - near(total, 0)).float())
    for neighbour in (near(total, math.inf), near(total, -math.inf)):
        assert not torch.equal(out, (w0.double() - neighbour).float())


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_the_largest_sums_that_all_point_one_way(name):
    kernel = BACKENDS[f"{name}-cpu-1"]
    w0 = torch.zeros(130)
    out = rebuilt(kernel, w0, [77] * 2 * GROUP, [-SUM_BOUND] * 2 * GROUP, -70)
    z = reference.units(KNOWN[name], 77, 0, 130).tolist()
    total = [2 * GROUP * SUM_BOUND * units for units in z]
    assert torch.equal(out, (near(total, 0) * 2.0 ** (-70 - kernel.unit_bits)).float())


@given(
    sums=st.lists(st.integers(-SUM_BOUND, SUM_BOUND), max_size=20),
    bound=st.sampled_from([1, LARGEST]),
)
def test_limbs_make_up_the_sums_and_leave_room(sums, bound):
    (limbs,) = split(np.array([sums], dtype=np.int64), bound)
    assert sum(limbs[n] << 26 * n for n in range(len(limbs))).tolist() == sums
    if len(limbs) == 1:
        assert sum(map(abs, sums)) * bound < 2**53
    else:
        assert int(np.abs(limbs).max()) * bound * GROUP < 2**53


@every_backend
@pytest.mark.parametrize(("ids", "sums"), [([], []), ([1, 2], [0, 0])])
def test_no_seeds_or_only_sums_of_zero_give_back_w0(kernel, ids, sums):
    w0 = some_weights(500)
    assert weights_digest(rebuilt(kernel, w0, ids, sums, -24)) == weights_digest(w0)


@every_backend
def test_an_accumulator_stands_for_w0_minus_eta_times_its_gradients(kernel):
    units = Units(exponent=-10, fraction_bits=24, magnitude_bits=24)
    accumulator = Accumulator.empty(3, units)
    accumulator.add(np.array([0, 2, 2]), np.array([1.5, 0.25, 0.5], dtype=np.float32), weight=1.25)
    ids = np.array([10, 20, 30], dtype=np.uint64)
    w0 = some_weights(1000)
    out = rebuilt(kernel, w0, ids, accumulator.sums, units.exponent - units.fraction_bits)
    z = [kernel.units(seed, 0, 1000).double() * 2.0**-kernel.unit_bits for seed in (10, 30)]
    eta = 1.25 * 2.0**-10
    assert torch.equal(out, (w0.double() - eta * 1.5 * z[0] - eta * 0.75 * z[1]).float())


W = torch.zeros(10)
IDS, SUMS = np.array([1, 2], dtype=np.uint64), np.array([3, 4])
REFUSED = [
    ((W, W, IDS, np.array([0, 2**51]), -24), "sum 2251799813685248 "),
    ((W, W, IDS, np.array([-(2**63), 0]), -24), "sum -9223372036854775808 "),
    ((W, W, IDS.astype(np.int64), SUMS, -24), "seeds are int64"),
    ((W, W, IDS, SUMS.astype(np.float64), -24), "sums float64"),
    ((W, W, IDS[:1], SUMS, -24), "(1,)"),
    ((W, W, IDS[None], SUMS[None], -24), "(1, 2)"),
    ((W, W, IDS, SUMS, 901), "exponent 901 "),
    ((W, W, IDS, SUMS, -24, -5), "weights -5 to 5 "),
    ((W, torch.zeros(9), IDS, SUMS, -24), "of 9"),
    ((W, W.half(), IDS, SUMS, -24), "torch.float16"),
    ((W.int(), W, IDS, SUMS, -24), "out is torch.int32"),
    ((W[1:], W[:-1], IDS, SUMS, -24), "w0 begins -4 bytes from out"),
    ((W[:-1], W[1:], IDS, SUMS, -24), "w0 begins 4 bytes from out"),
]


@pytest.mark.parametrize(("arguments", "message"), REFUSED, ids=[m for _, m in REFUSED])
@every_backend
def test_what_is_refused_changes_nothing(kernel, arguments, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        kernel.rebuild(*arguments)
    assert W.count_nonzero() == 0


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("at", [0, 4999, 8191])
@every_backend
def test_a_w0_that_is_not_finite_is_refused(kernel, value, dtype, at):
    w0, out = some_weights(8192, dtype), torch.zeros(8192, dtype=dtype)
    w0[at] = value
    with pytest.raises(ValueError, match=f"weight {at + 7} of w0 is {value}"):
        kernel.rebuild(out, w0, IDS, SUMS, -24, 7)
    assert out.count_nonzero() == 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@every_backend
def test_the_largest_finite_weights_are_no_mistake(kernel, dtype):
    w0 = torch.tensor([torch.finfo(dtype).max, torch.finfo(dtype).min, 5e-8, -0.0], dtype=dtype)
    assert weights_digest(rebuilt(kernel, w0, [1], [0], -24)) == weights_digest(w0)


ROWS = torch.zeros(2, 10)
REFUSED_MANY = [
    ((torch.zeros(2, 10), W, IDS, SUMS[None], -24), "2 sums for each seed"),
    ((torch.zeros(2, 9), W, IDS, np.ones((2, 2), np.int64), -24), "of 9"),
    ((torch.zeros(10, 2).T, W, IDS, np.ones((2, 2), np.int64), -24), "strides"),
    ((torch.zeros(20), W, IDS, np.ones((2, 2), np.int64), -24), "of 20"),
    ((ROWS, ROWS[0], IDS, np.ones((2, 2), np.int64), -24), "w0 begins 0 bytes from out"),
    ((ROWS, ROWS[1], IDS, np.ones((2, 2), np.int64), -24), "w0 begins 40 bytes from out"),
]


@pytest.mark.parametrize(("arguments", "message"), REFUSED_MANY, ids=[m for _, m in REFUSED_MANY])
@every_backend
def test_what_is_refused_for_several_changes_nothing(kernel, arguments, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        kernel.rebuild_many(*arguments)
    assert arguments[0].count_nonzero() == 0


def test_digests_are_golden():
    weights = torch.arange(-500, 500).float() / 8
    assert weights_digest(weights) == "0c4cf410aa500dcaa97a6b5cde36b496"
    assert weights_digest(weights.bfloat16()) == "07754f02085c2d84ca8e3ba7220ee45c"
    assert weights_digest(weights.half()) == "2f8865d31dcbe9900d0a04eb0643b96e"


@given(
    dtype=dtypes,
    length=st.integers(1, 200),
    chunk=st.integers(1, 250),
    at=st.integers(0, 199),
)
@quick
def test_digests_see_every_bit_and_no_chunks(dtype, length, chunk, at):
    weights = torch.zeros(length, dtype=dtype)
    expected = weights_digest(weights)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(peer.weights_digest, "_CHUNK", chunk)
        assert weights_digest(weights) == expected
        weights[at % length] = -0.0
        assert weights_digest(weights) != expected


def test_digests_see_the_type_and_the_length():
    digests = [
        weights_digest(torch.zeros(length, dtype=dtype))
        for dtype in (torch.float32, torch.bfloat16, torch.float16)
        for length in (0, 1, 2)
    ]
    assert len(set(digests)) == len(digests)
