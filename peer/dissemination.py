"""How a new entry spreads. A mode says to whom it is pushed at once; the others get it by repair.

Repair is the same for all modes (see `peer.repair`): neighbours whose digests differ announce what
is new to them, and what does not come by itself is asked for.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection
from typing import Final
from typing import Protocol as Interface

from peer.entry import Entry
from peer.protocol import Protocol
from peer.trees import EAGER_CAP


class Dissemination(Interface):
    """A mode of spreading entries over the links of one peer.

    Attributes:
        patience: ticks that an announced entry is given to come by itself before it is asked for:
            more than a busy machine keeps a process waiting, or copies are sent that nobody needs.
    """

    patience: float

    def push_to(self, entry: Entry, sender: int | None) -> Collection[int]:
        """Return the neighbours that get a new entry at once, `sender` having brought it."""

    def duplicate(self, origin: int, sender: int) -> bool:
        """Take note of a second copy; return whether the sender is to be told to push no more."""

    def prune(self, origin: int, neighbour: int) -> None:
        """Push an origin's entries to a neighbour no more: it has them from elsewhere."""

    def graft(self, origin: int, neighbour: int) -> None:
        """Push an origin's entries to a neighbour from now on: it had to ask for them."""


class Flood:
    """Forward what is new to everybody but its sender.

    Every peer sends every entry over each of its links but one, the origin over all of its. On a
    graph of N peers and E edges this makes 2E - N + 1 sends, whatever the order of arrival.
    """

    patience = 2.0

    def __init__(self, me: int, neighbours: Collection[int], protocol: Protocol) -> None:
        del me, protocol
        self._neighbours = neighbours

    def push_to(self, entry: Entry, sender: int | None) -> list[int]:
        """Return all neighbours but the sender."""
        del entry
        return [neighbour for neighbour in self._neighbours if neighbour != sender]

    def duplicate(self, origin: int, sender: int) -> bool:
        """Return False: second copies are what flooding costs."""
        del origin, sender
        return False

    def prune(self, origin: int, neighbour: int) -> None:
        """Do nothing."""

    def graft(self, origin: int, neighbour: int) -> None:
        """Do nothing."""


class AntiEntropy(Flood):
    """Push nothing: a peer asks for what its neighbours announce."""

    patience = 0.0

    def push_to(self, entry: Entry, sender: int | None) -> list[int]:
        """Return nobody."""
        del entry, sender
        return []


class Tree:
    """Plumtree (Leitao et al. 2007) with a tree per origin, each cold tree being computed.

    Who sends a second copy is pruned, who has to be asked is grafted, so trees follow what the
    network does. Only these changes are remembered, for they are few. Where the graph is not known,
    or never the same for long, a tree grows from its grafts alone.
    """

    patience = 2.0

    def __init__(self, me: int, neighbours: Collection[int], protocol: Protocol) -> None:
        self._me = me
        self._neighbours = neighbours
        self._trees = protocol.trees
        self._grafted: defaultdict[int, set[int]] = defaultdict(set)
        self._pruned: defaultdict[int, set[int]] = defaultdict(set)

    def push_to(self, entry: Entry, sender: int | None) -> list[int]:
        """Return the children in the origin's tree."""
        origin, trees = entry.origin, self._trees
        children = [] if trees is None else trees.children(origin, entry.round, self._me)
        if origin in self._pruned or origin in self._grafted:
            pruned = self._pruned.get(origin, ())
            more = self._grafted.get(origin, ())
            children = [child for child in children if child not in pruned]
            children += [child for child in sorted(more) if child not in children]
        if sender in children:
            children.remove(sender)
        return children

    def duplicate(self, origin: int, sender: int) -> bool:
        """Prune the sender, and have it prune this peer."""
        self.prune(origin, sender)
        return True

    def prune(self, origin: int, neighbour: int) -> None:
        """Take a neighbour from the origin's tree."""
        self._grafted[origin].discard(neighbour)
        self._pruned[origin].add(neighbour)

    def graft(self, origin: int, neighbour: int) -> None:
        """Take a neighbour into the origin's tree, unless it has as many there as it may."""
        self._pruned[origin].discard(neighbour)
        if len(self._grafted[origin]) < EAGER_CAP:
            self._grafted[origin].add(neighbour)


MODES: Final[dict[str, Callable[[int, Collection[int], Protocol], Dissemination]]] = {
    "flood": Flood,
    "tree": Tree,
    "antientropy": AntiEntropy,
}
"""The modes by the names that users give them."""
