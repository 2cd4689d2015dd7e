"""The numbers z on a GPU, in Triton: Philox, and both distributions, in registers.

Shapes grow by `tl.join`, which pairs numbers of one thread, and shrink by permuting and reshaping,
which only renames them: no number changes its thread on the way.

`numbers_of_tile` makes those of one seed, to be added to weights where they lie;
`gaussian_of_seeds` and `bits_of_seeds` make those of many, as a factor of a product of matrices.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import triton
import triton.language as tl

from peer.perturbation.reference import GAUSSIAN, RADEMACHER
from peer.philox import MULTIPLIER_0, MULTIPLIER_1, ROUNDS, WEYL_0, WEYL_1

_jit: Callable[[Callable[..., Any]], Any] = triton.jit

_M0: Final = tl.constexpr(MULTIPLIER_0)
_M1: Final = tl.constexpr(MULTIPLIER_1)
_W0: Final = tl.constexpr(WEYL_0)
_W1: Final = tl.constexpr(WEYL_1)
_ROUNDS: Final = tl.constexpr(ROUNDS)
_GAUSSIAN: Final = tl.constexpr(GAUSSIAN.tag)
_RADEMACHER: Final = tl.constexpr(RADEMACHER.tag)


@_jit
def _words(seed: tl.tensor, block: tl.tensor, tag: tl.constexpr) -> tl.tensor:
    """Return words 0 to 3, uint32, of blocks of Philox; seed and block are int64 and broadcast."""
    c0, c1 = block.to(tl.uint32), (block >> 32).to(tl.uint32)
    c2, c3 = tl.full(c0.shape, tag, tl.uint32), tl.full(c0.shape, 0, tl.uint32)
    k0, k1 = seed.to(tl.uint32), (seed >> 32).to(tl.uint32)
    for _ in tl.static_range(_ROUNDS):
        high_0, high_1 = tl.umulhi(c0, _M0), tl.umulhi(c2, _M1)
        low_0, low_1 = c0 * _M0, c2 * _M1
        c0, c1, c2, c3 = high_1 ^ c1 ^ k0, low_1, high_0 ^ c3 ^ k1, low_0
        k0, k1 = k0 + _W0, k1 + _W1
    return c0, c1, c2, c3


@_jit
def _points(table: tl.tensor, bits: tl.tensor) -> tl.tensor:
    """Return x and y of the points that the low 16 bits choose: int32, shape (..., axis)."""
    point = tl.load(table + (bits & 0x3FFF).to(tl.int32))
    x, y = point & 0xFFFF, point >> 16
    return tl.join(
        tl.where((bits & 0x4000) != 0, -x, x),
        tl.where((bits & 0x8000) != 0, -y, y),
    )


@_jit
def _gaussian(table: tl.tensor, seed: tl.tensor, block: tl.tensor) -> tl.tensor:
    """Return the 16 numbers of each block: int32, shape (..., axis, half, word // 2, word % 2)."""
    w0, w1, w2, w3 = _words(seed, block, _GAUSSIAN)
    z0 = tl.join(_points(table, w0), _points(table, w0 >> 16))
    z1 = tl.join(_points(table, w1), _points(table, w1 >> 16))
    z2 = tl.join(_points(table, w2), _points(table, w2 >> 16))
    z3 = tl.join(_points(table, w3), _points(table, w3 >> 16))
    return tl.join(tl.join(z0, z2), tl.join(z1, z3))


@_jit
def _rademacher(seed: tl.tensor, block: tl.tensor) -> tl.tensor:
    """Return the words of each block: uint32, shape (..., word // 2, word % 2)."""
    w0, w1, w2, w3 = _words(seed, block, _RADEMACHER)
    return tl.join(tl.join(w0, w2), tl.join(w1, w3))


@_jit
def numbers_of_tile(
    table: tl.tensor,
    seed: tl.tensor,
    first: tl.tensor,
    gaussian: tl.constexpr,
    blocks: tl.constexpr,
) -> tl.tensor:
    """Return the numbers of a tile that starts at weight `first`, in the shape of `places_in_tile`.

    Gaussian numbers in units, int32; signs as uint32 whose top bit is set for +1.
    """
    if gaussian:
        z = _gaussian(table, seed, first // 16 + tl.arange(0, blocks))
        z = tl.reshape(tl.permute(z, (3, 4, 2, 1, 0)), (16, blocks))
    else:
        words = _rademacher(seed, first // 128 + tl.arange(0, blocks))
        z = tl.reshape(words, (4 * blocks, 1)) << (31 - tl.arange(0, 32)[None, :])
    return z


@_jit
def places_in_tile(gaussian: tl.constexpr, blocks: tl.constexpr) -> tl.tensor:
    """Return where in its tile each number of `numbers_of_tile` belongs, int32.

    Its shape is (16, blocks), by h and lane, for Gaussian numbers, (4 * blocks, 32), by word and
    bit, for signs: along the last axis weights lie side by side in memory.
    """
    if gaussian:
        block = tl.arange(0, blocks)[None, :]
        places = block // 32 * 512 + tl.arange(0, 16)[:, None] * 32 + block % 32
    else:
        places = tl.arange(0, 4 * blocks)[:, None] * 32 + tl.arange(0, 32)[None, :]
    return places


@_jit
def _factor(z: tl.tensor, per_block: tl.constexpr, at_once: tl.constexpr) -> tl.tensor:
    """Return numbers as a factor of a product: shape (blocks * per_block, at_once).

    Rows are in the order (number // 2, block // 8, number % 2, block % 8). So each number is where
    a tensor core wants it, in the thread that has made it: of a fragment of 16 rows and 32 seeds
    thread 4 r + q of a warp holds rows r and r + 8, and seeds 4 q to 4 q + 3 and 16 more.

    Args:
        z: int8, shape (blocks, at_once / 8, per_block, seed // 16 % 2, seed // 2 % 2, seed % 2),
            with q and what is above 32 seeds in the second axis.
        per_block: the size of the third axis.
        at_once: how many seeds.
    """
    blocks: tl.constexpr = z.shape[0]
    z = tl.reshape(z, (blocks // 8, 8, at_once // 32, 4, per_block // 2, 2, 2, 2, 2))
    z = tl.permute(z, (4, 0, 5, 1, 2, 6, 3, 7, 8))
    return tl.reshape(z, (blocks * per_block, at_once))


@_jit
def by_block(rows: tl.tensor, blocks: tl.constexpr, per_block: tl.constexpr) -> tl.tensor:
    """Return what is ordered as the rows of a factor, shape (rows, n), by block and number."""
    rows = tl.reshape(rows, (per_block // 2, blocks // 8, 2, 8, rows.shape[1]))
    rows = tl.permute(rows, (1, 3, 0, 2, 4))
    return tl.reshape(rows, (blocks * per_block, rows.shape[4]))


@_jit
def _seeds_of_thread(seeds: tl.tensor, at_once: tl.constexpr) -> tl.tensor:
    """Return pointers to the first seed of each thread, shape (1, at_once / 8); see `_factor`."""
    n = tl.arange(0, at_once // 8)[None, :]
    return seeds + n // 4 * 32 + n % 4 * 4


@_jit
def gaussian_of_seeds(
    table: tl.tensor, seeds: tl.tensor, block: tl.tensor, at_once: tl.constexpr
) -> tl.tensor:
    """Return low and high bytes of numbers, which are low + 256 high, as two factors.

    Args:
        table: the points.
        seeds: pointer to the first of them.
        block: int64 of shape (blocks,).
        at_once: how many seeds, a multiple of 32.
    """
    first = _seeds_of_thread(seeds, at_once)
    block = block[:, None]
    z = tl.join(_gaussian_of_four(table, first, block), _gaussian_of_four(table, first + 16, block))
    # (block, n, word // 2, word % 2, half, axis, seed // 16 % 2, seed // 2 % 2, seed % 2)
    z = tl.permute(z, (0, 1, 4, 5, 3, 2, 8, 6, 7))
    low, high = z.to(tl.int8), ((z + 128) >> 8).to(tl.int8)
    return _factor(low, 16, at_once), _factor(high, 16, at_once)


@_jit
def _gaussian_of_four(table: tl.tensor, seeds: tl.tensor, block: tl.tensor) -> tl.tensor:
    """Return the numbers of four seeds side by side: those of `_gaussian`, and two axes more."""
    z0 = _gaussian(table, tl.load(seeds), block)
    z1 = _gaussian(table, tl.load(seeds + 1), block)
    z2 = _gaussian(table, tl.load(seeds + 2), block)
    z3 = _gaussian(table, tl.load(seeds + 3), block)
    return tl.join(tl.join(z0, z2), tl.join(z1, z3))


@_jit
def bits_of_seeds(
    seeds: tl.tensor,
    block: tl.tensor,
    part: tl.tensor,
    per_block: tl.constexpr,
    at_once: tl.constexpr,
) -> tl.tensor:
    """Return bits of signs as a factor: bit i is 0 or 2**(i % 8), or -2**7.

    To leave a bit in its place within a byte costs one instruction for four of them.

    Args:
        seeds: pointer to the first of them.
        block: int64 of shape (blocks,).
        part: which bits of each block: those from part * per_block.
        per_block: how many: 8, 16 or 32.
        at_once: how many seeds, a multiple of 32.
    """
    first = _seeds_of_thread(seeds, at_once)
    block = block[:, None]
    bits = tl.join(
        _bits_of_four(first, block, part, per_block),
        _bits_of_four(first + 16, block, part, per_block),
    )
    s0, s1 = bits.to(tl.int8), (bits >> 8).to(tl.int8)
    s2, s3 = (bits >> 16).to(tl.int8), (bits >> 24).to(tl.int8)
    return _factor(tl.join(tl.join(s0, s2), tl.join(s1, s3)), per_block, at_once)


@_jit
def _bits_of_four(
    seeds: tl.tensor, block: tl.tensor, part: tl.tensor, per_block: tl.constexpr
) -> tl.tensor:
    """Return bits of four seeds, in four bytes: uint32, shape (blocks, n, per_block)."""
    p0, p1, p2, p3 = _bytes_of_four(
        _part(tl.load(seeds), block, part, per_block),
        _part(tl.load(seeds + 1), block, part, per_block),
        _part(tl.load(seeds + 2), block, part, per_block),
        _part(tl.load(seeds + 3), block, part, per_block),
    )
    if per_block == 8:
        p = tl.expand_dims(p0, 2)
    elif per_block == 16:
        p = tl.join(p0, p1)
    else:
        p = tl.join(tl.join(p0, p2), tl.join(p1, p3))
    b0, b1, b2, b3 = p & 0x01010101, p & 0x02020202, p & 0x04040404, p & 0x08080808
    b4, b5, b6, b7 = p & 0x10101010, p & 0x20202020, p & 0x40404040, p & 0x80808080
    even = tl.join(tl.join(b0, b4), tl.join(b2, b6))
    odd = tl.join(tl.join(b1, b5), tl.join(b3, b7))
    return tl.reshape(tl.join(even, odd), (p.shape[0], p.shape[1], per_block))


@_jit
def _part(seed: tl.tensor, block: tl.tensor, part: tl.tensor, per_block: tl.constexpr) -> tl.tensor:
    """Return a part of a block in the low bits of a word."""
    w0, w1, w2, w3 = _words(seed, block, _RADEMACHER)
    at = part * per_block
    word = tl.where(at < 64, tl.where(at < 32, w0, w1), tl.where(at < 96, w2, w3))
    return word >> (at % 32)


@_jit
def _bytes_of_four(a: tl.tensor, b: tl.tensor, c: tl.tensor, d: tl.tensor) -> tl.tensor:
    """Return words 0 to 3 of the same bytes, word i with byte i of a, b, c and d."""
    ac, ac_high = (a & 0xFFFF) | (c << 16), (a >> 16) | (c & 0xFFFF0000)
    bd, bd_high = (b & 0xFFFF) | (d << 16), (b >> 16) | (d & 0xFFFF0000)
    return (
        (ac & 0x00FF00FF) | ((bd & 0x00FF00FF) << 8),
        ((ac >> 8) & 0x00FF00FF) | (bd & 0xFF00FF00),
        (ac_high & 0x00FF00FF) | ((bd_high & 0x00FF00FF) << 8),
        ((ac_high >> 8) & 0x00FF00FF) | (bd_high & 0xFF00FF00),
    )
