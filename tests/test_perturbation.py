"""Perturbations to the bit: the definition, every backend against it, golden values, refusals."""

import doctest
import hashlib
import math
import re
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import peer.perturbation
from peer.perturbation import DISTRIBUTIONS, cpu, perturbation, portable, reference
from peer.perturbation.portable import PortablePerturbation
from peer.perturbation.reference import GAUSSIAN, RADEMACHER
from peer.perturbation.table import LARGEST, point_table, quadrant_points
from peer.philox import philox

CPU = torch.device("cpu")
KNOWN = {"gaussian": GAUSSIAN, "rademacher": RADEMACHER}
BACKENDS = {
    f"{name}-{backend}": kernel
    for name, distribution in KNOWN.items()
    for backend, kernel in {
        "cpu-1": perturbation(name, "cpu", threads=1),
        "cpu-3": perturbation(name, "cpu", threads=3),
        "portable": PortablePerturbation(distribution, CPU),
    }.items()
}
DTYPES = [torch.float32, torch.bfloat16, torch.float16]
SUM_BOUND = 2**51 - 1

backends = st.sampled_from(sorted(BACKENDS)).map(BACKENDS.__getitem__)
dtypes = st.sampled_from(DTYPES)
seeds = st.integers(0, 2**64 - 1)
starts = st.one_of(st.integers(0, 5000), st.integers(0, 2**62 - 20000))
coefficients = st.floats(width=32, allow_nan=False, allow_infinity=False)
lengths = st.integers(0, 9000)
quick = settings(deadline=None, max_examples=20)


