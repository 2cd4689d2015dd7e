"""Gaussian numbers on the CPU, and rebuilds with them: numba kernels (see `cpu_kernel`).

A rebuild is a product of matrices: coefficients, a row for each limb of each accumulator, times the
numbers of all seeds. Every product and sum in it is a whole number that float64 holds (`limbs`), so
it is taken in whatever order is fastest: eight seeds at a time over a tile.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from peer.perturbation.cpu_exact import fold, write
from peer.perturbation.cpu_kernel import kernel, tile_size
from peer.perturbation.cpu_vectors import (
    NUMBERS,
    add_scaled,
    coordinates,
    keep,
    plus_scaled,
    take,
)
from peer.perturbation.cpu_words import fill_words
from peer.perturbation.limbs import GROUP, LIMB_BITS
from peer.perturbation.reference import GAUSSIAN

TILE: Final = 1024
PERIOD: Final = GAUSSIAN.period

SEEDS_AT_ONCE: Final = 8
"""The number of seeds of a rebuild is a multiple of this; what is too many has sums of 0."""

_TAG: Final = GAUSSIAN.tag
_LANES: Final = 32
_BLOCK: Final = 256
_WIDTH: Final = TILE // 16
_FEW: Final = 2
"""Up to so many rows of coefficients, numbers are made anew for each rather than kept."""

_LIMB: Final = 2.0**LIMB_BITS
_POINT: Final = np.uint32(0x3FFF)
_0: Final = np.uint32(0)
_1: Final = np.uint32(1)
_16: Final = np.uint32(16)
_17: Final = np.uint32(17)


@kernel
def look_up(
    points: NDArray[np.uint32],
    seed: np.uint64,
    superblock: int,
    words: NDArray[np.uint32],
    found: NDArray[np.uint32],
) -> None:
    """Set words to the blocks of some superblocks from one, and found to their points.

    Args:
        points: the table, shape (16384,), x in the lower half of a number and y in the upper.
        seed: of the perturbation.
        superblock: the first.
        words: shape (4, lanes of all superblocks).
        found: shape (8, lanes): rows 2 k and 2 k + 1 belong to the halves of word k.
    """
    fill_words(seed, _TAG, superblock * _LANES, words)
    for k in range(4):
        word, low, high = words[k], found[2 * k], found[2 * k + 1]
        for i in range(word.shape[0]):
            bits = word[i]
            low[i] = points[bits & _POINT]
            high[i] = points[(bits >> _16) & _POINT]


@kernel
def _fill(
    points: NDArray[np.uint32],
    seed: np.uint64,
    superblock: int,
    words: NDArray[np.uint32],
    found: NDArray[np.uint32],
    z: NDArray[np.float64],
) -> None:
    """Set z to the superblocks from one, in units, in the order in which words make them.

    The first arguments are those of `look_up`, words and found being scratch. z has shape
    (16, lanes): row h, column 32 * s + lane for what `reference` calls h, s and lane.
    """
    look_up(points, seed, superblock, words, found)
    for k in range(4):
        word, low, high = words[k], found[2 * k], found[2 * k + 1]
        x_low, y_low, x_high, y_high = z[4 * k], z[4 * k + 1], z[4 * k + 2], z[4 * k + 3]
        for i in range(0, word.shape[0], NUMBERS):
            keep(x_low, i, coordinates(word, low, i, _17, _0))
            keep(y_low, i, coordinates(word, low, i, _16, _16))
            keep(x_high, i, coordinates(word, high, i, _1, _0))
            keep(y_high, i, coordinates(word, high, i, _0, _16))


@kernel
def _order(z: NDArray[np.float64], ordered: NDArray[np.float64]) -> None:
    """Bring z, shape (16, lanes), into the order of weights, shape (16 * lanes,)."""
    for h in range(16):
        row = z[h]
        for s in range(row.shape[0] // _LANES):
            lane, at = s * _LANES, s * PERIOD + h * _LANES
            from_, to = row[lane : lane + _LANES], ordered[at : at + _LANES]
            for i in range(_LANES):
                to[i] = from_[i]


@kernel
def units(points: NDArray[np.uint32], seed: np.uint64, start: int, out: NDArray[np.int16]) -> None:
    """Set out, shape (n,), to the numbers of a perturbation from start, in units."""
    stop = start + out.shape[0]
    words, found = np.empty((4, _WIDTH), np.uint32), np.empty((8, _WIDTH), np.uint32)
    made, z = np.empty((16, _WIDTH)), np.empty(TILE)
    for base in range(start - start % PERIOD, stop, TILE):
        first, last = max(base, start), min(base + TILE, stop)
        _fill(points, seed, base // PERIOD, words, found, made)
        _order(made, z)
        out[first - start : last - start] = z[first - base : last - base]


@kernel
def passes(
    points: NDArray[np.uint32],
    seeds: NDArray[np.uint64],
    scales: NDArray[np.float64],
    start: int,
    values: NDArray[np.float32],
) -> None:
    """Add scale * units to values, shape (n,), once for each seed and scale, one after the other.

    values are weights from start; seeds and scales have shape (passes,).
    """
    stop = start + values.shape[0]
    words, found = np.empty((4, _WIDTH), np.uint32), np.empty((8, _WIDTH), np.uint32)
    edge = np.empty(TILE, np.float32)
    for base in range(start - start % PERIOD, stop, TILE):
        first, last = max(base, start), min(base + TILE, stop)
        w = values[first - start : last - start]
        whole = last - first == TILE
        tile = w if whole else edge
        if not whole:
            edge[first - base : last - base] = w
        for j in range(seeds.shape[0]):
            if j == 0 or seeds[j] != seeds[j - 1]:
                look_up(points, seeds[j], base // PERIOD, words, found)
            _add(words, found, scales[j], tile)
        if not whole:
            w[:] = edge[first - base : last - base]


@kernel
def _add(
    words: NDArray[np.uint32], found: NDArray[np.uint32], scale: float, tile: NDArray[np.float32]
) -> None:
    """Add scale times the numbers of `look_up` to a tile of weights."""
    for s in range(words.shape[1] // _LANES):
        for k in range(4):
            word, low, high = words[k], found[2 * k], found[2 * k + 1]
            for i in range(s * _LANES, (s + 1) * _LANES, NUMBERS):
                at = s * PERIOD + 4 * k * _LANES + i - s * _LANES
                add_scaled(tile, at, scale, coordinates(word, low, i, _17, _0))
                add_scaled(tile, at + _LANES, scale, coordinates(word, low, i, _16, _16))
                add_scaled(tile, at + 2 * _LANES, scale, coordinates(word, high, i, _1, _0))
                add_scaled(tile, at + 3 * _LANES, scale, coordinates(word, high, i, _0, _16))


@kernel
def rebuild(
    points: NDArray[np.uint32],
    offsets: NDArray[np.int64],
    firsts: NDArray[np.int64],
    seeds: NDArray[np.uint64],
    limbs: NDArray[np.float64],
    limb_counts: NDArray[np.int64],
    scale: float,
    start: int,
    w0: NDArray[np.float32],
    outs: NDArray[np.float32],
) -> None:
    """Set each row of outs to w0 - scale * S, block by block.

    Args:
        points: see `_fill`.
        offsets: where blocks begin, and the last one ends: shape (L + 1,).
        firsts: where in the seeds those of a block begin, and their number: shape (L + 1,). Each
            block has a multiple of SEEDS_AT_ONCE if there are several rows of outs.
        seeds: shape (m,).
        limbs: shape (P, 2, m).
        limb_counts: how many of the limbs count in a block: shape (L,).
        scale: what one unit of S is worth.
        start: index of the first weight.
        w0: shape (n,); outs may be it.
        outs: shape (P, n).
    """
    stop = start + w0.shape[0]
    for block in range(offsets.shape[0] - 1):
        first, last = max(offsets[block], start), min(offsets[block + 1], stop)
        if first < last:
            some = slice(firsts[block], firsts[block + 1])
            limbs_of = limbs[:, : limb_counts[block], some]
            _rebuild(points, seeds[some], limbs_of, scale, first, last, start, w0, outs)


@kernel
def _rebuild(
    points: NDArray[np.uint32],
    seeds: NDArray[np.uint64],
    limbs: NDArray[np.float64],
    scale: float,
    begin: int,
    stop: int,
    start: int,
    w0: NDArray[np.float32],
    outs: NDArray[np.float32],
) -> None:
    """Do it for one block, weights begin to stop; limbs have shape (P, 1, K) or (P, 2, K)."""
    replicas, limb_count = limbs.shape[0], limbs.shape[1]
    before = begin % PERIOD
    length = before + stop - begin
    # Of two tiles for three superblocks a quarter would be made in vain.
    tile = tile_size(length, TILE if length > 2 * TILE else 2 * TILE, PERIOD)
    width = tile // 16
    words, found = np.empty((4, 4, width), np.uint32), np.empty((4, 8, width), np.uint32)
    few = replicas * limb_count <= _FEW
    made = np.empty((1 if few else SEEDS_AT_ONCE, 16, width))
    z = made.reshape((made.shape[0], tile))
    partial = np.empty((replicas, limb_count, tile))
    total, rest = np.empty((replicas, tile)), np.empty((replicas, tile))
    ordered = np.empty(tile)
    for base in range(begin - before, stop, tile):
        total[:] = 0.0
        rest[:] = 0.0
        for group in range(0, seeds.shape[0], GROUP):
            partial[:] = 0.0
            end = min(group + GROUP, seeds.shape[0])
            if few:
                for j in range(group, end, 4):
                    count = min(4, end - j)
                    for s in range(count):
                        look_up(points, seeds[j + s], base // PERIOD, words[s], found[s])
                    for p in range(replicas):
                        for n in range(limb_count):
                            sums = partial[p, n].reshape((16, width))
                            if count == 4:
                                _add_four(words, found, limbs[p, n, j:], sums)
                            else:
                                for s in range(count):
                                    _add_one(words[s], found[s], limbs[p, n, j + s], sums)
            else:
                for j in range(group, end, SEEDS_AT_ONCE):
                    for s in range(SEEDS_AT_ONCE):
                        _fill(points, seeds[j + s], base // PERIOD, words[0], found[0], made[s])
                    for block in range(0, tile, _BLOCK):
                        for p in range(replicas):
                            for n in range(limb_count):
                                _add_eight(partial[p, n], limbs[p, n, j:], z, block)
            for p in range(replicas):
                for n in range(limb_count):
                    fold(total[p], rest[p], partial[p, n], _LIMB if n else 1.0)
        first, last = max(base, begin), min(base + tile, stop)
        here, inside = slice(first - start, last - start), slice(first - base, last - base)
        for p in range(replicas):
            total[p] += rest[p]
            _order(total[p].reshape((16, width)), ordered)
            write(outs[p, here], w0[here], ordered[inside], scale)


@kernel
def _add_four(
    words: NDArray[np.uint32],
    found: NDArray[np.uint32],
    a: NDArray[np.float64],
    sums: NDArray[np.float64],
) -> None:
    """Add a[:4] times the numbers of four `look_up`s to sums, in the order of `_fill`."""
    a0, a1, a2, a3 = a[0], a[1], a[2], a[3]
    for k in range(4):
        w0, w1, w2, w3 = words[0, k], words[1, k], words[2, k], words[3, k]
        for half in range(2):
            f = 2 * k + half
            f0, f1, f2, f3 = found[0, f], found[1, f], found[2, f], found[3, f]
            for axis in range(2):
                lift = np.uint32(17 - 16 * half - axis)
                drop = np.uint32(16 * axis)
                row = sums[2 * f + axis]
                for i in range(0, row.shape[0], NUMBERS):
                    total = take(row, i)
                    total = plus_scaled(total, a0, coordinates(w0, f0, i, lift, drop))
                    total = plus_scaled(total, a1, coordinates(w1, f1, i, lift, drop))
                    total = plus_scaled(total, a2, coordinates(w2, f2, i, lift, drop))
                    total = plus_scaled(total, a3, coordinates(w3, f3, i, lift, drop))
                    keep(row, i, total)


@kernel
def _add_one(
    words: NDArray[np.uint32], found: NDArray[np.uint32], a: float, sums: NDArray[np.float64]
) -> None:
    """Do `_add_four` for one: words has shape (4, lanes), found (8, lanes)."""
    for f in range(8):
        word, points_of = words[f // 2], found[f]
        for axis in range(2):
            lift, drop = np.uint32(17 - 16 * (f % 2) - axis), np.uint32(16 * axis)
            row = sums[2 * f + axis]
            for i in range(0, row.shape[0], NUMBERS):
                z = coordinates(word, points_of, i, lift, drop)
                keep(row, i, plus_scaled(take(row, i), a, z))


@kernel
def _add_eight(
    sums: NDArray[np.float64], a: NDArray[np.float64], z: NDArray[np.float64], at: int
) -> None:
    """Add a[:8] times z, shape (8, n), to sums, shape (n,), in the block that begins at `at`."""
    z0, z1, z2, z3, z4, z5, z6, z7 = z[0], z[1], z[2], z[3], z[4], z[5], z[6], z[7]
    a0, a1, a2, a3, a4, a5, a6, a7 = a[0], a[1], a[2], a[3], a[4], a[5], a[6], a[7]
    for i in range(at, at + _BLOCK, NUMBERS):
        total = take(sums, i)
        total = plus_scaled(total, a0, take(z0, i))
        total = plus_scaled(total, a1, take(z1, i))
        total = plus_scaled(total, a2, take(z2, i))
        total = plus_scaled(total, a3, take(z3, i))
        total = plus_scaled(total, a4, take(z4, i))
        total = plus_scaled(total, a5, take(z5, i))
        total = plus_scaled(total, a6, take(z6, i))
        total = plus_scaled(total, a7, take(z7, i))
        keep(sums, i, total)
