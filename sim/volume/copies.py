"""How often weights are sent in each exchange of a run that averages, from counts alone.

What `peer.mixing` lays down peer by peer, for graphs of any size.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import repeat
from typing import Final

from peer.config import Experiment
from peer.roster import Roster

CENTRE: Final = 0
"""Of the family of stars."""

Exchanges = Iterator[tuple[int, int]]
"""Of each exchange, in order: how many peers send, and how many copies they send together."""


def exchanges(experiment: Experiment, roster: Roster, links: int) -> Exchanges:
    """Return what is sent in each exchange of a run.

    Args:
        experiment: of a method that averages.
        roster: says who is active.
        links: E of the graph.
    """
    peers, rounds = len(roster.rows), experiment.rounds
    if experiment.aggregation == "server":
        return _by_server(roster, rounds)
    return repeat((peers, 2 * links), rounds)


def _by_server(roster: Roster, rounds: int) -> Exchanges:
    """Yield the active ones up, and down those of the next round, after the last everybody."""
    for round_ in range(rounds):
        up = _but_centre(roster.active(round_))
        yield up, up
        last = round_ + 1 == rounds
        down = len(roster.rows) - 1 if last else _but_centre(roster.active(round_ + 1))
        yield min(down, 1), down


def _but_centre(active: tuple[int, ...]) -> int:
    return len(active) - (CENTRE in active)
