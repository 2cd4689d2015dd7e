"""Synchronous rounds: whose entries are awaited, and what the cut of a round holds (C6).

Round r + 1 trains from the state of the rounds up to r exactly. An entry that is early is kept
aside until its round has been closed; one that is late is added when it comes.
"""

from __future__ import annotations

from collections import defaultdict

from peer.accumulator import Accumulator
from peer.entry import Entry
from peer.protocol import Protocol


class Rounds:
    """The round that a replica is in, and the accumulator of all rounds before it."""

    def __init__(self, protocol: Protocol) -> None:
        self._protocol = protocol
        self._early: defaultdict[int, list[Entry]] = defaultdict(list)
        self._arrived: defaultdict[int, set[int]] = defaultdict(set)
        self._silent: set[int] = set()
        self.current = 0
        self.accumulator: Accumulator = protocol.empty_accumulator()

    @property
    def over(self) -> bool:
        """Whether all rounds of the run have been closed."""
        return self.current >= self._protocol.rounds

    def add(self, entry: Entry) -> None:
        """Take a new history from the log: into the accumulator, or aside if it is early."""
        # A peer that is heard again is waited for again.
        self._silent.discard(entry.origin)
        if entry.round < self.current:
            self._protocol.add(self.accumulator, entry)
        else:
            self._early[entry.round].append(entry)
            self._arrived[entry.round].add(entry.origin)

    def has(self, origin: int) -> bool:
        """Tell whether an origin's entry of the current round is held."""
        return origin in self._arrived[self.current]

    def missing(self) -> tuple[int, ...]:
        """Return the active peers whose entry of the current round is not held."""
        active = self._protocol.roster.active(self.current)
        arrived = self._arrived[self.current]
        return tuple(origin for origin in active if origin not in arrived)

    def expected(self) -> int:
        """Return how many peers are active in the current round."""
        return len(self._protocol.roster.active(self.current))

    def awaited(self) -> bool:
        """Tell whether anybody is missing who has not been given up as silent."""
        return any(origin not in self._silent for origin in self.missing())

    def close(self) -> None:
        """Close the current round: fold its entries in; who is missing now counts as silent."""
        self._silent.update(self.missing())
        for entry in self._early.pop(self.current, ()):
            self._protocol.add(self.accumulator, entry)
        self._arrived.pop(self.current, None)
        self.current += 1
