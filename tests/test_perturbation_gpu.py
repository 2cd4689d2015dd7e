"""The kernels of a GPU to the bit: on a GPU where there is one, else under Triton's interpreter."""

import math
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_perturbation import (
    DTYPES,
    GOLDEN_PASSES,
    GOLDEN_UNITS,
    KNOWN,
    SUM_BOUND,
    digest,
    same_bits,
    some_weights,
)

import peer.perturbation
from peer.perturbation import DISTRIBUTIONS, perturbation, reference
from peer.weights_digest import weights_digest

ON_GPU = torch.cuda.is_available()
pytest.importorskip("triton", minversion="3.5" if ON_GPU else "3.7", reason="no (recent) Triton")
gpu = pytest.importorskip("peer.perturbation.gpu")

DEVICE = torch.device("cuda" if ON_GPU else "cpu")
# A step of the interpreter takes a millisecond, however much it does, so there tiles are large.
WIDE = {
    "gaussian": gpu.Tiling(512, 512, 64, 2**18, 4),
    "rademacher": gpu.Tiling(64, 64, 64, 2**17, 4),
}
DEEP = {
    "gaussian": gpu.Tiling(64, 32, 512, 2**14, 4),
    "rademacher": gpu.Tiling(32, 8, 512, 2**12, 4),
}
CPU = {name: perturbation(name, "cpu", threads=1) for name in DISTRIBUTIONS}
KERNELS = {
    name: gpu.GpuPerturbation(KNOWN[name], DEVICE, None if ON_GPU else WIDE[name])
    for name in DISTRIBUTIONS
}

names = st.sampled_from(DISTRIBUTIONS)
dtypes = st.sampled_from(DTYPES)
seeds = st.integers(0, 2**64 - 1)
starts = st.one_of(st.integers(0, 5000), st.just(2**62 - 9000), st.integers(0, 2**62 - 9000))
lengths = st.integers(0, 9000)
coefficients = st.floats(width=32, allow_nan=False, allow_infinity=False)
passes = st.lists(st.tuples(st.sampled_from([0, 1, 2**64 - 1]), coefficients), max_size=4)

every_name = pytest.mark.parametrize("name", DISTRIBUTIONS)
every_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=str)
# The interpreter's numpy tells of what a GPU does in silence.
pytestmark = [
    pytest.mark.filterwarnings("ignore:(overflow|invalid value) encountered"),
    pytest.mark.slow,
]


def few(examples):
    return settings(deadline=None, max_examples=10 * examples if ON_GPU else examples)


def there(tensor):
    """Return a copy on the device."""
    return tensor.clone().to(DEVICE)


def on_device(take, *tensors):
    """Return copies of tensors after something was done to them on the device."""
    copies = [there(tensor) for tensor in tensors]
    take(*copies)
    return [copy.cpu() for copy in copies]


def rebuilt(kernel, w0, ids, sums, exponent, start=0):
    """Return what several accumulators stand for, made by a kernel of either device."""
    w0 = w0.to(kernel.device)
    outs = torch.full((len(sums), len(w0)), math.nan, dtype=w0.dtype, device=kernel.device)
    kernel.rebuild_many(outs, w0, np.array(ids, np.uint64), np.array(sums), exponent, start)
    return outs.cpu()


def random_sums(shape, largest=SUM_BOUND, seed=0):
    return np.random.default_rng(seed).integers(-largest, largest, shape, endpoint=True)


def random_seeds(count):
    return np.random.default_rng(count).integers(0, 2**64, count, dtype=np.uint64)


@every_name
@pytest.mark.parametrize("at", [0, 1])
def test_units_are_golden(name, at):
    seed, start, first, expected = GOLDEN_UNITS[name][at]
    units = KERNELS[name].units(seed, start, start + 100_000).cpu()
    assert units[:8].tolist() == first
    assert digest(units) == expected


@given(name=names, seed=seeds, start=starts, length=lengths)
@few(25)
def test_units_equal_the_reference(name, seed, start, length):
    units = KERNELS[name].units(seed, start, start + length)
    assert units.dtype == torch.int16
    expected = reference.units(KNOWN[name], seed, start, start + length)
    assert np.array_equal(units.cpu().numpy(), expected)


@given(name=names, dtype=dtypes, passes=passes, start=starts, length=lengths)
@few(40)
def test_passes_equal_the_reference(name, dtype, passes, start, length):
    weights = some_weights(length, dtype)
    expected = weights
    for seed, c in passes:
        expected = reference.axpy(KNOWN[name], expected, seed, c, start)
    (moved,) = on_device(lambda w: KERNELS[name].passes_(w, passes, start), weights)
    assert torch.equal(moved.isnan(), expected.isnan())
    assert same_bits(moved.nan_to_num(), expected.nan_to_num())


