"""Projections are their definition's, on every backend, and what they stand for is unbiased."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from peer.allocation import allot, sign_variances
from peer.block_draw import draw_blocks
from peer.blocks import block_offsets
from peer.errors import UserError
from peer.perturbation import DISTRIBUTIONS, cpu, perturbation, reference
from peer.perturbation.portable import PortablePerturbation
from peer.projection import Update, project
from peer.seeds import candidate_seeds

KNOWN = {"gaussian": reference.GAUSSIAN, "rademacher": reference.RADEMACHER}
THREADS = {
    (name, threads): perturbation(name, "cpu", threads) for name in KNOWN for threads in (1, 3)
}
PORTABLE = {name: PortablePerturbation(KNOWN[name], torch.device("cpu")) for name in KNOWN}
names = st.sampled_from(DISTRIBUTIONS)
quick = settings(deadline=None, max_examples=25)
every_distribution = pytest.mark.parametrize("name", DISTRIBUTIONS)


@pytest.fixture(autouse=True, scope="module")
def _small_shares():
    """Have threads share few seeds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cpu, "_SHARE", 1000)
        yield


def some_vector(length, seed=0):
    return torch.randn(length, generator=torch.Generator().manual_seed(seed))


@given(
    name=names,
    threads=st.sampled_from([1, 3]),
    seeds=st.lists(st.integers(0, 2**64 - 1), max_size=9),
    start=st.integers(0, 9000) | st.integers(2**61, 2**62 - 10_000),
    length=st.integers(0, 9000),
)
@quick
def test_the_kernel_is_the_definition_to_the_bit(name, threads, seeds, start, length):
    vector = some_vector(length)
    made = THREADS[name, threads].project(vector, np.array(seeds, np.uint64), start)
    wanted = [reference.project(KNOWN[name], vector, seed, start) for seed in seeds]
    assert made.tolist() == wanted


@given(
    name=names,
    backend=st.sampled_from(["1", "3", "portable"]),
    sizes=st.lists(st.integers(0, 9000), min_size=1, max_size=5),
    start=st.integers(0, 9000) | st.integers(2**61, 2**62 - 50_000),
    data=st.data(),
)
@quick
def test_blocks_in_one_call_are_one_after_the_other(name, backend, sizes, start, data):
    kernel = PORTABLE[name] if backend == "portable" else THREADS[name, int(backend)]
    counts = [data.draw(st.integers(0, 5)) for _ in sizes]
    seeds, vector = candidate_seeds(5, sum(counts)), some_vector(sum(sizes))
    offsets = start + np.cumsum([0, *sizes])
    made = kernel.project_blocks(vector, seeds, np.array(counts), offsets)
    parts = zip(vector.split(sizes), np.split(seeds, np.cumsum(counts)[:-1]), offsets, strict=False)
    wanted = [kernel.project(part, some, int(at)) for part, some, at in parts]
    assert made.tolist() == np.concatenate(wanted).tolist()


def test_what_are_no_blocks_is_refused():
    kernel, seeds, one = THREADS["gaussian", 1], np.zeros(1, np.uint64), np.ones(1, np.int64)
    for offsets, message in (
        (np.array([0, 4]), "blocks of 4 numbers with 1 seeds"),
        (np.array([0.0, 3.0]), "offsets are float64"),
        (np.array([0, 2, 3]), "there are blocks, 1"),
        (np.array([3, 0]), "not a range"),
    ):
        with pytest.raises(UserError, match=message):
            kernel.project_blocks(torch.zeros(3), seeds, one, offsets)
    with pytest.raises(UserError, match="with 2 seeds"):
        kernel.project_blocks(torch.zeros(3), seeds, 2 * one, np.array([0, 3]))
    with pytest.raises(UserError, match="must lie in a row"):
        kernel.project_blocks(torch.zeros(3), seeds, np.array([1, 0, 0]), np.array([0, 2, 1, 3]))


@given(name=names, seed=st.integers(0, 2**64 - 1), start=st.integers(0, 2**40))
@quick
def test_other_devices_are_right_but_for_rounding(name, seed, start):
    vector = some_vector(5000)
    made = PORTABLE[name].project(vector, np.array([seed], np.uint64), start)
    wanted = reference.project(KNOWN[name], vector, seed, start)
    assert made[0] == pytest.approx(wanted, abs=1e-11)


