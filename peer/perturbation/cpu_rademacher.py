"""Signs on the CPU, and rebuilds with them: numba kernels (see `cpu_kernel`).

A rebuild goes by the method of the four Russians. For each eight seeds there is a table of the sums
of +-a over all 256 patterns of signs. The eight bits that belong to one weight are brought together
by transposing words as matrices of 8 x 8 bits; then one look-up adds eight seeds to a weight. Sums
are int64: nothing on the way passes the sum of |a|, below 2**63 for a group of seeds.

While seeds pass over a tile, its sums lie in the order in which the transposed bytes come; `_order`
says which weight a byte belongs to.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from peer.perturbation.cpu_exact import write
from peer.perturbation.cpu_few_signs import FEW, rebuild_few
from peer.perturbation.cpu_kernel import kernel, tile_size
from peer.perturbation.cpu_vectors import ROW, WORD, add_four_rows, add_signs
from peer.perturbation.cpu_words import fill_halves, fill_words
from peer.perturbation.limbs import GROUP, LIMB_BITS
from peer.perturbation.reference import RADEMACHER

TILE: Final = 4096
PERIOD: Final = RADEMACHER.period

SEEDS_AT_ONCE: Final = 8
"""The number of seeds of a rebuild is a multiple of this; what is too many has sums of 0."""

REPLICAS_AT_ONCE: Final = ROW
"""A rebuild of several accumulators takes so many of them by one look-up."""

SEEDS_AT_ONCE_OF_MANY: Final = 32
"""As SEEDS_AT_ONCE, for several accumulators."""

_TAG: Final = RADEMACHER.tag
_LIMB: Final = 2.0**LIMB_BITS
_LIMB_MASK: Final = 2**LIMB_BITS - 1
_PATTERNS: Final = 256
_BYTE: Final = np.uint64(0xFF)
_1: Final = np.uint64(1)
_2: Final = np.uint64(2)
_4: Final = np.uint64(4)
_ODD: Final = np.uint64(0x5555555555555555)
_PAIRS: Final = np.uint64(0x3333333333333333)
_NIBBLES: Final = np.uint64(0x0F0F0F0F0F0F0F0F)


@kernel
def units(seed: np.uint64, start: int, out: NDArray[np.int16]) -> None:
    """Set out, shape (n,), to the numbers of a perturbation from start."""
    stop = start + out.shape[0]
    words, z = np.empty((4, TILE // PERIOD), np.uint32), np.empty(TILE, np.int16)
    for base in range(start - start % PERIOD, stop, TILE):
        first, last = max(base, start), min(base + TILE, stop)
        fill_words(seed, _TAG, base // PERIOD, words)
        for b in range(words.shape[1]):
            for k in range(4):
                word, z_word = words[k, b], z[b * PERIOD + 32 * k : b * PERIOD + 32 * k + 32]
                for i in range(32):
                    z_word[i] = np.int16(2 * np.int32((word >> np.uint32(i)) & np.uint32(1)) - 1)
        out[first - start : last - start] = z[first - base : last - base]


@kernel
def passes(
    seeds: NDArray[np.uint64],
    coefficients: NDArray[np.float32],
    start: int,
    values: NDArray[np.float32],
) -> None:
    """Add coefficient * z to values, shape (n,), once for each seed, one after the other.

    values are weights from start; seeds and coefficients have shape (passes,). One addition in
    float32 gives what `reference` asks for, a sum in float64 that is cast to float32, because a sum
    of two numbers of p bits may be rounded to 2 p + 2 bits first without harm (Figueroa, 1995).
    """
    stop = start + values.shape[0]
    words, edge = np.empty((4, TILE // PERIOD), np.uint32), np.empty(TILE, np.float32)
    minus = (-coefficients).view(np.uint32)
    for base in range(start - start % PERIOD, stop, TILE):
        first, last = max(base, start), min(base + TILE, stop)
        w = values[first - start : last - start]
        whole = last - first == TILE
        tile = w if whole else edge
        if not whole:
            edge[first - base : last - base] = w
        for j in range(seeds.shape[0]):
            if j == 0 or seeds[j] != seeds[j - 1]:
                fill_words(seeds[j], _TAG, base // PERIOD, words)
            for b in range(words.shape[1]):
                for k in range(4):
                    add_signs(tile, b * PERIOD + k * WORD, words[k, b], minus[j])
        if not whole:
            w[:] = edge[first - base : last - base]


@kernel
def rebuild(
    offsets: NDArray[np.int64],
    firsts: NDArray[np.int64],
    seeds: NDArray[np.uint64],
    sums: NDArray[np.int64],
    scale: float,
    start: int,
    w0: NDArray[np.float32],
    out: NDArray[np.float32],
) -> None:
    """Set out to w0 - scale * S, block by block.

    Args:
        offsets: where blocks begin, and the last one ends: shape (L + 1,).
        firsts: where in the seeds those of a block begin, and their number: shape (L + 1,).
        seeds: shape (m,).
        sums: shape (m,).
        scale: what one unit of S is worth.
        start: index of the first weight.
        w0: shape (n,); out may be it.
        out: shape (n,).
    """
    stop = start + w0.shape[0]
    for block in range(offsets.shape[0] - 1):
        first, last = max(offsets[block], start), min(offsets[block + 1], stop)
        if first < last:
            here, some = slice(first - start, last - start), slice(firsts[block], firsts[block + 1])
            if some.stop - some.start <= FEW:
                rebuild_few(seeds[some], sums[some], scale, first, w0[here], out[here])
            else:
                _rebuild(seeds[some], sums[some], scale, first, w0[here], out[here])


@kernel
def _rebuild(
    seeds: NDArray[np.uint64],
    sums: NDArray[np.int64],
    scale: float,
    start: int,
    w0: NDArray[np.float32],
    out: NDArray[np.float32],
) -> None:
    """Do it for one block."""
    stop = start + w0.shape[0]
    before = start % PERIOD
    tile = tile_size(before + w0.shape[0], TILE, PERIOD)
    rows = np.empty((4, SEEDS_AT_ONCE, 2, tile // PERIOD), np.uint64)
    patterns = rows.view(np.uint8).reshape((4, tile))
    table = np.empty((4, _PATTERNS), np.int64)
    partial, ordered = np.empty(tile, np.int64), np.empty(tile)
    high, low = np.empty(tile, np.int64), np.empty(tile, np.int64)
    for base in range(start - before, stop, tile):
        high[:] = 0
        low[:] = 0
        for group in range(0, seeds.shape[0], GROUP):
            end = min(group + GROUP, seeds.shape[0])
            partial[:] = 0
            for j in range(group, end, 4 * SEEDS_AT_ONCE):
                eights = min(4, (end - j + SEEDS_AT_ONCE - 1) // SEEDS_AT_ONCE)
                for q in range(eights):
                    some = slice(j + q * SEEDS_AT_ONCE, min(j + (q + 1) * SEEDS_AT_ONCE, end))
                    _fill_patterns(seeds[some], base // PERIOD, rows[q])
                    _fill_table(sums[some], table[q])
                if eights == 4:
                    _look_up_four(table, patterns, partial)
                else:
                    for q in range(eights):
                        _look_up(table[q], patterns[q], partial)
            _carry(high, low, partial)
        _order(high, low, ordered)
        first, last = max(base, start), min(base + tile, stop)
        here, inside = slice(first - start, last - start), slice(first - base, last - base)
        write(out[here], w0[here], ordered[inside], scale)


@kernel
def rebuild_many(
    offsets: NDArray[np.int64],
    firsts: NDArray[np.int64],
    seeds: NDArray[np.uint64],
    sums: NDArray[np.int64],
    scale: float,
    start: int,
    w0: NDArray[np.float32],
    outs: NDArray[np.float32],
) -> None:
    """Set each row of outs, shape (P, n), to w0 - scale * S, block by block.

    Like `rebuild`, but sums has shape (P / REPLICAS_AT_ONCE, m, REPLICAS_AT_ONCE), filled up with
    zeros, and each block has a multiple of SEEDS_AT_ONCE_OF_MANY seeds.
    """
    stop = start + w0.shape[0]
    for block in range(offsets.shape[0] - 1):
        first, last = max(offsets[block], start), min(offsets[block + 1], stop)
        if first < last:
            some = slice(firsts[block], firsts[block + 1])
            _rebuild_many(seeds[some], sums[:, some], scale, first, last, start, w0, outs)


@kernel
def _rebuild_many(
    seeds: NDArray[np.uint64],
    sums: NDArray[np.int64],
    scale: float,
    begin: int,
    stop: int,
    start: int,
    w0: NDArray[np.float32],
    outs: NDArray[np.float32],
) -> None:
    """Do `_rebuild` for several accumulators: for weights begin to stop, w0's being from start.

    The tables hold the sums of several accumulators next to each other, so that one pattern serves
    them all.
    """
    before = begin % PERIOD
    tile = tile_size(before + stop - begin, TILE, PERIOD)
    slabs = sums.shape[0]
    rows = np.empty((4, SEEDS_AT_ONCE, 2, tile // PERIOD), np.uint64)
    patterns = rows.view(np.uint8).reshape((4, tile))
    table = np.empty((4, _PATTERNS, REPLICAS_AT_ONCE), np.int64)
    partial = np.empty((slabs, tile, REPLICAS_AT_ONCE), np.int64)
    high, low = np.empty((outs.shape[0], tile), np.int64), np.empty((outs.shape[0], tile), np.int64)
    row, ordered = np.empty(tile, np.int64), np.empty(tile)
    for base in range(begin - before, stop, tile):
        high[:] = 0
        low[:] = 0
        for group in range(0, seeds.shape[0], GROUP):
            partial[:] = 0
            end = min(group + GROUP, seeds.shape[0])
            for j in range(group, end, SEEDS_AT_ONCE_OF_MANY):
                for q in range(4):
                    at = j + q * SEEDS_AT_ONCE
                    _fill_patterns(seeds[at : at + SEEDS_AT_ONCE], base // PERIOD, rows[q])
                for slab in range(slabs):
                    for q in range(4):
                        _fill_table_of_many(sums[slab, j + q * SEEDS_AT_ONCE :], table[q])
                    _look_up_many(table, patterns, partial[slab])
            for p in range(outs.shape[0]):
                row[:] = partial[p // REPLICAS_AT_ONCE, :, p % REPLICAS_AT_ONCE]
                _carry(high[p], low[p], row)
        first, last = max(base, begin), min(base + tile, stop)
        here, inside = slice(first - start, last - start), slice(first - base, last - base)
        for p in range(outs.shape[0]):
            _order(high[p], low[p], ordered)
            write(outs[p, here], w0[here], ordered[inside], scale)


@kernel
def _fill_patterns(seeds: NDArray[np.uint64], block: int, rows: NDArray[np.uint64]) -> None:
    """Set the bytes of rows, shape (8, 2, blocks), to the patterns of up to eight seeds.

    Bit s of a byte belongs to seed s, and is clear where there is none.
    """
    count = seeds.shape[0]
    for s in range(0, count, 2):
        fill_halves(seeds[s], seeds[min(s + 1, count - 1)], _TAG, block, rows[s], rows[s + 1])
    rows[count:] = 0
    flat = rows.reshape((SEEDS_AT_ONCE, 2 * rows.shape[2]))
    x0, x1, x2, x3 = flat[0], flat[1], flat[2], flat[3]
    x4, x5, x6, x7 = flat[4], flat[5], flat[6], flat[7]
    for i in range(flat.shape[1]):
        a0, a1, a2, a3, a4, a5, a6, a7 = x0[i], x1[i], x2[i], x3[i], x4[i], x5[i], x6[i], x7[i]
        # Swap the upper right with the lower left quarter: of squares of 2, of 4, of 8.
        a0, a1 = _swap(a0, a1, _1, _ODD)
        a2, a3 = _swap(a2, a3, _1, _ODD)
        a4, a5 = _swap(a4, a5, _1, _ODD)
        a6, a7 = _swap(a6, a7, _1, _ODD)
        a0, a2 = _swap(a0, a2, _2, _PAIRS)
        a1, a3 = _swap(a1, a3, _2, _PAIRS)
        a4, a6 = _swap(a4, a6, _2, _PAIRS)
        a5, a7 = _swap(a5, a7, _2, _PAIRS)
        a0, a4 = _swap(a0, a4, _4, _NIBBLES)
        a1, a5 = _swap(a1, a5, _4, _NIBBLES)
        a2, a6 = _swap(a2, a6, _4, _NIBBLES)
        a3, a7 = _swap(a3, a7, _4, _NIBBLES)
        x0[i], x1[i], x2[i], x3[i], x4[i], x5[i], x6[i], x7[i] = a0, a1, a2, a3, a4, a5, a6, a7


@kernel
def _swap(
    a: np.uint64, b: np.uint64, shift: np.uint64, mask: np.uint64
) -> tuple[np.uint64, np.uint64]:
    """Swap the bits of a under mask << shift with those of b under mask."""
    difference = ((a >> shift) ^ b) & mask
    return a ^ (difference << shift), b ^ difference


@kernel
def _fill_table(sums: NDArray[np.int64], table: NDArray[np.int64]) -> None:
    """Set table, shape (256,), to the sums of +-sums, up to eight; a set bit is +."""
    low = np.int64(0)
    for s in range(sums.shape[0]):
        low -= sums[s]
    table[0] = low
    filled = 1
    for s in range(sums.shape[0]):
        known, new, twice = table[:filled], table[filled : 2 * filled], 2 * sums[s]
        for i in range(filled):
            new[i] = known[i] + twice
        filled *= 2


@kernel
def _fill_table_of_many(sums: NDArray[np.int64], table: NDArray[np.int64]) -> None:
    """Do `_fill_table` for four accumulators: sums has shape (8, 4), table (256, 4)."""
    for p in range(REPLICAS_AT_ONCE):
        low = np.int64(0)
        for s in range(SEEDS_AT_ONCE):
            low -= sums[s, p]
        table[0, p] = low
    filled = 1
    for s in range(SEEDS_AT_ONCE):
        a0, a1, a2, a3 = 2 * sums[s, 0], 2 * sums[s, 1], 2 * sums[s, 2], 2 * sums[s, 3]
        for i in range(filled):
            known, new = table[i], table[filled + i]
            new[0], new[1] = known[0] + a0, known[1] + a1
            new[2], new[3] = known[2] + a2, known[3] + a3
        filled *= 2


@kernel
def _look_up(
    table: NDArray[np.int64], patterns: NDArray[np.uint8], partial: NDArray[np.int64]
) -> None:
    """Add to each of partial, shape (n,), what table says of its pattern."""
    for i in range(partial.shape[0]):
        partial[i] += table[patterns[i]]


@kernel
def _look_up_four(
    table: NDArray[np.int64], patterns: NDArray[np.uint8], partial: NDArray[np.int64]
) -> None:
    """Do `_look_up` with four tables, shape (4, 256), and their patterns, shape (4, n), at once."""
    t0, t1, t2, t3 = table[0], table[1], table[2], table[3]
    i0, i1, i2, i3 = patterns[0], patterns[1], patterns[2], patterns[3]
    for i in range(partial.shape[0]):
        partial[i] += (t0[i0[i]] + t1[i1[i]]) + (t2[i2[i]] + t3[i3[i]])


@kernel
def _look_up_many(
    table: NDArray[np.int64], patterns: NDArray[np.uint8], partial: NDArray[np.int64]
) -> None:
    """Do `_look_up_four` for four accumulators: table has shape (4, 256, 4), partial (n, 4)."""
    i0, i1, i2, i3 = patterns[0], patterns[1], patterns[2], patterns[3]
    for i in range(partial.shape[0]):
        add_four_rows(partial, i, table, i0[i], i1[i], i2[i], i3[i])


@kernel
def _carry(high: NDArray[np.int64], low: NDArray[np.int64], partial: NDArray[np.int64]) -> None:
    """Add partial to the exact sums 2**26 * high + low; all of shape (n,).

    Both stay below 2**53, so that float64 holds them, for up to 2**27 seeds.
    """
    for i in range(partial.shape[0]):
        high[i] += partial[i] >> LIMB_BITS
        low[i] += partial[i] & _LIMB_MASK


@kernel
def _order(high: NDArray[np.int64], low: NDArray[np.int64], ordered: NDArray[np.float64]) -> None:
    """Set ordered to the sums, rounded once, in the order of weights; all of shape (n,).

    Pattern (r, half, b, k) belongs to bit 8 k + r of a half of block b.
    """
    blocks = ordered.shape[0] // PERIOD
    for r in range(8):
        for half in range(2):
            for b in range(blocks):
                at, to = ((r * 2 + half) * blocks + b) * 8, b * PERIOD + half * 64 + r
                high_of, low_of = high[at : at + 8], low[at : at + 8]
                spread = ordered[to : to + 57]
                for k in range(8):
                    spread[8 * k] = np.float64(high_of[k]) * _LIMB + np.float64(low_of[k])
