"""How much a peer has to do in a round: its local steps, and the forward passes that each takes.

A step by backpropagation counts as three passes for each batch: computing gradients takes about
twice the products of the forward pass (Kaplan et al., 2020, "Scaling laws for neural language
models", section 2.1). FedKSeed and MeZO look at a loss on either side, FedZO at one where it is and
one in each direction. What depends on the weights alone, as perturbing them, is not counted.
"""

from __future__ import annotations

from collections.abc import Sequence

from peer.config import Experiment
from peer.methods import METHODS, Steps


def passes_per_step(experiment: Experiment) -> int:
    """Return how many forward passes of one batch a local step is worth."""
    match METHODS[experiment.method].steps:
        case Steps.FIRST_ORDER:
            return 3 * experiment.accumulate
        case Steps.FEDZO:
            return 1 + experiment.directions
        case _:
            return 2


def seconds_per_step(experiment: Experiment) -> float:
    """Return the virtual time of a local step: `step_seconds` is that of two forward passes."""
    return experiment.step_seconds * passes_per_step(experiment) / 2


def steps_per_round(experiment: Experiment, rows: Sequence[int]) -> list[int]:
    """Return how many local steps each peer takes in a round.

    Args:
        experiment: the run; `local_epochs` counts for methods that average alone.
        rows: of each peer.
    """
    if not (experiment.averages and experiment.local_epochs):
        return [experiment.local_steps] * len(rows)
    first_order = METHODS[experiment.method].steps is Steps.FIRST_ORDER
    batches = experiment.accumulate if first_order else 1
    # The batches of all passes in a row make the steps, of which the last may have fewer.
    return [
        _parts(experiment.local_epochs * _parts(count, experiment.batch_size), batches)
        for count in rows
    ]


def seconds_per_round(experiment: Experiment, rows: Sequence[int]) -> list[float]:
    """Return the virtual time of each peer's local steps of a round, at the usual speed.

    Args:
        experiment: the run.
        rows: of each peer.
    """
    each = seconds_per_step(experiment)
    return [each * steps for steps in steps_per_round(experiment, rows)]


def _parts(number: int, size: int) -> int:
    return -(-number // size)
