import sqlite3
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from peer import store as store_module
from peer.entry import Entry, make_end, make_history
from peer.errors import UserError
from peer.log import EntryLog
from peer.store import EntryStore


def history(origin: int, sequence: int, gradients: bytes = b"\x00" * 8) -> Entry:
    return make_history(
        origin,
        sequence,
        round_=sequence,
        weight=0.5,
        cut=b"12345678",
        scale=0,
        gradients=gradients,
        indices=None,
    )


def reopened(path: Path) -> list[Entry]:
    with EntryStore(path) as store:
        return store.load()


@settings(max_examples=15, deadline=None)
@given(
    lengths=st.dictionaries(st.integers(0, 2**32 - 1), st.integers(1, 6), max_size=5),
    data=st.data(),
)
def test_what_was_appended_is_there_after_reopening(lengths: dict[int, int], data) -> None:
    order = data.draw(st.permutations([origin for origin, n in lengths.items() for _ in range(n)]))
    log = EntryLog()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "entries"
        while order:
            size = data.draw(st.integers(1, len(order)))
            batch, order = order[:size], order[size:]
            entries = []
            for origin in batch:
                entries.append(history(origin, log.length(origin)))
                log.add(entries[-1])
            with EntryStore(path) as store:
                store.append(entries, durable=data.draw(st.booleans()))
                assert store.load() == list(log)
        assert reopened(path) == list(log)


def test_the_same_content_twice_is_harmless(tmp_path: Path) -> None:
    entries = [history(1, 0), history(1, 1), make_end(1, 2, rounds=2)]
    with EntryStore(tmp_path / "entries") as store:
        store.append(entries)
        store.append([*entries, *entries])
    with EntryStore(tmp_path / "entries") as store:
        store.append(entries[:1])
        assert store.load() == entries


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (history(1, 1, b"\x01" * 8), "another content for entry 1 of peer 1"),
        (make_end(1, 0, rounds=4), "another content for entry 0 of peer 1"),
        (history(1, 3), "holds 2 entries of peer 1, so its entry 3 cannot follow"),
        (history(5, 1), "holds 0 entries of peer 5, so its entry 1 cannot follow"),
    ],
)
def test_a_wrong_entry_leaves_the_store_as_it_was(tmp_path: Path, wrong: Entry, words: str) -> None:
    entries = [history(1, 0), history(1, 1)]
    with EntryStore(tmp_path / "entries") as store:
        store.append(entries)
        with pytest.raises(UserError, match=words):
            store.append([history(0, 0), wrong])
        assert store.load() == entries
        store.append([history(0, 0)])
    assert reopened(tmp_path / "entries") == [history(0, 0), *entries]


def test_notes_are_kept_and_replaced(tmp_path: Path) -> None:
    with EntryStore(tmp_path / "entries") as store:
        assert store.read_meta("run") is None
        store.write_meta("run", "abc")
        store.write_meta("run", "äöü")
    with EntryStore(tmp_path / "entries") as store:
        assert store.read_meta("run") == "äöü"


def write_text(path: Path) -> None:
    path.write_text("origin,sequence\n" * 100)


def write_other_database(path: Path) -> None:
    database = sqlite3.connect(path)
    database.execute("CREATE TABLE entries (a)")
    database.close()


def write_later_format(path: Path) -> None:
    EntryStore(path).close()
    database = sqlite3.connect(path)
    database.execute("PRAGMA user_version = 2")
    database.close()


def make_folder(path: Path) -> None:
    path.mkdir()


@pytest.mark.parametrize(
    "spoil", [write_text, write_other_database, write_later_format, make_folder]
)
def test_a_foreign_file_is_refused_in_one_line(tmp_path: Path, spoil) -> None:
    path = tmp_path / "entries"
    spoil(path)
    with pytest.raises(UserError) as refusal:
        EntryStore(path)
    assert str(path) in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_a_missing_folder_is_told_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="unable to open"):
        EntryStore(tmp_path / "nowhere" / "entries")


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE entries SET content = x'00' WHERE sequence = 1",
        "UPDATE entries SET content = 'text' WHERE sequence = 1",
        "UPDATE entries SET content = (SELECT content FROM entries WHERE sequence = 0)",
        "DELETE FROM entries WHERE sequence = 0",
        "UPDATE entries SET sequence = 'one' WHERE sequence = 1",
        "DROP TABLE entries",
    ],
)
def test_damage_is_told_in_one_line(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "entries"
    with EntryStore(path) as store:
        store.append([history(3, 0), history(3, 1)])
    database = sqlite3.connect(path)
    database.execute(damage)
    database.commit()
    database.close()
    with pytest.raises(UserError) as refusal:
        reopened(path)
    assert str(path) in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_overwritten_pages_are_told_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "entries"
    with EntryStore(path) as store:
        store.append([history(3, sequence) for sequence in range(100)])
    content = path.read_bytes()
    path.write_bytes(content[:4096] + b"\xff" * (len(content) - 4096))
    with pytest.raises(UserError, match="malformed"):
        reopened(path)


def test_a_store_has_one_holder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "_BUSY_SECONDS", 0.0)
    with EntryStore(tmp_path / "entries"), pytest.raises(UserError, match="locked"):
        EntryStore(tmp_path / "entries")
    EntryStore(tmp_path / "entries").close()


APPENDING = """
import sys
from peer.entry import make_history
from peer.store import EntryStore

store = EntryStore(sys.argv[1])
origins = (4, 9)
sequence = len(store.load()) // len(origins)
while True:
    store.append([
        make_history(origin, sequence, sequence, weight=0.5, cut=b"12345678", scale=0,
                     gradients=bytes(8), indices=None)
        for origin in origins
    ])
    print(sequence, flush=True)
    sequence += 1
"""


def test_a_kill_forgets_nothing_that_was_appended(tmp_path: Path) -> None:
    path = tmp_path / "entries"
    reported = -1
    for lines in (1, 37, 400):
        command = [sys.executable, "-c", APPENDING, str(path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
            assert child.stdout is not None
            first = int(child.stdout.readline())
            assert first > reported
            for _ in range(lines):
                child.stdout.readline()
            child.kill()
            # What it still said between the last line read and its death counts as well.
            said = child.stdout.read().splitlines(keepends=True)
            reported = max([first + lines, *(int(line) for line in said if line.endswith("\n"))])
        entries = reopened(path)
        runs = EntryLog(entries).versions()
        assert runs[4] == runs[9] >= reported + 1
        assert entries == [history(o, s) for o in (4, 9) for s in range(runs[4])]
        reported = runs[4] - 1
