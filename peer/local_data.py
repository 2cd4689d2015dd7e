"""The rows that peers train on, in the order in which each takes them: a function of the seed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from peer.data.encode import Encoded, batch
from peer.data.order import rows_for, shuffles
from peer.evaluation import PADDING
from peer.seeds import Domain

Rows = tuple[torch.Tensor, torch.Tensor, torch.Tensor]
"""(input_ids, attention_mask, labels) of a batch, each int64 of shape (B, L)."""


@dataclass(frozen=True)
class LocalData:
    """What the peers that are trained here have to learn from.

    Attributes:
        encoded: the rows of the experiment.
        shards: for each of these peers, which rows are its own.
        root_seed: the experiment's; fixes the order.
    """

    encoded: Encoded
    shards: dict[int, NDArray[np.int64]]
    root_seed: int

    def batches(self, peer: int, round_: int, steps: int, size: int) -> Iterator[Rows]:
        """Yield the rows of each local step of a peer and round, so many at a time."""
        shard = self.shards[peer]
        for places in rows_for(self.root_seed, peer, round_, steps, size, len(shard)):
            yield batch(self.encoded, shard[places], PADDING)

    def epochs(self, peer: int, round_: int, count: int, size: int) -> Iterator[Rows]:
        """Yield the rows of so many shuffled passes of a peer through its shard in a round.

        A pass makes ceil(rows / size) batches, of which the last may be smaller.
        """
        shard = self.shards[peer]
        orders = shuffles(self.root_seed, Domain.BATCHES, peer, round_ * count, count, len(shard))
        for places in orders:
            for start in range(0, len(shard), size):
                yield batch(self.encoded, shard[places[start : start + size]], PADDING)
