"""Repair by version vectors: ask one neighbour at a time for what it has and this log lacks."""

from __future__ import annotations

from collections.abc import Mapping

from peer.entry import Entry
from peer.log import EntryLog
from peer.wire import BATCH_BYTES, Entries, Want

PATIENCE_TICKS = 3
"""After this many ticks without an answer, another neighbour may be asked for the same range."""


class Repair:
    """Which ranges have been asked for, and until when they are expected."""

    def __init__(self, log: EntryLog, patience: float) -> None:
        self._log = log
        self._patience = patience
        self._asked: dict[int, tuple[int, float]] = {}

    def want(self, versions: Mapping[int, int], now: float) -> Want | None:
        """Return what to ask of a neighbour that holds `versions`, or None."""
        ranges = []
        for origin, start, stop in self._log.missing(versions):
            asked, until = self._asked.get(origin, (0, now))
            start = max(start, asked) if now < until else start
            if start < stop:
                ranges.append((origin, start, stop))
                self._asked[origin] = (stop, now + self._patience)
        return Want(tuple(ranges)) if ranges else None

    def answer(self, want: Want) -> list[Entries]:
        """Return what is held of the ranges, in messages of moderate size."""
        batches: list[Entries] = []
        batch: list[Entry] = []
        size = 0
        for origin, start, stop in want.ranges:
            for entry in self._log.entries(origin, start, stop):
                if batch and size + len(entry.content) > BATCH_BYTES:
                    batches.append(Entries(tuple(batch)))
                    batch, size = [], 0
                batch.append(entry)
                size += len(entry.content)
        if batch:
            batches.append(Entries(tuple(batch)))
        return batches
