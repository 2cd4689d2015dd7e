"""What a search would take (`--dry-run --tune`)."""

from __future__ import annotations

from typing import Any

from peer.config import Experiment
from sim.estimate import estimate
from sim.tuning.search import runs
from sim.tuning.short_run import shortened
from sim.words import seconds_in_words


def tuning_cost(experiment: Experiment) -> dict[str, Any]:
    """Return how many short runs a search would make, at least and at most, and their seconds.

    Args:
        experiment: with a model.

    Raises:
        UserError, TopologyError: as `sim.estimate.estimate`.
    """
    short = shortened(experiment)
    each = estimate(short, "sim")["seconds"]["total"]
    least, most = runs(experiment.method)
    return {
        "runs": {"least": least, "most": most},
        "rounds": short.rounds,
        "seconds": {"each": each, "least": least * each, "most": most * each},
    }


def cost_in_words(cost: dict[str, Any]) -> str:
    """Return what `tuning_cost` says, for people to read."""
    number, seconds = cost["runs"], cost["seconds"]
    rounds = f"{cost['rounds']} round{'s' * (cost['rounds'] != 1)}"
    return (
        f"Tuning before it would take {number['least']} to {number['most']} simulations of "
        f"{rounds}, about {seconds_in_words(seconds['least'])} to "
        f"{seconds_in_words(seconds['most'])}."
    )
