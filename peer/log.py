"""The replicated logs of all origins: a grow-only CRDT whose merge is a join (C3).

Each origin writes one log. A replica holds a contiguous run of each, from sequence number 0 or from
where its base ends, and merging takes the longer run. Lengths form the version vector; the digest
covers the contents, so equal digests mean equal entries and not only equal lengths. Where an origin
has been convicted of two contents under one number, its log ends before that number, for good.

>>> from peer.entry import make_end
>>> log = EntryLog()
>>> log.add(make_end(origin=3, sequence=0, rounds=6))
True
>>> log.versions()
{3: 1}
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Final
from weakref import WeakValueDictionary, ref

from peer.entry import HASH_BYTES, HISTORY, Entry
from peer.errors import Equivocation, Gap

DIGEST_BYTES: Final = 8
HASH_MODULUS: Final = 2 ** (8 * HASH_BYTES)
_HASH_MASK: Final = HASH_MODULUS - 1


class Run:
    """The end of a chain of entries of one origin, each following the one before it.

    Chains are never changed, so the replicas of one process share them: `after` returns one object
    for one content.

    Attributes:
        entry: the last one.
        previous: the chain without it, None if that is nothing, or lies in a base.
        length: how many entries its origin's log has with it.
        sum: of the hashes of the entries after the last history before it, mod 2**128.
    """

    __slots__ = ("__weakref__", "_next", "entry", "length", "previous", "sum")

    def __init__(self, entry: Entry, previous: Run | None) -> None:
        self.entry = entry
        self.previous = previous
        self.length = entry.sequence + 1
        self.sum: int = entry.hash
        # A base ends each log with a history.
        if previous is not None and previous.entry.kind is not HISTORY:
            self.sum = entry.hash + previous.sum & _HASH_MASK
        self._next: ref[Run] | None = None

    @staticmethod
    def after(previous: Run | None, entry: Entry) -> Run:
        """Return the chain that goes on with an entry, or begins with it."""
        if previous is None:
            run = _FIRST.get(entry.content)
            if run is None:
                run = _FIRST[entry.content] = Run(entry, None)
            return run
        known = previous._next() if previous._next is not None else None
        if known is None or known.entry.content != entry.content:
            known = Run(entry, previous)
            previous._next = ref(known)
        return known

    def since(self, start: int) -> list[Run]:
        """Return the chains that this one has grown from, from a sequence number on, and itself."""
        found: list[Run] = []
        run: Run | None = self
        while run is not None and run.entry.sequence >= start:
            found.append(run)
            run = run.previous
        return found[::-1]

    def entries(self, start: int) -> list[Entry]:
        """Return the chain's entries from a sequence number on."""
        return [run.entry for run in self.since(start)]


_FIRST: WeakValueDictionary[bytes, Run] = WeakValueDictionary()


def runs_of(entries: Iterable[Entry]) -> list[Run]:
    """Return the chain that ends with each of these entries, each origin's coming in order."""
    last: dict[int, Run] = {}
    found = []
    for entry in entries:
        run = last[entry.origin] = Run.after(last.get(entry.origin), entry)
        found.append(run)
    return found


