"""What has to hold in a `gossip_machine.Network` after each move, and at its end.

The checks know every entry that was ever stored, and nothing of the accumulators, bases and cuts of
the protocol.
"""

from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
from gossip_plan import Plan

from peer.accumulator import Accumulator
from peer.base import Base
from peer.entry import Entry, Kind
from peer.events import Convicted, EntryAdded, Event, SnapshotTaken
from peer.gossip import Gossip
from peer.log import EntryLog
from peer.wire import Proof

Place = tuple[int, int]
"""Origin and sequence number of an entry."""


class Disk:
    """What a peer has stored; it forgets nothing, as a base stands for entries and drops none."""

    def __init__(self) -> None:
        self.entries: dict[Place, Entry] = {}
        self.base: Base | None = None
        self.proofs: list[Proof] = []
        self._lengths: Counter[int] = Counter()

    def store(self, event: Event) -> None:
        """Store what an event brings, if that has to be stored."""
        match event:
            case EntryAdded(entry):
                place = (entry.origin, entry.sequence)
                assert self.entries.get(place, entry) == entry, f"two contents at {place}"
                assert entry.sequence <= self.length(entry.origin), f"a gap before {place}"
                self.entries[place] = entry
            case SnapshotTaken(base):
                below = {} if self.base is None else self.base.versions
                assert all(base.versions[o] >= n for o, n in below.items()), "a smaller base"
                self.base = base
                self._lengths |= base.versions
            case Convicted(first, second):
                self.proofs.append(Proof(first, second))

    def length(self, origin: int) -> int:
        """Return how long the run of an origin is that begins where its base ends."""
        while (origin, self._lengths[origin]) in self.entries:
            self._lengths[origin] += 1
        return self._lengths[origin]

    def log(self) -> EntryLog:
        """Return what a peer starts from."""
        below = {} if self.base is None else dict(self.base.versions)
        held = [
            self.entries[place]
            for place in sorted(self.entries)
            if place[1] >= below.get(place[0], 0)
        ]
        return EntryLog(held, below, 0 if self.base is None else self.base.sum)


