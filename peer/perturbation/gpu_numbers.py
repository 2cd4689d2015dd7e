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
def gaussian_of_seeds(
    table: tl.tensor,
    seeds: tl.tensor,
    block: tl.tensor,
    blocks: tl.constexpr,
    at_once: tl.constexpr,
) -> tl.tensor:
    """Return the numbers of at_once seeds: int32, shape (16 * blocks, at_once).

    Four seeds side by side come from one thread, so that bytes are stored by fours.
    """
    fours = seeds + 4 * tl.arange(0, at_once // 4)[None, :]
    block = block[:, None]
    z0 = _gaussian(table, tl.load(fours), block)
    z1 = _gaussian(table, tl.load(fours + 1), block)
    z2 = _gaussian(table, tl.load(fours + 2), block)
    z3 = _gaussian(table, tl.load(fours + 3), block)
    z = tl.join(tl.join(z0, z2), tl.join(z1, z3))
    return tl.reshape(tl.permute(z, (0, 4, 5, 3, 2, 1, 6, 7)), (16 * blocks, at_once))


@_jit
def bits_of_seeds(
    seeds: tl.tensor, block: tl.tensor, blocks: tl.constexpr, at_once: tl.constexpr
) -> tl.tensor:
    """Return the bits of at_once seeds: int8, shape (128 * blocks, at_once)."""
    seed = tl.load(seeds + tl.arange(0, at_once))[None, :]
    words = _rademacher(seed, block[:, None])
    words = tl.reshape(tl.permute(words, (0, 2, 3, 1)), (4 * blocks, 1, at_once))
    bits = (words >> tl.arange(0, 32)[None, :, None]) & 1
    return tl.reshape(bits.to(tl.int8), (128 * blocks, at_once))
