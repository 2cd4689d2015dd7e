"""Learning rate and perturbation scale, searched one after the other (coordinate-wise).

Each is tried at the given value and at multiples of it, the other one staying where it is. Where
the best value is the least or the greatest that was tried, the range is widened once to that side.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from peer.config import Experiment
from peer.declarations import options
from peer.methods import METHODS
from peer.options import in_range

Values = Mapping[str, float]
"""Options by name."""


@dataclass(frozen=True)
class Ladder:
    """The multiples of an option's given value that are tried.

    Attributes:
        option: whose.
        below: tried if the best of `steps` is its least, ascending.
        steps: tried in any case, ascending.
        above: tried if the best of `steps` is its greatest, ascending.
    """

    option: str
    below: tuple[float, ...]
    steps: tuple[float, ...]
    above: tuple[float, ...]


_LEARNING_RATE: Final = Ladder(
    "learning_rate", (1 / 100, 1 / 30), (1 / 10, 1 / 3, 1.0, 3.0, 10.0), (30.0, 100.0)
)
_EPSILON: Final = Ladder("epsilon", (1 / 100,), (1 / 10, 1.0, 10.0), (100.0,))


@dataclass(frozen=True)
class Losses:
    """The loss of a short run on the rows set apart, in nats per token: before it and after it."""

    initial: float
    final: float

    @property
    def diverged(self) -> bool:
        """Whether the loss is no number any more, or higher than before."""
        return not self.final <= self.initial


@dataclass(frozen=True)
class Trial:
    """One short run: the values tried, and what came of them."""

    values: Values
    losses: Losses


@dataclass(frozen=True)
class Found:
    """What a search has found.

    Attributes:
        trials: in the order in which they were run; no values come twice.
        chosen: the values that lowered the loss most; the given ones if none has lowered it.
        at_edge: options whose best value is still the least or the greatest that was tried.
    """

    trials: tuple[Trial, ...]
    chosen: Values
    at_edge: tuple[str, ...]

    @property
    def lowered(self) -> bool:
        """Whether any values have lowered the loss."""
        return not all(trial.losses.diverged for trial in self.trials)


def with_values(experiment: Experiment, values: Values) -> Experiment:
    """Return an experiment with other values of some options."""
    changed: dict[str, Any] = dict(values)
    return replace(experiment, **changed)


def ladders(method: str) -> tuple[Ladder, ...]:
    """Return what is searched for a method, in order."""
    return (_LEARNING_RATE, _EPSILON) if METHODS[method].zeroth_order else (_LEARNING_RATE,)


def search(given: Values, over: Sequence[Ladder], measure: Callable[[Values], Losses]) -> Found:
    """Search one option after the other.

    Args:
        given: the values to start from.
        over: the options to search, in order; each is in `given`.
        measure: makes a short run; called once for the same values.
    """
    losses: dict[tuple[tuple[str, float], ...], Trial] = {}

    def tried(values: Values) -> Losses:
        key = tuple(sorted(values.items()))
        if key not in losses:
            losses[key] = Trial(values, measure(values))
        return losses[key].losses

    best, at_edge = dict(given), []
    for ladder in over:
        best[ladder.option], at_end = _searched(ladder, best, tried)
        at_edge += [ladder.option] * at_end
    found = Found(tuple(losses.values()), best, tuple(at_edge))
    return found if found.lowered else Found(found.trials, dict(given), ())


def _searched(
    ladder: Ladder, values: Values, losses: Callable[[Values], Losses]
) -> tuple[float, bool]:
    """Return the best value of one option, and whether it is the last one on its side."""
    name, start = ladder.option, values[ladder.option]

    def order(value: float) -> tuple[float, float]:
        """Go by the final loss; of equal ones that is best which is nearest to the start."""
        final = losses({**values, name: value}).final
        return final if math.isfinite(final) else math.inf, abs(math.log(value / start))

    rungs = _values(name, start, ladder.steps)
    best = min(rungs, key=order)
    if best in (rungs[0], rungs[-1]):
        wider = ladder.below if best == rungs[0] else ladder.above
        rungs = sorted({*rungs, *_values(name, start, wider)})
        best = min(rungs, key=order)
    return best, best in (rungs[0], rungs[-1])


def runs(method: str) -> tuple[int, int]:
    """Return how many short runs a search makes for a method, at least and at most."""
    least, most = 0, 0
    for place, ladder in enumerate(ladders(method)):
        # The value that a later option starts from has been tried with the earlier ones.
        own = len(ladder.steps) - (place > 0)
        least += own
        most += own + max(len(ladder.below), len(ladder.above))
    return least, most


def _values(name: str, start: float, multiples: Sequence[float]) -> list[float]:
    """Return those multiples of a value that its option allows, to two digits."""
    declared = next(item for item in options() if item.name == name)
    found = [start if m == 1 else float(f"{start * m:.2g}") for m in multiples]
    return [value for value in found if in_range(declared, value)]
