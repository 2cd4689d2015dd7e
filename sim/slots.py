"""The slots of a graph that varies over time, as virtual time goes through them."""

from __future__ import annotations

from topology import Varying
from topology.varying import Edge


class Slots:
    """Which links go up and down, and when.

    Args:
        graph: varies over time.
        seconds: how long a slot lasts.
    """

    def __init__(self, graph: Varying, seconds: float) -> None:
        self._graph = graph
        self._seconds = seconds
        self._slot = 0

    @property
    def next_time(self) -> float:
        """When the next slot begins, in seconds from the start; the first one does at 0."""
        return self._slot * self._seconds

    def turn(self) -> tuple[tuple[Edge, ...], tuple[Edge, ...]]:
        """Begin the next slot; return the links that go up and those that go down, sorted.

        Before the first slot all links count as up.
        """
        changes = self._graph.changes(self._slot)
        self._slot += 1
        return changes
