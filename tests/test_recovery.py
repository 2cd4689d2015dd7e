"""What a peer stores of the protocol's events brings the same replica back."""

from __future__ import annotations

from pathlib import Path

import pytest
from mesh import agreement, history

from peer.base import Base
from peer.cut import Cut
from peer.entry import Entry, make_end
from peer.errors import UserError
from peer.events import Convicted, EntryAdded, Event, RoundTimedOut, SnapshotTaken
from peer.gossip import Gossip
from peer.log import HASH_MODULUS
from peer.protocol import Protocol
from peer.recovery import recall, remember
from peer.store import EntryStore
from peer.wire import Proof

PROTOCOL = agreement(3, rounds=5)


def base_of(entries: list[Entry], rounds_done: int, protocol: Protocol = PROTOCOL) -> Base:
    """The base of these entries, all of them histories."""
    accumulator = protocol.empty_accumulator()
    for entry in entries:
        protocol.add(accumulator, entry)
    total = sum(entry.hash for entry in entries) % HASH_MODULUS
    ends = {entry.origin: (rounds_done, rounds_done - 1) for entry in entries}
    return Base.of(rounds_done, Cut(accumulator, total, ends))


def entry(origin: int, round_: int) -> Entry:
    return history(PROTOCOL, origin, round_, round_)


def again(path: Path, me: int = 0) -> Gossip:
    with EntryStore(path) as store:
        known = recall(store, PROTOCOL)
    return Gossip(me, [1], PROTOCOL, known.log, base=known.base, proofs=known.proofs)


def test_entries_a_base_and_a_proof_are_brought_back(tmp_path: Path) -> None:
    path = tmp_path / "log.sqlite"
    below = [entry(origin, round_) for round_ in range(2) for origin in range(3)]
    base = base_of(below, 2)
    first, second = entry(1, 3), make_end(1, 3, 3)
    events: list[Event] = [
        EntryAdded(entry(2, 0)),
        SnapshotTaken(base),
        *(EntryAdded(entry(origin, 2)) for origin in range(3)),
        RoundTimedOut(2, ()),
        EntryAdded(first),
        Convicted(first, second),
    ]
    with EntryStore(path) as store:
        remember(store, 0, events)
        known = recall(store, PROTOCOL)
        # The entry from before the base is in the archive.
        assert entry(2, 0) in store.load_archive()
    assert known.base is not None
    assert known.base.pack() == base.pack()
    assert known.proofs == (Proof(first, second),)
    assert list(known.log) == [entry(0, 2), entry(1, 2), first, entry(2, 2)]
    assert known.log.versions() == {0: 3, 1: 4, 2: 3}
    gossip = again(path)
    assert gossip.rounds.current == 2
    assert gossip.rounds.cut.accumulator.digest() == base.cut(PROTOCOL.units).accumulator.digest()
    # What the convicted peer has written from the proven number on is dropped again.
    assert gossip.log.versions() == {0: 3, 1: 3, 2: 3}
    assert gossip.log.convictions == {1: 3}
    whole = sum(e.hash for e in [*below, *(entry(origin, 2) for origin in range(3))])
    assert gossip.log.sum == whole % HASH_MODULUS


@pytest.mark.parametrize(("me", "durable"), [(0, True), (1, False)])
def test_own_entries_survive_a_power_cut(
    me: int, durable: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    monkeypatch.setattr(
        EntryStore, "append", lambda _self, _entries, *, durable: asked.append(durable)
    )
    with EntryStore(tmp_path / "log.sqlite") as store:
        remember(store, me, [EntryAdded(entry(2, 0)), EntryAdded(entry(0, 0))])
        assert asked == [durable]
        remember(store, me, [RoundTimedOut(2, ())])
        assert asked == [durable]


def test_a_base_of_another_experiment_is_refused(tmp_path: Path) -> None:
    other = agreement(3, rounds=5, candidate_seeds=PROTOCOL.candidate_seeds * 2)
    base = base_of([history(other, 0, 0, 0)], 1, other)
    with EntryStore(tmp_path / "log.sqlite") as store:
        store.save_base(base.pack(), base.versions)
        with pytest.raises(UserError, match="does not belong to this experiment: its base"):
            recall(store, PROTOCOL)
    with EntryStore(tmp_path / "other.sqlite") as store:
        store.save_base(base_of([entry(0, 0)], 1).pack(), {0: 2})
        with pytest.raises(UserError, match="does not belong to this experiment: its base"):
            recall(store, PROTOCOL)
