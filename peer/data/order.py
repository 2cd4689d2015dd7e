"""Shuffles as functions of a seed, and which rows a peer uses at which local step.

No stream is consumed: a peer that was down, or that was not asked in a round, finds the same rows
in the next one as if it had been there.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from peer.philox import philox
from peer.seeds import Domain


def shuffles(
    seed: int, domain: Domain, stream: int, first: int, count: int, n: int
) -> NDArray[np.int64]:
    """Return shuffles number first, ..., first + count - 1 of range(n): shape (count, n).

    Shuffle k sorts range(n) by one 64-bit word each, and ties, all but impossible, by number. The
    words are those that `peer.seeds.random_words` gives at coordinates (stream, k).

    Args:
        seed: 0 <= seed < 2**64.
        domain: what the shuffles are for.
        stream: 0 <= stream < 2**56, such as a peer's number.
        first: 0 <= first, and first + count <= 2**32.
        count: how many.
        n: how many things to shuffle.
    """
    numbers = np.arange(first, first + count, dtype=np.uint64) << np.uint64(32)
    blocks = np.arange((n + 1) // 2, dtype=np.uint64)
    low = (numbers[:, None] + blocks).reshape(-1)
    words = philox(seed, low, (domain << 56) | stream).astype(np.uint64)
    pairs = words[:, 0::2] | (words[:, 1::2] << np.uint64(32))
    return np.argsort(pairs.reshape(count, 2 * len(blocks))[:, :n], axis=1, kind="stable")


def rows_for(
    seed: int, peer: int, round: int, steps: int, batch_size: int, shard_size: int
) -> NDArray[np.int64]:
    """Return which rows a peer uses in one round, as places in its shard: (steps, batch_size).

    A peer passes through its shard in shuffled epochs: no row comes again before all have come,
    across steps and rounds, as long as steps and batch size stay the same. Where a batch reaches
    over the end of an epoch it may hold a row twice. A pure function of its arguments.

    Args:
        seed: the experiment's root seed.
        peer: the peer's number.
        round: counts from 0 or 1, alike for all.
        steps: local steps of every round.
        batch_size: rows of one step.
        shard_size: rows that the peer has, at least 1.
    """
    drawn = steps * batch_size
    places = round * drawn + np.arange(drawn, dtype=np.int64)
    epochs, within = places // shard_size, places % shard_size
    first, last = int(epochs[0]), int(epochs[-1])
    orders = shuffles(seed, Domain.BATCHES, peer, first, last - first + 1, shard_size)
    return orders[epochs - first, within].reshape(steps, batch_size)
