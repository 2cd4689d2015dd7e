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
_LIMB: Final = 2.0**LIMB_BITS
_POINT: Final = np.uint32(0x3FFF)
_1: Final = np.uint32(1)
_16: Final = np.uint32(16)
_17: Final = np.uint32(17)
_SIGN: Final = np.int32(31)


@kernel
def _fill(
    points: NDArray[np.uint32],
    seed: np.uint64,
    superblock: int,
    words: NDArray[np.uint32],
    looked_up: NDArray[np.uint32],
    z: NDArray[np.float64],
) -> None:
    """Set z to the superblocks from one, in units.

    Args:
        points: the table, shape (16384,), x in the lower half of a number and y in the upper.
        seed: of the perturbation.
        superblock: the first.
        words: scratch, shape (4, lanes of z).
        looked_up: scratch, shape (2, lanes of z).
        z: shape (512 * superblocks,), of any type that holds the numbers.
    """
    lanes = words.shape[1]
    fill_words(seed, _TAG, superblock * _LANES, words)
    low, high = looked_up[0], looked_up[1]
    for k in range(4):
        word = words[k]
        for i in range(lanes):
            bits = word[i]
            low[i] = points[bits & _POINT]
            high[i] = points[(bits >> _16) & _POINT]
        for s in range(lanes // _LANES):
            lane, at = s * _LANES, s * PERIOD + 4 * k * _LANES
            bits_s = word[lane : lane + _LANES]
            low_s, high_s = low[lane : lane + _LANES], high[lane : lane + _LANES]
            x, y = z[at : at + _LANES], z[at + _LANES : at + 2 * _LANES]
            for i in range(_LANES):
                # Shifting up and down again extends a sign: of x, of y, of the numbers' own.
                sign_x = np.int32(np.int32(bits_s[i] << _17) >> _SIGN)
                sign_y = np.int32(np.int32(bits_s[i] << _16) >> _SIGN)
                x[i] = np.int32((np.int32(low_s[i] & np.uint32(0xFFFF)) ^ sign_x) - sign_x)
                y[i] = np.int32((np.int32(low_s[i] >> _16) ^ sign_y) - sign_y)
            x, y = z[at + 2 * _LANES : at + 3 * _LANES], z[at + 3 * _LANES : at + 4 * _LANES]
            for i in range(_LANES):
                sign_x = np.int32(np.int32(bits_s[i] << _1) >> _SIGN)
                sign_y = np.int32(np.int32(bits_s[i]) >> _SIGN)
                x[i] = np.int32((np.int32(high_s[i] & np.uint32(0xFFFF)) ^ sign_x) - sign_x)
                y[i] = np.int32((np.int32(high_s[i] >> _16) ^ sign_y) - sign_y)


@kernel
def units(points: NDArray[np.uint32], seed: np.uint64, start: int, out: NDArray[np.int16]) -> None:
    """Set out, shape (n,), to the numbers of a perturbation from start, in units."""
    stop = start + out.shape[0]
    words, looked_up = np.empty((4, TILE // 16), np.uint32), np.empty((2, TILE // 16), np.uint32)
    z = np.empty(TILE, np.int16)
    for base in range(start - start % PERIOD, stop, TILE):
        first, last = max(base, start), min(base + TILE, stop)
        _fill(points, seed, base // PERIOD, words, looked_up, z)
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
    words, looked_up = np.empty((4, TILE // 16), np.uint32), np.empty((2, TILE // 16), np.uint32)
    z = np.empty(TILE, np.float64)
    for base in range(start - start % PERIOD, stop, TILE):
        first, last = max(base, start), min(base + TILE, stop)
        w, z_w = values[first - start : last - start], z[first - base : last - base]
        for j in range(seeds.shape[0]):
            if j == 0 or seeds[j] != seeds[j - 1]:
                _fill(points, seeds[j], base // PERIOD, words, looked_up, z)
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
    words, looked_up = np.empty((4, TILE // 16), np.uint32), np.empty((2, TILE // 16), np.uint32)
    z = np.empty((SEEDS_AT_ONCE, TILE), np.float64)
    partial = np.empty((replicas, limb_count, TILE), np.float64)
    total, rest = np.empty((replicas, TILE), np.float64), np.empty((replicas, TILE), np.float64)
    for base in range(start - start % PERIOD, stop, TILE):
        total[:] = 0.0
        rest[:] = 0.0
        for group in range(0, seeds.shape[0], GROUP):
            partial[:] = 0.0
            for j in range(group, min(group + GROUP, seeds.shape[0]), SEEDS_AT_ONCE):
                for s in range(SEEDS_AT_ONCE):
                    _fill(points, seeds[j + s], base // PERIOD, words, looked_up, z[s])
                for block in range(0, TILE, _BLOCK):
                    for p in range(replicas):
                        for n in range(limb_count):
                            sums = partial[p, n, block : block + _BLOCK]
                            _add_eight(sums, limbs[p, n, j:], z[:, block : block + _BLOCK])
            for p in range(replicas):
                for n in range(limb_count):
                    fold(total[p], rest[p], partial[p, n], _LIMB if n else 1.0)
        first, last = max(base, start), min(base + TILE, stop)
        here, inside = slice(first - start, last - start), slice(first - base, last - base)
        for p in range(replicas):
            write(outs[p, here], w0[here], total[p, inside], rest[p, inside], scale)


@kernel
def _add_eight(sums: NDArray[np.float64], a: NDArray[np.float64], z: NDArray[np.float64]) -> None:
    """Add a[:8] times z, shape (8, n), to sums, shape (n,)."""
    z0, z1, z2, z3, z4, z5, z6, z7 = z[0], z[1], z[2], z[3], z[4], z[5], z[6], z[7]
    a0, a1, a2, a3, a4, a5, a6, a7 = a[0], a[1], a[2], a[3], a[4], a[5], a[6], a[7]
    for i in range(sums.shape[0]):
        low = (a0 * z0[i] + a1 * z1[i]) + (a2 * z2[i] + a3 * z3[i])
        high = (a4 * z4[i] + a5 * z5[i]) + (a6 * z6[i] + a7 * z7[i])
        sums[i] += low + high