@every_dtype
@every_name
def test_passes_are_golden(name, dtype):
    w0 = (torch.arange(20_000) * 40503 % 65536 - 32768).float().mul(2.0**-18).to(dtype)
    kernel, (axpy, rebuild) = KERNELS[name], GOLDEN_PASSES[name][dtype]
    closing = [(2**63 + 11, c) for c in (1e-3, -2e-3, 1e-3, -0.0123)]
    (moved,) = on_device(lambda w: kernel.passes_(w, closing, start=1000), w0)
    assert digest(moved) == axpy
    ids = np.arange(1, 9, dtype=np.uint64) * np.uint64(2**60 + 1)
    sums = np.array([SUM_BOUND, -SUM_BOUND, 1, 2**40, -(2**33) - 1, 0, 12345, -(2**50) + 7])
    (out,) = on_device(lambda w: kernel.rebuild(w, w, ids, sums, -62, start=1000), w0)
    assert digest(out) == rebuild


@every_dtype
@every_name
def test_weights_at_the_edges_of_their_type(name, dtype):
    about = torch.finfo(dtype)
    edges = [0.0, -0.0, about.max, about.min, about.tiny, about.smallest_normal / 4, math.inf]
    weights = torch.tensor([*edges, -math.inf, math.nan] * 300).to(dtype)
    for c in (0.0, -0.0, 1e-45, about.max / 512, float(torch.finfo(torch.float32).max)):
        expected = reference.axpy(KNOWN[name], weights, 9, c)
        (moved,) = on_device(lambda w, c=c: KERNELS[name].axpy_(w, 9, c), weights)
        assert torch.equal(moved.isnan(), expected.isnan())
        assert same_bits(moved.nan_to_num(), expected.nan_to_num())


@given(
    name=names,
    dtype=dtypes,
    # With more, a rebuild goes on to a second step: that is in the tests of many seeds below.
    ids=st.lists(seeds, max_size=20),
    replicas=st.integers(1, 6),
    largest=st.sampled_from([1, 2**30, SUM_BOUND]),
    exponent=st.integers(-80, -10),
    start=starts,
    length=st.integers(0, 3000),
)
@few(12)
def test_rebuilds_equal_the_cpu(name, dtype, ids, replicas, largest, exponent, start, length):
    w0 = some_weights(length, dtype)
    # Every seed is there twice, as no real accumulator has it.
    ids, sums = ids * 2, random_sums((replicas, 2 * len(ids)), largest)
    expected = rebuilt(CPU[name], w0, ids, sums, exponent, start)
    assert same_bits(rebuilt(KERNELS[name], w0, ids, sums, exponent, start), expected)


# Of eight Gaussian replicas a tile holds half of each period's blocks.
@pytest.mark.parametrize("replicas", [1, 3, 8])
@every_name
def test_the_tiles_of_a_gpu(name, replicas):
    kernel = gpu.GpuPerturbation(KNOWN[name], DEVICE)
    w0, start = some_weights(1300 if name == "rademacher" else 600), 2**40 + 77
    ids, sums = random_seeds(37), random_sums((replicas, 37))
    expected = rebuilt(CPU[name], w0, ids, sums, -60, start)
    assert same_bits(rebuilt(kernel, w0, ids, sums, -60, start), expected)
    moved = w0.clone()
    CPU[name].passes_(moved, [(3, 0.1), (3, -0.7), (4, 1e-3)], start)
    (out,) = on_device(lambda w: kernel.passes_(w, [(3, 0.1), (3, -0.7), (4, 1e-3)], start), w0)
    assert same_bits(out, moved)


@pytest.mark.parametrize("seed_count", [1, 4096])
@every_name
def test_all_53_bits_of_the_sum_are_kept(name, seed_count):
    kernel = KERNELS[name] if ON_GPU else gpu.GpuPerturbation(KNOWN[name], DEVICE, DEEP[name])
    ids, sums = random_seeds(seed_count), random_sums((1, seed_count))
    exponent = CPU[name].unit_bits
    moved = rebuilt(CPU[name], torch.zeros(300), ids, sums, exponent)[0]
    # What such a w0 leaves of S brings its last bits within reach of a float32.
    expected = rebuilt(CPU[name], -moved, ids, sums, exponent)
    assert expected.count_nonzero() > 0 or seed_count == 1
    assert same_bits(rebuilt(kernel, -moved, ids, sums, exponent), expected)


@every_name
def test_the_largest_sums_that_all_point_one_way(name):
    kernel = KERNELS[name] if ON_GPU else gpu.GpuPerturbation(KNOWN[name], DEVICE, DEEP[name])
    out = rebuilt(kernel, torch.zeros(130), [77] * 4096, [[-SUM_BOUND] * 4096], -70)
    total = [4096 * SUM_BOUND * z for z in reference.units(KNOWN[name], 77, 0, 130).tolist()]
    scale = 2.0 ** (-70 - kernel.unit_bits)
    assert out[0].tolist() == [float(np.float32(float(s) * scale)) for s in total]