class Checks:
    """All that was ever stored in one network, and what has followed from it.

    Attributes:
        archive: the entries that were published.
        forged: second contents, which liars have signed.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.archive: dict[Place, Entry] = {}
        self.forged: dict[Place, Entry] = {}
        self._versions: dict[int, Mapping[int, int]] = {}
        self._digests: dict[Any, bytes] = {}
        self._bases: dict[Any, bytes] = {}
        self._sums: dict[Any, str] = {}
        self._rows: dict[bytes, list[int]] = {}
        self._seen: dict[int, tuple[Any, ...]] = {}

    def record(self, peer: int, entry: Entry) -> None:
        """Enter a new entry of a peer's log in the archive."""
        at = (entry.origin, entry.sequence)
        if self.forged.get(at) != entry:
            assert at in self.archive or entry.origin == peer, f"nobody has published {at}"
            assert self.archive.setdefault(at, entry) == entry, f"a second content for {at}"

    def check(self, gossip: Gossip, disk: Disk) -> None:
        """Check a peer against what was ever stored, and against all who had the same."""
        peer = gossip.me
        seen = (gossip.log.digest(), gossip.base, gossip.rounds.current, gossip.rounds.cut)
        before = self._seen.get(peer)
        if before is not None and all(map(operator.is_, seen, before)):
            return
        self._seen[peer] = seen
        versions, convictions = gossip.log.versions(), dict(gossip.log.convictions)
        self._check_log(peer, gossip.log, disk)
        if gossip.base is not None:
            base, packed = gossip.base, gossip.base.pack()
            held_below = (base.round, base.sum)
            assert self._bases.setdefault(held_below, packed) == packed, "equal bases, other bytes"
        twins = {at for at, twin in self.forged.items() if gossip.log.get(*at) == twin}
        held = (*versions.items(),), (*sorted(convictions.items()),), (*sorted(twins),)
        # Which of two contents lies in a base does not show here.
        if not any(at[1] < gossip.log.base_length(at[0]) for at in self.forged):
            digest = gossip.log.digest()
            assert self._digests.setdefault(held, digest) == digest, "equal logs, other digests"
        last = gossip.rounds.current if self.plan.schedule == "sync" else self.plan.rounds
        if (held, last) not in self._sums:
            self._sums[held, last] = self._reference(versions, last, twins)
        found = gossip.rounds.accumulator.digest()
        assert found == self._sums[held, last], f"peer {peer} has other sums than its entries"

    def _check_log(self, peer: int, log: EntryLog, disk: Disk) -> None:
        """Check that a log has only grown, and is the one on disk."""
        versions, convictions = log.versions(), log.convictions
        for origin, length in self._versions.get(peer, {}).items():
            least = min(length, convictions.get(origin, length))
            assert versions.get(origin, 0) >= least, f"peer {peer} has forgotten of {origin}"
        self._versions[peer] = versions
        for origin, length in versions.items():
            stored = disk.length(origin)
            stored = min(stored, convictions.get(origin, stored))
            stored = max(stored, log.base_length(origin))
            assert length == stored, f"peer {peer} has not stored its log of {origin}"

    def _reference(self, versions: Mapping[int, int], last: int, twins: set[Place]) -> str:
        """Return the digest of the sums of the first entries of each log, by plain addition."""
        rows = [[0] * 3 * self.plan.protocol.seeds.sums]
        for origin, length in versions.items():
            for at in ((origin, sequence) for sequence in range(length)):
                entry = self.forged[at] if at in twins else self.archive[at]
                if entry.kind is Kind.HISTORY and entry.round < last:
                    rows.append(self._row(entry))
        sums = np.array([sum(column) for column in zip(*rows, strict=True)], dtype=np.int64)
        return Accumulator(self.plan.protocol.units, *sums.reshape(3, -1)).digest()

    def _row(self, entry: Entry) -> list[int]:
        """Return what an entry adds to sums, magnitudes and counts, one after the other."""
        if entry.content not in self._rows:
            protocol = self.plan.protocol
            candidates = protocol.seeds.sums
            row = [0] * 3 * candidates
            gradients = protocol.gradients(entry).tolist()
            for index, gradient in zip(protocol.indices(entry).tolist(), gradients, strict=True):
                # A step that was skipped is NaN, and adds nothing.
                if gradient == gradient:
                    units = protocol.units
                    row[index] += round(gradient * entry.weight * 2**units.fraction_bits)
                    if self.plan.seeding == "weighted":
                        row[candidates + index] += round(abs(gradient) * 2**units.magnitude_bits)
                        row[2 * candidates + index] += 1
            self._rows[entry.content] = row
        return self._rows[entry.content]

    def check_end(self, ended: Mapping[int, Gossip], dead: set[int]) -> None:
        """Check that all who stayed to the end agree, and lack only who was not there."""
        stayed = {p: gossip for p, gossip in ended.items() if p not in self.plan.leaving}
        for peer, gossip in stayed.items():
            finished = gossip.finished
            assert finished is not None
            assert set(finished.missing) <= dead, f"peer {peer} ends with {finished}"
            assert not finished.differing, f"peer {peer} ends with {finished}"
        ends = {
            (gossip.log.digest(), *gossip.log.versions().items(), *gossip.log.convictions.items())
            for gossip in stayed.values()
        }
        assert len(ends) == 1, f"{len(ends)} different logs at the end"
        log = next(iter(stayed.values())).log
        for peer in ended.keys() - stayed.keys():
            for origin, length in ended[peer].log.versions().items():
                least = min(length, log.convictions.get(origin, length))
                assert log.length(origin) >= least, f"peer {peer} has left with what nobody has"
