"""Settings, computed by several processes at a time that die with whoever has started them.

Each has its end of a pipe that nobody writes to. When the other end closes, be it because this
process wants it or because it has been killed, they end themselves at once.
"""

from __future__ import annotations

import gc
import os
import sys
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from multiprocessing import get_context, resource_tracker
from multiprocessing.connection import Connection
from typing import TypeVar

from peer.interrupts import interrupts_put_off

_T = TypeVar("_T")
_R = TypeVar("_R")


class WorkerDied(Exception):
    """The process that did something was ended from outside, twice."""


def done_by_workers(
    work: Callable[[_T], _R], items: Iterable[_T], workers: int
) -> Generator[tuple[_T, _R | WorkerDied], None, None]:
    """Do a work for each item, and yield items and what came of them as they are done.

    When a process dies, the others that belong to it cannot go on either. What they were at is done
    again, one at a time, so that it shows which one it was; all else is done as before. The
    iterator has to be closed if it is left before its end.

    Args:
        work: what to do in another process: a function of a module.
        items: what to do it for.
        workers: so many at a time.
    """
    waiting = deque(items)
    while waiting:
        for suspect in (yield from _until_one_dies(work, waiting, workers)):
            if (yield from _until_one_dies(work, deque([suspect]), 1)):
                yield suspect, WorkerDied()


def each_in_its_own(
    work: Callable[[_T], _R], items: Iterable[_T]
) -> Generator[tuple[_T, _R | WorkerDied], None, None]:
    """Do a work for each item, one after the other, in a process of its own each.

    So what one leaves in memory is not counted as another's. See `done_by_workers`.
    """
    for item in items:
        yield from done_by_workers(work, [item], 1)


def _until_one_dies(
    work: Callable[[_T], _R], waiting: deque[_T], workers: int
) -> Generator[tuple[_T, _R], None, list[_T]]:
    """Do what is waiting, and return what was under way when a worker died; [] if none has."""
    running: dict[Future[_R], _T] = {}
    with _pool(min(workers, len(waiting))) as pool:
        try:
            while waiting or running:
                # No more than are computed at once, so that what runs is known when one dies.
                while waiting and len(running) < workers:
                    with interrupts_put_off():
                        running[pool.submit(_do, work, waiting[0])] = waiting[0]
                    waiting.popleft()
                done, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    result = future.result()
                    yield running.pop(future), result
        except BrokenProcessPool:
            wait(running)
            for future, item in [*running.items()]:
                if future.exception() is None:
                    del running[future]
                    yield item, future.result()
    return [*running.values()]


def _do(work: Callable[[_T], _R], item: _T) -> _R:
    try:
        return work(item)
    finally:
        # A simulated world is one large cycle.
        gc.collect()


@contextmanager
def _pool(workers: int) -> Iterator[ProcessPoolExecutor]:
    _begin_tracker()
    # A fork would take over the threads' locks, but not the threads.
    context = get_context("spawn")
    theirs, ours = context.Pipe(duplex=False)
    pool = ProcessPoolExecutor(workers, context, _begin, (theirs,))
    try:
        yield pool
        pool.shutdown()
    finally:
        ours.close()
        theirs.close()
        pool.shutdown(cancel_futures=True)


def _begin_tracker() -> None:
    """Start what clears up after a killed process, deaf to its own warning of that."""
    quiet = "ignore::UserWarning:multiprocessing.resource_tracker"
    # Its command line has the options of this process.
    sys.warnoptions.append(quiet)
    try:
        resource_tracker.ensure_running()
    finally:
        sys.warnoptions.remove(quiet)


def _begin(lifeline: Connection) -> None:
    """Let this process end when the other end of its lifeline is closed."""
    threading.Thread(target=_end_with, args=(lifeline,), daemon=True).start()


def _end_with(lifeline: Connection) -> None:
    with suppress(EOFError, OSError):
        lifeline.recv_bytes()
    os._exit(1)
