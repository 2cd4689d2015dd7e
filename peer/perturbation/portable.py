"""The perturbations in torch's integer operations, on any device that has int64 and float64.

Slower than a kernel of the device's own, and the same to the bit: every operation here is exact, or
is one of the roundings that `reference` defines.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from peer.perturbation.base import Pass
from peer.perturbation.block_by_block import BlockByBlock
from peer.perturbation.limbs import GROUP, LIMB_BITS, split
from peer.perturbation.reference import Distribution
from peer.perturbation.table import point_table
from peer.philox import MULTIPLIER_0, MULTIPLIER_1, ROUNDS, WEYL_0, WEYL_1

CHUNK: Final = 2**20
"""Weights that are worked on at once, which bounds the memory."""

_MASK: Final = 0xFFFFFFFF


def philox(key: int, counters: torch.Tensor, high: int) -> torch.Tensor:
    """Return the words, int64 of shape (4, n), at counters high * 2**64 + counters, shape (n,)."""
    c0, c1 = counters & _MASK, counters >> 32
    c2, c3 = torch.full_like(counters, high), torch.zeros_like(counters)
    k0, k1 = key & _MASK, key >> 32
    for _ in range(ROUNDS):
        # A product that passes 2**63 wraps; the masks make that harmless.
        product_0, product_1 = c0 * MULTIPLIER_0, c2 * MULTIPLIER_1
        c0, c1, c2, c3 = (
            (product_1 >> 32 & _MASK) ^ c1 ^ k0,
            product_1 & _MASK,
            (product_0 >> 32 & _MASK) ^ c3 ^ k1,
            product_0 & _MASK,
        )
        k0, k1 = (k0 + WEYL_0) & _MASK, (k1 + WEYL_1) & _MASK
    return torch.stack([c0, c1, c2, c3])


class PortablePerturbation(BlockByBlock):
    """The perturbations of one distribution on any torch device."""

    def __init__(self, distribution: Distribution, device: torch.device) -> None:
        super().__init__(distribution, device)
        self._bits = torch.arange(32, device=device)
        if self._is_gaussian:
            self._points = torch.from_numpy(np.array(point_table())).to(device)

    def _units(self, seed: int, start: int, stop: int) -> torch.Tensor:
        period = self.distribution.period
        base, end = start - start % period, stop + -stop % period
        per_block = self.distribution.weights_per_block
        blocks = torch.arange(base // per_block, end // per_block, device=self.device)
        words = philox(seed, blocks, self.distribution.tag)
        z = self._points_of(words) if self._is_gaussian else self._signs_of(words)
        return z.reshape(-1)[start - base : stop - base]

    def _signs_of(self, words: torch.Tensor) -> torch.Tensor:
        """Return z, shape (blocks, 4, 32), of words, shape (4, blocks)."""
        return (2 * (words.T[:, :, None] >> self._bits & 1) - 1).to(torch.int16)

    def _points_of(self, words: torch.Tensor) -> torch.Tensor:
        """Return z, shape (superblocks, 4, half, axis, 32), of words, shape (4, blocks)."""
        lanes = words.reshape(4, -1, 32).transpose(0, 1)
        bits = torch.stack([lanes & 0xFFFF, lanes >> 16], dim=2)
        x, y = self._points[bits & 0x3FFF].unbind(-1)
        # Bit 14 stands for the sign of x, bit 15 for that of y.
        signed = [torch.where((bits & bit) != 0, -v, v) for v, bit in ((x, 0x4000), (y, 0x8000))]
        return torch.stack(signed, dim=3)

    def _passes(self, weights: torch.Tensor, passes: list[Pass], start: int) -> None:
        for at in range(0, len(weights), CHUNK):
            part = weights[at : at + CHUNK]
            for seed, coefficient in passes:
                z = self._units(seed, start + at, start + at + len(part)).double()
                part.copy_((part.double() + coefficient * 2.0**-self.unit_bits * z).float())

    def _rebuild(
        self,
        outs: torch.Tensor,
        w0: torch.Tensor,
        seeds: NDArray[np.uint64],
        sums: NDArray[np.int64],
        scale: float,
        start: int,
    ) -> None:
        limbs = split(sums, self.bound).tolist()
        for at in range(0, len(w0), CHUNK):
            part = w0[at : at + CHUNK].double()
            for out, limbs_of in zip(outs, limbs, strict=True):
                total = self._total(seeds.tolist(), limbs_of, start + at, start + at + len(part))
                out[at : at + CHUNK].copy_((part - scale * total).float())

    def _total(
        self, seeds: list[int], limbs: list[list[int]], start: int, stop: int
    ) -> torch.Tensor:
        """Return S of weights start to stop, rounded to float64 once (see `limbs`)."""
        total = torch.zeros(stop - start, dtype=torch.float64, device=self.device)
        rest = torch.zeros_like(total)
        for group in range(0, len(seeds), GROUP):
            partial = torch.zeros(len(limbs), stop - start, dtype=torch.int64, device=self.device)
            for j in range(group, min(group + GROUP, len(seeds))):
                z = self._units(seeds[j], start, stop).long()
                for n, limb in enumerate(limbs):
                    partial[n] += limb[j] * z
            for n in range(len(limbs)):
                x = partial[n].double() * 2.0 ** (LIMB_BITS * n)
                s = total + x
                v = s - total
                rest += (total - (s - v)) + (x - v)
                total = s
        return total + rest
