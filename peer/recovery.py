"""What a peer has to know again after a crash: stored before it is told, and recalled (C9)."""

from __future__ import annotations

from collections.abc import Iterable

from peer.base import Base
from peer.entry import Entry
from peer.errors import NeighbourError, UserError
from peer.events import Convicted, EntryAdded, Event, SnapshotTaken
from peer.log import EntryLog
from peer.protocol import Protocol
from peer.store import EntryStore
from peer.stored import Memory
from peer.wire import Proof, decode, encode


def remember(store: EntryStore, me: int, events: Iterable[Event]) -> None:
    """Store what has happened, before any message leaves that could speak of it.

    Args:
        store: this peer's.
        me: whose own entries have to survive a power cut as well.
        events: in their order, of one output or of several.
    """
    entries: list[Entry] = []

    def store_entries() -> None:
        if entries:
            store.append(entries, durable=any(entry.origin == me for entry in entries))
            entries.clear()

    for event in events:
        match event:
            case EntryAdded(entry):
                entries.append(entry)
            case SnapshotTaken(base):
                # Entries before it go on from the run that was, those after it from the base.
                store_entries()
                store.save_base(base.pack(), base.versions)
            case Convicted(first, second):
                store.save_proof(encode(Proof(first, second)))
    store_entries()


def recall(store: EntryStore, protocol: Protocol) -> Memory:
    """Return what an earlier life has stored, held against the experiment of this one.

    Raises:
        UserError: the store is that of another experiment, or damaged.
    """
    base = stored_base(store, protocol)
    log = EntryLog((), base.versions, base.sum) if base is not None else EntryLog()
    try:
        for entry in store.load():
            protocol.check(entry)
            protocol.check_order(entry, log.last(entry.origin), base)
            log.add(entry)
    except NeighbourError as error:
        raise _foreign(store, error) from None
    return Memory(log, base, stored_proofs(store))


def stored_base(store: EntryStore, protocol: Protocol) -> Base | None:
    """Return the base that a store begins with, if any.

    Raises:
        UserError: it is that of another experiment, or damaged.
    """
    content = store.load_base()
    if content is None:
        return None
    try:
        base = Base.unpack(content)
        protocol.check_versions(base.versions)
    except NeighbourError as error:
        raise _foreign(store, error) from None
    if base.versions != store.floors or base.arrays.shape[1] != protocol.seeds.sums:
        raise _foreign(store, "its base is another's")
    return base


def stored_proofs(store: EntryStore) -> tuple[Proof, ...]:
    """Return the proofs of equivocation in a store.

    Raises:
        UserError: one is damaged.
    """
    proofs = []
    try:
        for content in store.load_proofs():
            proof = decode(content)
            if not isinstance(proof, Proof):
                raise _foreign(store, "what is kept as a proof is none")
            proofs.append(proof)
    except NeighbourError as error:
        raise _foreign(store, error) from None
    return tuple(proofs)


def _foreign(store: EntryStore, reason: object) -> UserError:
    return UserError(f"{store.path} does not belong to this experiment: {reason}")
