"""Which candidate seeds serve which block of an entry: Ferret's random bases, drawn by everybody.

A block of K_l coordinates takes K_l different ones of the K candidate seeds, each set of that size
as likely as another to within K / 2**32. They follow from (root seed, origin, round, block, K_l),
so an entry says how many each block has, and nothing else about them.

The sums of all blocks are one accumulator of L K numbers: that of seed k and block l is number
l K + k, the flat index.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from peer.philox import philox
from peer.seeds import Domain

_ORIGIN_BITS = 24
"""The bits of a counter's half that tell origins apart; above them lie those of blocks."""


def draw_blocks(
    root_seed: int, origin: int, round_: int, counts: NDArray[np.int64], candidates: int
) -> NDArray[np.int64]:
    """Return the flat indices of an entry's coordinates, strictly ascending: shape (B,).

    Args:
        root_seed: the experiment's.
        origin: the peer that draws, below 2**24.
        round_: below 2**32.
        counts: K_l of each block, shape (L,), 0 <= K_l <= K, L below 2**32; B is their sum.
        candidates: K.
    """
    blocks = np.repeat(np.arange(len(counts)), counts)
    firsts = np.cumsum(counts) - counts
    steps = np.arange(len(blocks)) - firsts[blocks]
    # Robert Floyd's sampling: of each of the last K_l places, a draw from those up to it, or
    # itself if that has been drawn.
    places = candidates - counts[blocks] + steps
    low = steps.astype(np.uint64) + np.uint64(round_ << 32)
    high = (blocks.astype(np.uint64) << np.uint64(_ORIGIN_BITS)) | np.uint64(
        (Domain.BLOCK_BASES << 56) | origin
    )
    words = philox(root_seed, low, high)[:, 0].astype(np.int64)
    draws = (words * (places + 1)) >> 32
    flat = blocks * candidates
    taken: set[int] = set()
    for drawn, place in zip((flat + draws).tolist(), (flat + places).tolist(), strict=True):
        taken.add(place if drawn in taken else drawn)
    return np.array(sorted(taken), dtype=np.int64)
