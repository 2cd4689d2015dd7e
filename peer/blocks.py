"""Blocks: contiguous ranges of the flat weights, each with random bases of its own (Ferret, eq. 8).

The paper leaves open where blocks begin. Its published program lets tensors in a row share a block
as long as they hold at most 0.9 times the median tensor together, so that a matrix is a block and
neighbouring vectors are one. In the order in which LLaMA's 24-layer models name their parameters,
this gives the 194 blocks of the paper's Figure 6.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from peer.errors import UserError

_SHARE: Final = 0.9
"""Of the median tensor, up to which tensors share a block."""


def block_offsets(sizes: Sequence[int], blocks: int) -> NDArray[np.int64]:
    """Return where blocks begin, and at the end d: shape (L + 1,), strictly ascending from 0.

    Args:
        sizes: of the tensors, in the order of the flat weights; each at least 1.
        blocks: 0: grouped as the published program does; else L, so many parts whose sizes differ
            by one at most, wherever tensors begin.

    Raises:
        UserError: there are fewer weights than blocks.
    """
    parameters = sum(sizes)
    if blocks > parameters:
        raise UserError(f"blocks = {blocks}: the {parameters} weights make at most as many blocks")
    if blocks == 0:
        return _grouped(sizes)
    return np.array([parameters * at // blocks for at in range(blocks + 1)], dtype=np.int64)


def _grouped(sizes: Sequence[int]) -> NDArray[np.int64]:
    most = _SHARE * statistics.median(sizes)
    offsets, stop = [0], 0
    for size in sizes:
        if stop > offsets[-1] and stop + size - offsets[-1] > most:
            offsets.append(stop)
        stop += size
    return np.array([*offsets, stop], dtype=np.int64)
