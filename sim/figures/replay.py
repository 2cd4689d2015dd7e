"""Taking every step that anybody has taken, one after the other: the way without sums."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import torch

from peer.perturbation import Pass, Perturbation
from sim.bench.timing import seconds_of

_WORK: Final = 2**29
"""Weights times steps of one call: long enough to be timed, short enough to stop after it."""

_LEAST_AT_ONCE: Final = 16
_MOST_AT_ONCE: Final = 1024


class Replay:
    """Takes steps in their order, as many in one call as make it quick, and counts the seconds.

    Args:
        kernel: makes the perturbations.
        weights: shape (d,), where the steps go; they become the latest model.
        limit: when so many seconds have been spent, no further step is taken; one call always is.

    Attributes:
        seconds: spent so far.
        steps: taken so far.
    """

    def __init__(self, kernel: Perturbation, weights: torch.Tensor, limit: float) -> None:
        self.seconds = 0.0
        self.steps = 0
        self._kernel = kernel
        self._weights = weights
        self._limit = limit
        self._at_once = min(max(_WORK // len(weights), _LEAST_AT_ONCE), _MOST_AT_ONCE)
        self._waiting: list[Pass] = []

    @property
    def goes_on(self) -> bool:
        """Whether there is time left."""
        return self.steps == 0 or self.seconds < self._limit

    def take(self, passes: Sequence[Pass]) -> None:
        """Take these steps next; the last of them may wait for others that come after them."""
        self._waiting += passes
        while len(self._waiting) >= self._at_once and self.goes_on:
            self._call()
        if not self.goes_on:
            self._waiting.clear()

    def catch_up(self) -> None:
        """Take the steps that still wait."""
        while self._waiting and self.goes_on:
            self._call()

    def _call(self) -> None:
        some, self._waiting = self._waiting[: self._at_once], self._waiting[self._at_once :]
        self.seconds += seconds_of(
            lambda: self._kernel.passes_(self._weights, some), 1, self._weights.device
        )
        self.steps += len(some)
