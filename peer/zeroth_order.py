"""Zeroth-order local training: FedKSeed's ClientTraining (Algorithm 1, lines 11 to 19).

A step perturbs the weights in place by +eps z and by -eps z, takes the scalar gradient from the two
losses (equation 5), and goes -eta g z (equation 6). It is four passes over the weights,

    +eps, -2 eps, +eps, -eta g

each as `peer.perturbation.reference` defines a pass, with the coefficient rounded to float32. The
last two and the first of the next step are taken while the weights cross memory once, so a step
costs two crossings, -2 eps being the other; the bits are those of four. A step one of whose losses
is not finite is skipped: the weights take the first three passes and its place in the history is
NaN. Training starts from a rebuild, so what rounding does to the local weights ends with the round.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from peer.accumulator import Accumulator
from peer.evaluation import mean_loss
from peer.global_model import GlobalModel
from peer.local_data import LocalData, Rows
from peer.model import FlatModel
from peer.perturbation import Pass, Perturbation
from peer.trainer import LocalRound


@dataclass(frozen=True)
class Step:
    """What a local step depends on, besides weights, seed and rows.

    Attributes:
        epsilon: eps, the perturbation scale.
        learning_rate: eta.
        gradient_bound: g_max; a scalar gradient is clipped here.
        batch_size: rows in a step.
    """

    epsilon: float
    learning_rate: float
    gradient_bound: float
    batch_size: int

    @property
    def scale(self) -> float:
        """What passes take for eps: it, rounded to float32."""
        return float(np.float32(self.epsilon))

    def close(self, seed: int, above: float, below: float) -> tuple[float, float, list[Pass]]:
        """Return what a step comes to whose losses at +eps z and at -eps z are known.

        Returns:
            The scalar gradient (NaN: skipped), the mean of both losses, and the step's last passes.
        """
        restore = (seed, self.scale)
        gradient = (above - below) / (2 * self.scale)
        if not math.isfinite(gradient):
            return math.nan, math.nan, [restore]
        gradient = min(max(gradient, -self.gradient_bound), self.gradient_bound)
        return gradient, (above + below) / 2, [restore, (seed, -self.learning_rate * gradient)]


class ZerothOrderTrainer:
    """Takes the local steps of any peer whose shard is given; see `peer.trainer.Trainer`.

    Args:
        global_model: the model and how to rebuild it.
        data: what the peers trained here have to learn from.
        step: what a step depends on.
    """

    def __init__(self, global_model: GlobalModel, data: LocalData, step: Step) -> None:
        self._global_model = global_model
        self._data = data
        self._step = step

    def train(
        self, peer: int, round_: int, cut: Accumulator, indices: NDArray[np.int64]
    ) -> LocalRound:
        """Return the scalar gradients of a peer's local steps; see `peer.trainer.Trainer`."""
        batches = self._data.batches(peer, round_, len(indices), self._step.batch_size)
        self._global_model.go_to(cut)
        model, kernel = self._global_model.model, self._global_model.kernel
        seeds = self._global_model.seeds[indices]
        return LocalRound.of_steps(*take_steps(model, kernel, self._step, seeds, batches))


def take_steps(
    model: FlatModel,
    kernel: Perturbation,
    step: Step,
    seeds: NDArray[np.uint64],
    batches: Iterable[Rows],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Take a step on each batch along its seed's perturbation, moving the model's weights.

    Args:
        model: moves.
        kernel: makes the perturbations.
        step: what steps depend on besides.
        seeds: of each step, shape (tau,).
        batches: the rows of each step.

    Returns:
        The scalar gradients and the mean of both losses of each step, shape (tau,), NaN if skipped.
    """
    gradients, losses = np.full((2, len(seeds)), np.nan)
    # The last passes of a step are taken together with the first of the next.
    closing: list[Pass] = []
    for t, (seed, rows) in enumerate(zip(seeds.tolist(), batches, strict=True)):
        kernel.passes_(model.weights, [*closing, (seed, step.scale)])
        above = mean_loss(model, rows)
        kernel.passes_(model.weights, [(seed, -2 * step.scale)])
        below = mean_loss(model, rows)
        gradients[t], losses[t], closing = step.close(seed, above, below)
    kernel.passes_(model.weights, closing)
    return gradients, losses
