"""The entries of one peer, or of a simulated world, on disk (C9), in SQLite.

A driver appends the new entries of every step of the protocol before it sends the messages of that
step, so nothing is published, forwarded or advertised that a crash could forget. One process at a
time holds a store: a peer that were started twice would publish two contents under one number.

A store is an archive: it deletes no entry. A peer that comes late starts from a base, which stands
for the first entries of each origin, as many as its version vector says: the origin's floor (0
without a base). What holds at any moment, also after a kill:

    at or above an origin's floor   its entries are one run without gaps that starts at the floor
    below it                        any of its entries, as the base stands for all of them
    from one base to the next       no floor sinks

So a run stays a run when a floor rises into it or past it. Proofs of equivocation lie beside the
entries. What an origin has written from the proven number on stays here too: the protocol, which
can read a proof, leaves it out when it starts from the store, and has it ready as evidence.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from peer.entry import Entry, decode_entry
from peer.errors import MalformedMessage, UserError

_APPLICATION: Final = int.from_bytes(b"ksed")
_FORMAT: Final = 2
_BUSY_SECONDS: Final = 5.0
"""For so long a peer that restarts waits for its killed predecessor to let go of the store."""

_SCHEMA: Final = (
    # In the order of arrival, so that a commit writes to one place whoever its entries are from:
    # twice to thrice as fast as a table in the order of its key.
    "CREATE TABLE entries (origin INTEGER NOT NULL, sequence INTEGER NOT NULL,"
    " content BLOB NOT NULL, UNIQUE (origin, sequence))",
    "CREATE TABLE base (number INTEGER PRIMARY KEY CHECK (number = 0), content BLOB NOT NULL)",
    "CREATE TABLE floors (origin INTEGER PRIMARY KEY, length INTEGER NOT NULL)",
    "CREATE TABLE proofs (number INTEGER PRIMARY KEY, content BLOB NOT NULL UNIQUE)",
    f"PRAGMA application_id = {_APPLICATION}",
    f"PRAGMA user_version = {_FORMAT}",
)


class EntryStore:
    """Entries by (origin, sequence number), a base for those that came before, and proofs.

    Args:
        path: the file, made if there is none. SQLite keeps a second file, `<path>-wal`, beside it.

    Raises:
        UserError: the file cannot be opened, is in use, is damaged, or is no entry store. The same
            holds for every method: a store that cannot be written ends the peer.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self._floors: dict[int, int] = {}
        self._lengths: dict[int, int] = {}
        self._synchronous = ""
        with self._telling():
            self._database = sqlite3.connect(self.path, timeout=_BUSY_SECONDS, isolation_level=None)
        try:
            with self._telling():
                self._open()
        except BaseException:
            self._database.close()
            raise

    @property
    def floors(self) -> dict[int, int]:
        """The version vector of the base, origin -> length; empty without a base."""
        return dict(self._floors)

    def append(self, entries: Iterable[Entry], *, durable: bool = False) -> None:
        """Store all of these entries, or on an error none; one that is there already is skipped.

        Args:
            entries: those of one origin in order, each following what is stored. Those that the
                base stands for may come in any order.
            durable: wait until they would survive a power cut, as one's own have to before they
                are sent.

        Raises:
            UserError: another content is stored under an entry's number, or its predecessor is
                missing: this is the store of another log.
        """
        # What is committed outlives the process, however it is killed, as soon as the system has
        # it. A power cut can take the last commits back under NORMAL, in the order of their making:
        # received entries, which the neighbours still hold. An own entry that is lost after it was
        # sent would be published a second time, perhaps with another content, hence FULL for those.
        grown: dict[int, int] = {}
        with self._transaction("FULL" if durable else "NORMAL"):
            for entry in entries:
                length = grown.get(entry.origin, self._lengths.get(entry.origin, 0))
                grown[entry.origin] = self._insert(entry, length)
        self._lengths.update(grown)

    def save_base(self, content: bytes, lengths: Mapping[int, int]) -> None:
        """Store a base in place of an earlier one; every entry that is there stays.

        Args:
            content: what the protocol needs to start from it; not looked into here.
            lengths: its version vector, not smaller in any origin than that of an earlier base.

        Raises:
            UserError: it is smaller.
        """
        for origin, length in self._floors.items():
            if lengths.get(origin, 0) < length:
                raise UserError(
                    f"{self.path} has a base with {length} entries of peer {origin}, "
                    f"so one with {lengths.get(origin, 0)} cannot follow"
                )
        # FULL: the neighbours drop what everybody has acknowledged, on the word of this peer too.
        with self._transaction("FULL"):
            execute = self._database.execute
            execute("INSERT OR REPLACE INTO base VALUES (0, ?)", (content,))
            for row in lengths.items():
                execute("INSERT OR REPLACE INTO floors VALUES (?, ?)", row)
        for origin, length in lengths.items():
            self._floors[origin] = length
            self._lengths[origin] = max(length, self._lengths.get(origin, 0))

    def save_proof(self, content: bytes) -> None:
        """Store a proof of equivocation, not looked into here; the same one twice is harmless."""
        # FULL: a peer that forgot it would take the convicted origin's entries again.
        with self._transaction("FULL"):
            self._database.execute("INSERT OR IGNORE INTO proofs (content) VALUES (?)", (content,))

    def load(self) -> list[Entry]:
        """Return the entries above the base, by origin and then by sequence number."""
        entries = []
        ends = self.floors
        for entry in self.load_archive():
            origin, sequence = entry.origin, entry.sequence
            if sequence >= self._floors.get(origin, 0):
                if sequence != ends.get(origin, 0):
                    raise self._damaged(f"entry {sequence} of peer {origin}")
                ends[origin] = sequence + 1
                entries.append(entry)
        return entries

    def load_archive(self) -> list[Entry]:
        """Return all entries, those too that the base stands for, in the same order."""
        query = "SELECT origin, sequence, content FROM entries ORDER BY origin, sequence"
        entries = []
        with self._telling():
            for origin, sequence, content in self._database.execute(query):
                try:
                    entry = decode_entry(content)
                except (MalformedMessage, TypeError):
                    raise self._damaged(f"entry {sequence} of peer {origin}") from None
                if (entry.origin, entry.sequence) != (origin, sequence):
                    raise self._damaged(f"entry {sequence} of peer {origin}")
                entries.append(entry)
        return entries

    def load_base(self) -> bytes | None:
        """Return the base, or None if the runs start at 0."""
        found = self._blobs("SELECT content FROM base", "its base")
        if self._floors and not found:
            raise self._damaged("its base")
        return found[0] if found else None

    def load_proofs(self) -> list[bytes]:
        """Return the proofs of equivocation, in the order in which they were stored."""
        return self._blobs("SELECT content FROM proofs ORDER BY number", "a proof")

    def close(self) -> None:
        """Let go of the file."""
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _open(self) -> None:
        execute = self._database.execute
        execute("PRAGMA locking_mode = EXCLUSIVE")
        execute("PRAGMA journal_mode = WAL")
        with self._transaction("FULL"):
            if execute("SELECT count(*) FROM sqlite_schema").fetchone() == (0,):
                for statement in _SCHEMA:
                    execute(statement)
        application = execute("PRAGMA application_id").fetchone()[0]
        version = execute("PRAGMA user_version").fetchone()[0]
        if (application, version) != (_APPLICATION, _FORMAT):
            raise UserError(f"{self.path} is not an entry store of format {_FORMAT}")
        self._floors.update(execute("SELECT origin, length FROM floors"))
        if not all(type(length) is int for length in self._floors.values()):
            raise self._damaged("its base")
        self._lengths.update(self._floors)
        ends = (
            "SELECT origin, ifnull(length, 0) + count(*) FROM entries LEFT JOIN floors"
            " USING (origin) WHERE sequence >= ifnull(length, 0) GROUP BY origin"
        )
        self._lengths.update(execute(ends))

    def _insert(self, entry: Entry, length: int) -> int:
        """Store an entry of an origin whose run ends at `length`; return where it ends then."""
        origin, sequence = entry.origin, entry.sequence
        if sequence > length:
            raise UserError(
                f"{self.path} holds {length} entries of peer {origin}, "
                f"so its entry {sequence} cannot follow"
            )
        if sequence < length:
            query = "SELECT content FROM entries WHERE origin = ? AND sequence = ?"
            held = self._database.execute(query, (origin, sequence)).fetchone()
            if held is not None and held != (entry.content,):
                raise UserError(
                    f"{self.path} holds another content for entry {sequence} of peer {origin}"
                )
            if held is not None:
                return length
        row = (origin, sequence, entry.content)
        self._database.execute("INSERT INTO entries VALUES (?, ?, ?)", row)
        return max(length, sequence + 1)

    def _blobs(self, query: str, what: str) -> list[bytes]:
        with self._telling():
            contents = [content for (content,) in self._database.execute(query)]
        if not all(type(content) is bytes for content in contents):
            raise self._damaged(what)
        return contents

    @contextmanager
    def _transaction(self, synchronous: str) -> Iterator[None]:
        with self._telling():
            if synchronous != self._synchronous:
                self._database.execute(f"PRAGMA synchronous = {synchronous}")
                self._synchronous = synchronous
            self._database.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._database.execute("COMMIT")
            except BaseException:
                # SQLite has ended the transaction by itself after some errors, as on a full disk.
                if self._database.in_transaction:
                    self._database.execute("ROLLBACK")
                raise

    @contextmanager
    def _telling(self) -> Iterator[None]:
        """Turn SQLite's errors into the user's, in one line."""
        try:
            yield
        except sqlite3.Error as error:
            raise UserError(f"entry store {self.path}: {error}") from error

    def _damaged(self, where: str) -> UserError:
        return UserError(f"entry store {self.path} is damaged at {where}")
