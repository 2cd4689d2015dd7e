"""Inner products with perturbations on the CPU: numba kernels (see `cpu_kernel`).

A tile of the vector is filled up with zeros, which change no sum, and stays in the cache while all
seeds pass over it. Its sixteen lanes are sums that stay in registers.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from peer.perturbation.cpu_gaussian import look_up
from peer.perturbation.cpu_kernel import kernel
from peer.perturbation.cpu_vectors import (
    coordinates,
    keep,
    no_numbers,
    plus_product,
    plus_signed,
)
from peer.perturbation.cpu_words import fill_words
from peer.perturbation.reference import (
    GAUSSIAN,
    PROJECTION_LANES,
    PROJECTION_TILE,
    RADEMACHER,
)

_TILE: Final = PROJECTION_TILE
_LANES: Final = PROJECTION_LANES
_SIGNS: Final = RADEMACHER.period
_SIGN_TAG: Final = RADEMACHER.tag
_SUPERBLOCK: Final = GAUSSIAN.period
_COLUMNS: Final = 32
_16: Final = np.uint32(16)


@kernel
def signs(
    seeds: NDArray[np.uint64],
    start: int,
    vector: NDArray[np.float32],
    products: NDArray[np.float64],
) -> None:
    """Add to products, shape (m,), those of vector, shape (n,), and each seed's signs."""
    stop = start + vector.shape[0]
    words = np.empty((4, _TILE // _SIGNS), np.uint32)
    x, lanes = np.empty(_TILE, np.float32), np.empty(_LANES)
    for base in range(start - start % _TILE, stop, _TILE):
        _take(vector, start, base, x)
        for j in range(seeds.shape[0]):
            fill_words(seeds[j], _SIGN_TAG, base // _SIGNS, words)
            sums = no_numbers()
            for b in range(words.shape[1]):
                for k in range(4):
                    word, at = words[k, b], b * _SIGNS + 32 * k
                    sums = plus_signed(sums, x, at, word)
                    sums = plus_signed(sums, x, at + 16, word >> _16)
            keep(lanes, 0, sums)
            products[j] += _total(lanes)


@kernel
def gaussian(
    points: NDArray[np.uint32],
    seeds: NDArray[np.uint64],
    start: int,
    vector: NDArray[np.float32],
    products: NDArray[np.float64],
) -> None:
    """Do the same with Gaussian numbers, in units; points are those of `cpu_gaussian`."""
    stop = start + vector.shape[0]
    width = _TILE // 16
    words, found = np.empty((4, width), np.uint32), np.empty((8, width), np.uint32)
    x, lanes = np.empty(_TILE, np.float32), np.empty(_LANES)
    for base in range(start - start % _TILE, stop, _TILE):
        _take(vector, start, base, x)
        for j in range(seeds.shape[0]):
            look_up(points, seeds[j], base // _SUPERBLOCK, words, found)
            sums = no_numbers()
            for s in range(_TILE // _SUPERBLOCK):
                column = s * _COLUMNS
                for row in range(16):
                    half, axis = np.uint32(row // 2 % 2), np.uint32(row % 2)
                    word, points_of = words[row // 4], found[row // 2]
                    lift, drop = np.uint32(17) - _16 * half - axis, _16 * axis
                    at = s * _SUPERBLOCK + row * _COLUMNS
                    z = coordinates(word, points_of, column, lift, drop)
                    sums = plus_product(sums, x, at, z)
                    z = coordinates(word, points_of, column + 16, lift, drop)
                    sums = plus_product(sums, x, at + 16, z)
            keep(lanes, 0, sums)
            products[j] += _total(lanes)


@kernel
def _take(vector: NDArray[np.float32], start: int, base: int, x: NDArray[np.float32]) -> None:
    """Set x to the tile from base of a vector that begins at start, with zeros around it."""
    first, last = max(base, start), min(base + _TILE, start + vector.shape[0])
    x[: first - base] = 0.0
    x[first - base : last - base] = vector[first - start : last - start]
    x[last - base :] = 0.0


@kernel
def _total(lanes: NDArray[np.float64]) -> float:
    total = 0.0
    for lane in range(_LANES):
        total += lanes[lane]
    return total
