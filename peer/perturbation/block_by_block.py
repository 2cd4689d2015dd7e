"""What backends do that take one block after the other."""

from __future__ import annotations

from abc import abstractmethod
from itertools import pairwise
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from peer.perturbation.base import BlockSums, Perturbation

_CHUNK: Final = 2**20
"""Numbers of a vector that are projected at once, which bounds the memory."""


class BlockByBlock(Perturbation):
    """The perturbations of one distribution, made for one block at a time."""

    def _rebuild_blocks(
        self, outs: torch.Tensor, w0: torch.Tensor, blocks: BlockSums, scale: float
    ) -> None:
        start = int(blocks.offsets[0])
        for block, (first, stop) in enumerate(_ranges(blocks.offsets)):
            used = slice(*blocks.firsts[block : block + 2].tolist())
            part, source = outs[:, first - start : stop - start], w0[first - start : stop - start]
            made = part if part.is_contiguous() else part.contiguous()
            self._rebuild(made, source, blocks.seeds[used], blocks.sums[:, used], scale, first)
            if made is not part:
                part.copy_(made)

    def _project_blocks(
        self,
        vector: torch.Tensor,
        seeds: NDArray[np.uint64],
        firsts: NDArray[np.int64],
        offsets: NDArray[np.int64],
    ) -> NDArray[np.float64]:
        products = np.zeros(len(seeds))
        start = int(offsets[0])
        for block, (first, stop) in enumerate(_ranges(offsets)):
            for at in range(first, stop, _CHUNK):
                end = min(at + _CHUNK, stop)
                part = vector[at - start : end - start].double()
                for j in range(firsts[block], firsts[block + 1]):
                    z = self._units(int(seeds[j]), at, end)
                    # With torch's sums, whose order it does not tell.
                    products[j] += float(torch.dot(part, z.double()))
        return products

    @abstractmethod
    def _rebuild(
        self,
        outs: torch.Tensor,
        w0: torch.Tensor,
        seeds: NDArray[np.uint64],
        sums: NDArray[np.int64],
        scale: float,
        start: int,
    ) -> None:
        """Set outs, shape (P, n), contiguous, to w0 - scale * sum_j sums_j units_j."""


def _ranges(offsets: NDArray[np.int64]) -> list[tuple[int, int]]:
    ends = offsets.tolist()
    return list(pairwise(ends))
