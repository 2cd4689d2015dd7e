"""Gaussian numbers on the CPU, and rebuilds with them: numba kernels (see `cpu_words`).

A rebuild is a product of matrices: coefficients, a row for each limb of each accumulator, times the
numbers of all seeds. Every product and sum in it is a whole number that float64 holds (`limbs`), so
it is taken in whatever order is fastest: eight seeds at a time over a tile.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from peer.perturbation.cpu_exact import fold, write
from peer.perturbation.cpu_words import fill_words, kernel
from peer.perturbation.limbs import GROUP, LIMB_BITS
from peer.perturbation.reference import GAUSSIAN

TILE: Final = 1024
PERIOD: Final = 512
"""Weights in a superblock."""

SEEDS_AT_ONCE: Final = 8
"""The number of seeds of a rebuild is a multiple of this; what is too many has sums of 0."""

_TAG: Final = GAUSSIAN.tag
_LANES: Final = 32
_BLOCK: Final = 256
_WIDTH: Final = TILE // 16
_LIMB: Final = 2.0**LIMB_BITS
_POINT: Final = np.uint32(0x3FFF)
_1: Final = np.uint32(1)
_16: Final = np.uint32(16)
_17: Final = np.uint32(17)
_TOP: Final = np.int32(31)
_LOW: Final = np.uint32(0xFFFF)


@kernel
def _fill(
    points: NDArray[np.uint32],
    seed: np.uint64,
    superblock: int,
    words: NDArray[np.uint32],
    looked_up: NDArray[np.uint32],
    z: NDArray[np.float64],
) -> None:
    """Set z to the superblocks from one, in units, in the order in which words make them.

    Args:
        points: the table, shape (16384,), x in the lower half of a number and y in the upper.
        seed: of the perturbation.
        superblock: the first.
        words: scratch, shape (4, lanes of all superblocks).
        looked_up: scratch, shape (2, lanes).
        z: shape (16, lanes): row h, column 32 * s + lane for what `reference` calls h, s and lane.
    """
    fill_words(seed, _TAG, superblock * _LANES, words)
    low, high = looked_up[0], looked_up[1]
    for k in range(4):
        word = words[k]
        for i in range(word.shape[0]):
            bits = word[i]
            low[i] = points[bits & _POINT]
            high[i] = points[(bits >> _16) & _POINT]
        # Shifting a bit to the top and down again makes a mask of it.
        x, y = z[4 * k], z[4 * k + 1]
        for i in range(word.shape[0]):
            minus_x = np.int32(np.int32(word[i] << _17) >> _TOP)
            minus_y = np.int32(np.int32(word[i] << _16) >> _TOP)
            x[i] = np.int32((np.int32(low[i] & _LOW) ^ minus_x) - minus_x)
            y[i] = np.int32((np.int32(low[i] >> _16) ^ minus_y) - minus_y)
        x, y = z[4 * k + 2], z[4 * k + 3]
        for i in range(word.shape[0]):
            minus_x = np.int32(np.int32(word[i] << _1) >> _TOP)
            minus_y = np.int32(np.int32(word[i]) >> _TOP)
            x[i] = np.int32((np.int32(high[i] & _LOW) ^ minus_x) - minus_x)
            y[i] = np.int32((np.int32(high[i] >> _16) ^ minus_y) - minus_y)


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
    words, looked_up = np.empty((4, _WIDTH), np.uint32), np.empty((2, _WIDTH), np.uint32)
    made, z = np.empty((16, _WIDTH)), np.empty(TILE)
    for base in range(start - start % PERIOD, stop, TILE):
        first, last = max(base, start), min(base + TILE, stop)
        _fill(points, seed, base // PERIOD, words, looked_up, made)
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
    words, looked_up = np.empty((4, _WIDTH), np.uint32), np.empty((2, _WIDTH), np.uint32)
    made, z = np.empty((16, _WIDTH)), np.empty(TILE)
    for base in range(start - start % PERIOD, stop, TILE):
        first, last = max(base, start), min(base + TILE, stop)
        w, z_w = values[first - start : last - start], z[first - base : last - base]
        for j in range(seeds.shape[0]):
            if j == 0 or seeds[j] != seeds[j - 1]:
                _fill(points, seeds[j], base // PERIOD, words, looked_up, made)
                _order(made, z)
            scale = scales[j]
            for i in range(w.shape[0]):
                w[i] = np.float32(np.float64(w[i]) + scale * z_w[i])


@kernel
def rebuild(
    points: NDArray[np.uint32],
    seeds: NDArray[np.uint64],
    limbs: NDArray[np.float64],
    scale: float,
    start: int,
    w0: NDArray[np.float32],
    outs: NDArray[np.float32],
) -> None:
    """Set each row of outs to w0 - scale * S.

    Args:
        points: see `_fill`.
        seeds: shape (K,), K a multiple of SEEDS_AT_ONCE.
        limbs: shape (P, L, K), L being 1 or 2.
        scale: what one unit of S is worth.
        start: index of the first weight.
        w0: shape (n,); outs may be it.
        outs: shape (P, n).
    """
    stop = start + w0.shape[0]
    replicas, limb_count = limbs.shape[0], limbs.shape[1]
    words, looked_up = np.empty((4, _WIDTH), np.uint32), np.empty((2, _WIDTH), np.uint32)
    made = np.empty((SEEDS_AT_ONCE, 16, _WIDTH))
    z = made.reshape((SEEDS_AT_ONCE, TILE))
    partial = np.empty((replicas, limb_count, TILE))
    total, rest = np.empty((replicas, TILE)), np.empty((replicas, TILE))
    ordered = np.empty(TILE)
    for base in range(start - start % PERIOD, stop, TILE):
        total[:] = 0.0
        rest[:] = 0.0
        for group in range(0, seeds.shape[0], GROUP):
            partial[:] = 0.0
            for j in range(group, min(group + GROUP, seeds.shape[0]), SEEDS_AT_ONCE):
                for s in range(SEEDS_AT_ONCE):
                    _fill(points, seeds[j + s], base // PERIOD, words, looked_up, made[s])
                for block in range(0, TILE, _BLOCK):
                    for p in range(replicas):
                        for n in range(limb_count):
                            _add_eight(partial[p, n], limbs[p, n, j:], z, block)
            for p in range(replicas):
                for n in range(limb_count):
                    fold(total[p], rest[p], partial[p, n], _LIMB if n else 1.0)
        first, last = max(base, start), min(base + TILE, stop)
        here, inside = slice(first - start, last - start), slice(first - base, last - base)
        for p in range(replicas):
            total[p] += rest[p]
            _order(total[p].reshape((16, _WIDTH)), ordered)
            write(outs[p, here], w0[here], ordered[inside], scale)


@kernel
def _add_eight(
    sums: NDArray[np.float64], a: NDArray[np.float64], z: NDArray[np.float64], at: int
) -> None:
    """Add a[:8] times z, shape (8, n), to sums, shape (n,), in the block that begins at `at`."""
    to = at + _BLOCK
    z0, z1, z2, z3 = z[0, at:to], z[1, at:to], z[2, at:to], z[3, at:to]
    z4, z5, z6, z7 = z[4, at:to], z[5, at:to], z[6, at:to], z[7, at:to]
    a0, a1, a2, a3, a4, a5, a6, a7 = a[0], a[1], a[2], a[3], a[4], a[5], a[6], a[7]
    block = sums[at:to]
    for i in range(_BLOCK):
        low = block[i] + a0 * z0[i] + a1 * z1[i] + a2 * z2[i] + a3 * z3[i]
        block[i] = low + a4 * z4[i] + a5 * z5[i] + a6 * z6[i] + a7 * z7[i]
