"""Zeroth-order local training: FedKSeed's ClientTraining (Algorithm 1, lines 11 to 19).

A step perturbs the weights in place by +eps z and by -eps z, takes the scalar gradient from the two
losses (equation 5), and goes -eta g z (equation 6). It is four passes over the weights,

    +eps, -2 eps, +eps, -eta g

each as `peer.perturbation.reference` defines a pass, with the coefficient rounded to float32. A
step one of whose losses is not finite is skipped: the weights take the first three passes and its
place in the history is NaN. Training starts from a rebuild, so what rounding does to the local
weights ends with the round.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from peer.accumulator import Accumulator
from peer.data.encode import Encoded, batch
from peer.data.order import rows_for
from peer.model import FlatModel
from peer.perturbation import Perturbation
from peer.rebuild import rebuild, weights_digest
from peer.trainer import LocalRound

PADDING = 0
"""The token that fills up short rows; masked and without a label, so any token would do."""

EVALUATION_TOKENS = 4096
"""At most so many tokens are evaluated at once, padding included, but always a whole row."""


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


class Tuner:
    """The model as a function of the accumulator: w = w0 - eta sum_j a_j z_j (equation 4).

    Args:
        model: holds w0 at first.
        kernel: makes the perturbations.
        seeds: the candidate seeds, shape (K,).
        remember: keep the last rebuild, for several replicas that start from one cut. Costs a copy
            of the weights.
    """

    def __init__(
        self,
        model: FlatModel,
        kernel: Perturbation,
        seeds: NDArray[np.uint64],
        *,
        remember: bool = False,
    ) -> None:
        self.model = model
        self.kernel = kernel
        self.seeds = seeds
        self.w0 = model.weights.clone()
        self._remember = remember
        self._cut = ""
        self._rebuilt = self.w0

    @property
    def layout(self) -> dict[str, Any]:
        """What the run folder keeps of the model: digest of w0; [name, shape, offset] of all."""
        return {"w0": weights_digest(self.w0), "parameters": self.model.layout.rows()}

    def go_to(self, cut: Accumulator) -> None:
        """Set the weights to the model at an accumulator."""
        digest = cut.digest()
        weights = self.model.weights
        if self._remember and digest == self._cut:
            weights.copy_(self._rebuilt)
            return
        exponent = cut.units.exponent - cut.units.fraction_bits
        rebuild(self.kernel, self.w0, weights, self.seeds, cut.sums, exponent)
        if self._remember:
            self._cut, self._rebuilt = digest, weights.clone()

    def digest(self, cut: Accumulator) -> str:
        """Return the digest of the weights at an accumulator."""
        self.go_to(cut)
        return weights_digest(self.model.weights)

    def evaluate(self, cut: Accumulator, encoded: Encoded, rows: NDArray[np.int64]) -> float:
        """Return the mean loss at an accumulator over the response tokens of rows, in nats."""
        self.go_to(cut)
        return evaluate(self.model, encoded, rows)


class ZerothOrderTrainer:
    """Takes the local steps of any peer whose shard is given; see `peer.trainer.Trainer`.

    Args:
        tuner: the model and how to rebuild it.
        encoded: the rows of the experiment.
        shards: for each peer trained here, its rows.
        root_seed: the experiment's; fixes the order of the data.
        step: what a step depends on.
    """

    def __init__(
        self,
        tuner: Tuner,
        encoded: Encoded,
        shards: dict[int, NDArray[np.int64]],
        root_seed: int,
        step: Step,
    ) -> None:
        self._tuner = tuner
        self._encoded = encoded
        self._shards = shards
        self._root_seed = root_seed
        self._step = step

    def train(
        self, peer: int, round_: int, cut: Accumulator, indices: NDArray[np.int64]
    ) -> LocalRound:
        """Return the scalar gradients of a peer's local steps; see `peer.trainer.Trainer`."""
        shard = self._shards[peer]
        size = self._step.batch_size
        order = rows_for(self._root_seed, peer, round_, len(indices), size, len(shard))
        self._tuner.go_to(cut)
        gradients = np.full(len(indices), np.nan)
        losses = []
        for t, (index, places) in enumerate(zip(indices, order, strict=True)):
            rows = batch(self._encoded, shard[places], PADDING)
            gradients[t], loss = self._take(int(self._tuner.seeds[index]), rows)
            losses.append(loss)
        met = [loss for loss in losses if math.isfinite(loss)]
        return LocalRound(gradients, float(np.mean(met)) if met else math.nan)

    def _take(
        self, seed: int, rows: tuple[torch.Tensor, torch.Tensor, torch.Tensor]
    ) -> tuple[float, float]:
        """Take one step; return its scalar gradient (NaN: skipped) and the mean of both losses."""
        model, axpy = self._tuner.model, self._tuner.kernel.axpy_
        epsilon = float(np.float32(self._step.epsilon))
        axpy(model.weights, seed, epsilon)
        above = mean_loss(model, rows)
        axpy(model.weights, seed, -2 * epsilon)
        below = mean_loss(model, rows)
        axpy(model.weights, seed, epsilon)
        gradient = (above - below) / (2 * epsilon)
        if not math.isfinite(gradient):
            return math.nan, math.nan
        bound = self._step.gradient_bound
        gradient = min(max(gradient, -bound), bound)
        axpy(model.weights, seed, -self._step.learning_rate * gradient)
        return gradient, (above + below) / 2


def mean_loss(model: FlatModel, rows: tuple[torch.Tensor, torch.Tensor, torch.Tensor]) -> float:
    """Return the mean loss of a batch over its label tokens, in nats."""
    losses, tokens = model.losses(*rows)
    return float(losses.sum()) / int(tokens.sum())


def evaluate(model: FlatModel, encoded: Encoded, rows: NDArray[np.int64]) -> float:
    """Return the mean loss over the response tokens of rows, in nats per token."""
    lengths = np.diff(encoded.offsets)
    total, tokens = 0.0, 0
    # Rows of similar length go together, so little is computed on padding; as a batch is as wide as
    # its longest row, the longest come first.
    ordered = rows[np.argsort(-lengths[rows], kind="stable")]
    start = 0
    while start < len(ordered):
        stop = start + max(1, EVALUATION_TOKENS // int(lengths[ordered[start]]))
        losses, counts = model.losses(*batch(encoded, ordered[start:stop], PADDING))
        total += float(losses.sum())
        tokens += int(counts.sum())
        start = stop
    return total / tokens
