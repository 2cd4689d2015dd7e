"""Ferret's local round: first-order steps, and the update they came to as coordinates (section 3).

A peer starts from a rebuild, takes T steps of any first-order optimiser (equation 3), and projects
what they changed (equation 8). How many coordinates each block gets follows from its update
(`peer.allocation`) and travels in the entry; which candidate seeds they belong to follows from that
(`peer.block_draw`). Coordinates are clipped here, at the origin, so that what is added up at every
peer is the same linear sum.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from peer.accumulator import Accumulator
from peer.allocation import allot, sign_variances
from peer.block_draw import draw_blocks
from peer.global_model import GlobalModel
from peer.local_data import LocalData
from peer.local_steps import LocalSteps
from peer.projection import Update, project
from peer.trainer import LocalRound


@dataclass(frozen=True)
class Projecting:
    """What a local round depends on, besides weights and rows.

    Attributes:
        local_steps: T.
        accumulate: batches whose gradients make a step.
        batch_size: rows in a batch.
        coordinates: B, how many numbers an entry has.
        learning_rate: eta of the local steps.
        gradient_bound: a coordinate is clipped here.
    """

    local_steps: int
    accumulate: int
    batch_size: int
    coordinates: int
    learning_rate: float
    gradient_bound: float


class FerretTrainer:
    """Takes the local rounds of any peer whose shard is given; see `peer.trainer.Trainer`.

    Args:
        global_model: the model, its blocks, and how to rebuild it.
        data: what the peers trained here have to learn from.
        steps: takes the local steps, of any first-order optimiser.
        projecting: what a local round depends on.
    """

    def __init__(
        self,
        global_model: GlobalModel,
        data: LocalData,
        steps: LocalSteps,
        projecting: Projecting,
    ) -> None:
        self._global_model = global_model
        self._data = data
        self._steps = steps
        self._projecting = projecting

    def train(
        self, peer: int, round_: int, cut: Accumulator, indices: NDArray[np.int64]
    ) -> LocalRound:
        """Return the coordinates of a peer's update, all NaN if it is not finite.

        Args:
            peer: whose data to use.
            round_: the round.
            cut: the accumulator to start from, of L K numbers; it is left as it is.
            indices: not looked at: which seeds serve which block follows from the update.
        """
        del indices
        with_, model = self._projecting, self._global_model.model
        seeds, offsets = self._global_model.seeds, self._global_model.offsets
        batches = self._data.batches(
            peer, round_, with_.local_steps * with_.accumulate, with_.batch_size
        )
        self._global_model.go_to(cut)
        before = model.weights.clone()
        loss = self._steps.run(model, batches, peer, round_).loss
        update = Update(before, model.weights, offsets)
        norms = update.norms()
        finite = bool(np.isfinite(norms).all())
        counts = allot(
            norms if finite else np.zeros(len(norms)),
            sign_variances(np.diff(offsets)),
            with_.coordinates,
            len(seeds),
        )
        if not finite:
            return LocalRound(np.full(with_.coordinates, np.nan), loss, counts)
        drawn = draw_blocks(self._data.root_seed, peer, round_, counts, len(seeds))
        made = project(self._global_model.kernel, update, seeds, counts, drawn, with_.learning_rate)
        bound = with_.gradient_bound
        return LocalRound(np.clip(made, -bound, bound), loss, counts)
