"""A trainer turns (peer, round, what to start from, seed indices) into what a peer then publishes.

`peer.training` makes the trainer of an experiment. Those here need no model, no data and no torch:
`SyntheticTrainer` and, where weights are averaged, `SyntheticWeights` make what has the right size
and is a function of (root seed, peer, round), for the study of protocols and volumes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from peer.accumulator import Accumulator
from peer.seeds import Domain, random_words
from peer.weights import Weights


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


@dataclass(frozen=True)
class LocalWeights:
    """What the local steps of one peer and round gave, where weights are averaged.

    Attributes:
        weights: as the steps have left them.
        loss: as in `LocalRound`.
        skipped: how many steps were skipped because a number was not finite.
    """

    weights: Weights
    loss: float
    skipped: int = 0


class Trainer(Protocol):
    """Takes the local steps of a method of sums, or of one that averages."""

    def train(
        self, peer: int, round_: int, cut: Any, indices: NDArray[np.int64]
    ) -> LocalRound | LocalWeights:
        """Return what `peer`'s local steps give, taken from the model at `cut`.

        Args:
            peer: whose data to use.
            round_: the round.
            cut: the accumulator or the weights to start from; left as they are.
            indices: as in `RoundStarted`: the sums that the steps use, where that is known before.
        """


@runtime_checkable
class Announced(Trainer, Protocol):
    """A trainer that is told beforehand what it will be asked for, to do several at once."""

    def announce(self, peer: int, round_: int, cut: Any, indices: NDArray[np.int64]) -> None:
        """Take note that `train` will be called with these arguments.

        It may be called with others or not at all, and then nothing is wrong but time is lost. A
        peer's announcement replaces its earlier one.
        """


@runtime_checkable
class Timed(Trainer, Protocol):
    """A trainer for which others work: how long one waits for it is not how long that takes.

    Attributes:
        seconds: what the last local round took where it was taken.
    """

    seconds: float


class SyntheticTrainer:
    """Scalar gradients without a model: even over [-1, 1).

    Args:
        root_seed: the experiment's.
        counts: of the coordinates of each block, where a history consists of these.
    """

    def __init__(self, root_seed: int, counts: NDArray[np.int64] | None = None) -> None:
        self._root_seed = root_seed
        self._counts = counts

    def train(
        self, peer: int, round_: int, cut: Accumulator, indices: NDArray[np.int64]
    ) -> LocalRound:
        """Return made-up scalar gradients; see `Trainer.train`."""
        del cut
        numbers = len(indices) if self._counts is None else int(self._counts.sum())
        words = random_words(self._root_seed, Domain.SYNTHETIC, peer, round_, numbers)
        return LocalRound((words >> np.uint64(11)) / 2.0**52 - 1.0, float("nan"), self._counts)


class SyntheticWeights:
    """Weights without a model: those of a peer and round are all the same, even over [-1, 1).

    Args:
        root_seed: the experiment's.
        dtype: their type.
        count: how many there are.
    """

    def __init__(self, root_seed: int, dtype: str, count: int) -> None:
        self._root_seed = root_seed
        self._dtype = dtype
        self._count = count

    def train(
        self, peer: int, round_: int, cut: Weights, indices: NDArray[np.int64]
    ) -> LocalWeights:
        """Return made-up weights; see `Trainer.train`."""
        del cut, indices
        (word,) = random_words(self._root_seed, Domain.SYNTHETIC, peer, round_, 1).tolist()
        value = (word >> 11) / 2.0**52 - 1.0
        return LocalWeights(Weights.repeated(self._dtype, value, self._count), float("nan"))
