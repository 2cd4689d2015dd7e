"""Works of one call each on a cluster: whatever goes meanwhile, each is done, and counts once."""

from __future__ import annotations

import logging
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, wait
from typing import Final, TypeVar

from sim.cluster.assignments import MOST_LOSSES
from sim.cluster.connection import Cluster, WorkerLost

_T = TypeVar("_T")
_R = TypeVar("_R")

LOG = logging.getLogger("kseed")

_LOST: Final = "a worker is lost: what it was at is done again"


def done_by_tasks(
    cluster: Cluster, work: Callable[[_T], _R], items: Iterable[_T], *, alone: bool
) -> Generator[tuple[_T, _R | WorkerLost], None, None]:
    """Do a work for each item, and yield items and what came of them as they are done.

    Ray has its own way to repeat what was lost, but no end of it where memory is what lacks.

    Args:
        cluster: where to do it; so many at a time as it wants workers, or as there is room for.
        work: a function of a module, or a partial one.
        items: what to do it for.
        alone: whether each is done in a process of its own.

    Raises:
        Exception: what the work raises.
    """
    waiting, losses = deque(items), Counter[int]()
    running: dict[Future[_R], _T] = {}
    most = cluster.wanted.workers or len(waiting)
    while waiting or running:
        while waiting and len(running) < most:
            item = waiting.popleft()
            running[cluster.do(work, item, alone=alone)] = item
        done, _ = wait(running, return_when=FIRST_COMPLETED)
        for future in done:
            item, error = running.pop(future), future.exception()
            if not isinstance(error, WorkerLost):
                yield item, future.result()
                continue
            if not losses:
                LOG.warning(_LOST)
            losses[id(item)] += 1
            if losses[id(item)] < MOST_LOSSES:
                waiting.appendleft(item)
            else:
                yield item, error
