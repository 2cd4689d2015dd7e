"""Rounds: whose entries are awaited, and what the cut of a round holds.

Under the schedule `sync` round r + 1 trains from the state of the rounds up to r exactly (C6). An
entry that is early is kept aside until its round has been closed; one that is late is added when it
comes. Under `async` nobody is awaited: a peer trains from all that it has.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Final
from typing import Protocol as Interface

from peer.accumulator import Accumulator
from peer.cut import Cut
from peer.log import Run
from peer.protocol import Protocol


class Rounds(Interface):
    """The round that a replica is in, and the cut that it trains from.

    Attributes:
        current: the round, from 0; the number of rounds after the last.
        cut: what has been closed, and what came late.
    """

    current: int
    cut: Cut

    @property
    def accumulator(self) -> Accumulator:
        """The sums of the cut; not to be changed."""

    @property
    def over(self) -> bool:
        """Whether all rounds of the run have been closed."""

    def add(self, history: Run) -> None:
        """Take a new history from the log, as the chain that it ends."""

    def restart(self, round_: int, cut: Cut, histories: Iterable[Run]) -> None:
        """Go on from another cut, with these histories above it, in a round not before `round_`."""

    def has(self, origin: int) -> bool:
        """Tell whether an active origin's entry of the current round is held."""

    def under_way(self) -> bool:
        """Tell whether any entry of the current round, or of a later one, is held."""

    def missing(self) -> tuple[int, ...]:
        """Return the active peers whose entry of the current round is not held."""

    def whole_before(self, round_: int) -> bool:
        """Tell whether every history that is awaited of the rounds before `round_` is held."""

    def awaited(self) -> bool:
        """Tell whether anybody has to be waited for before the current round can be closed."""

    def give_up(self, origin: int) -> None:
        """Wait for an origin no longer."""

    def close(self) -> None:
        """Close the current round."""


class SyncRounds:
    """Rounds that all peers go through together; see `Rounds`."""

    def __init__(self, protocol: Protocol) -> None:
        self._protocol = protocol
        self._early: defaultdict[int, dict[int, Run]] = defaultdict(dict)
        self._silent: set[int] = set()
        self.current = 0
        self.cut = protocol.cuts.empty()
        self._enter()

    @property
    def accumulator(self) -> Accumulator:
        """The sums of the cut; not to be changed."""
        return self.cut.accumulator

    @property
    def over(self) -> bool:
        """Whether all rounds of the run have been closed."""
        return self.current >= self._protocol.rounds

    def add(self, history: Run) -> None:
        """Take a new history from the log: into the cut, or aside if it is early."""
        entry = history.entry
        # A peer that is heard again is waited for again.
        if self._silent:
            self._silent.discard(entry.origin)
        if entry.round < self.current:
            self.cut = self._protocol.cuts.extended(self.cut, (history,))
        else:
            self._early[entry.round][entry.origin] = history

    def restart(self, round_: int, cut: Cut, histories: Iterable[Run]) -> None:
        """Go on from another cut, with these histories above it, in a round not before `round_`."""
        self.current = max(self.current, round_)
        self._early.clear()
        closed = []
        for history in histories:
            if history.entry.round < self.current:
                closed.append(history)
            else:
                self.add(history)
        self.cut = self._protocol.cuts.extended(cut, closed)
        self._enter()

    def has(self, origin: int) -> bool:
        """Tell whether an active origin's entry of the current round is held."""
        return origin in self._arrived or origin not in self._active

    def under_way(self) -> bool:
        """Tell whether any entry of the current round, or of a later one, is held."""
        return any(self._early.values())

    def missing(self) -> tuple[int, ...]:
        """Return the active peers whose entry of the current round is not held."""
        return tuple(peer for peer in self._active if peer not in self._arrived)

    def whole_before(self, round_: int) -> bool:
        """Tell whether every history that is awaited of the rounds before `round_` is held."""
        for early in range(self.current, min(round_, self._protocol.rounds)):
            held = set(self._early.get(early, ()))
            if not set(self._protocol.roster.active(early)) <= held | self._silent:
                return False
        return True

    def awaited(self) -> bool:
        """Tell whether anybody is missing who has not been given up as silent."""
        # Asked for every entry that comes, so first by numbers alone.
        number = len(self._active) - len(self._arrived)
        if number > len(self._silent) or number == 0:
            return number > 0
        return any(peer not in self._silent for peer in self.missing())

    def give_up(self, origin: int) -> None:
        """Wait for an origin no longer, until it is heard again."""
        self._silent.add(origin)

    def close(self) -> None:
        """Close the current round: fold its entries in; who is missing now counts as silent."""
        if len(self._arrived) < len(self._active):
            self._silent.update(self.missing())
        arrived = self._early.pop(self.current)
        self.cut = self._protocol.cuts.extended(self.cut, arrived.values())
        self.current += 1
        self._enter()

    def _enter(self) -> None:
        self._active = () if self.over else self._protocol.roster.active(self.current)
        self._arrived = self._early[self.current]


class AsyncRounds:
    """Rounds of one peer alone, which trains from all that it holds; see `Rounds`."""

    def __init__(self, protocol: Protocol) -> None:
        self._protocol = protocol
        self._latest: dict[int, int] = {}
        self.current = 0
        self.cut = protocol.cuts.empty()

    @property
    def accumulator(self) -> Accumulator:
        """The sums of the cut; not to be changed."""
        return self.cut.accumulator

    @property
    def over(self) -> bool:
        """Whether this peer has been through all rounds of the run."""
        return self.current >= self._protocol.rounds

    def add(self, history: Run) -> None:
        """Add a new history at once."""
        self._latest[history.entry.origin] = history.entry.round
        self.cut = self._protocol.cuts.extended(self.cut, (history,))

    def restart(self, round_: int, cut: Cut, histories: Iterable[Run]) -> None:
        """Go on from another cut, with these histories above it, in a round not before `round_`."""
        histories = list(histories)
        self.current = max(self.current, round_)
        self._latest = {history.entry.origin: history.entry.round for history in histories}
        self.cut = self._protocol.cuts.extended(cut, histories)

    def has(self, origin: int) -> bool:
        """Tell whether an active origin's entry of the current round is held."""
        return self._latest.get(origin, -1) >= self.current

    def under_way(self) -> bool:
        """Return True: no one is awaited."""
        return True

    def missing(self) -> tuple[int, ...]:
        """Return nobody: no one is awaited."""
        return ()

    def whole_before(self, round_: int) -> bool:
        """Return True: no one is awaited."""
        del round_
        return True

    def awaited(self) -> bool:
        """Return False: no one is awaited."""
        return False

    def give_up(self, origin: int) -> None:
        """Do nothing: no one is awaited."""

    def close(self) -> None:
        """Go on to the next round."""
        self.current += 1


SCHEDULES: Final[dict[str, Callable[[Protocol], Rounds]]] = {
    "sync": SyncRounds,
    "async": AsyncRounds,
}
"""The schedules by the names that users give them."""
