"""Inner products with perturbations on the CPU: numba kernels (see `cpu_kernel`).

A tile of the vector, or what a block has of it, is filled up to whole periods with zeros, which
change no sum, and stays in the cache while the block's seeds pass over it. Its sixteen lanes are
sums that stay in registers.
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
    offsets: NDArray[np.int64],
    firsts: NDArray[np.int64],
    seeds: NDArray[np.uint64],
    begin: int,
    end: int,
    vector: NDArray[np.float32],
    products: NDArray[np.float64],
) -> None:
    """Add to products those of each block of a vector and signs of its seeds.

    Args:
        offsets: where blocks begin, and the last one ends: shape (L + 1,).
        firsts: where in the seeds those of a block begin, and their number: shape (L + 1,).
        seeds: shape (m,).
        begin: the first seed to take.
        end: the one after the last.
        vector: all blocks, shape (n,).
        products: shape (m,); of seeds begin to end.
    """
    room, x, lanes = np.empty(_TILE // 32, np.uint32), np.empty(_TILE, np.float32), np.empty(_LANES)
    for block in range(offsets.shape[0] - 1):
        some = slice(max(firsts[block], begin), min(firsts[block + 1], end))
        if some.start >= some.stop:
            continue
        start, stop = offsets[block], offsets[block + 1]
        for base in range(start - start % _TILE, stop, _TILE):
            first = max(base, start)
            low, last = first - first % _SIGNS, min(base + _TILE, stop)
            count = (last - low + _SIGNS - 1) // _SIGNS
            words = room[: 4 * count].reshape((4, count))
            _take(vector[first - offsets[0] : last - offsets[0]], first - low, x)
            for j in range(some.start, some.stop):
                fill_words(seeds[j], _SIGN_TAG, low // _SIGNS, words)
                sums = no_numbers()
                for b in range(count):
                    for k in range(4):
                        word, at = words[k, b], b * _SIGNS + 32 * k
                        sums = plus_signed(sums, x, at, word)
                        sums = plus_signed(sums, x, at + 16, word >> _16)
                keep(lanes, 0, sums)
                products[j] += _total(lanes)


@kernel
def gaussian(
    points: NDArray[np.uint32],
    offsets: NDArray[np.int64],
    firsts: NDArray[np.int64],
    seeds: NDArray[np.uint64],
    begin: int,
    end: int,
    vector: NDArray[np.float32],
    products: NDArray[np.float64],
) -> None:
    """Do the same with Gaussian numbers, in units; points are those of `cpu_gaussian`."""
    room, room_found = np.empty(_TILE // 4, np.uint32), np.empty(_TILE // 2, np.uint32)
    x, lanes = np.empty(_TILE, np.float32), np.empty(_LANES)
    for block in range(offsets.shape[0] - 1):
        some = slice(max(firsts[block], begin), min(firsts[block + 1], end))
        if some.start >= some.stop:
            continue
        start, stop = offsets[block], offsets[block + 1]
        for base in range(start - start % _TILE, stop, _TILE):
            first = max(base, start)
            low, last = first - first % _SUPERBLOCK, min(base + _TILE, stop)
            count = (last - low + _SUPERBLOCK - 1) // _SUPERBLOCK
            width = count * _COLUMNS
            words = room[: 4 * width].reshape((4, width))
            found = room_found[: 8 * width].reshape((8, width))
            _take(vector[first - offsets[0] : last - offsets[0]], first - low, x)
            for j in range(some.start, some.stop):
                look_up(points, seeds[j], low // _SUPERBLOCK, words, found)
                sums = no_numbers()
                for s in range(count):
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
def _take(numbers: NDArray[np.float32], at: int, x: NDArray[np.float32]) -> None:
    """Set x to some numbers from a place on, with zeros around them."""
    end = at + numbers.shape[0]
    x[:at] = 0.0
    x[at:end] = numbers
    x[end:] = 0.0


@kernel
def _total(lanes: NDArray[np.float64]) -> float:
    total = 0.0
    for lane in range(_LANES):
        total += lanes[lane]
    return total
