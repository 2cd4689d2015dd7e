"""Rows that peers set apart from their own, to judge on what is not the evaluation's."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from peer.data.order import shuffles
from peer.errors import UserError
from peer.seeds import Domain

Rows = NDArray[np.int64]


def set_apart(shards: Sequence[Rows], share: float, seed: int) -> tuple[Rows, list[Rows]]:
    """Return (rows set apart, what is left of each shard), all ascending.

    A peer keeps at least one row, and gives at least one if it has two.

    Args:
        shards: rows by peer, no row twice.
        share: of each shard, to the nearest row; above 0 and below 1.
        seed: the experiment's; fixes which rows.

    Raises:
        UserError: no peer has two rows.
    """
    given, kept = [], []
    for peer, shard in enumerate(shards):
        count = max(0, min(max(1, round(share * len(shard))), len(shard) - 1))
        # Stream 0 holds out the rows that nobody trains on.
        order = shuffles(seed, Domain.HOLD_OUT, peer + 1, 0, 1, len(shard))[0]
        given.append(shard[order[:count]])
        kept.append(np.sort(shard[order[count:]]))
    rows = np.sort(np.concatenate(given))
    if not len(rows):
        raise UserError("no peer has two rows, of which one could be set apart")
    return rows, kept
