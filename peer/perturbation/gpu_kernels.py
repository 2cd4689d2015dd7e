"""The kernels of a GPU, in Triton: units, passes and rebuilds (see `gpu`).

How the kernels of this package are written:
- A tile of weights stays in registers while all passes, or all seeds, go over it, so each weight
  crosses memory once.
- A rebuild is a product of integer matrices, weights by seeds times seeds by digits: the numbers z,
  cut in bytes, times the digits of the sums in base 256. It runs on tensor cores, with 8-bit
  factors and 32-bit sums, and is exact in any order.
- Scalars come in tensors, because Triton passes Python's floats as float32. Whatever is as long as
  a model is counted in int64.
- bfloat16 weights come as their bits, in int16, because Triton's interpreter does not round to
  bfloat16 as a GPU does.
- There is no multiply-add to fuse but the sums of `passes` and the last line of `rebuild`; they are
  compiled without fusion, and tests look at the code.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import triton
import triton.language as tl

from peer.perturbation.gpu_numbers import (
    bits_of_seeds,
    by_block,
    gaussian_of_seeds,
    numbers_of_tile,
    places_in_tile,
)
from peer.perturbation.reference import GAUSSIAN

_jit: Callable[[Callable[..., Any]], Any] = triton.jit

# Lengths and places vary from call to call: none is worth a compilation of its own.
_kernel: Callable[[Callable[..., Any]], Any] = triton.jit(
    do_not_specialize=["count", "replicas", "start", "n"]
)

_GAUSSIAN_UNIT: Final = tl.constexpr(2.0**-GAUSSIAN.unit_bits)


@_jit
def _tile(
    start: tl.tensor, n: tl.tensor, gaussian: tl.constexpr, blocks: tl.constexpr
) -> tl.tensor:
    """Return this program's first weight in the model, and the range of its places that count.

    Places count that are among the weights start to start + n.
    """
    size: tl.constexpr = blocks * (16 if gaussian else 128)
    start = start.to(tl.int64)
    first = start - start % (512 if gaussian else 128) + tl.program_id(0).to(tl.int64) * size
    low = tl.maximum(start - first, 0).to(tl.int32)
    high = tl.minimum(start + n - first, size).to(tl.int32)
    return first, low, high


@_jit
def _widen(w: tl.tensor) -> tl.tensor:
    """Return weights as they are stored in float32, which holds them."""
    if w.dtype == tl.int16:
        wide = (w.to(tl.int32) << 16).to(tl.float32, bitcast=True)
    else:
        wide = w.to(tl.float32)
    return wide


@_jit
def _round(value: tl.tensor, stored: tl.constexpr) -> tl.tensor:
    """Return numbers, float32, rounded half to even to those that the stored type holds."""
    if stored == tl.int16:
        bits = value.to(tl.int32, bitcast=True)
        rounded = (bits + (0x7FFF + ((bits >> 16) & 1))) & -0x10000
        # The carry of a NaN could run into its sign.
        is_nan = (bits & 0x7FFFFFFF) > 0x7F800000
        value = tl.where(is_nan, 0x7FC00000, rounded).to(tl.float32, bitcast=True)
    else:
        value = value.to(stored).to(tl.float32)
    return value


@_jit
def _narrow(value: tl.tensor, stored: tl.constexpr) -> tl.tensor:
    """Return numbers that `_round` gave as they are stored."""
    if stored == tl.int16:
        narrow = (value.to(tl.int32, bitcast=True) >> 16).to(tl.int16)
    else:
        narrow = value.to(stored)
    return narrow


@_kernel
def units(
    out: tl.tensor,
    table: tl.tensor,
    seed: tl.tensor,
    start: tl.tensor,
    n: tl.tensor,
    gaussian: tl.constexpr,
    blocks: tl.constexpr,
) -> None:
    """Set out, int16 of shape (n,), to the numbers of a perturbation from start, in units.

    Args:
        out: where to.
        table: the points, int32 of shape (16384,), x in the lower half of each and y in the upper.
        seed: int64 of shape (1,).
        start: index of the first number.
        n: how many.
        gaussian: which distribution.
        blocks: blocks of Philox in a tile, a multiple of 32 for Gaussian numbers.
    """
    first, low, high = _tile(start, n, gaussian, blocks)
    places = places_in_tile(gaussian, blocks)
    z = numbers_of_tile(table, tl.load(seed), first, gaussian, blocks)
    if not gaussian:
        z = 2 * (z >> 31).to(tl.int32) - 1
    inside = (places >= low) & (places < high)
    tl.store(out + (first - start) + places, z.to(tl.int16), mask=inside)


@_kernel
def passes(
    weights: tl.tensor,
    table: tl.tensor,
    seeds: tl.tensor,
    coefficients: tl.tensor,
    count: tl.tensor,
    start: tl.tensor,
    n: tl.tensor,
    gaussian: tl.constexpr,
    blocks: tl.constexpr,
) -> None:
    """Take passes over weights, shape (n,), one after the other.

    A sign needs no float64: one addition in float32 gives what `reference` asks for, a sum in
    float64 that is cast to float32, because a sum of two numbers of p bits may be rounded to
    2 p + 2 bits first without harm (Figueroa, 1995).

    Args:
        weights: float32, float16, or the bits of bfloat16.
        table: see `units`.
        seeds: int64 of shape (count,).
        coefficients: float32 of shape (count,).
        count: how many passes, at least 1.
        start: index of the first weight.
        n: how many weights.
        gaussian: which distribution.
        blocks: see `units`.
    """
    first, low, high = _tile(start, n, gaussian, blocks)
    places = places_in_tile(gaussian, blocks)
    here = weights + (first - start) + places
    # To keep the predicates of a mask costs more than a pass, and nearly all tiles need none.
    whole = high - low == blocks * (16 if gaussian else 128)
    if whole:
        w = _widen(tl.load(here))
    else:
        w = _widen(tl.load(here, mask=(places >= low) & (places < high), other=0))
    seed = tl.load(seeds)
    z = numbers_of_tile(table, seed, first, gaussian, blocks)
    for j in range(count):
        next_seed = tl.load(seeds + j)
        if next_seed != seed:
            seed = next_seed
            z = numbers_of_tile(table, seed, first, gaussian, blocks)
        c = tl.load(coefficients + j)
        if gaussian:
            step = c.to(tl.float64) * _GAUSSIAN_UNIT * z.to(tl.float64)
            w = (w.to(tl.float64) + step).to(tl.float32)
        else:
            # c, whose sign a clear bit turns.
            step = c.to(tl.uint32, bitcast=True) ^ ((z & 0x80000000) ^ 0x80000000)
            w += step.to(tl.float32, bitcast=True)
        # Each pass ends with weights of their own type.
        w = _round(w, weights.dtype.element_ty)
    narrow = _narrow(w, weights.dtype.element_ty)
    if whole:
        tl.store(here, narrow)
    else:
        tl.store(here, narrow, mask=(places >= low) & (places < high))


@_kernel
def rebuild(
    outs: tl.tensor,
    w0: tl.tensor,
    table: tl.tensor,
    seeds: tl.tensor,
    digits: tl.tensor,
    digit_sums: tl.tensor,
    scale: tl.tensor,
    count: tl.tensor,
    replicas: tl.tensor,
    start: tl.tensor,
    n: tl.tensor,
    gaussian: tl.constexpr,
    blocks: tl.constexpr,
    per_block: tl.constexpr,
    at_once: tl.constexpr,
    columns: tl.constexpr,
    groups: tl.constexpr,
    group: tl.constexpr,
) -> None:
    """Set each row of outs, shape (replicas, n), to w0 - scale * S.

    S = sum_j a_j z_j. Let a = sum_m digit_m 256**m with digits from -128 to 127, and z = low +
    256 high alike. Then S = sum_m D_m 256**m with

        D_m = sum_j digit_m(j) low(j) + digit_(m-1)(j) high(j)

    a product of two matrices of bytes, in which nothing passes 2**31 for 65536 seeds. A sign is
    2 bit - 1, so D_m is twice the product with the bits, less the sum of the digits. The bits come
    times a power of two, one for each row, by which the products are divided.

    Args:
        outs: like w0; may be w0 itself.
        w0: float32, float16 or the bits of bfloat16, shape (n,).
        table: see `units`.
        seeds: int64 of shape (count,).
        digits: int8 of shape (count / at_once, parts, columns, at_once). Column 8 p + m of part 0
            is digit m of accumulator p. Part 1, for Gaussian numbers alone, is moved by one digit.
        digit_sums: of part 0 over each group, int32 of shape (groups, columns).
        scale: what one unit of S is worth, float64 of shape (1,).
        count: how many seeds, a multiple of at_once.
        replicas: how many rows.
        start: index of the first weight.
        n: how many weights.
        gaussian: which distribution.
        blocks: blocks of Philox in a tile, a multiple of 8.
        per_block: weights of each block in a tile: all 16, or 8, 16 or 32 signs.
        at_once: seeds in a step; a multiple of 32.
        columns: 8 times a power of two, at least 8 * replicas.
        groups: how many groups of seeds there are, count / group rounded up.
        group: seeds whose products are summed in 32 bits: a multiple of at_once, at most 65536.
    """
    rows: tl.constexpr = blocks * per_block
    parts: tl.constexpr = 2 if gaussian else 1
    cuts: tl.constexpr = 1 if gaussian else 128 // per_block
    part = tl.program_id(0) % cuts
    start = start.to(tl.int64)
    first = start - start % (512 if gaussian else 128)
    block = tl.program_id(0).to(tl.int64) // cuts * blocks + tl.arange(0, blocks)
    if gaussian:
        places = (block // 32 * 512 + block % 32)[:, None] + tl.arange(0, 16)[None, :] * 32
        block += first // 16
    else:
        places = (block * 128 + part * per_block)[:, None] + tl.arange(0, per_block)[None, :]
        block += first // 128
    places = tl.reshape(places, (rows,)) + (first - start)
    inside = (places >= 0) & (places < n)
    # Long before anything is written, which may be written to the same place.
    before = _widen(tl.load(w0 + places, mask=inside, other=0)).to(tl.float64)

    of_step = tl.arange(0, columns)[:, None] * at_once + tl.arange(0, at_once)[None, :]
    power = 16 * tl.arange(0, 2)[None, None, None, :]
    halves = tl.zeros((rows, columns // 8, 2), tl.int64)
    for g in range(groups):
        products = tl.zeros((rows, columns), tl.int32)
        for _ in range(g * group, tl.minimum(count, (g + 1) * group), at_once):
            factor = tl.trans(tl.load(digits + of_step))
            if gaussian:
                low, high = gaussian_of_seeds(table, seeds, block, at_once)
                moved = tl.trans(tl.load(digits + columns * at_once + of_step))
                products = tl.dot(low, factor, products, out_dtype=tl.int32)
                products = tl.dot(high, moved, products, out_dtype=tl.int32)
            else:
                z = bits_of_seeds(seeds, block, part, per_block, at_once)
                products = tl.dot(z, factor, products, out_dtype=tl.int32)
            seeds += at_once
            digits += parts * columns * at_once
        products = by_block(products, blocks, per_block)
        if not gaussian:
            sums = tl.load(digit_sums + g * columns + tl.arange(0, columns))
            bit = (tl.arange(0, rows) % 8)[:, None]
            products >>= bit
            products = 2 * tl.where(bit == 7, -products, products) - sums[None, :]
        even, odd = tl.split(tl.reshape(products, (rows, columns // 8, 2, 2, 2)))
        pairs = even.to(tl.int64) + (odd.to(tl.int64) << 8)
        halves += tl.sum(pairs << power, axis=3)

    # S = low + 2**32 high = middle + 2**52 top, where float64 holds both: one addition rounds once.
    low, high = tl.split(halves)
    high += low >> 32
    middle = (low & 0xFFFFFFFF) | ((high & 0xFFFFF) << 32)
    total = (high >> 20).to(tl.float64) * 4503599627370496.0 + middle.to(tl.float64)
    after = before[:, None] - tl.load(scale) * total
    p = tl.arange(0, columns // 8)[None, :]
    there = outs + p.to(tl.int64) * n + places[:, None]
    after = _round(after.to(tl.float32), outs.dtype.element_ty)
    kept = inside[:, None] & (p < replicas)
    tl.store(there, _narrow(after, outs.dtype.element_ty), mask=kept)
