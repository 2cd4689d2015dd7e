"""What the things of a run are called where they are told of, for methods of sums or of weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from peer.config import Experiment
from peer.methods import METHODS


@dataclass(frozen=True)
class Called:
    """The words for one way of merging.

    Attributes:
        payload: what peers send each other.
        one: one of it, with its article.
        state: what a peer holds in the end.
        merged: what a run has come to after a round.
    """

    payload: str
    one: str
    state: str
    merged: str


SUMS: Final = Called("entries", "an entry", "accumulator", "accumulator")
AVERAGES: Final = Called("weights", "a peer's weights", "weights", "mean of the weights")


def called(method: str) -> Called:
    """Return the words for a method."""
    return AVERAGES if METHODS[method].averages else SUMS


def title_of(experiment: Experiment) -> str:
    """Return a method's name for pictures and reports; that it has a server, where it has one."""
    title = METHODS[experiment.method].title
    return f"{title} with a server" if experiment.aggregation == "server" else title


def promises_equal_bits(summary: Mapping[str, Any]) -> bool:
    """Return whether all peers of a run have to end with the same bits.

    Peers that average among neighbours end near to each other only; with a server, which sends one
    mean to all, and with sums they end alike.

    Args:
        summary: as `peer.summary.summarise` makes it.
    """
    return summary.get("consensus") is None or summary.get("aggregation") == "server"
