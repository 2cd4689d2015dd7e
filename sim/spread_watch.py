"""When entries are published in a simulated world, and when they come to the last peer."""

from __future__ import annotations

from collections import defaultdict

from peer.entry import Entry, Kind
from peer.events import EntryAdded, Event


class SpreadWatch:
    """Notes who has which entry since when, told of every event of a world."""

    def __init__(self) -> None:
        self._published: dict[Entry, float] = {}
        self._last: dict[Entry, float] = {}
        self._holders: defaultdict[Entry, int] = defaultdict(int)

    def observe(self, peer: int, event: Event, now: float) -> None:
        """Take note of an event of a peer's at a time in virtual seconds."""
        if isinstance(event, EntryAdded):
            entry = event.entry
            if entry.origin == peer:
                # What its origin has lost and gets back was published long before.
                self._published.setdefault(entry, now)
            self._last[entry] = now
            self._holders[entry] += 1

    @property
    def entries(self) -> list[Entry]:
        """All that have been published, in this order."""
        return list(self._published)

    @property
    def histories(self) -> list[Entry]:
        """The histories among them."""
        return [entry for entry in self._published if entry.kind is Kind.HISTORY]

    def seconds(self, entry: Entry) -> float:
        """Return the virtual seconds from its publishing to the last peer that has got it."""
        return self._last[entry] - self._published[entry]

    def last(self, entry: Entry) -> float:
        """Return the virtual time at which the last peer has got it."""
        return self._last[entry]

    def everywhere(self, peers: int) -> bool:
        """Tell whether so many peers have got every entry."""
        return all(number == peers for number in self._holders.values())
