"""What is told of local rounds while a run goes on."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from peer.trainer import LocalRound, LocalWeights, Timed, Trainer


@dataclass(frozen=True)
class RoundReport:
    """What is told of one peer's local steps in one round.

    Attributes:
        peer: who.
        round: when.
        loss: the mean of the losses met on the way, in nats per token; NaN: none.
        skipped: steps that were skipped because their loss was not finite.
        seconds: how long the steps took.
    """

    peer: int
    round: int
    loss: float
    skipped: int
    seconds: float


class ReportingTrainer:
    """Passes on to another trainer, and reports what each local round was like."""

    def __init__(self, trainer: Trainer, report: Callable[[RoundReport], None]) -> None:
        self._trainer = trainer
        self._report = report

    def train(
        self, peer: int, round_: int, cut: Any, indices: NDArray[np.int64]
    ) -> LocalRound | LocalWeights:
        """Return what the other trainer makes; see `Trainer.train`."""
        began = time.perf_counter()
        made = self._trainer.train(peer, round_, cut, indices)
        waited = time.perf_counter() - began
        seconds = self._trainer.seconds if isinstance(self._trainer, Timed) else waited
        self._report(RoundReport(peer, round_, made.loss, made.skipped, seconds))
        return made
