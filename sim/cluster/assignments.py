"""Who does which job: pure. Whoever is quicker gets more, and who is lost loses nothing.

Each worker has at most two jobs, one that it is at and one that waits there, so that it need not
wait for the next. The others queue here. The jobs of a lost worker go back to the queue's head. It
may be its job that has taken a worker down, the one that it was at; after so many times that job
is given up.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Hashable, Iterator
from typing import Final, Generic, TypeVar

J = TypeVar("J", bound=Hashable)

DEPTH: Final = 2
MOST_LOSSES: Final = 4


class Assignments(Generic[J]):
    """Jobs that are to be done, and the workers that are up.

    Args:
        depth: how many jobs a worker has at most.
        most_losses: how many workers one job may take down.
    """

    def __init__(self, depth: int = DEPTH, most_losses: int = MOST_LOSSES) -> None:
        self._depth = depth
        self._most_losses = most_losses
        self._queue: deque[J] = deque()
        self._held: dict[int, deque[J]] = {}
        self._losses: Counter[J] = Counter()

    @property
    def workers(self) -> int:
        """How many workers are up."""
        return len(self._held)

    def add(self, job: J) -> None:
        """Take a job that is not here yet."""
        self._queue.append(job)

    def drop(self, job: J) -> bool:
        """Forget a job that no worker has; tell whether it was so."""
        if job not in self._queue:
            return False
        self._queue.remove(job)
        self._losses.pop(job, None)
        return True

    def up(self, worker: int) -> None:
        """A worker is there, with nothing to do."""
        self._held.setdefault(worker, deque())

    def down(self, worker: int) -> list[J]:
        """A worker is lost; return what is given up with it."""
        held = self._held.pop(worker, deque())
        given_up = []
        if held:
            self._losses[held[0]] += 1
            if self._losses[held[0]] >= self._most_losses:
                given_up.append(held.popleft())
                del self._losses[given_up[0]]
        self._queue.extendleft(reversed(held))
        return given_up

    def done(self, worker: int, job: J) -> None:
        """A worker has done a job of its own."""
        self._held[worker].remove(job)
        self._losses.pop(job, None)

    def due(self) -> Iterator[tuple[int, J]]:
        """Yield (worker, job) for what workers are to be given now; it is theirs from then on."""
        while self._queue and self._held:
            worker = min(self._held, key=lambda each: len(self._held[each]))
            if len(self._held[worker]) >= self._depth:
                return
            job = self._queue.popleft()
            self._held[worker].append(job)
            yield worker, job
