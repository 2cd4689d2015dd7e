"""Local steps by forward passes alone along directions that are drawn anew: MeZO and FedZO.

MeZO (Malladi et al., 2023, Algorithm 1) is FedKSeed's step with a seed that no other step has: two
losses, in place. FedZO (Fang et al., 2022) averages b2 forward differences from the same weights,
as FedKSeed writes it (equations 9 and 12):

    w <- w - eta / b2 sum_j z_j clip((L(w + eps z_j) - L(w)) / eps)

Fang et al. draw directions on the unit sphere and multiply by d; here, as in FedKSeed, z is what
`peer.perturbation` makes. Scalar gradients are clipped at the experiment's bound in both.

FedZO keeps a copy of the weights, so that in 16 bits, too, each direction is measured from the same
place, and the sum of a step is rounded once.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from peer.evaluation import mean_loss
from peer.local_data import Rows
from peer.local_steps import LocalUpdate
from peer.model import FlatModel
from peer.perturbation import Pass, Perturbation
from peer.seeds import Domain, random_words
from peer.zeroth_order import Step, take_steps

_CHUNK: Final = 2**20
"""Weights whose sums are in float32 at once."""


def direction_seeds(root_seed: int, peer: int, round_: int, count: int) -> NDArray[np.uint64]:
    """Return the seeds of a peer's directions in a round, one after the other; shape (count,)."""
    return random_words(root_seed, Domain.DIRECTIONS, peer, round_, count)


@dataclass(frozen=True)
class MeZO:
    """Takes two-point steps; see `peer.local_steps.LocalSteps`.

    Attributes:
        kernel: makes the directions.
        step: what steps depend on.
        root_seed: the experiment's.
    """

    kernel: Perturbation
    step: Step
    root_seed: int

    def run(self, model: FlatModel, batches: Iterable[Rows], peer: int, round_: int) -> LocalUpdate:
        """Take a step on each batch along one direction."""
        batches = list(batches)
        seeds = direction_seeds(self.root_seed, peer, round_, len(batches))
        _, losses = take_steps(model, self.kernel, self.step, seeds, batches)
        return LocalUpdate(losses)


@dataclass(frozen=True)
class FedZO:
    """Takes steps of several forward differences; see `peer.local_steps.LocalSteps`.

    Attributes:
        kernel: makes the directions.
        step: what steps depend on.
        directions: b2, how many each step measures.
        root_seed: the experiment's.
    """

    kernel: Perturbation
    step: Step
    directions: int
    root_seed: int

    def run(self, model: FlatModel, batches: Iterable[Rows], peer: int, round_: int) -> LocalUpdate:
        """Take a step on each batch; one of whose losses one is not finite is skipped."""
        batches = list(batches)
        shape = (len(batches), self.directions)
        seeds = direction_seeds(self.root_seed, peer, round_, math.prod(shape)).reshape(shape)
        start = torch.empty_like(model.weights)
        return LocalUpdate(
            np.array([self._take(model, start, *each) for each in zip(seeds, batches, strict=True)])
        )

    def _take(
        self, model: FlatModel, start: torch.Tensor, seeds: NDArray[np.uint64], rows: Rows
    ) -> float:
        """Take one step; return the loss that it starts from, NaN if it was skipped.

        Args:
            model: moves.
            start: room for the weights, shape (d,).
            seeds: of the directions, shape (b2,).
            rows: to learn from.
        """
        weights, scale, bound = model.weights, self.step.scale, self.step.gradient_bound
        start.copy_(weights)
        here, ahead = mean_loss(model, rows), []
        for seed in seeds.tolist():
            self.kernel.passes_(weights, [(seed, scale)])
            ahead.append(mean_loss(model, rows))
            weights.copy_(start)
        gradients = (np.array(ahead) - here) / scale
        if not np.isfinite(gradients).all():
            return math.nan
        lengths = -self.step.learning_rate / self.directions * np.clip(gradients, -bound, bound)
        self._go(weights, list(zip(seeds.tolist(), lengths.tolist(), strict=True)))
        return here

    def _go(self, weights: torch.Tensor, passes: list[Pass]) -> None:
        """Take passes whose sum, but for float32 weights, is rounded to their type at the end."""
        for at in range(0, len(weights), _CHUNK):
            part = weights[at : at + _CHUNK]
            sums = part.float()
            self.kernel.passes_(sums, passes, at)
            part.copy_(sums)