@pytest.fixture(autouse=True, scope="module")
def _small_shares():
    """Cut small weights into many shares, copies and chunks, none a multiple of another."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cpu, "_SHARE", 1000)
        patch.setattr(cpu, "_COPY", 700)
        patch.setattr(portable, "CHUNK", 1500)
        yield


def some_weights(count, dtype=torch.float32, seed=0):
    return torch.randn(count, generator=torch.Generator().manual_seed(seed)).to(dtype)


def same_bits(a, b):
    kind = {4: torch.int32, 2: torch.int16}[a.element_size()]
    return a.dtype == b.dtype and torch.equal(a.view(kind), b.view(kind))


def digest(array):
    return hashlib.blake2b(array.view(torch.uint8).numpy().data, digest_size=16).hexdigest()


def test_table_is_golden():
    table = point_table()
    assert table.dtype == np.int16
    assert table.shape == (16384, 2)
    golden = "f4102be2784723cb4db879ecb00653e837970b5abf3a5f3ad55df16061b6dcfd"
    assert hashlib.sha256(table.astype("<i2").tobytes()).hexdigest() == golden


def test_points_have_the_moments_of_the_plane():
    x, y = point_table().astype(np.float64).T / 4096
    assert point_table().min() >= 0
    assert point_table().max() == LARGEST < 2**15
    for axis in (x, y):
        assert abs(np.mean(axis**2) - 1) < 2e-6
        for power, moment in ((4, 3), (6, 15), (8, 105)):
            assert abs(np.mean(axis**power) / moment - 1) < 0.01
    # Independent coordinates have E x^2 y^2 = 1, E x^2 y^4 = 3, E x^4 y^4 = 9.
    for powers, moment in (((2, 2), 1), ((2, 4), 3), ((4, 2), 3), ((4, 4), 9)):
        assert abs(np.mean(x ** powers[0] * y ** powers[1]) / moment - 1) < 0.02


@pytest.mark.parametrize("axis", [0, 1])
def test_coordinates_lie_where_the_normal_distribution_has_them(axis):
    values = np.sort(point_table()[:, axis] / 4096)
    normal = np.array([math.erf(v / math.sqrt(2)) for v in values])
    below, above = np.arange(16384) / 16384, np.arange(1, 16385) / 16384
    # Both halves of the distribution are alike, so its own distance is half of this.
    assert max(np.abs(normal - below).max(), np.abs(normal - above).max()) / 2 < 0.0006


def test_no_point_lies_so_near_a_boundary_that_a_library_could_round_it_otherwise():
    points = quadrant_points()
    assert np.min(np.abs(points - np.floor(points) - 0.5)) > 1e-7


def spelled_out(name, seed, i):
    """Return one number by the words of the definition, in Python's integers."""
    if name == "rademacher":
        block = philox(seed, np.array([i // 128], dtype=np.uint64), 1)[0].tolist()
        return 1 if block[i % 128 // 32] >> i % 32 & 1 else -1
    lane, h = i % 32, i % 512 // 32
    block = philox(seed, np.array([32 * (i // 512) + lane], dtype=np.uint64), 0)[0].tolist()
    word = block[h // 4]
    half = word >> 16 if h // 2 % 2 else word & 0xFFFF
    x, y = point_table()[half % 16384].tolist()
    if h % 2:
        return -y if half & 0x8000 else y
    return -x if half & 0x4000 else x


@pytest.mark.parametrize("name", DISTRIBUTIONS)
@given(seed=seeds, start=starts)
@settings(deadline=None, max_examples=6)
def test_reference_is_the_definition(name, seed, start):
    expected = [spelled_out(name, seed, i) for i in range(start, start + 600)]
    assert reference.units(KNOWN[name], seed, start, start + 600).tolist() == expected


GOLDEN_UNITS = {
    # name: seed, start, the first numbers, digest of 100,000 numbers
    "gaussian": [
        (
            0,
            0,
            [-1723, -2044, 4067, -6689, -1332, 1388, -2557, 4495],
            "ebe95f1f1ab90791a6879162ec6e3a22",
        ),
        (
            2611923443488327891,
            8589934669,
            [-947, -5234, -1241, -529, 2765, 8315, 3572, 7595],
            "028d0fc044dd59e025d862f4b2f3bdaf",
        ),
    ],
    "rademacher": [
        (0, 0, [1, -1, -1, -1, -1, 1, 1, 1], "7392e6857150636e83c6566ce4ffc553"),
        (
            2611923443488327891,
            8589934669,
            [-1, 1, -1, -1, 1, -1, -1, -1],
            "7837261ccbfae1c8e4e3ef365dd7823a",
        ),
    ],
}


@pytest.mark.parametrize("kernel", BACKENDS.values(), ids=BACKENDS)
@pytest.mark.parametrize("at", [0, 1])
def test_units_are_golden(kernel, at):
    seed, start, first, expected = GOLDEN_UNITS[kernel.distribution.name][at]
    assert kernel.units(seed, start, start + 8).tolist() == first
    assert digest(kernel.units(seed, start, start + 100_000)) == expected


@given(kernel=backends, seed=seeds, start=starts, length=lengths)
@quick
def test_units_equal_the_reference(kernel, seed, start, length):
    units = kernel.units(seed, start, start + length)
    assert units.dtype == torch.int16
    expected = reference.units(kernel.distribution, seed, start, start + length)
    assert np.array_equal(units.numpy(), expected)
    assert np.abs(expected).max(initial=0) <= kernel.bound


@given(kernel=backends, dtype=dtypes, seed=seeds, c=coefficients, start=starts, length=lengths)
@quick
def test_axpy_equals_the_reference(kernel, dtype, seed, c, start, length):
    weights = some_weights(length, dtype)
    expected = reference.axpy(kernel.distribution, weights, seed, c, start)
    kernel.axpy_(weights, seed, c, start)
    assert same_bits(weights, expected)


passes = st.lists(st.tuples(st.integers(0, 2), coefficients), min_size=1, max_size=5)


@given(kernel=backends, dtype=dtypes, passes=passes, start=starts, length=lengths)
@quick
def test_several_passes_at_once_are_one_after_the_other(kernel, dtype, passes, start, length):
    weights = some_weights(length, dtype)
    expected = weights
    for seed, c in passes:
        expected = reference.axpy(kernel.distribution, expected, seed, c, start)
    kernel.passes_(weights, passes, start)
    finite = ~expected.isnan()
    assert torch.equal(weights.isnan(), expected.isnan())
    assert same_bits(weights[finite], expected[finite])


@pytest.mark.parametrize("kernel", BACKENDS.values(), ids=BACKENDS)
def test_no_passes_change_nothing(kernel):
    weights = some_weights(300)
    kernel.passes_(weights, [])
    assert same_bits(weights, some_weights(300))


@given(kernel=backends, start=st.integers(0, 2**40), cut=st.integers(0, 3000), dtype=dtypes)
@quick
def test_any_slice_alone_equals_the_slice_of_the_whole(kernel, start, cut, dtype):
    ids = np.array([3, 2**64 - 1], dtype=np.uint64)
    sums = np.array([SUM_BOUND, -(2**45)])
    w0 = some_weights(3000, dtype)
    moved, rebuilt = w0.clone(), torch.empty_like(w0)
    kernel.axpy_(moved, 5, 0.1, start)
    kernel.rebuild(rebuilt, w0, ids, sums, -60, start)
    whole = kernel.units(5, start, start + 3000)
    for part in (slice(0, cut), slice(cut, 3000)):
        first = start + part.start
        assert torch.equal(kernel.units(5, first, start + part.stop), whole[part])
        alone, out = w0[part].clone(), w0[part].clone()
        kernel.axpy_(alone, 5, 0.1, first)
        kernel.rebuild(out, w0[part], ids, sums, -60, first)
        assert same_bits(alone, moved[part])
        assert same_bits(out, rebuilt[part])


GOLDEN_PASSES = {
    # name: dtype: digest after axpy, digest after rebuild
    "gaussian": {
        torch.float32: ("920f6f6bd6787175bffbf61644eaa9f4", "c0992726af858540198542fa20d34cfe"),
        torch.bfloat16: ("13d207a8d66f98259f7b4a0e16f60f93", "8125c195e1b8ad8e45e12de4c73bc90c"),
        torch.float16: ("3e6bd27e21fad16a30b8a5d04b044504", "c3dc08c377c1078908a39f150db11fb7"),
    },
    "rademacher": {
        torch.float32: ("7a9b24f9f2b93b39967ead3c5ee790cb", "04e3a22ce6f78ea7d165a99486c4d158"),
        torch.bfloat16: ("9268aca9827b973964e672d2b2831c7a", "01e86cceb7ffe3c5454ffc8799bde09f"),
        torch.float16: ("1d044e35b6267a419711ee0802d5748b", "aacc68cc11154b5901b53569e811b1fc"),
    },
}


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("kernel", BACKENDS.values(), ids=BACKENDS)
def test_passes_are_golden(kernel, dtype):
    # Weights that no library's generator decides.
    w0 = (torch.arange(20_000) * 40503 % 65536 - 32768).float().mul(2.0**-18).to(dtype)
    axpy, rebuild = GOLDEN_PASSES[kernel.distribution.name][dtype]
    moved = w0.clone()
    for c in (1e-3, -2e-3, 1e-3, -0.0123):
        kernel.axpy_(moved, 2**63 + 11, c, start=1000)
    assert digest(moved) == axpy
    ids = np.arange(1, 9, dtype=np.uint64) * np.uint64(2**60 + 1)
    sums = np.array([SUM_BOUND, -SUM_BOUND, 1, 2**40, -(2**33) - 1, 0, 12345, -(2**50) + 7])
    kernel.rebuild(moved, w0, ids, sums, -62, start=1000)
    assert digest(moved) == rebuild


@given(w=coefficients, c=coefficients, i=st.integers(0, 32767))
def test_a_fused_multiply_add_cannot_change_a_pass(w, c, i):
    z = int(point_table()[i // 2, i % 2]) * 2.0**-12
    product = Fraction(c) * Fraction(z)
    assert Fraction(c * z) == product
    assert w + c * z == float(Fraction(w) + product)


@pytest.mark.parametrize("kernel", BACKENDS.values(), ids=BACKENDS)
def test_weights_that_are_not_numbers_stay_so_and_spoil_no_others(kernel):
    weights = some_weights(400)
    weights[7] = math.nan
    expected = reference.axpy(kernel.distribution, weights, 3, 0.5)
    kernel.axpy_(weights, 3, 0.5)
    assert weights[7].isnan()
    weights[7] = expected[7] = 0.0
    assert torch.equal(weights, expected)


@pytest.mark.parametrize("kernel", BACKENDS.values(), ids=BACKENDS)
def test_a_parameter_that_requires_gradients_is_changed_in_place(kernel):
    weights = torch.nn.Parameter(some_weights(300))
    expected = reference.axpy(kernel.distribution, weights.detach(), 3, 0.5)
    kernel.axpy_(weights, 3, 0.5)
    assert weights.requires_grad
    assert torch.equal(weights.detach(), expected)


@pytest.mark.parametrize("kernel", BACKENDS.values(), ids=BACKENDS)
def test_a_seed_may_be_an_element_of_an_array(kernel):
    for seed in np.array([5, 2**64 - 1], dtype=np.uint64):
        assert torch.equal(kernel.units(seed, 0, 300), kernel.units(int(seed), 0, 300))
        weights, expected = some_weights(300), some_weights(300)
        kernel.axpy_(weights, seed, 0.5)
        kernel.axpy_(expected, int(seed), 0.5)
        assert torch.equal(weights, expected)


def test_example_in_the_package():
    assert doctest.testmod(peer.perturbation) == (0, 3)


W = torch.zeros(10)
REFUSED_AXPY = [
    ((W, -1, 1.0), "seed -1 "),
    ((W, 2**64, 1.0), "seed 18446744073709551616 "),
    ((W, 1, math.inf), "coefficient inf "),
    ((W, 1, 1e39), "coefficient 1e+39 "),
    ((W, 1, math.nan), "coefficient nan "),
    ((W, 1, 1.0, -1), "weights -1 to 9 "),
    ((W, 1, 1.0, 2**62 - 9), f"weights {2**62 - 9} to {2**62 + 1} "),
    ((W.double(), 1, 1.0), "torch.float64"),
    ((W.view(2, 5), 1, 1.0), "(2, 5)"),
    ((W[::2], 1, 1.0), "strides (2,)"),
    ((torch.zeros(10, device="meta"), 1, 1.0), "on meta"),
]


@pytest.mark.parametrize(("arguments", "message"), REFUSED_AXPY, ids=[m for _, m in REFUSED_AXPY])
@pytest.mark.parametrize("kernel", BACKENDS.values(), ids=BACKENDS)
def test_axpy_refuses(kernel, arguments, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        kernel.axpy_(*arguments)
    assert W.count_nonzero() == 0


@pytest.mark.parametrize("kernel", BACKENDS.values(), ids=BACKENDS)
def test_one_bad_pass_keeps_the_good_ones_from_being_taken(kernel):
    with pytest.raises(ValueError, match="coefficient nan "):
        kernel.passes_(W, [(1, 1.0), (2, math.nan)])
    assert W.count_nonzero() == 0


def test_units_refuse_a_range_that_runs_backwards():
    with pytest.raises(ValueError, match="weights 5 to 4 "):
        BACKENDS["gaussian-cpu-1"].units(1, 5, 4)


def test_unknown_distributions_and_no_threads_are_refused():
    with pytest.raises(ValueError, match="unknown distribution 'cauchy': gaussian or rademacher"):
        perturbation("cauchy", "cpu")
    with pytest.raises(ValueError, match="threads 0"):
        perturbation("gaussian", "cpu", threads=0)
