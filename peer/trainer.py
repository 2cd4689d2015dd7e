"""A trainer turns (peer, round, cut, seed indices) into the scalar gradients of that round.

`ZerothOrderTrainer` in `peer.zeroth_order` is the real one, and `SideBySideTrainer` in
`peer.side_by_side` takes the local steps of several peers at once. `SyntheticTrainer` needs no
model, no data and no torch: its histories have the right size and are functions of (root seed,
peer, round), for the study of protocols and volumes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from peer.accumulator import Accumulator
from peer.seeds import Domain, random_words


@dataclass(frozen=True)
class LocalRound:
    """What the local steps of one peer and round gave.

    Attributes:
        gradients: the scalar gradients, shape (tau,), NaN for a skipped step; or the coordinates of
            an update, shape (B,), all NaN if it was not finite.
        loss: the mean of the losses met on the way in nats per token, NaN if there were none.
        counts: how many of the coordinates each block has, int64, shape (L,); None for scalar
            gradients.
    """

    gradients: NDArray[np.float64]
    loss: float
    counts: NDArray[np.int64] | None = None

    @classmethod
    def of_steps(cls, gradients: NDArray[np.float64], losses: NDArray[np.float64]) -> LocalRound:
        """Return the round of steps with these scalar gradients and losses, NaN where skipped."""
        met = losses[np.isfinite(losses)]
        return cls(gradients, float(np.mean(met)) if len(met) else float("nan"))

    @property
    def skipped(self) -> int:
        """How many steps were skipped because their loss was not finite."""
        return int(np.isnan(self.gradients).sum())


class Trainer(Protocol):
    """Makes histories."""

    def train(
        self, peer: int, round_: int, cut: Accumulator, indices: NDArray[np.int64]
    ) -> LocalRound:
        """Return the scalar gradients of `peer`'s local steps, taken from the model at `cut`.

        Args:
            peer: whose data to use.
            round_: the round.
            cut: the accumulator to start from; it is left as it is.
            indices: the seed index of each step, shape (tau,).
        """


@runtime_checkable
class Announced(Trainer, Protocol):
    """A trainer that is told beforehand what it will be asked for, to do several at once."""

    def announce(
        self, peer: int, round_: int, cut: Accumulator, indices: NDArray[np.int64]
    ) -> None:
        """Take note that `train` will be called with these arguments.

        It may be called with others or not at all, and then nothing is wrong but time is lost. A
        peer's announcement replaces its earlier one.
        """


class SyntheticTrainer:
    """Scalar gradients without a model: even over [-1, 1)."""

    def __init__(self, root_seed: int) -> None:
        self._root_seed = root_seed

    def train(
        self, peer: int, round_: int, cut: Accumulator, indices: NDArray[np.int64]
    ) -> LocalRound:
        """Return made-up scalar gradients; see `Trainer.train`."""
        del cut
        words = random_words(self._root_seed, Domain.SYNTHETIC, peer, round_, len(indices))
        return LocalRound((words >> np.uint64(11)) / 2.0**52 - 1.0, float("nan"))
