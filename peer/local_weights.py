"""What a trainer makes for methods that average weights: (peer, round, weights) -> new weights.

`AveragingTrainer` in `peer.averaging_trainer` is the real one. `SyntheticAveragingTrainer` needs no
model, no data and no torch: its weights have the right size and are functions of (root seed, peer,
round), for the study of protocols and volumes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from peer.seeds import Domain, random_words

Vector = TypeVar("Vector")
"""What holds the weights: a tensor, or an array where there is no torch."""


@dataclass(frozen=True)
class LocalWeights(Generic[Vector]):
    """Where the local steps of one peer and round have led.

    Attributes:
        weights: all that is trained, shape (P,).
        loss: the mean of the losses met on the way in nats per token, NaN if there were none.
        skipped: steps that were not taken because a number was not finite.
        steps: all steps, those included.
    """

    weights: Vector
    loss: float
    skipped: int
    steps: int


class SyntheticAveragingTrainer:
    """Weights without a model: float32, all alike, even over [-1, 1) from round to round.

    Args:
        root_seed: the experiment's.
        parameters: P.
        steps: local steps a round.
    """

    def __init__(self, root_seed: int, parameters: int, steps: int) -> None:
        self._root_seed = root_seed
        self._parameters = parameters
        self._steps = steps

    def train(
        self, peer: int, round_: int, weights: NDArray[np.float32]
    ) -> LocalWeights[NDArray[np.float32]]:
        """Return made-up weights; see `AveragingTrainer.train`."""
        del weights
        (word,) = random_words(self._root_seed, Domain.SYNTHETIC, peer, round_, 1).tolist()
        made = np.full(self._parameters, (word >> 11) / 2.0**52 - 1.0, np.float32)
        return LocalWeights(made, float("nan"), 0, self._steps)