class EntryLog:
    """The entries that a replica holds, by origin and sequence number.

    Args:
        entries: those that it holds at first, each origin's in order.
        lengths: how many entries of each origin lie below, in a base.
        below: the sum of their hashes.

    Attributes:
        convictions: origin -> the number before which its log has been ended; not to be changed.
    """

    def __init__(
        self,
        entries: Iterable[Entry] = (),
        lengths: Mapping[int, int] | None = None,
        below: int = 0,
    ) -> None:
        self._runs: dict[int, Run] = {}
        self._lengths: Mapping[int, int] = lengths or {}
        self._sum = below
        self.convictions: dict[int, int] = {}
        # What the proofs say, whatever lies in the base.
        self._proven: dict[int, int] = {}
        self._digest: bytes | None = None
        for entry in entries:
            self.add(entry)

    def add(self, entry: Entry) -> bool:
        """Add an entry; return False if it was there already, or lies below the base.

        Raises:
            Gap: its predecessor is missing.
            Equivocation: another content is held under its number.
        """
        origin, sequence = entry.origin, entry.sequence
        run = self._runs.get(origin)
        length = self._lengths.get(origin, 0) if run is None else run.length
        if sequence < length:
            held = self.get(origin, sequence)
            if held is not None and held.content != entry.content:
                raise Equivocation(held, entry)
            return False
        if sequence > length:
            raise Gap(f"entry {sequence} of peer {origin} came, number {length} is missing")
        self._runs[origin] = Run.after(run, entry)
        self._sum = self._sum + entry.hash & _HASH_MASK
        self._digest = None
        return True

    def get(self, origin: int, sequence: int) -> Entry | None:
        """Return the entry held under a number, None where there is none or it is in the base."""
        run = self._runs.get(origin)
        while run is not None and run.entry.sequence > sequence:
            run = run.previous
        return run.entry if run is not None and run.entry.sequence == sequence else None

    def last(self, origin: int) -> Entry | None:
        """Return the last entry held of an origin above the base."""
        run = self._runs.get(origin)
        return None if run is None else run.entry

    def run(self, origin: int) -> Run:
        """Return the chain of an origin's entries above the base, of which there are some."""
        return self._runs[origin]

    def runs(self) -> Iterator[Run]:
        """Walk the chains that end with each entry above the base, in the order of `__iter__`."""
        for origin in sorted(self._runs):
            yield from self._runs[origin].since(0)

    def holds(self, entry: Entry) -> bool:
        """Tell whether this very entry is held, or one below the base that had its number."""
        run = self._runs.get(entry.origin)
        if run is not None and run.entry.sequence == entry.sequence:
            return run.entry.content == entry.content
        if entry.sequence >= self.length(entry.origin):
            return False
        held = self.get(entry.origin, entry.sequence)
        return held is None or held.content == entry.content

    def merge(self, other: EntryLog) -> list[Entry]:
        """Take the longer run of each origin; return what was new here.

        Raises:
            Equivocation: the two hold different contents under one number. State unchanged.
        """
        for entry in other:
            held = self.get(entry.origin, entry.sequence)
            if held is not None and held.content != entry.content:
                raise Equivocation(held, entry)
        return [entry for entry in other if self.add(entry)]

    def length(self, origin: int) -> int:
        """Return the number of entries held of an origin, which is its next sequence number."""
        run = self._runs.get(origin)
        return self._lengths.get(origin, 0) if run is None else run.length

    def base_length(self, origin: int) -> int:
        """Return how many entries of an origin lie in the base."""
        return self._lengths.get(origin, 0)

    def versions(self) -> dict[int, int]:
        """Return the version vector: origin -> length, for the origins heard of."""
        lengths = dict(self._lengths)
        lengths |= {origin: run.length for origin, run in self._runs.items()}
        return dict(sorted(lengths.items()))

    def missing(self, versions: Mapping[int, int]) -> list[tuple[int, int, int]]:
        """Return what somebody with `versions` has and this log lacks: (origin, start, stop)."""
        return [
            (origin, self.length(origin), self._allowed(origin, length))
            for origin, length in sorted(versions.items())
            if self._allowed(origin, length) > self.length(origin)
        ]

    def entries(self, origin: int, start: int = 0, stop: int | None = None) -> list[Entry]:
        """Return a range of an origin's log, cut to what is held above the base."""
        run = self._runs.get(origin)
        if run is None:
            return []
        entries = run.entries(start)
        return entries if stop is None else [e for e in entries if e.sequence < stop]

    def head(self, origin: int, start: int) -> bytes:
        """Return 8 bytes for the contents of an origin's entries from a number on.

        Args:
            origin: whose log.
            start: none below the base.
        """
        total = sum(entry.hash for entry in self.entries(origin, start)) % HASH_MODULUS
        hasher = hashlib.blake2b(total.to_bytes(HASH_BYTES, "little"), digest_size=DIGEST_BYTES)
        return hasher.digest()

    def heads(self) -> list[tuple[int, int, bytes]]:
        """Return (origin, start, head) for all logs that reach above the base."""
        starts = [(origin, self.base_length(origin)) for origin in sorted(self._runs)]
        return [(origin, start, self.head(origin, start)) for origin, start in starts]

    def rebase(self, lengths: Mapping[int, int], below: int) -> None:
        """Put a later base under the log; raw entries above it stay, those in it go.

        Args:
            lengths: of the base; where one is below that of the present base, its origin has been
                convicted, and what stood above it goes, too.
            below: the sum of the hashes of the base's entries.
        """
        runs = {}
        total = below
        for origin, run in self._runs.items():
            start = lengths.get(origin, 0)
            if start < self.base_length(origin):
                continue
            # Where the base reaches past this run, nothing of it is left.
            above: Run | None = None
            for entry in run.entries(start):
                above = Run.after(above, entry)
                total += entry.hash
            if above is not None:
                runs[origin] = above
        self._runs, self._lengths = runs, lengths
        self._sum = total % HASH_MODULUS
        self.convictions = {
            origin: max(sequence, lengths.get(origin, 0))
            for origin, sequence in self._proven.items()
        }
        self._digest = None

    def convict(self, origin: int, sequence: int) -> list[Entry]:
        """End an origin's log before a number, for good; return the entries that this drops.

        What lies in the base stays: everybody has acknowledged it.
        """
        self._proven[origin] = min(sequence, self._proven.get(origin, sequence))
        sequence = max(sequence, self.base_length(origin))
        if self.convicted(origin, sequence):
            return []
        dropped = self.entries(origin, sequence)
        kept = self.entries(origin, 0, sequence)
        self._runs.pop(origin, None)
        for entry in kept:
            self._runs[origin] = Run.after(self._runs.get(origin), entry)
        self._sum = (self._sum - sum(entry.hash for entry in dropped)) % HASH_MODULUS
        self.convictions[origin] = sequence
        self._digest = None
        return dropped

    def convicted(self, origin: int, sequence: int) -> bool:
        """Tell whether an origin's log has been ended at or before a number, or the base's end."""
        number = self.convictions.get(origin)
        return number is not None and max(sequence, self.base_length(origin)) >= number

    def __iter__(self) -> Iterator[Entry]:
        """Walk the entries above the base, by origin and then by sequence number."""
        return (run.entry for run in self.runs())

    def __len__(self) -> int:
        """Return how many entries have been taken in all, those in the base included."""
        return sum(self.versions().values())

    @property
    def sum(self) -> int:
        """The sum of the hashes of all entries held, those in the base included, mod 2**128."""
        return self._sum

    def digest(self) -> bytes:
        """Return 8 bytes, indifferent to the order of arrival, that stand for all entries held."""
        if self._digest is None:
            hasher = hashlib.blake2b(self._sum.to_bytes(HASH_BYTES, "little"), digest_size=8)
            for origin, sequence in sorted(self.convictions.items()):
                hasher.update(origin.to_bytes(4, "little") + sequence.to_bytes(4, "little"))
            self._digest = hasher.digest()
        return self._digest

    def _allowed(self, origin: int, length: int) -> int:
        return min(length, self.convictions.get(origin, length))
