"""Links between simulated peers: each delivers frames in order, some time after they were sent."""

from __future__ import annotations

from collections.abc import Callable

from peer.traffic import Traffic
from sim.schedule import Schedule

LATENCY = 0.01
"""Seconds from sending a frame to its delivery, on every link."""

Deliver = Callable[[int, int, bytes], None]


class Network:
    """All directed links.

    Args:
        schedule: the virtual clock that delivers.
        deliver: called with (sender, receiver, frame).
        traffic: where what is sent gets counted.
    """

    def __init__(self, schedule: Schedule, deliver: Deliver, traffic: Traffic) -> None:
        self._schedule = schedule
        self._deliver = deliver
        self.traffic = traffic

    def send(self, sender: int, receiver: int, frame: bytes) -> None:
        """Put a frame on a link."""
        self.traffic.count(sender, receiver, frame)
        arrival = self._schedule.now + LATENCY
        self._schedule.at(arrival, lambda: self._deliver(sender, receiver, frame))
