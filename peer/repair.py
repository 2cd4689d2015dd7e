"""Repair: what has not come by itself is asked for, from one neighbour at a time."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from math import inf
from typing import Final, NamedTuple

from peer.entry import Entry
from peer.log import EntryLog
from peer.wire import Entries, Want, batches

RETRY_TICKS: Final = 3
"""After this many ticks without an answer, another neighbour may be asked for the same range."""

_TRIES: Final = 2
"""So often each neighbour that has announced an entry is asked, until it announces it again."""


@dataclass
class _Awaited:
    """An origin's entries that have been announced and not come yet."""

    stop: int
    sources: list[int]
    due: float
    asked: int = 0


class _Asked(NamedTuple):
    """What was last asked for of an origin's log."""

    stop: int
    """Up to this number, which is not among it."""
    source: int
    """The neighbour that was asked."""
    until: float
    """Before this time nobody else is asked for the same."""


_NOTHING_ASKED: Final = _Asked(0, -1, -inf)


class Repair:
    """What is new here, what is awaited, and what has been asked for.

    Args:
        log: this peer's.
        tick: its length in seconds.
    """

    def __init__(self, log: EntryLog, tick: float) -> None:
        self._log = log
        self._retry = RETRY_TICKS * tick
        self._fresh: dict[int, int] = {}
        self._older: dict[int, int] = {}
        self._awaited: dict[int, _Awaited] = {}
        self._asked: dict[int, _Asked] = {}

    @property
    def due(self) -> float | None:
        """When something has to be asked for."""
        return min(item.due for item in self._awaited.values()) if self._awaited else None

    def added(self, entry: Entry) -> None:
        """Take note of a new entry."""
        self._fresh[entry.origin] = entry.sequence + 1
        if self._awaited:
            awaited = self._awaited.get(entry.origin)
            if awaited is not None and entry.sequence + 1 >= awaited.stop:
                del self._awaited[entry.origin]

    def news(self) -> dict[int, int]:
        """Return the logs that have grown in this tick and the one before: origin -> length."""
        return dict(sorted((self._older | self._fresh).items()))

    def turn(self) -> None:
        """Begin a new tick."""
        self._older, self._fresh = self._fresh, {}

    def announced(self, neighbour: int, versions: Mapping[int, int], due: float) -> None:
        """Await what a neighbour has and this log lacks; ask for it if it has not come in time."""
        for origin, _, stop in self._log.missing(versions):
            awaited = self._awaited.setdefault(origin, _Awaited(stop, [], due))
            awaited.stop = max(awaited.stop, stop)
            if neighbour not in awaited.sources:
                awaited.sources.append(neighbour)

    def put_off(self, seconds: float) -> None:
        """Give all that is awaited so much time more."""
        for awaited in self._awaited.values():
            awaited.due += seconds

    def overdue(self, now: float, deaf: Callable[[int], bool]) -> dict[int, Want]:
        """Return what to ask of whom for the entries that have not come in time.

        Args:
            now: the time.
            deaf: tells of a neighbour that it cannot be asked.
        """
        ranges: defaultdict[int, list[tuple[int, int, int]]] = defaultdict(list)
        for origin, awaited in sorted(self._awaited.items()):
            if awaited.due > now:
                continue
            asked = self._asked.get(origin, _NOTHING_ASKED)
            if asked.stop >= awaited.stop and asked.until > now:
                # Whoever has told its versions has been asked for the same.
                awaited.due = asked.until
                continue
            sources = [source for source in awaited.sources if not deaf(source)]
            start = self._log.length(origin)
            if not sources or awaited.asked >= _TRIES * len(sources) or start >= awaited.stop:
                del self._awaited[origin]
                continue
            source = sources[awaited.asked % len(sources)]
            awaited.asked += 1
            awaited.due = now + self._retry
            ranges[source].append((origin, start, awaited.stop))
            self._asked[origin] = _Asked(awaited.stop, source, awaited.due)
        return {source: Want(tuple(found), graft=True) for source, found in ranges.items()}

    def want(self, neighbour: int, versions: Mapping[int, int], now: float) -> Want | None:
        """Return what to ask of a neighbour that holds `versions`, or None."""
        ranges = []
        for origin, start, stop in self._log.missing(versions):
            asked = self._asked.get(origin, _NOTHING_ASKED)
            if now < asked.until:
                start = max(start, asked.stop)
            if start < stop:
                ranges.append((origin, start, stop))
                self._asked[origin] = _Asked(stop, neighbour, now + self._retry)
                if origin in self._awaited:
                    self._awaited[origin].due = now + self._retry
        return Want(tuple(ranges)) if ranges else None

    def was_asked(self, entry: Entry, neighbour: int | None = None) -> bool:
        """Tell whether an entry was asked for, and of a neighbour, if one is given, last."""
        asked = self._asked.get(entry.origin, _NOTHING_ASKED)
        return entry.sequence < asked.stop and neighbour in (None, asked.source)

    def answer(self, ranges: Iterable[tuple[int, int, int]]) -> list[Entries]:
        """Return what is held of the ranges above the base, in messages of moderate size."""
        return batches(entry for range_ in ranges for entry in self._log.entries(*range_))
