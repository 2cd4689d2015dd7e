"""What a perturbation is, to the bit: the slow definition that every fast kernel equals.

A perturbation z is d numbers, one for each weight. It is a function of (distribution, seed, index)
and nothing else; any slice can be made alone. A seed is an integer in [0, 2**64), the key of
Philox4x32-10. z is held in integer units: z_i = units_i * 2**-unit_bits.

    block(counter, tag): the four 32-bit words, 0 to 3, at the 128-bit counter tag * 2**64 + counter

    rademacher   unit_bits 0, tag 1: independent, +1 or -1
                 weight i takes bit i % 32, the lowest being bit 0, of word (i % 128) // 32
                 of block(i // 128, 1); a set bit is +1, a clear one -1

    gaussian     unit_bits 12, tag 0: N(0, 1), two numbers at a time, through a table of points
                 weights come in superblocks of 512, made from 32 blocks, the lanes
                 superblock s = i // 512; lane = i % 32; h = i % 512 // 32, from 0 to 15
                 half p = h // 2 of block(32 * s + lane, 0) makes two numbers: the low 16 bits of
                 word p // 2 for an even p, the high ones for an odd p
                 its bits 0 to 13 choose a point (x, y) of the table (`table.py`); a set bit 14
                 makes x negative, a set bit 15 y
                 weight i takes x for an even h, y for an odd one

A pass over the weights, w <- w + c z, is for each weight, whatever its type

    w <- dtype(float32(float64(w) + c * z))

where c is first rounded to float32, and each cast rounds half to even. c has 24 significant bits
and z at most 15, so c * z is exact in float64, and a fused multiply-add cannot change the sum. A
local step is four passes, with c = eps, -2 eps, eps and -(eta g). A fused kernel gives their bits.

A rebuild from the pre-trained weights w0, seeds and integer sums a_j in units of 2**exponent is

    S <- sum_j a_j units_j                     exactly, an integer
    w <- dtype(float32(float64(w0) - float64(S) * 2**(exponent - unit_bits)))

where float64(S) is rounded half to even, once, and the multiplication only moves the exponent. So
neither the order of seeds nor tiles, threads or devices can change a bit. A rebuild refuses a w0
that is not finite. A pass does not look: local weights that have left the numbers give a loss that
has left them, and the step is skipped.

A projection of float32 numbers x on a perturbation is their inner product, in float64, where a
number times its units is exact. On a CPU it is summed in this order, whatever the threads

    tile i // 4096 and, in it, lane i % 16 take number x_i of weight i, each lane in ascending order
    the lanes of a tile are added up in ascending order, and then the tiles

and is multiplied by 2**-unit_bits. On other devices sums may be rounded otherwise: like a loss, a
projection is made by one peer and sent to all others, who never make it again.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from peer.perturbation.table import LARGEST, UNIT_BITS, point_table
from peer.philox import philox


@dataclass(frozen=True)
class Distribution:
    """How the numbers of a perturbation are distributed.

    Attributes:
        name: as the user writes it.
        tag: the high half of every counter, so that two distributions never share a block.
        unit_bits: z is a multiple of 2**-unit_bits.
        bound: the largest |z|, in units.
        weights_per_block: how many numbers one block of Philox makes.
        period: from one multiple of it to the next, weights have blocks of their own.
    """

    name: str
    tag: int
    unit_bits: int
    bound: int
    weights_per_block: int
    period: int


PROJECTION_TILE: Final = 4096
PROJECTION_LANES: Final = 16
"""The order in which a projection is summed."""

GAUSSIAN: Final = Distribution("gaussian", 0, UNIT_BITS, LARGEST, 16, 512)
RADEMACHER: Final = Distribution("rademacher", 1, 0, 1, 128, 128)


def units(distribution: Distribution, seed: int, start: int, stop: int) -> NDArray[np.int16]:
    """Return weights start to stop of a perturbation, in units: shape (stop - start,)."""
    i = np.arange(start, stop, dtype=np.uint64)
    if distribution is RADEMACHER:
        words = philox(seed, i // 128, distribution.tag)
        word = np.take_along_axis(words, (i % 128 // 32).astype(np.intp)[:, None], axis=1)[:, 0]
        bit = (word >> (i % 32).astype(np.uint32)) & 1
        return np.where(bit == 1, 1, -1).astype(np.int16)
    lane, h = i % 32, i % 512 // 32
    half = h // 2
    words = philox(seed, 32 * (i // 512) + lane, distribution.tag)
    word = np.take_along_axis(words, (half // 2).astype(np.intp)[:, None], axis=1)[:, 0]
    bits = (word >> (16 * (half % 2)).astype(np.uint32)) & 0xFFFF
    axis = (h % 2).astype(np.uint32)
    size = point_table()[bits & 0x3FFF, axis]
    numbers: NDArray[np.int16] = np.where(bits >> (14 + axis) & 1, -size, size)
    return numbers


def axpy(
    distribution: Distribution, weights: torch.Tensor, seed: int, coefficient: float, start: int = 0
) -> torch.Tensor:
    """Return weights + coefficient * z, the pass that is defined above.

    Args:
        distribution: of z.
        weights: shape (d,), on the CPU; its first number is weight `start` of the model.
        seed: of z.
        coefficient: rounded to float32 before use.
        start: index of the first weight.
    """
    z = units(distribution, seed, start, start + len(weights)) * 2.0**-distribution.unit_bits
    c = np.float64(np.float32(coefficient))
    sums = weights.double() + torch.from_numpy(c * z)
    return sums.float().to(weights.dtype)


def rebuild(
    distribution: Distribution,
    w0: torch.Tensor,
    seeds: NDArray[np.uint64],
    sums: NDArray[np.int64],
    exponent: int,
    start: int = 0,
) -> torch.Tensor:
    """Return w0 - 2**exponent * sum_j sums_j z_j, the rebuild that is defined above.

    Args:
        distribution: of the perturbations.
        w0: shape (d,), on the CPU; its first number is weight `start` of the model.
        seeds: shape (K,).
        sums: shape (K,), in units of 2**exponent.
        exponent: e - u of the accumulator.
        start: index of the first weight.
    """
    total = np.zeros(len(w0), dtype=object)
    for seed, a in zip(seeds.tolist(), sums.tolist(), strict=True):
        total += a * units(distribution, seed, start, start + len(w0)).astype(object)
    scale = exponent - distribution.unit_bits
    step = [math.ldexp(float(s), scale) for s in total]
    moved = w0.double() - torch.tensor(step, dtype=torch.float64)
    return moved.float().to(w0.dtype)


def project(distribution: Distribution, vector: torch.Tensor, seed: int, start: int = 0) -> float:
    """Return the inner product of a vector and a perturbation, as it is defined above.

    Args:
        distribution: of z.
        vector: float32, shape (n,), on the CPU.
        seed: of z.
        start: index of the weight that the first number belongs to.
    """
    stop = start + len(vector)
    products = vector.double().numpy() * units(distribution, seed, start, stop)
    total = 0.0
    for tile in range(start - start % PROJECTION_TILE, stop, PROJECTION_TILE):
        lanes = [0.0] * PROJECTION_LANES
        for i in range(max(tile, start), min(tile + PROJECTION_TILE, stop)):
            lanes[i % PROJECTION_LANES] += float(products[i - start])
        # Not sum(), which compensates for rounding.
        of_tile = 0.0
        for lane in lanes:
            of_tile += lane
        total += of_tile
    return total * 2.0**-distribution.unit_bits
