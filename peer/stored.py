"""What a peer has on its disk, and the life that begins from it.

A driver puts there what the events of an output bring, before it sends the output's messages, so
whenever a peer is killed, this is what it published, forwarded or spoke of (C9).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from peer.averager import Averager
from peer.base import Base
from peer.entry import Entry, Sign
from peer.events import Convicted, EntryAdded, Event, SnapshotTaken
from peer.gossip import Gossip
from peer.log import EntryLog
from peer.participant import Participant
from peer.protocol import Protocol
from peer.wire import Proof


@dataclass(frozen=True)
class Memory:
    """What a peer knows of its earlier lives.

    Attributes:
        log: the entries above the base; what a convicted origin has written is still in it.
        base: that of a neighbour, if a life began late.
        proofs: of equivocations.
    """

    log: EntryLog
    base: Base | None
    proofs: tuple[Proof, ...]

    def revive(
        self, me: int, neighbours: Iterable[int], protocol: Protocol, sign: Sign | None
    ) -> Participant:
        """Return the peer that goes on from here; one that averages begins anew."""
        if protocol.averaging is not None:
            return Averager(me, neighbours, protocol)
        return Gossip(
            me,
            neighbours,
            protocol,
            self.log,
            base=self.base,
            proofs=self.proofs,
            sign=sign,
        )


@dataclass
class Stored:
    """A disk in memory, for simulated peers.

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

    def recall(self) -> Memory:
        """Return what is there, as a new life takes it."""
        lengths = self.base.versions if self.base is not None else {}
        above = (entry for entry in self.entries if entry.sequence >= lengths.get(entry.origin, 0))
        log = EntryLog(above, lengths, self.base.sum if self.base is not None else 0)
        return Memory(log, self.base, tuple(self.proofs))
