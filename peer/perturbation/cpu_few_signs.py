"""Rebuilds with the signs of a few seeds on the CPU: a numba kernel (see `cpu_kernel`).

Tables of patterns, and exact sums in two parts, are for many seeds. Up to FEW sums below 2**51 add
up to less than 2**53, so float64 holds whatever their signs make of them.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from peer.perturbation.cpu_exact import write
from peer.perturbation.cpu_kernel import kernel, tile_size
from peer.perturbation.cpu_words import fill_words
from peer.perturbation.reference import RADEMACHER

FEW: Final = 4

_TILE: Final = 4096
_PERIOD: Final = RADEMACHER.period
_TAG: Final = RADEMACHER.tag
_WORD: Final = 32


@kernel
def rebuild_few(
    seeds: NDArray[np.uint64],
    sums: NDArray[np.int64],
    scale: float,
    start: int,
    w0: NDArray[np.float32],
    out: NDArray[np.float32],
) -> None:
    """Set out, shape (n,), to w0 - scale * S; seeds and sums have shape (K,), K <= FEW."""
    stop = start + w0.shape[0]
    before = start % _PERIOD
    tile = tile_size(before + w0.shape[0], _TILE, _PERIOD)
    words, total = np.empty((4, tile // _PERIOD), np.uint32), np.empty(tile)
    for base in range(start - before, stop, tile):
        total[:] = 0.0
        for j in range(seeds.shape[0]):
            fill_words(seeds[j], _TAG, base // _PERIOD, words)
            a = np.float64(sums[j])
            for b in range(words.shape[1]):
                for k in range(4):
                    at = b * _PERIOD + k * _WORD
                    word, some = words[k, b], total[at : at + _WORD]
                    for i in range(_WORD):
                        sign = 2 * np.int32((word >> np.uint32(i)) & np.uint32(1)) - 1
                        some[i] += a * np.float64(sign)
        first, last = max(base, start), min(base + tile, stop)
        here, inside = slice(first - start, last - start), slice(first - base, last - base)
        write(out[here], w0[here], total[inside], scale)