@every_distribution
def test_the_definition_is_fixed(name):
    vector = torch.arange(5000, dtype=torch.float32) / 1024
    made = THREADS[name, 1].project(vector, np.array([7], np.uint64), 3)
    assert made[0] == {"rademacher": -35.98828125, "gaussian": 1.3718316555023193}[name]


def test_what_is_no_vector_is_refused():
    kernel, seeds = THREADS["gaussian", 1], np.zeros(1, np.uint64)
    with pytest.raises(UserError, match="float32 and one dimension of uint64"):
        kernel.project(torch.zeros(3, dtype=torch.float16), seeds)
    with pytest.raises(UserError, match="float32 and one dimension of uint64"):
        kernel.project(torch.zeros(3), np.zeros(1, np.int64))
    with pytest.raises(UserError, match="one contiguous dimension"):
        kernel.project(torch.zeros(6)[::2], seeds)
    with pytest.raises(UserError, match="not a range"):
        kernel.project(torch.zeros(3), seeds, -1)


@given(name=names, dtype=st.sampled_from([torch.float32, torch.bfloat16]), data=st.data())
@quick
def test_coordinates_are_inner_products_over_bases_and_learning_rate(name, dtype, data):
    """The formula in float64, a base at a time."""
    sizes = data.draw(st.lists(st.integers(1, 400), min_size=1, max_size=5))
    offsets = block_offsets(sizes, data.draw(st.integers(0, sum(sizes) // 2)))
    seeds, eta = candidate_seeds(3, 12), 0.25
    counts = np.array([data.draw(st.integers(0, 12)) for _ in offsets[1:]])
    indices = draw_blocks(3, 1, 4, counts, len(seeds))
    before = some_vector(sum(sizes)).to(dtype)
    update = Update(before, (before + 0.1 * some_vector(sum(sizes), 1)).to(dtype), offsets)
    made = project(THREADS[name, 3], update, seeds, counts, indices, eta)
    delta = (update.before.float() - update.after.float()).double().numpy()
    for coordinate, index in zip(made.tolist(), indices.tolist(), strict=True):
        block, k = divmod(index, len(seeds))
        start, stop = offsets[block : block + 2].tolist()
        distribution = KNOWN[name]
        z = reference.units(distribution, int(seeds[k]), start, stop)
        product = float(z @ delta[start:stop]) * 2.0**-distribution.unit_bits
        assert coordinate == pytest.approx(product / counts[block] / eta, abs=1e-9)
    norms = [float(np.linalg.norm(part)) for part in np.split(delta, offsets[1:-1])]
    assert update.norms() == pytest.approx(norms, rel=1e-12)


@every_distribution
def test_the_reconstruction_is_unbiased(name):
    """The mean of <reconstruction, update> / |update|^2 over 200 rounds is 1 within 2 %."""
    generator = np.random.default_rng(2)
    offsets = block_offsets([4000, 300, 2000, 50], 0)
    delta = generator.normal(size=6350) * np.repeat([1.0, 5.0, 0.3, 2.0], [4000, 300, 2000, 50])
    update = Update(torch.from_numpy(delta).float(), torch.zeros(6350), offsets)
    norms, eta = update.norms(), 1e-3
    counts = allot(norms, sign_variances(np.diff(offsets)), 300, 200)
    ratios = []
    for round_ in range(200):
        seeds = candidate_seeds(round_, 200)
        indices = draw_blocks(round_, 0, round_, counts, 200)
        gamma = project(THREADS[name, 1], update, seeds, counts, indices, eta)
        # <eta gamma z, Delta_l> is eta gamma times the inner product that gamma is made of.
        products = gamma * np.repeat(counts, counts) * eta
        ratios.append(eta * float(gamma @ products) / float(norms @ norms))
    assert np.mean(ratios) == pytest.approx(1.0, abs=0.02)
    assert np.std(ratios) < math.sqrt(2 / counts[counts > 0].min())
