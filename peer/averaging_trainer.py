"""Local training for methods that average weights: from given weights to those after a round."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from peer.averaged_model import put, taken
from peer.local_data import LocalData, Rows
from peer.local_steps import LocalSteps
from peer.model import FlatModel
from peer.tensors import all_finite
from peer.trainer import LocalWeights
from peer.weights import Weights


@dataclass(frozen=True)
class Schedule:
    """How many rows a peer learns from in a round.

    Attributes:
        steps: local steps, if `epochs` is 0.
        epochs: passes through the peer's own rows, so that its steps go by how many it has.
        batch_size: rows of a batch.
        accumulate: batches of a step.
    """

    steps: int
    epochs: int
    batch_size: int
    accumulate: int = 1

    def batches(self, data: LocalData, peer: int, round_: int) -> Iterator[Rows]:
        """Yield the rows of each batch of a peer and round."""
        if self.epochs:
            return data.epochs(peer, round_, self.epochs, self.batch_size)
        return data.batches(peer, round_, self.steps * self.accumulate, self.batch_size)


class AveragingTrainer:
    """Takes the local steps of any peer whose shard is given.

    Args:
        model: moves; where it is before makes no difference.
        data: what the peers trained here have to learn from.
        steps: how they learn.
        schedule: from how much.
    """

    def __init__(
        self, model: FlatModel, data: LocalData, steps: LocalSteps, schedule: Schedule
    ) -> None:
        self._model = model
        self._data = data
        self._steps = steps
        self._schedule = schedule

    def train(
        self, peer: int, round_: int, cut: Weights, indices: NDArray[np.int64]
    ) -> LocalWeights:
        """Return where a peer's local steps of a round lead; see `peer.trainer.Trainer`.

        A round that ends with a weight that is not finite counts as skipped: an average with it
        would carry that to every other peer.
        """
        del indices
        model = self._model
        put(cut, model.weights)
        batches = self._schedule.batches(self._data, peer, round_)
        update = self._steps.run(model, batches, peer, round_)
        if all_finite(model.weights):
            return LocalWeights(taken(model.weights), update.loss, update.skipped)
        return LocalWeights(cut, update.loss, len(update.losses))
