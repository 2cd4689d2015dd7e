"""The entries of one peer, or of a simulated world, on disk (C9), in SQLite.

A driver appends the new entries of every step of the protocol before it sends the messages of that
step, so nothing is published, forwarded or advertised that a crash could forget. One process at a
time holds a store: a peer that were started twice would publish two contents under one number.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from peer.entry import Entry, decode_entry
from peer.errors import MalformedMessage, UserError

_APPLICATION: Final = int.from_bytes(b"ksed")
_FORMAT: Final = 1
_BUSY_SECONDS: Final = 5.0
"""For so long a peer that restarts waits for its killed predecessor to let go of the store."""

_SCHEMA: Final = (
    "CREATE TABLE entries (origin INTEGER, sequence INTEGER, content BLOB NOT NULL,"
    " PRIMARY KEY (origin, sequence)) WITHOUT ROWID",
    "CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID",
    f"PRAGMA application_id = {_APPLICATION}",
    f"PRAGMA user_version = {_FORMAT}",
)


class EntryStore:
    """Entries by (origin, sequence number), each origin's a contiguous run from 0.

    Args:
        path: the file, made if there is none. SQLite keeps a second file, `<path>-wal`, beside it.

    Raises:
        UserError: the file cannot be opened, is in use, is damaged, or is no entry store. The same
            holds for every method: a store that cannot be written ends the peer.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self._lengths: Counter[int] = Counter()
        with self._telling():
            self._database = sqlite3.connect(self.path, timeout=_BUSY_SECONDS, isolation_level=None)
        try:
            with self._telling():
                self._open()
        except BaseException:
            self._database.close()
            raise

    def append(self, entries: Iterable[Entry], *, durable: bool = False) -> None:
        """Store all of these entries, or on an error none; one that is there already is skipped.

        Args:
            entries: those of one origin in order, each following what is stored.
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
        with self._telling():
            self._database.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
            with self._transaction():
                lengths = self._lengths.copy()
                for entry in entries:
                    self._insert(entry, lengths)
        self._lengths = lengths

    def load(self) -> list[Entry]:
        """Return all entries, by origin and then by sequence number."""
        query = "SELECT origin, sequence, content FROM entries ORDER BY origin, sequence"
        with self._telling():
            rows = self._database.execute(query).fetchall()
        entries: list[Entry] = []
        lengths: Counter[int] = Counter()
        for origin, sequence, content in rows:
            try:
                entry = decode_entry(content)
            except (MalformedMessage, TypeError):
                raise self._damaged(origin, sequence) from None
            if (entry.origin, entry.sequence) != (origin, sequence) or sequence != lengths[origin]:
                raise self._damaged(origin, sequence)
            lengths[origin] += 1
            entries.append(entry)
        return entries

    def read_meta(self, key: str) -> str | None:
        """Return what was noted under a key, or None."""
        with self._telling():
            row = self._database.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return None if row is None else str(row[0])

    def write_meta(self, key: str, value: str) -> None:
        """Note a value under a key, in place of an earlier one."""
        with self._telling():
            self._database.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, value))

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
        with self._transaction():
            if execute("SELECT count(*) FROM sqlite_schema").fetchone() == (0,):
                for statement in _SCHEMA:
                    execute(statement)
        application = execute("PRAGMA application_id").fetchone()[0]
        version = execute("PRAGMA user_version").fetchone()[0]
        if (application, version) != (_APPLICATION, _FORMAT):
            raise UserError(f"{self.path} is not an entry store of format {_FORMAT}")
        self._lengths.update(dict(execute("SELECT origin, count(*) FROM entries GROUP BY origin")))

    def _insert(self, entry: Entry, lengths: Counter[int]) -> None:
        origin, sequence = entry.origin, entry.sequence
        if sequence < lengths[origin]:
            query = "SELECT content FROM entries WHERE origin = ? AND sequence = ?"
            if self._database.execute(query, (origin, sequence)).fetchone() != (entry.content,):
                raise UserError(
                    f"{self.path} holds another content for entry {sequence} of peer {origin}"
                )
            return
        if sequence > lengths[origin]:
            raise UserError(
                f"{self.path} holds {lengths[origin]} entries of peer {origin}, "
                f"so its entry {sequence} cannot follow"
            )
        row = (origin, sequence, entry.content)
        self._database.execute("INSERT INTO entries VALUES (?, ?, ?)", row)
        lengths[origin] += 1

    @contextmanager
    def _transaction(self) -> Iterator[None]:
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

    def _damaged(self, origin: object, sequence: object) -> UserError:
        return UserError(f"entry store {self.path} is damaged at entry {sequence} of peer {origin}")
