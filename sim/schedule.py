"""A virtual clock: events in the order of their time, equal times in the order of their making."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from itertools import count

Action = Callable[[], None]


class Schedule:
    """What is to happen, and the present virtual time in seconds."""

    def __init__(self) -> None:
        self.now = 0.0
        self._heap: list[tuple[float, int, Action]] = []
        self._tickets = count()

    def at(self, time: float, action: Action) -> None:
        """Let something happen at a time, not before the present."""
        heapq.heappush(self._heap, (max(time, self.now), next(self._tickets), action))

    def step(self) -> bool:
        """Go to the next event and let it happen; return False if there is none."""
        if not self._heap:
            return False
        self.now, _, action = heapq.heappop(self._heap)
        action()
        return True
