"""What a peer has on its disk, and the life that begins from it.

A driver puts there what the events of an output bring, before it sends the output's messages, so
whenever a peer is killed, this is what it published, forwarded or spoke of (C9).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from peer.base import Base
from peer.entry import Entry, Sign
from peer.events import Convicted, EntryAdded, Event, SnapshotTaken
from peer.gossip import Gossip
from peer.log import EntryLog
from peer.protocol import Protocol
from peer.wire import Proof


@dataclass
class Stored:
    """Entries, a neighbour's base under them, and proofs of equivocations.

    Attributes:
        entries: in the order in which they came.
        base: the last one that was taken, None if there was none.
        proofs: in the order in which they came.
    """

    entries: list[Entry] = field(default_factory=list)
    base: Base | None = None
    proofs: list[Proof] = field(default_factory=list)

    def take(self, event: Event) -> None:
        """Put on disk what an event brings, if anything."""
        match event:
            case EntryAdded(entry):
                self.entries.append(entry)
            case SnapshotTaken(base):
                self.base = base
            case Convicted(first, second):
                self.proofs.append(Proof(first, second))

    def log(self) -> EntryLog:
        """Return the log above the base."""
        if self.base is None:
            return EntryLog(self.entries)
        lengths = self.base.versions
        above = (entry for entry in self.entries if entry.sequence >= lengths.get(entry.origin, 0))
        return EntryLog(above, lengths, self.base.sum)

    def revive(
        self, me: int, neighbours: Iterable[int], protocol: Protocol, sign: Sign | None = None
    ) -> Gossip:
        """Return the peer that goes on from here; see `Gossip`."""
        return Gossip(
            me,
            neighbours,
            protocol,
            self.log(),
            base=self.base,
            proofs=self.proofs,
            sign=sign,
        )
