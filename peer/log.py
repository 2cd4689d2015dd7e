"""The replicated logs of all origins: a grow-only CRDT whose merge is a join (C3).

Each origin writes one log. A replica holds a contiguous run of each from sequence number 0, and
merging takes the longer run. Lengths form the version vector; the digest covers the contents, so
equal digests mean equal entries and not only equal lengths.

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

from peer.entry import Entry
from peer.errors import Equivocation, Gap

DIGEST_BYTES = 8
_DIGEST_MODULUS = 2 ** (8 * DIGEST_BYTES)


class EntryLog:
    """The entries that a replica holds, by origin and sequence number."""

    def __init__(self, entries: Iterable[Entry] = ()) -> None:
        self._runs: dict[int, list[Entry]] = {}
        self._heads: dict[int, bytes] = {}
        self._digest = 0
        for entry in entries:
            self.add(entry)

    def add(self, entry: Entry) -> bool:
        """Add an entry; return False if it was there already.

        Raises:
            Gap: its predecessor is missing.
            Equivocation: another content is held under its number.
        """
        run = self._runs.get(entry.origin, [])
        if entry.sequence < len(run):
            if run[entry.sequence].content != entry.content:
                raise Equivocation(
                    f"a second content for entry {entry.sequence} of peer {entry.origin}"
                )
            return False
        if entry.sequence > len(run):
            raise Gap(
                f"entry {entry.sequence} of peer {entry.origin} came, number {len(run)} is missing"
            )
        head = self._heads.get(entry.origin, b"")
        if run:
            self._digest -= int.from_bytes(head[:DIGEST_BYTES], "little")
        # Each head hashes the one before it, so it stands for the whole run.
        head = hashlib.blake2b(head + entry.content, digest_size=16).digest()
        self._digest = (self._digest + int.from_bytes(head[:DIGEST_BYTES], "little")) % (
            _DIGEST_MODULUS
        )
        self._heads[entry.origin] = head
        self._runs.setdefault(entry.origin, []).append(entry)
        return True

    def holds(self, entry: Entry) -> bool:
        """Tell whether this very entry, with this content, is held."""
        held = self.entries(entry.origin, entry.sequence, entry.sequence + 1)
        return bool(held) and held[0].content == entry.content

    def merge(self, other: EntryLog) -> list[Entry]:
        """Take the longer run of each origin; return what was new here.

        Raises:
            Equivocation: the two hold different contents under one number. State unchanged.
        """
        for origin, run in other._runs.items():
            for mine, theirs in zip(self._runs.get(origin, ()), run, strict=False):
                if mine.content != theirs.content:
                    raise Equivocation(
                        f"a second content for entry {theirs.sequence} of peer {origin}"
                    )
        return [entry for entry in other if self.add(entry)]

    def length(self, origin: int) -> int:
        """Return the number of entries held of an origin, which is its next sequence number."""
        return len(self._runs.get(origin, ()))

    def versions(self) -> dict[int, int]:
        """Return the version vector: origin -> length, for the origins heard of."""
        return {origin: len(run) for origin, run in sorted(self._runs.items())}

    def missing(self, versions: Mapping[int, int]) -> list[tuple[int, int, int]]:
        """Return what somebody with `versions` has and this log lacks: (origin, start, stop)."""
        return [
            (origin, self.length(origin), length)
            for origin, length in sorted(versions.items())
            if length > self.length(origin)
        ]

    def entries(self, origin: int, start: int = 0, stop: int | None = None) -> list[Entry]:
        """Return a range of an origin's log, cut to what is held."""
        return self._runs.get(origin, [])[start:stop]

    def __iter__(self) -> Iterator[Entry]:
        """Walk all entries, by origin and then by sequence number."""
        for origin in sorted(self._runs):
            yield from self._runs[origin]

    def __len__(self) -> int:
        return sum(len(run) for run in self._runs.values())

    def digest(self) -> bytes:
        """Return 8 bytes, indifferent to the order of arrival, that stand for all entries held."""
        return self._digest.to_bytes(DIGEST_BYTES, "little")
