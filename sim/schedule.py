"""A virtual clock: events in the order of their time, equal times in the order of their making."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Any

Action = Callable[..., None]
_Event = tuple[Action, tuple[Any, ...]]


class Schedule:
    """What is to happen, and the present virtual time in seconds."""

    def __init__(self) -> None:
        self.now = 0.0
        # A frame's way through the simulator passes here. Many events share a time, so times are
        # kept in order, not events.
        self._times: list[float] = []
        self._due: dict[float, list[_Event]] = {}

    def at(self, time: float, action: Action, *arguments: Any) -> None:
        """Let `action(*arguments)` happen at a time, not before the present."""
        if time < self.now:
            time = self.now
        due = self._due.get(time)
        if due is None:
            self._due[time] = [(action, arguments)]
            heapq.heappush(self._times, time)
        else:
            due.append((action, arguments))

    def run(self) -> None:
        """Let all events happen, and those that come of them, until there are none."""
        while self._times:
            now = self.now = heapq.heappop(self._times)
            # What is made on the way for this very time joins the end of the list, and is met.
            for action, arguments in self._due[now]:
                action(*arguments)
            del self._due[now]
