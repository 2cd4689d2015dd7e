"""The workers of a run: begun, given jobs, replaced when they are lost.

A thread of its own awaits them, so that they need not wait while this process evaluates. All that
changes is changed in that thread; others leave word and wake it up.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, Final, Protocol

from peer.errors import RunFailed, UserError
from sim.cluster.assignments import MOST_LOSSES, Assignments
from sim.cluster.connection import WorkerLost
from sim.cluster.places import Facts

LOG = logging.getLogger("kseed")

PATIENCE: Final = 300.0
"""Seconds without any worker, after which a run that has had one ends."""

_STRAGGLERS: Final = 60.0
"""Seconds that the first worker waits for the others."""

_TOLD_AFTER: Final = 20.0
"""Seconds of waiting for the first worker, which may have no room yet, that go without saying."""

_GO_ON: Final = "with --resume the run goes on from here"


class Hand(Protocol):
    """A worker, as `sim.cluster.connection.Member` has it."""

    def call(self, method: str, *arguments: Any, patiently: bool = False) -> Future[Any]:
        """Call a method there; see `Member.call`."""

    def end(self) -> None:
        """End it for good."""


@dataclass(frozen=True, eq=False)
class Job:
    """A call of `Worker.train`.

    Attributes:
        what: in words, for a job that has to be given up.
        arguments: of the call.
        keeps: what has to stay while the job is under way.
    """

    what: str
    arguments: tuple[Any, ...]
    keeps: Any = None


class _Stage(Enum):
    """What a worker has been asked before it takes jobs: to be there, and to load."""

    COMING = auto()
    LOADING = auto()


class Crew:
    """Workers that take jobs.

    Args:
        hands: the workers, in processes that have been begun.

    Attributes:
        lost: how often a worker was lost.
        nodes: where workers have been.
    """

    def __init__(self, hands: Sequence[Hand]) -> None:
        self.lost = 0
        self.nodes: set[str] = set()
        self._hands = hands
        self._check: Callable[[Facts], list[str]] = lambda _: []
        self._setup: Any = None
        self._assignments: Assignments[Job] = Assignments()
        self._jobs: dict[Job, Future[Any]] = {}
        self._calls: dict[Future[Any], tuple[int, Job | _Stage]] = {}
        self._ends: Counter[int] = Counter()
        self._word: deque[Callable[[], None]] = deque()
        self._wake: Future[None] = Future()
        self._manned: Future[None] = Future()
        self._failure: BaseException | None = None
        self._told: set[str] = set()
        self._first_up: float | None = None
        self._none_since = time.monotonic()
        self._stopped = False
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="crew", daemon=True)

    @property
    def size(self) -> int:
        """How many workers were asked for."""
        return len(self._hands)

    def muster(self, setup: Any, check: Callable[[Facts], list[str]]) -> None:
        """Let all workers load, and wait until they have, or some while after the first one.

        Args:
            setup: what stands for a `Setup` that is kept on the cluster.
            check: takes what is known of a worker's place, and returns what is worth a warning;
                raises UserError if it is of no use.

        Raises:
            UserError: a worker's place is of no use for this run.
            RunFailed: they end while they load.
        """
        self._setup, self._check = setup, check
        for worker in range(len(self._hands)):
            self._call_up(worker)
        self._thread.start()
        done, _ = wait([self._manned], _TOLD_AFTER)
        if not done and self._first_up is None:
            LOG.info("waiting for workers: none has loaded the model yet")
        self._manned.result()

    def submit(self, job: Job) -> Future[Any]:
        """Have a job done."""
        made: Future[Any] = Future()
        self._leave(lambda: self._add(job, made))
        return made

    def forget(self, job: Job) -> None:
        """What a job gives is not wanted any more."""
        self._leave(lambda: self._drop(job))

    def end(self) -> None:
        """End the thread; the workers go with the connection."""
        self._stopped = True
        if self._thread.is_alive():
            self._leave(lambda: None)
            self._thread.join()

    def _leave(self, word: Callable[[], None]) -> None:
        """Leave word for the thread."""
        self._word.append(word)
        with self._lock:
            if not self._wake.done():
                self._wake.set_result(None)

    def _run(self) -> None:
        while not self._stopped:
            try:
                self._turn()
            # Whoever waits for a job has to hear of it, whatever it is.
            except BaseException as error:
                self._fail(error)

    def _turn(self) -> None:
        with self._lock:
            if self._wake.done():
                self._wake = Future()
        while self._word:
            self._word.popleft()()
        for worker, job in self._assignments.due() if self._failure is None else ():
            self._calls[self._hands[worker].call("train", *job.arguments)] = (worker, job)
        done, _ = wait([self._wake, *self._calls], self._time_left(), FIRST_COMPLETED)
        for call in done & self._calls.keys():
            # Or else it was of a worker that has been lost in this very turn.
            if call in self._calls:
                worker, asked = self._calls.pop(call)
                if isinstance(asked, Job):
                    self._answered(worker, asked, call)
                else:
                    self._heard(worker, asked, call)
        self._look_at_the_clock()

    def _add(self, job: Job, made: Future[Any]) -> None:
        if self._failure is not None:
            made.set_exception(self._failure)
            return
        self._jobs[job] = made
        self._assignments.add(job)

    def _drop(self, job: Job) -> None:
        if self._assignments.drop(job):
            self._jobs.pop(job, None)

    def _call_up(self, worker: int) -> None:
        call = self._hands[worker].call("begun", patiently=True)
        self._calls[call] = worker, _Stage.COMING

    def _heard(self, worker: int, stage: _Stage, call: Future[Any]) -> None:
        """A worker is there, or has loaded, or cannot."""
        error = call.exception()
        if error is None and stage is _Stage.COMING:
            load = self._hands[worker].call("ready", self._setup)
            self._calls[load] = worker, _Stage.LOADING
            return
        if error is None:
            try:
                self._take_on(worker, call.result())
                return
            except UserError as refusal:
                error = refusal
        if isinstance(error, WorkerLost):
            self._ends[worker] += 1
            if self._ends[worker] < MOST_LOSSES:
                self._call_up(worker)
            else:
                self._fail(RunFailed(_too_often("loading the model")))
        elif self._manned.done() and isinstance(error, UserError):
            # Of a node that has come later, or has changed: the others can do without it.
            self._tell(f"a worker is left out: {error}")
            self._hands[worker].end()
        else:
            self._fail(error)

    def _take_on(self, worker: int, there: Facts) -> None:
        """Give a worker jobs from now on, if its place is of use."""
        for note in self._check(there):
            self._tell(note)
        self.nodes.add(there.place)
        del self._ends[worker]
        self._assignments.up(worker)
        self._first_up = self._first_up or time.monotonic()
        if self._assignments.workers == len(self._hands):
            self._set_out()

    def _answered(self, worker: int, job: Job, call: Future[Any]) -> None:
        """A call of a job has come to its end."""
        error = call.exception()
        if isinstance(error, WorkerLost):
            self._lose(worker)
            return
        self._assignments.done(worker, job)
        made = self._jobs.pop(job)
        if error is None:
            made.set_result(call.result())
        else:
            made.set_exception(error)

    def _lose(self, worker: int) -> None:
        """Go on without a worker until it is back."""
        # Its other job comes to the same end, or is done twice with the same result.
        self._calls = {call: of for call, of in self._calls.items() if of[0] != worker}
        self.lost += 1
        self._tell("a worker is lost: others do what it was at, and it is begun anew")
        for job in self._assignments.down(worker):
            self._jobs.pop(job).set_exception(RunFailed(_too_often(job.what)))
        if not self._assignments.workers:
            self._none_since = time.monotonic()
        self._call_up(worker)

    def _set_out(self) -> None:
        if not self._manned.done():
            self._manned.set_result(None)

    def _time_left(self) -> float | None:
        """Return for how long nothing need be looked at but calls; None: until one has ended."""
        if self._first_up is None or self._failure is not None:
            return None
        if not self._assignments.workers:
            return max(0.0, self._none_since + PATIENCE - time.monotonic())
        if not self._manned.done():
            return max(0.0, self._first_up + _STRAGGLERS - time.monotonic())
        return None

    def _look_at_the_clock(self) -> None:
        if self._first_up is None or self._failure is not None:
            return
        now = time.monotonic()
        if not self._assignments.workers and now >= self._none_since + PATIENCE:
            minutes = f"{PATIENCE / 60:.0f} minutes"
            self._fail(RunFailed(f"no worker has been there for {minutes}; {_GO_ON}"))
        elif now >= self._first_up + _STRAGGLERS:
            self._set_out()

    def _fail(self, error: BaseException) -> None:
        """Tell everybody who waits."""
        self._failure = error
        for made in self._jobs.values():
            made.set_exception(error)
        self._jobs.clear()
        self._calls.clear()
        if not self._manned.done():
            self._manned.set_exception(error)

    def _tell(self, text: str) -> None:
        if text not in self._told:
            self._told.add(text)
            LOG.warning("%s", text)


def _too_often(what: str) -> str:
    """Return what is told where something has ended worker after worker."""
    return (
        f"{what} has ended workers {MOST_LOSSES} times, as a system does when it has no memory "
        f"left; {_GO_ON}"
    )
