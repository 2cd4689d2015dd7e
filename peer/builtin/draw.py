"""Choices that come out the same on every machine and with every version of Python.

Of the standard library's generator only `random()` is promised to stay as it is, so everything is
made from that: https://docs.python.org/3/library/random.html#notes-on-reproducibility
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")

_NUMBERS = 2**32


class Draw:
    """A stream of choices that follows from (seed, number)."""

    def __init__(self, seed: int, number: int) -> None:
        """Start stream `number` of `seed`; both at least 0, number < 2**32."""
        self._generator = random.Random(seed * _NUMBERS + number)

    def below(self, n: int) -> int:
        """Return one of 0, ..., n - 1."""
        return int(self._generator.random() * n)

    def chance(self, p: float) -> bool:
        """Return True with probability p."""
        return self._generator.random() < p

    def one(self, choices: Sequence[T]) -> T:
        """Return one of the choices."""
        return choices[self.below(len(choices))]

    def some(self, choices: Sequence[T], count: int) -> list[T]:
        """Return `count` different places of `choices`, in random order."""
        return self.shuffled(choices)[:count]

    def shuffled(self, choices: Sequence[T]) -> list[T]:
        """Return all choices in random order."""
        keys = [self._generator.random() for _ in choices]
        return [choices[i] for i in sorted(range(len(choices)), key=keys.__getitem__)]
