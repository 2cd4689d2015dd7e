"""Perturbations are what they claim to be: independent, of variance 1, Gaussian or signs.

Seeds are fixed, so a test passes always or never. Each statistic is scaled to a standard normal
variable, if the claim holds; LIMIT is what about one in two million of these passes.
"""

import math

import numpy as np
import pytest

from peer.perturbation import DISTRIBUTIONS, perturbation

LIMIT = 5.0
COUNT = 2**18
KERNELS = {name: perturbation(name, "cpu", threads=1) for name in DISTRIBUTIONS}
SPREAD_SEEDS = [(0x9E3779B97F4A7C15 * n) % 2**64 for n in range(1, 25)]

both = pytest.mark.parametrize("name", DISTRIBUTIONS)


def numbers(name, seed, start=0, count=COUNT):
    """Return z as float64, shape (count,)."""
    kernel = KERNELS[name]
    return kernel.units(seed, start, start + count).double().numpy() * 2.0**-kernel.unit_bits


def correlations(z):
    """Return the scaled correlations of each pair of rows of z, shape (rows, count)."""
    products = z @ z.T / math.sqrt(z.shape[1])
    return products[np.triu_indices(len(z), k=1)]


def assert_standard_normal(values):
    """Check many scaled statistics: none too far out, and together of variance 1."""
    assert np.max(np.abs(values)) < LIMIT
    assert abs(np.sum(values**2) - len(values)) < LIMIT * math.sqrt(2 * len(values))


@both
def test_mean_is_0(name):
    means = np.array([np.mean(numbers(name, seed)) for seed in SPREAD_SEEDS])
    assert_standard_normal(means * math.sqrt(COUNT))


def test_gaussian_variance_is_1_and_kurtosis_3():
    z = np.stack([numbers("gaussian", seed) for seed in SPREAD_SEEDS])
    assert_standard_normal((np.mean(z**2, axis=1) - 1) * math.sqrt(COUNT / 2))
    # The fourth power of a standard normal variable has mean 3 and variance 96.
    assert_standard_normal((np.mean(z**4, axis=1) - 3) * math.sqrt(COUNT / 96))


def test_rademacher_is_only_signs():
    assert set(np.unique(numbers("rademacher", 1)).tolist()) == {-1.0, 1.0}


@both
def test_seeds_do_not_correlate(name):
    assert_standard_normal(correlations(np.stack([numbers(name, seed) for seed in SPREAD_SEEDS])))


@both
def test_adjacent_seeds_do_not_correlate(name):
    assert_standard_normal(correlations(np.stack([numbers(name, seed) for seed in range(16)])))


@both
def test_seeds_that_differ_in_one_bit_do_not_correlate(name):
    z = numbers(name, 0)
    others = np.stack([numbers(name, 1 << bit) for bit in range(64)])
    assert_standard_normal(others @ z / math.sqrt(COUNT))


@both
@pytest.mark.parametrize("start", [0, 2**32 - 1000])
def test_neighbours_do_not_correlate(name, start):
    z = numbers(name, 12345, start)
    lags = range(1, 257)
    products = [np.dot(z[lag:], z[:-lag]) / math.sqrt(COUNT - lag) for lag in lags]
    assert_standard_normal(np.array(products))


@both
def test_places_in_a_superblock_have_mean_0_and_do_not_correlate(name):
    by_place = numbers(name, 54321).reshape(-1, 512).T
    assert_standard_normal(by_place.sum(axis=1) / math.sqrt(by_place.shape[1]))
    assert_standard_normal(correlations(by_place))


def test_distributions_do_not_correlate_under_one_seed():
    products = [np.dot(numbers("gaussian", s), numbers("rademacher", s)) for s in SPREAD_SEEDS]
    assert_standard_normal(np.array(products) / math.sqrt(COUNT))


@pytest.mark.parametrize("seed", SPREAD_SEEDS[:8])
def test_gaussian_passes_kolmogorov_smirnov(seed):
    values, counts = np.unique(numbers("gaussian", seed), return_counts=True)
    above = np.cumsum(counts) / COUNT
    below = above - counts / COUNT
    normal = np.array([(1 + math.erf(v / math.sqrt(2))) / 2 for v in values])
    distance = max(np.max(np.abs(above - normal)), np.max(np.abs(normal - below)))
    # No place of the table is farther than this from where the normal distribution has it.
    grain = 0.0006
    # The asymptotic critical value of one in a thousand.
    assert distance < 1.95 / math.sqrt(COUNT) + grain


def pairs(seed):
    """Return both coordinates of the points that make up a Gaussian perturbation: (2, count)."""
    x, y = numbers("gaussian", seed).reshape(-1, 8, 2, 32).transpose(2, 0, 1, 3).reshape(2, -1)
    return x, y


@pytest.mark.parametrize("seed", SPREAD_SEEDS[:8])
def test_gaussian_points_are_those_of_the_plane(seed):
    x, y = pairs(seed)
    # exp(-r^2 / 2) and the angle of independent N(0, 1) are uniform and independent: 16 x 16 cells.
    radius = (np.exp(-(x**2 + y**2) / 2) * 16).astype(int)
    angle = ((np.arctan2(y, x) / (2 * math.pi) + 0.5) * 16).astype(int) % 16
    counts = np.bincount(16 * radius + angle, minlength=256)
    expected = len(x) / 256
    chi_squared = float(np.sum((counts - expected) ** 2 / expected))
    assert abs(chi_squared - 255) < LIMIT * math.sqrt(2 * 255)


def test_gaussian_coordinates_do_not_correlate_in_size_either():
    # The variance of (x^2 - 1)(y^2 - 1) is 2 * 2.
    values = [
        np.mean((x**2 - 1) * (y**2 - 1)) / 2 * math.sqrt(len(x))
        for x, y in map(pairs, SPREAD_SEEDS)
    ]
    assert_standard_normal(np.array(values))


def test_rademacher_bytes_are_uniform():
    bits = (numbers("rademacher", 99, count=2**21) > 0).reshape(-1, 8)
    counts = np.bincount(np.packbits(bits, axis=1)[:, 0], minlength=256)
    expected = len(bits) / 256
    chi_squared = float(np.sum((counts - expected) ** 2 / expected))
    assert abs(chi_squared - 255) < LIMIT * math.sqrt(2 * 255)
