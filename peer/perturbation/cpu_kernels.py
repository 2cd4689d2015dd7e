"""The numba kernels of `cpu`: perturbations, a pass over the weights, and rebuilds, tile by tile.

A tile stays in the cache while all seeds of a rebuild pass over it, so each weight crosses memory
once. Inner loops are written for LLVM's vectoriser: plain loops over slices, and unsigned indices
into tables, because numba turns a negative index into one from the end, a test that costs more
than the look-up. All kernels are in this one file, because numba's cache of compiled code notices
a change in this file alone: after one in a constant from another module the cache must be removed.

Indices of weights are signed and below 2**62; `start` is the index of the first weight of an array.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeVar

import numba
import numpy as np
from numpy.typing import NDArray

from peer.perturbation.limbs import GROUP, LIMB_BITS
from peer.perturbation.reference import GAUSSIAN, RADEMACHER
from peer.philox import MULTIPLIER_0, MULTIPLIER_1, ROUNDS, WEYL_0, WEYL_1

_F = TypeVar("_F", bound=Callable[..., Any])

# Contraction is safe: wherever a product meets a sum here, the product is exact.
_options: Any = numba.njit(nogil=True, cache=True, error_model="numpy", fastmath={"contract"})
_kernel: Callable[[_F], _F] = _options

_TILE: Final = 4096
_GAUSSIAN_TAG: Final = GAUSSIAN.tag
_RADEMACHER_TAG: Final = RADEMACHER.tag
_SUPERBLOCK: Final = 128
_LANES: Final = 16
_LIMB: Final = 2.0**LIMB_BITS
_M0: Final = np.uint64(MULTIPLIER_0)
_M1: Final = np.uint64(MULTIPLIER_1)
_W0: Final = np.uint32(WEYL_0)
_W1: Final = np.uint32(WEYL_1)
_32: Final = np.uint64(32)
_16: Final = np.uint32(16)
_LOW_HALF: Final = np.uint32(0xFFFF)
_LOW_BYTE: Final = np.uint32(0xFF)


@_kernel
def _fill_words(
    seed: np.uint64, tag: int, first: int, count: int, words: NDArray[np.uint32]
) -> None:
    """Set words[:, :count] to the Philox blocks at counters from first."""
    word_0, word_1, word_2, word_3 = words[0], words[1], words[2], words[3]
    seed_0, seed_1 = np.uint32(seed), np.uint32(seed >> _32)
    for b in range(count):
        counter = np.uint64(first) + np.uint64(b)
        c0, c1, c2, c3 = np.uint32(counter), np.uint32(counter >> _32), np.uint32(tag), np.uint32(0)
        k0, k1 = seed_0, seed_1
        for _ in range(ROUNDS):
            product_0 = np.uint64(c0) * _M0
            product_1 = np.uint64(c2) * _M1
            c0 = np.uint32(product_1 >> _32) ^ c1 ^ k0
            c1 = np.uint32(product_1)
            c2 = np.uint32(product_0 >> _32) ^ c3 ^ k1
            c3 = np.uint32(product_0)
            k0 = np.uint32(k0 + _W0)
            k1 = np.uint32(k1 + _W1)
        word_0[b], word_1[b], word_2[b], word_3[b] = c0, c1, c2, c3


@_kernel
def _fill_gaussian(
    table: NDArray[np.int16],
    seed: np.uint64,
    superblock: int,
    count: int,
    words: NDArray[np.uint32],
    z: NDArray[np.int16],
) -> None:
    """Set z[: 128 * count] to the superblocks from one; table is that of the quantiles."""
    _fill_words(seed, _GAUSSIAN_TAG, superblock * _LANES, count * _LANES, words)
    for s in range(count):
        for k in range(4):
            lanes = words[k, s * _LANES : (s + 1) * _LANES]
            at = s * _SUPERBLOCK + 2 * k * _LANES
            even, odd = z[at : at + _LANES], z[at + _LANES : at + 2 * _LANES]
            for lane in range(_LANES):
                even[lane] = table[lanes[lane] & _LOW_HALF]
                odd[lane] = table[lanes[lane] >> _16]


@_kernel
def _fill_rademacher(
    table: NDArray[np.int16],
    seed: np.uint64,
    block: int,
    count: int,
    words: NDArray[np.uint32],
    z: NDArray[np.int16],
) -> None:
    """Set z[: 128 * count] to the blocks from one; table has the eight signs of each byte."""
    _fill_words(seed, _RADEMACHER_TAG, block, count, words)
    # Eight signs of 16 bits are copied as two words of 64.
    pairs, out = table.view(np.uint64), z.view(np.uint64)
    for b in range(count):
        for k in range(4):
            word, of_word = words[k, b], out[32 * b + 8 * k : 32 * b + 8 * k + 8]
            for byte in range(4):
                row = np.uint64((word >> np.uint32(8 * byte)) & _LOW_BYTE) * np.uint64(2)
                of_word[2 * byte] = pairs[row]
                of_word[2 * byte + 1] = pairs[row + np.uint64(1)]


@_kernel
def _fill_tile(
    tag: int,
    table: NDArray[np.int16],
    seed: np.uint64,
    base: int,
    last: int,
    words: NDArray[np.uint32],
    z: NDArray[np.int16],
) -> None:
    """Set z[: last - base] to the numbers from index base, a multiple of 128."""
    superblock, count = base // _SUPERBLOCK, (last - base + _SUPERBLOCK - 1) // _SUPERBLOCK
    if tag == _GAUSSIAN_TAG:
        _fill_gaussian(table, seed, superblock, count, words, z)
    else:
        _fill_rademacher(table, seed, superblock, count, words, z)


@_kernel
def units(
    tag: int, table: NDArray[np.int16], seed: np.uint64, start: int, out: NDArray[np.int16]
) -> None:
    """Set out, shape (n,), to the numbers of a perturbation from start, in units.

    table is the one that belongs to the tag: of quantiles, or of the signs of bytes.
    """
    stop = start + out.shape[0]
    words, z = np.empty((4, _TILE // 8), np.uint32), np.empty(_TILE, np.int16)
    for base in range(start - start % _SUPERBLOCK, stop, _TILE):
        first, last = max(base, start), min(base + _TILE, stop)
        _fill_tile(tag, table, seed, base, last, words, z)
        out[first - start : last - start] = z[first - base : last - base]


@_kernel
def axpy(
    tag: int,
    table: NDArray[np.int16],
    seed: np.uint64,
    scale: float,
    start: int,
    values: NDArray[np.float32],
) -> None:
    """Add scale * units to values, shape (n,)."""
    stop = start + values.shape[0]
    words, z = np.empty((4, _TILE // 8), np.uint32), np.empty(_TILE, np.int16)
    for base in range(start - start % _SUPERBLOCK, stop, _TILE):
        first, last = max(base, start), min(base + _TILE, stop)
        _fill_tile(tag, table, seed, base, last, words, z)
        w, z_w = values[first - start : last - start], z[first - base : last - base]
        for i in range(w.shape[0]):
            w[i] = np.float32(np.float64(w[i]) + scale * np.float64(z_w[i]))


@_kernel
def _fold(total: NDArray[np.float64], rest: NDArray[np.float64], i: int, x: float) -> None:
    """Add x to the exact pair at i (see `limbs`)."""
    s = total[i] + x
    v = s - total[i]
    rest[i] += (total[i] - (s - v)) + (x - v)
    total[i] = s


@_kernel
def _subtract(
    values: NDArray[np.float32], step: NDArray[np.float64], start: int, base: int
) -> None:
    """Subtract step, shape (TILE,), which lies at index base, from the values that it covers."""
    first, last = max(base, start), min(base + _TILE, start + values.shape[0])
    w, step_w = values[first - start : last - start], step[first - base : last - base]
    for i in range(w.shape[0]):
        w[i] = np.float32(np.float64(w[i]) - step_w[i])


@_kernel
def rebuild_gaussian(
    table: NDArray[np.int16],
    seeds: NDArray[np.uint64],
    limbs: NDArray[np.float64],
    scale: float,
    start: int,
    values: NDArray[np.float32],
) -> None:
    """Subtract scale * S from values, shape (n,).

    seeds has shape (K,), limbs (L, K); L is 1 or 2.
    """
    stop = start + values.shape[0]
    words, z = np.empty((4, _TILE // 8), np.uint32), np.empty(_TILE, np.int16)
    partial = np.empty((limbs.shape[0], _TILE), np.float64)
    total, rest = np.empty(_TILE, np.float64), np.empty(_TILE, np.float64)
    for base in range(start - start % _SUPERBLOCK, stop, _TILE):
        last = min(base + _TILE, stop)
        total[:] = 0.0
        rest[:] = 0.0
        for group in range(0, seeds.shape[0], GROUP):
            partial[:] = 0.0
            for j in range(group, min(group + GROUP, seeds.shape[0])):
                _fill_tile(_GAUSSIAN_TAG, table, seeds[j], base, last, words, z)
                for n in range(limbs.shape[0]):
                    sums, limb = partial[n], limbs[n, j]
                    for i in range(last - base):
                        sums[i] += limb * np.float64(z[i])
            for n in range(limbs.shape[0]):
                sums, unit = partial[n], _LIMB if n else 1.0
                for i in range(_TILE):
                    _fold(total, rest, i, unit * sums[i])
        for i in range(_TILE):
            total[i] = scale * (total[i] + rest[i])
        _subtract(values, total, start, base)


@_kernel
def rebuild_rademacher(
    seeds: NDArray[np.uint64],
    sums: NDArray[np.int64],
    scale: float,
    start: int,
    values: NDArray[np.float32],
) -> None:
    """Subtract scale * S from values, shape (n,); seeds and sums have shape (K,).

    A group's sum over +-a is minus the sum of all a, plus 2 a wherever the bit is set. Nothing on
    the way passes the sum of |a|, below 2**63 for a group. Until the end the sums lie by word, bit
    and block, so that the inner loop takes the same bit of consecutive blocks.
    """
    stop = start + values.shape[0]
    blocks = _TILE // _SUPERBLOCK
    words, partial = np.empty((4, blocks), np.uint32), np.empty(_TILE, np.int64)
    total, rest = np.empty(_TILE, np.float64), np.empty(_TILE, np.float64)
    step = np.empty(_TILE, np.float64)
    for base in range(start - start % _SUPERBLOCK, stop, _TILE):
        total[:] = 0.0
        rest[:] = 0.0
        for group in range(0, seeds.shape[0], GROUP):
            end = min(group + GROUP, seeds.shape[0])
            partial[:] = -np.sum(sums[group:end])
            for j in range(group, end):
                _fill_words(seeds[j], _RADEMACHER_TAG, base // _SUPERBLOCK, blocks, words)
                _add_where_set(words, 2 * sums[j], partial.reshape(4, 32, blocks))
            for i in range(_TILE):
                high = partial[i] >> LIMB_BITS
                _fold(total, rest, i, _LIMB * np.float64(high))
                _fold(total, rest, i, np.float64(partial[i] - (high << LIMB_BITS)))
        for plane in range(_SUPERBLOCK):
            for b in range(blocks):
                i = plane * blocks + b
                step[b * _SUPERBLOCK + plane] = scale * (total[i] + rest[i])
        _subtract(values, step, start, base)


@_kernel
def _add_where_set(words: NDArray[np.uint32], a: int, partial: NDArray[np.int64]) -> None:
    """Add a to partial, shape (4, 32, n), where a bit of words, shape (4, n), is set."""
    for k in range(4):
        row = words[k]
        for bit in range(32):
            mask, sums = np.uint32(1) << np.uint32(bit), partial[k, bit]
            for b in range(row.shape[0]):
                sums[b] += a if row[b] & mask else 0
