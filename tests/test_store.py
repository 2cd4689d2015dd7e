import sqlite3
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scenarios.killed_store import kill_again_and_again

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


def read_all(path: Path) -> None:
    with EntryStore(path) as store:
        store.load()
        store.load_base()
        store.load_proofs()


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


def test_a_base_takes_the_place_of_the_entries_below_it(tmp_path: Path) -> None:
    path = tmp_path / "entries"
    old = [history(1, sequence) for sequence in range(4)]
    with EntryStore(path) as store:
        store.append(old)
        assert store.load_base() is None
        assert store.floors == {}
        store.save_base(b"five rounds", {1: 3, 2: 5})
        store.append([history(1, 4), history(2, 5), history(2, 6), history(7, 0)])
    with EntryStore(path) as store:
        assert store.load_base() == b"five rounds"
        assert store.floors == {1: 3, 2: 5}
        kept = [history(1, 3), history(1, 4), history(2, 5), history(2, 6), history(7, 0)]
        assert store.load() == kept
        assert store.load_archive() == old[:3] + kept
        with pytest.raises(UserError, match="holds 7 entries of peer 2, so its entry 8 cannot"):
            store.append([history(2, 8)])


def test_entries_below_a_base_are_still_compared_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "entries"
    with EntryStore(path) as store:
        store.append([history(1, 0)])
        store.save_base(b"base", {1: 3})
        store.append([history(1, 2), history(1, 0), history(1, 3)])
        with pytest.raises(UserError, match="another content for entry 2 of peer 1"):
            store.append([history(1, 4), history(1, 2, b"\x01" * 8)])
    with EntryStore(path) as store:
        assert store.load() == [history(1, 3)]
        assert store.load_archive() == [history(1, 0), history(1, 2), history(1, 3)]
        store.append([history(1, 4)])


def test_a_base_never_sinks(tmp_path: Path) -> None:
    with EntryStore(tmp_path / "entries") as store:
        store.save_base(b"first", {1: 3, 2: 1})
        for smaller in ({1: 2, 2: 9}, {1: 4}, {}):
            with pytest.raises(UserError, match="cannot follow"):
                store.save_base(b"smaller", smaller)
        assert store.load_base() == b"first"
        store.save_base(b"second", {1: 3, 2: 2, 5: 1})
    with EntryStore(tmp_path / "entries") as store:
        assert store.load_base() == b"second"
        assert store.floors == {1: 3, 2: 2, 5: 1}


@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_runs_stay_runs_whatever_bases_come(data) -> None:
    # The reference: a set of numbers per origin, and the floors.
    rows: dict[int, set[int]] = {origin: set() for origin in range(3)}
    floors = dict.fromkeys(rows, 0)
    ends = dict.fromkeys(rows, 0)
    bases: list[bytes] = []
    with tempfile.TemporaryDirectory() as folder:
        for step in range(data.draw(st.integers(1, 8))):
            with EntryStore(Path(folder) / "entries") as store:
                if data.draw(st.booleans()):
                    floors = {
                        o: floor + data.draw(st.integers(0, 4)) for o, floor in floors.items()
                    }
                    ends = {origin: max(end, floors[origin]) for origin, end in ends.items()}
                    bases.append(b"%d" % step)
                    store.save_base(bases[-1], floors)
                else:
                    origin = data.draw(st.sampled_from(sorted(rows)))
                    numbers = range(ends[origin], ends[origin] + data.draw(st.integers(0, 3)))
                    below = data.draw(st.sets(st.integers(0, 9))) & set(range(floors[origin]))
                    store.append([history(origin, number) for number in (*below, *numbers)])
                    rows[origin] |= {*below, *numbers}
                    ends[origin] += len(numbers)
            with EntryStore(Path(folder) / "entries") as store:
                archive = [history(o, number) for o in rows for number in sorted(rows[o])]
                assert store.load_archive() == archive
                runs = [history(o, n) for o in rows for n in range(floors[o], ends[o])]
                assert store.load() == runs
                assert store.load_base() == (bases[-1] if bases else None)


def test_proofs_are_kept_once_and_in_order(tmp_path: Path) -> None:
    path = tmp_path / "entries"
    with EntryStore(path) as store:
        store.append([history(1, 0), history(1, 1)])
        assert store.load_proofs() == []
        for proof in (b"z" * 5000, b"a", b"z" * 5000):
            store.save_proof(proof)
    with EntryStore(path) as store:
        assert store.load_proofs() == [b"z" * 5000, b"a"]
        assert store.load() == [history(1, 0), history(1, 1)]


def test_what_may_not_be_lost_is_committed_in_full(tmp_path: Path) -> None:
    with EntryStore(tmp_path / "entries") as store:

        def level() -> int:
            return int(store._database.execute("PRAGMA synchronous").fetchone()[0])

        normal, full = 1, 2
        store.append([history(1, 0)])
        assert level() == normal
        for write in (
            lambda: store.append([history(2, 0)], durable=True),
            lambda: store.save_base(b"base", {1: 1}),
            lambda: store.save_proof(b"proof"),
        ):
            store.append([history(1, 0)])
            assert level() == normal
            write()
            assert level() == full


def write_text(path: Path) -> None:
    path.write_text("origin,sequence\n" * 100)


def write_other_database(path: Path) -> None:
    database = sqlite3.connect(path)
    database.execute("CREATE TABLE entries (a)")
    database.close()


def write_earlier_format(path: Path) -> None:
    write_format(path, 1)


def write_later_format(path: Path) -> None:
    write_format(path, 3)


def write_format(path: Path, number: int) -> None:
    EntryStore(path).close()
    database = sqlite3.connect(path)
    database.execute(f"PRAGMA user_version = {number}")
    database.close()


def make_folder(path: Path) -> None:
    path.mkdir()


@pytest.mark.parametrize(
    "spoil",
    [write_text, write_other_database, write_earlier_format, write_later_format, make_folder],
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
        "DELETE FROM entries WHERE sequence = 2",
        "DROP TABLE entries",
        "DROP TABLE floors",
        "DELETE FROM base",
        "UPDATE base SET content = 5",
        "UPDATE floors SET length = 'three'",
        "UPDATE proofs SET content = 'text'",
    ],
)
def test_damage_is_told_in_one_line(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "entries"
    with EntryStore(path) as store:
        store.append([history(3, sequence) for sequence in range(4)])
        store.save_base(b"base", {3: 0, 5: 2})
        store.save_proof(b"proof")
    database = sqlite3.connect(path)
    database.execute(damage)
    database.commit()
    database.close()
    with pytest.raises(UserError) as refusal:
        read_all(path)
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


@pytest.mark.parametrize("kills", [3, pytest.param(50, marks=pytest.mark.slow)])
def test_a_kill_forgets_nothing_that_was_stored(tmp_path: Path, kills: int) -> None:
    within_a_checkpoint = kill_again_and_again(tmp_path, kills, seed=kills)
    # Half of the kills are aimed at one, and a fifth of these come in time.
    assert within_a_checkpoint > 0 or kills < 50
