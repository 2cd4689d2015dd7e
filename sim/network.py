"""Links between simulated peers: each delivers frames in order, some time after they were sent."""

from __future__ import annotations

from collections.abc import Callable

from peer.traffic import Traffic
from sim.schedule import Schedule

LATENCY = 0.01
"""Seconds from sending a frame to its delivery, on every link."""

Deliver = Callable[[int, int, bytes], None]


def _forget(sender: int, receiver: int, frame: bytes) -> None:
    """Let a lost frame be lost."""


class Network:
    """All directed links.

    Args:
        schedule: the virtual clock that delivers.
        deliver: called with (sender, receiver, frame).
        traffic: where what is sent gets counted.
        lose: called in the same way with each frame that is lost on its way.
    """

    def __init__(
        self, schedule: Schedule, deliver: Deliver, traffic: Traffic, lose: Deliver = _forget
    ) -> None:
        self._schedule = schedule
        self._deliver = deliver
        self._lose = lose
        self._groups: list[frozenset[int]] = []
        self.traffic = traffic

    def send(self, sender: int, receiver: int, frame: bytes) -> None:
        """Put a frame on a link."""
        self.traffic.count(sender, receiver, frame)
        for group in self._groups:
            if (sender in group) != (receiver in group):
                self._lose(sender, receiver, frame)
                return
        arrival = self._schedule.now + LATENCY
        self._schedule.at(arrival, self._deliver, sender, receiver, frame)

    def cut(self, group: frozenset[int]) -> None:
        """Lose every frame between these peers and all others from now on."""
        self._groups.append(group)

    def mend(self) -> None:
        """Undo all cuts."""
        self._groups.clear()
