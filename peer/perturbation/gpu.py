"""The perturbations on a GPU: what the kernels of `gpu_kernels` are given, and in what portions.

Importing this module imports Triton, so `peer.perturbation` does it only when a GPU is asked for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
import triton
from numpy.typing import NDArray

from peer.perturbation import gpu_kernels
from peer.perturbation.base import Pass
from peer.perturbation.block_by_block import BlockByBlock
from peer.perturbation.reference import Distribution
from peer.perturbation.table import point_table

GROUP: Final = 65536
"""Seeds whose products a rebuild sums in 32 bits."""

_DIGITS: Final = 8
"""Digits of a sum in base 256: seven, and room for the bytes of z to move one."""

_MOST_BITS: Final = 32
"""Bits of a block of signs that a tile takes, at most.

Its other bits are made in vain. But of more than one word's bits the products fill the registers,
so that fewer threads are there to do anything while one waits.
"""

_BITS: Final = {torch.bfloat16: torch.int16}
"""Types whose bits the kernels take, and as what."""

_OLDEST_TRITON: Final = (3, 5)

COMPILED: Final = {"num_warps": 4, "num_stages": 1, "enable_fp_fusion": False}
"""How kernels are compiled: without pipelines, which would move the table to and fro, and without
fused multiply-adds."""


_device_of: Any = torch.cuda.device_of


@dataclass(frozen=True)
class Tiling:
    """How weights and seeds are cut for a kernel; all are powers of two, and none changes a bit.

    Attributes:
        walk: blocks of Philox in a tile of units or passes, at least 32.
        blocks: of Philox in a tile of a rebuild: 8 for each warp.
        at_once: seeds in a step of a rebuild, a multiple of 32.
        products: numbers that a rebuild sums in 32 bits at once, at least 64 * replicas * blocks
            for signs and 128 * replicas * blocks for Gaussian numbers.
        replicas: accumulators of one rebuild of several; more take the seeds anew.
    """

    walk: int
    blocks: int
    at_once: int
    products: int
    replicas: int

    def of_rebuild(self, weights_per_block: int, replicas: int) -> tuple[int, int, int, int]:
        """Return how a rebuild of some accumulators is cut.

        Returns:
            Blocks; of the weights of each block how many; seeds at once; and columns.
        """
        columns = _DIGITS << (replicas - 1).bit_length()
        per_block = min(self.products // (columns * self.blocks), weights_per_block, _MOST_BITS)
        return self.blocks, per_block, self.at_once, columns


# In a step of a rebuild each of 128 threads makes eight blocks, of as many seeds, and at most 128
# of its registers hold products. That nothing spills was read from the compiled code.
TILINGS: Final = {
    "gaussian": Tiling(walk=128, blocks=32, at_once=32, products=2**14, replicas=2),
    "rademacher": Tiling(walk=32, blocks=32, at_once=32, products=2**14, replicas=8),
}


class GpuPerturbation(BlockByBlock):
    """The perturbations of one distribution on a GPU that Triton compiles for.

    Where Triton interprets its kernels (TRITON_INTERPRET=1) the device may be a CPU.
    """

    def __init__(
        self, distribution: Distribution, device: torch.device, tiling: Tiling | None = None
    ) -> None:
        super().__init__(distribution, device)
        self._tiling = tiling or TILINGS[distribution.name]
        points = point_table().astype(np.int32)
        self._table = torch.from_numpy(points[:, 0] | points[:, 1] << 16).to(device)

    def _units(self, seed: int, start: int, stop: int) -> torch.Tensor:
        out = torch.empty(stop - start, dtype=torch.int16, device=self.device)
        self._walk(gpu_kernels.units, out, self._seeds([seed]), start=start, n=len(out))
        return out

    def _passes(self, weights: torch.Tensor, passes: list[Pass], start: int) -> None:
        self._walk(
            gpu_kernels.passes,
            weights,
            self._seeds([seed for seed, _ in passes]),
            self._send(np.array([coefficient for _, coefficient in passes], np.float32)),
            len(passes),
            start=start,
            n=len(weights),
        )

    def _walk(
        self, kernel: Any, weights: torch.Tensor, *arguments: Any, start: int, n: int
    ) -> None:
        """Run a kernel whose tiles take one seed at a time."""
        blocks = self._tiling.walk
        self._launch(
            kernel,
            self._tiles(start, n, blocks),
            _bits(weights),
            self._table,
            *arguments,
            start,
            n,
            self._is_gaussian,
            blocks,
            **COMPILED,
        )

    def _rebuild(
        self,
        outs: torch.Tensor,
        w0: torch.Tensor,
        seeds: NDArray[np.uint64],
        sums: NDArray[np.int64],
        scale: float,
        start: int,
    ) -> None:
        if not len(seeds):
            for out in outs:
                # Row by row: a GPU refuses to copy w0 to itself in another shape.
                out.copy_(w0)
            return
        for at in range(0, len(outs), self._tiling.replicas):
            some = slice(at, at + self._tiling.replicas)
            self._rebuild_some(outs[some], w0, seeds, sums[some], scale, start)

    def _rebuild_some(
        self,
        outs: torch.Tensor,
        w0: torch.Tensor,
        seeds: NDArray[np.uint64],
        sums: NDArray[np.int64],
        scale: float,
        start: int,
    ) -> None:
        whole = self.distribution.weights_per_block
        blocks, per_block, at_once, columns = self._tiling.of_rebuild(whole, len(outs))
        padding = -len(seeds) % at_once
        seeds = np.pad(seeds, (0, padding))
        sums = np.pad(sums, ((0, columns // _DIGITS - len(sums)), (0, padding)))
        digits = _digits(sums)
        groups = -(-len(seeds) // GROUP)
        ends = np.arange(GROUP, groups * GROUP, GROUP)
        digit_sums = [
            part.sum(axis=-1, dtype=np.int32).ravel() for part in np.split(digits, ends, axis=-1)
        ]
        parts = [digits, _moved(digits)] if self._is_gaussian else [digits]
        # (part, replica, digit, step, seed) -> (step, part, column, seed)
        steps = np.stack(parts).reshape(len(parts), columns, -1, at_once).transpose(2, 0, 1, 3)
        self._launch(
            gpu_kernels.rebuild,
            self._tiles(start, len(w0), blocks) * (whole // per_block),
            _bits(outs),
            _bits(w0),
            self._table,
            self._seeds(seeds),
            self._send(steps),
            self._send(np.array(digit_sums)),
            self._send(np.array([scale])),
            len(seeds),
            len(outs),
            start,
            len(w0),
            self._is_gaussian,
            blocks,
            per_block,
            at_once,
            columns,
            groups,
            GROUP,
            **COMPILED,
        )

    def _launch(self, kernel: Any, tiles: int, *arguments: Any, **options: Any) -> None:
        with _device_of(self._table):
            kernel[(tiles,)](*arguments, **options)

    def _tiles(self, start: int, n: int, blocks: int) -> int:
        """Return how many tiles of some blocks reach from the period of the start to the end.

        Numbers of one block lie all over their period, so the last one is taken whole.
        """
        period = self.distribution.period
        periods = -(-(start % period + n) // period)
        return -(-periods * period // (blocks * self.distribution.weights_per_block))

    def _seeds(self, seeds: list[int] | NDArray[np.uint64]) -> torch.Tensor:
        return self._send(np.array(seeds, np.uint64).view(np.int64))

    def _send(self, array: NDArray[Any]) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(self.device)


def compiles_for(device: torch.device) -> bool:
    """Return whether this Triton makes these kernels for a GPU.

    It does for NVIDIA's from compute capability 8.0 (Ampere) on, and for AMD's.
    """
    if tuple(map(int, triton.__version__.split(".")[:2])) < _OLDEST_TRITON:
        return False
    return torch.version.hip is not None or torch.cuda.get_device_capability(device) >= (8, 0)


def _bits(weights: torch.Tensor) -> torch.Tensor:
    """Return weights as the kernels take them."""
    return weights.view(_BITS.get(weights.dtype, weights.dtype))


def _digits(sums: NDArray[np.int64]) -> NDArray[np.int8]:
    """Return the digits of sums, shape (P, K), in base 256, from -128 to 127: shape (P, 8, K)."""
    digits = np.empty((len(sums), _DIGITS, sums.shape[1]), np.int8)
    for m in range(_DIGITS):
        digits[:, m] = sums.astype(np.int8)
        sums = (sums - digits[:, m]) >> 8
    return digits


def _moved(digits: NDArray[np.int8]) -> NDArray[np.int8]:
    """Return 256 times what digits, shape (P, 8, K), stand for; the last of them are 0."""
    return np.concatenate([digits[:, -1:], digits[:, :-1]], axis=1)
