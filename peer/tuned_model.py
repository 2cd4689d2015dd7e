"""A model as a function of a run's state: of an accumulator, or of weights that are averaged."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from typing import Protocol as Interface

import numpy as np
from numpy.typing import NDArray

from peer.data.encode import Encoded

if TYPE_CHECKING:
    from peer.evaluation import Losses
    from peer.model import FlatModel


class TunedModel(Interface):
    """What evaluates and exports a run's model; see `GlobalModel` and `AveragedModel`.

    Attributes:
        model: which the states set the weights of.
    """

    model: FlatModel

    @property
    def layout(self) -> dict[str, Any]:
        """What the run folder keeps of the model: digest of w0; [name, shape, offset] of all."""

    @property
    def blocks(self) -> int:
        """L, how many blocks of the weights have sums of their own."""

    def warm_up(self) -> None:
        """Compile what each of many processes would otherwise have to."""

    def go_to(self, state: Any) -> None:
        """Set the weights to the model at a state."""

    def digest(self, state: Any) -> str:
        """Return the digest of the weights at a state."""

    def digests(self, states: Sequence[Any]) -> list[str]:
        """Return the digest of the weights at each of several states."""

    def losses(self, state: Any, encoded: Encoded, rows: NDArray[np.int64]) -> Losses:
        """Return the losses at a state of some rows, and their mean."""

    def evaluate(self, state: Any, encoded: Encoded, rows: NDArray[np.int64]) -> float:
        """Return the mean loss at a state over the response tokens of rows, in nats."""
