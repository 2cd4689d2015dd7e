"""What is done for each of many items, each leaving files in one folder; and who does it.

An engine does errands: by processes of this machine here, by a cluster's in `sim.study.away`.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from sim.study.attempt import Outcome, outcome_of
from sim.study.workers import done_by_workers, each_in_its_own

T = TypeVar("T")


@dataclass(frozen=True)
class Errand(Generic[T]):
    """Something that is done for each item.

    Attributes:
        work: a function of a module, of an item and the folder that it works in.
        leaves: what it may leave in that folder for an item, as relative paths of files and
            folders; with the last one there, it is done.
        options: those of an experiment that an item has, some of which may name files.
    """

    work: Callable[[T, Path], Outcome]
    leaves: Callable[[T], tuple[str, ...]]
    options: Callable[[T], Mapping[str, Any]]


class Engine(Protocol):
    """Does errands.

    Attributes:
        all_at_once: whether runs whose times are compared may go on side by side.
    """

    all_at_once: bool

    def do(
        self, errand: Errand[T], items: Iterable[T], folder: Path
    ) -> Generator[tuple[T, Outcome], None, None]:
        """Yield items and what came of them as they are done; to be closed if left before."""


class Workers:
    """Does several items at a time, each in one of so many processes."""

    all_at_once = False

    def __init__(self, count: int) -> None:
        self._count = count

    def do(
        self, errand: Errand[T], items: Iterable[T], folder: Path
    ) -> Generator[tuple[T, Outcome], None, None]:
        """See `Engine.do`."""
        for item, found in done_by_workers(_in(errand, folder), items, self._count):
            yield item, outcome_of(found)


class OneByOne:
    """Does one item after the other, in a process of its own each."""

    all_at_once = False

    def do(
        self, errand: Errand[T], items: Iterable[T], folder: Path
    ) -> Generator[tuple[T, Outcome], None, None]:
        """See `Engine.do`."""
        for item, found in each_in_its_own(_in(errand, folder), items):
            yield item, outcome_of(found)


def _in(errand: Errand[T], folder: Path) -> Callable[[T], Outcome]:
    """Return an errand's work in a folder, as another process can be given it."""
    return partial(_done, errand.work, folder)


def _done(work: Callable[[T, Path], Outcome], folder: Path, item: T) -> Outcome:
    return work(item, folder)
