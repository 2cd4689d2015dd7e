"""What all kinds of local steps share: they move a model's weights, and say what they met."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from peer.local_data import Rows
from peer.model import FlatModel


@dataclass(frozen=True)
class LocalUpdate:
    """What the local steps of one peer and round met.

    Attributes:
        losses: mean loss of each step's rows in nats per token, shape (steps,), NaN where the step
            was skipped because a number was not finite.
    """

    losses: NDArray[np.float64]

    @property
    def skipped(self) -> int:
        """How many steps were skipped."""
        return int(np.isnan(self.losses).sum())

    @property
    def loss(self) -> float:
        """The mean of the losses in nats per token, NaN if there were none."""
        return float(np.nanmean(self.losses)) if self.skipped < len(self.losses) else float("nan")


class LocalSteps(Protocol):
    """A way to learn from rows."""

    def run(self, model: FlatModel, batches: Iterable[Rows], peer: int, round_: int) -> LocalUpdate:
        """Take a peer's steps of a round, moving `model.weights`.

        Args:
            model: where to start from.
            batches: the rows to learn from, in order.
            peer: who learns; with the round it decides what is drawn, if anything is.
            round_: the round.
        """
