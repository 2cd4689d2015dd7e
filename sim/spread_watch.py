"""When entries are published in a simulated world, and when they come to the last peer."""

from __future__ import annotations

from dataclasses import dataclass

from peer.entry import Entry, Kind
from peer.events import EntryAdded, Event


@dataclass(slots=True)
class _Way:
    """Where an entry has come to.

    Attributes:
        entry: the entry.
        published: when its origin had it, in virtual seconds.
        last: when the last peer so far has got it.
        holders: how many have got it, the origin included.
    """

    entry: Entry
    published: float
    last: float
    holders: int


class SpreadWatch:
    """Notes when peers get entries, told of every event of a world whose peers do not lie."""

    def __init__(self) -> None:
        # By origin and sequence number: contents would have to be hashed and compared every time.
        self._ways: dict[tuple[int, int], _Way] = {}

    def observe(self, peer: int, event: Event, now: float) -> None:
        """Take note of an event of a peer's at a time in virtual seconds."""
        if type(event) is EntryAdded:
            entry = event.entry
            way = self._ways.get((entry.origin, entry.sequence))
            # Nobody can have it before its origin.
            if way is None:
                self._ways[entry.origin, entry.sequence] = _Way(entry, now, now, 1)
            elif entry.origin != peer:
                way.last = now
                way.holders += 1

    @property
    def entries(self) -> list[Entry]:
        """All that have been published, in this order."""
        return [way.entry for way in self._ways.values()]

    @property
    def histories(self) -> list[Entry]:
        """The histories among them."""
        return [entry for entry in self.entries if entry.kind is Kind.HISTORY]

    def seconds(self, entry: Entry) -> float:
        """Return the virtual seconds from its publishing to the last peer that has got it."""
        way = self._ways[entry.origin, entry.sequence]
        return way.last - way.published

    def last(self, entry: Entry) -> float:
        """Return the virtual time at which the last peer has got it."""
        return self._ways[entry.origin, entry.sequence].last

    def everywhere(self, peers: int) -> bool:
        """Tell whether so many peers have got every entry."""
        return all(way.holders == peers for way in self._ways.values())