@every_name
def test_more_seeds_than_a_group(name, monkeypatch):
    monkeypatch.setattr(gpu, "GROUP", 64)
    w0, ids, sums = some_weights(300), random_seeds(150), random_sums((2, 150))
    expected = rebuilt(CPU[name], w0, ids, sums, -60)
    assert same_bits(rebuilt(KERNELS[name], w0, ids, sums, -60), expected)


@every_name
def test_no_seeds_or_only_sums_of_zero_give_back_w0(name):
    w0 = torch.cat([some_weights(300), torch.tensor([-0.0])])
    for count in (0, 2):
        ids, sums = random_seeds(count), np.zeros((2, count), np.int64)
        assert same_bits(rebuilt(KERNELS[name], w0, ids, sums, -24), torch.stack([w0, w0]))
        in_place = there(w0)
        KERNELS[name].rebuild(in_place, in_place, ids, sums[0], -24)
        assert same_bits(in_place.cpu(), w0)


@every_name
def test_any_slice_alone_equals_the_slice_of_the_whole(name):
    kernel, w0 = KERNELS[name], some_weights(3000, torch.bfloat16)
    ids, sums = [3, 2**64 - 1], [[SUM_BOUND, -(2**45)]]
    whole = rebuilt(kernel, w0, ids, sums, -60, 1234)
    for part in (slice(0, 1), slice(1, 999), slice(999, 3000)):
        alone = rebuilt(kernel, w0[part], ids, sums, -60, 1234 + part.start)
        assert same_bits(alone, whole[:, part])


def test_what_is_refused_changes_nothing():
    weights, w0 = there(torch.zeros(3)), there(torch.tensor([0.0, 1.0, math.inf]))
    ids, sums = random_seeds(1), np.array([1])
    with pytest.raises(ValueError, match="coefficient nan "):
        KERNELS["gaussian"].passes_(weights, [(1, 1.0), (2, math.nan)])
    with pytest.raises(ValueError, match="weight 2 of w0 is inf"):
        KERNELS["gaussian"].rebuild(weights, w0, ids, sums, -24)
    assert weights.count_nonzero() == 0


def test_digests_are_the_cpus_on_a_gpu():
    if not ON_GPU:
        pytest.skip("needs a GPU")
    for name in DISTRIBUTIONS:
        ids, sums = random_seeds(500), random_sums((1, 500), 2**36)
        for dtype in DTYPES:
            w0 = some_weights(1_000_003, dtype)
            expected = weights_digest(rebuilt(CPU[name], w0, ids, sums, -50)[0])
            out = torch.empty_like(w0, device=DEVICE)
            KERNELS[name].rebuild(out, w0.to(DEVICE), ids, sums[0], -50)
            assert weights_digest(out) == expected


class Chosen:
    """Stands for a backend, and tells what it was made for."""

    def __init__(self, distribution, device):
        self.made_for = distribution.name, str(device)


@pytest.mark.parametrize("compiles", [True, False])
def test_a_gpu_gets_kernels_that_triton_compiles(monkeypatch, compiles):
    portable = type("Portable", (Chosen,), {})
    monkeypatch.setattr(gpu, "GpuPerturbation", Chosen)
    monkeypatch.setattr(gpu, "compiles_for", lambda _: compiles)
    monkeypatch.setattr(peer.perturbation, "PortablePerturbation", portable)
    chosen = perturbation("gaussian", "cuda:1")
    assert type(chosen) is (Chosen if compiles else portable)
    assert chosen.made_for == ("gaussian", "cuda:1")


def test_a_gpu_gets_plain_torch_where_there_is_no_triton(monkeypatch):
    monkeypatch.delattr(peer.perturbation, "gpu")
    monkeypatch.setitem(sys.modules, "peer.perturbation.gpu", None)
    monkeypatch.setattr(peer.perturbation, "PortablePerturbation", Chosen)
    assert perturbation("rademacher", "cuda").made_for == ("rademacher", "cuda")


@pytest.mark.parametrize(
    ("version", "rocm", "capability", "expected"),
    [
        ("3.4.0", None, (9, 0), False),
        ("3.10.1", None, (8, 0), True),
        ("3.5.0+git1", None, (7, 5), False),
        ("3.5.0", "6.4", (0, 0), True),
    ],
)
def test_kernels_need_a_recent_triton_and_gpu(monkeypatch, version, rocm, capability, expected):
    monkeypatch.setattr(gpu.triton, "__version__", version)
    monkeypatch.setattr(torch.version, "hip", rocm)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
    assert gpu.compiles_for(torch.device("cuda")) is expected


def test_the_cpu_never_imports_triton():
    program = (
        "import sys; from peer.perturbation import perturbation;"
        "perturbation('gaussian', 'cpu', 1).units(1, 0, 9); sys.exit('triton' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0


def test_a_device_without_float64_is_refused():
    with pytest.raises(ValueError, match="device mps has no float64"):
        perturbation("gaussian", "mps")
