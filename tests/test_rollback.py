"""A run goes back to the state after any of its rounds, and from there on as it had gone."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from runs import SYNTHETIC, Options, lines, run
from scenarios.processes import run as run_command

from peer import store as store_module
from peer.base import Base
from peer.cut import Cut
from peer.entry import Entry, make_end, make_history
from peer.errors import UserError
from peer.export import export
from peer.log import HASH_MODULUS
from peer.records import RunFolder
from peer.rollback import RolledBack, cut, rollback
from peer.store import EntryStore
from peer.wire import Bye, Proof, encode
from sim.cli import main

ROUNDS = SYNTHETIC["rounds"]
LOG = Path("sim") / "log.sqlite"


def entries(path: Path) -> list[Entry]:
    with EntryStore(path) as store:
        return store.load()


def accumulators(folder: Path) -> list[str]:
    return [line["accumulator"] for line in lines(folder)]


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("finished") / "run"
    run(out, SYNTHETIC)
    return out


@pytest.fixture
def folder(finished: Path, tmp_path: Path) -> Path:
    copy = tmp_path / "run"
    shutil.copytree(finished, copy)
    return copy


@pytest.mark.parametrize(
    "changes", [{}, {"method": "fedkseed-pro"}, {"participation": 0.4}], ids=str
)
def test_from_every_round_a_run_ends_as_it_had_ended(changes: Options, tmp_path: Path) -> None:
    options = SYNTHETIC | changes
    whole = run(tmp_path / "whole", options)
    records = lines(tmp_path / "whole")
    for rounds_done in range(ROUNDS + 1):
        to = tmp_path / "back" / str(rounds_done)
        assert rollback(tmp_path / "whole", rounds_done, to) == RolledBack("sim", ())
        assert lines(to) == records[: rounds_done + 1]
        accumulator = RunFolder(to).read_accumulator()
        assert accumulator.digest() == records[rounds_done]["accumulator"]
        assert not (to / "summary.json").exists()
        with pytest.raises(UserError, match="already holds a run"):
            run(to, options)
        resumed = run(to, options, resume=True)
        for name in ("digests", "entries", "rounds", "missing_peers"):
            assert resumed[name] == whole[name]
        assert accumulators(to) == accumulators(tmp_path / "whole")
        assert entries(to / LOG) == entries(tmp_path / "whole" / LOG)


def test_the_run_itself_stays_as_it_was(folder: Path, tmp_path: Path) -> None:
    before = contents(folder)
    rollback(folder, 2, tmp_path / "back")
    assert contents(folder) == before


def test_the_model_of_an_earlier_round_can_be_exported(
    tiny_options: Options, tmp_path: Path
) -> None:
    short = run(tmp_path / "short", tiny_options, rounds=1)
    run(tmp_path / "whole", tiny_options)
    rollback(tmp_path / "whole", 1, tmp_path / "back")
    digest = export(tmp_path / "back", tmp_path / "model")
    assert short["digests"]["model"] == [digest] * 4
    # The layout has come along, and holds another model off.
    assert (tmp_path / "back" / "layout.json").exists()


def test_an_end_of_an_earlier_life_stays_in_its_place(tmp_path: Path) -> None:
    run(tmp_path / "run", SYNTHETIC, rounds=2)
    whole = run(tmp_path / "run", SYNTHETIC, resume=True)
    log = entries(tmp_path / "run" / LOG)
    for rounds_done, ends in ((1, 0), (2, 5), (3, 5), (4, 10)):
        to = tmp_path / str(rounds_done)
        rollback(tmp_path / "run", rounds_done, to)
        assert sum(entry.is_end for entry in entries(to / LOG)) == ends
        assert run(to, SYNTHETIC, resume=True)["digests"] == whole["digests"]
        assert (entries(to / LOG) == log) == (rounds_done > 1)


@st.composite
def logs(draw: st.DrawFn) -> list[Entry]:
    """A log as `Protocol.check_order` allows it: rounds ascend, and an END may be followed."""
    log: list[Entry] = []
    least = 0
    for sequence in range(draw(st.integers(0, 8))):
        after_end = bool(log) and log[-1].is_end
        round_ = least + draw(st.integers(0, 2))
        if draw(st.booleans()):
            round_ += after_end or not log
            log.append(make_end(1, sequence, round_))
            least = round_
        else:
            fields: Any = {"weight": 1.0, "cut": bytes(8), "scale": 0, "indices": None}
            log.append(make_history(1, sequence, round_, gradients=bytes(4), **fields))
            least = round_ + 1
    return log


@settings(max_examples=200)
@given(log=logs(), rounds_done=st.integers(0, 20))
def test_what_is_kept_is_the_beginning_of_a_log(log: list[Entry], rounds_done: int) -> None:
    kept = cut(log, rounds_done)
    assert kept == log[: len(kept)]
    assert all(entry.round < rounds_done for entry in kept if not entry.is_end)
    left = log[len(kept) :]
    assert all(entry.round >= rounds_done for entry in left if not entry.is_end)
    assert cut(kept, rounds_done) == kept


def spread(folder: Path, lengths: Callable[[int, int], int]) -> None:
    """Make the one log of a simulated run into those of processes, each cut short.

    Args:
        folder: the run.
        lengths: (peer, origin) -> how many entries of this origin that peer holds.
    """
    log = entries(folder / LOG)
    shutil.rmtree(folder / "sim")
    for peer in range(SYNTHETIC["peers"]):
        path = folder / "launch" / f"peer-{peer}" / "log.sqlite"
        path.parent.mkdir(parents=True)
        with EntryStore(path) as store:
            store.append([e for e in log if e.sequence < lengths(peer, e.origin)])


def test_logs_of_killed_processes_are_taken_together(folder: Path, tmp_path: Path) -> None:
    # Everybody holds its own two entries; only peer 3 has two of all, and nobody a third.
    spread(folder, lambda peer, origin: 2 if peer in (3, origin) else 1)
    assert rollback(folder, 2, tmp_path / "back") == RolledBack("launch", ())
    log = entries(folder / "launch" / "peer-3" / "log.sqlite")
    assert len(log) == 10
    for peer in range(5):
        assert entries(tmp_path / "back" / "launch" / f"peer-{peer}" / "log.sqlite") == log
    digest = RunFolder(tmp_path / "back").read_accumulator().digest()
    assert digest == accumulators(folder)[2]


def test_the_folder_of_one_peer_has_its_one_log(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # Such a peer evaluates nothing, so there are no lines of rounds either.
    (folder / "sim").rename(folder / "peer")
    (folder / "rounds.jsonl").unlink()
    to = tmp_path / "back"
    assert main(["rollback", str(folder), "--round", "1", "--to", str(to)]) == 0
    assert "go on" not in capsys.readouterr().out
    assert len(entries(to / "peer" / "log.sqlite")) == 5
    assert RunFolder(to).read_rounds() == []


def test_a_round_that_has_not_been_completed_is_refused(folder: Path, tmp_path: Path) -> None:
    spread(folder, lambda _peer, origin: 2 if origin == 4 else 3)
    with pytest.raises(UserError, match="come to round 2 only, where the entry of peer 4 is miss"):
        rollback(folder, 3, tmp_path / "back")
    assert not (tmp_path / "back").exists()
    rollback(folder, 2, tmp_path / "back")


def test_a_round_that_was_closed_without_a_peer_is_no_obstacle(
    folder: Path, tmp_path: Path
) -> None:
    spread(folder, lambda _peer, origin: 1 if origin == 4 else 3)
    assert rollback(folder, 2, tmp_path / "back").absent == (4,)


def change(folder: Path, statement: str) -> None:
    database = sqlite3.connect(folder / LOG)
    database.execute(statement)
    database.commit()
    database.close()


def begin_with_base(folder: Path) -> Base:
    """Put the base of the first two rounds under a simulated run's log."""
    back = folder.with_name("two")
    rollback(folder, 2, back)
    below = entries(back / LOG)
    total = sum(entry.hash for entry in below) % HASH_MODULUS
    ends = dict.fromkeys(range(5), (2, 1))
    base = Base.of(2, Cut(RunFolder(back).read_accumulator(), total, ends))
    with EntryStore(folder / LOG) as store:
        store.save_base(base.pack(), base.versions)
    return base


def test_a_base_is_no_obstacle_while_the_archive_is_whole(folder: Path, tmp_path: Path) -> None:
    begin_with_base(folder)
    rollback(folder, 1, tmp_path / "back")
    assert RunFolder(tmp_path / "back").read_accumulator().digest() == accumulators(folder)[1]
    assert len(entries(tmp_path / "back" / LOG)) == 5


@pytest.mark.parametrize("rounds_done", [2, 3, 4])
def test_a_peer_that_began_late_goes_back_as_far_as_its_base(
    folder: Path, tmp_path: Path, rounds_done: int
) -> None:
    base = begin_with_base(folder)
    change(folder, "DELETE FROM entries WHERE sequence < 2")
    with pytest.raises(UserError, match=r"round = 1 is not allowed: .* snapshot of round 2"):
        rollback(folder, 1, tmp_path / "back")
    rollback(folder, rounds_done, tmp_path / "back")
    made = RunFolder(tmp_path / "back").read_accumulator()
    assert made.digest() == accumulators(folder)[rounds_done]
    with EntryStore(tmp_path / "back" / LOG) as store:
        assert store.load_base() == base.pack()
        assert {entry.sequence for entry in store.load()} == set(range(2, rounds_done)) | (
            {4} if rounds_done == 4 else set()
        )


def test_what_a_convicted_peer_has_written_is_left_out(folder: Path, tmp_path: Path) -> None:
    log = entries(folder / LOG)
    first = next(entry for entry in log if (entry.origin, entry.sequence) == (1, 2))
    proof = encode(Proof(first, make_end(1, 2, 2)))
    with EntryStore(folder / LOG) as store:
        store.save_proof(proof)
    assert rollback(folder, 2, tmp_path / "two") == RolledBack("sim", ())
    assert RunFolder(tmp_path / "two").read_accumulator().digest() == accumulators(folder)[2]
    assert rollback(folder, 3, tmp_path / "three") == RolledBack("sim", (1,))
    with EntryStore(tmp_path / "three" / LOG) as store:
        assert store.load() == [entry for entry in log if entry.sequence < 3 and entry != first]
        assert store.load_proofs() == [proof]
    others = RunFolder(tmp_path / "three").read_accumulator()
    assert others.digest() != accumulators(folder)[3]


def test_logs_may_differ_where_a_peer_is_convicted(folder: Path, tmp_path: Path) -> None:
    log = entries(folder / LOG)
    equivocate(folder)
    first = next(entry for entry in log if (entry.origin, entry.sequence) == (1, 0))
    with EntryStore(folder / "launch" / "peer-4" / "log.sqlite") as store:
        store.save_proof(encode(Proof(first, make_end(1, 0, 4))))
    rollback(folder, 4, tmp_path / "back")
    for peer in range(5):
        kept = entries(tmp_path / "back" / "launch" / f"peer-{peer}" / "log.sqlite")
        assert kept == [entry for entry in log if entry.origin != 1 and entry.sequence < 4]


def with_a_false_proof(folder: Path) -> None:
    with EntryStore(folder / LOG) as store:
        store.save_proof(encode(Bye()))


def with_a_false_base(folder: Path) -> None:
    with EntryStore(folder / LOG) as store:
        store.save_base(b"\xc1", {1: 2})


def equivocate(folder: Path) -> None:
    spread(folder, lambda _peer, _origin: 4)
    path = folder / "launch" / "peer-2" / "log.sqlite"
    path.unlink()
    with EntryStore(path) as store:
        store.append([make_end(1, 0, 4)])


def of_another_experiment(folder: Path) -> None:
    other = folder.with_name("other")
    run(other, SYNTHETIC, local_steps=7)
    shutil.copy(other / LOG, folder / LOG)


def of_other_peers(folder: Path) -> None:
    other = folder.with_name("other")
    run(other, SYNTHETIC, peers=6)
    shutil.copy(other / LOG, folder / LOG)


def with_a_round_twice(folder: Path) -> None:
    first, _, _ = entries(folder / LOG)[:3]
    fields = {name: getattr(first, name) for name in ("weight", "cut", "scale", "gradients")}
    again = make_history(0, 1, 0, **fields, indices=None)
    change(
        folder,
        f"UPDATE entries SET content = x'{again.content.hex()}' WHERE origin = 0 AND sequence = 1",
    )


def without_logs(folder: Path) -> None:
    shutil.rmtree(folder / "sim")


def without_config(folder: Path) -> None:
    (folder / "config.toml").unlink()


def without_topology(folder: Path) -> None:
    (folder / "topology.json").unlink()


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (with_a_false_base, "does not belong to this experiment: a base is not msgpack"),
        (with_a_false_proof, "does not belong to this experiment: what is kept as a proof is none"),
        (equivocate, "differ in entry 0 of peer 1"),
        (of_another_experiment, "does not belong to its experiment"),
        (of_other_peers, "peer 5 is not active in round 0"),
        (with_a_round_twice, "round 0 after round 0"),
        (without_logs, "holds no logs"),
        (without_config, "is no run folder"),
        (without_topology, "cannot be read"),
    ],
)
def test_what_cannot_be_rolled_back_is_told_in_one_line(
    folder: Path, tmp_path: Path, spoil, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    spoil(folder)
    capsys.readouterr()
    to = tmp_path / "back"
    assert main(["rollback", str(folder), "--round", "3", "--to", str(to)]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert words in line
    assert not to.exists()


@pytest.mark.parametrize(
    ("rounds_done", "words"),
    [("5", "at most 4"), ("-1", "at least 0"), ("two", "invalid int value"), ("2", "new folder")],
)
def test_a_wrong_command_is_told_in_one_line(
    finished: Path, rounds_done: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = contents(finished)
    command = ["rollback", str(finished), f"--round={rounds_done}", "--to", str(finished)]
    assert main(command) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert words in line
    assert contents(finished) == before


def test_a_run_that_is_under_way_is_refused(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "_BUSY_SECONDS", 0.0)
    with EntryStore(folder / LOG), pytest.raises(UserError, match="locked"):
        rollback(folder, 2, tmp_path / "back")
    assert not (tmp_path / "back").exists()


def test_nothing_is_left_of_what_could_not_be_written(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(RunFolder, "write_rounds", fail)
    with pytest.raises(OSError, match="disk full"):
        rollback(folder, 2, tmp_path / "deep" / "back")
    assert not (tmp_path / "deep" / "back").exists()
    with pytest.raises(UserError, match="cannot be made"):
        rollback(folder, 2, folder / "config.toml" / "back")


def test_the_command_tells_how_to_go_on(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    to = tmp_path / "back"
    assert main(["rollback", str(finished), "--round", "2", "--to", str(to)]) == 0
    *_, line = capsys.readouterr().out.splitlines()
    before, _, words = line.partition("kseed ")
    assert before == "to go on: "
    assert main(words.split()) == 0
    assert accumulators(to) == accumulators(finished)


@pytest.mark.slow
def test_processes_go_on_from_an_earlier_round(tmp_path: Path) -> None:
    options = ["--trainer", "synthetic", "--peers", "4", "--rounds", "4", "--json", "--out"]
    whole = run_command("launch", *options, "whole", folder=tmp_path).summary
    back = run_command("rollback", "whole", "--round", "2", "--to", "back", folder=tmp_path)
    assert back.status == 0
    assert len(lines(tmp_path / "back")) == 3
    resumed = run_command("launch", *options, "back", "--resume", folder=tmp_path)
    assert resumed.status == 0
    assert resumed.summary["digests"] == whole["digests"]
    assert resumed.summary["entries"] == whole["entries"]
    assert accumulators(tmp_path / "back") == accumulators(tmp_path / "whole")
    trained = (tmp_path / "back" / "launch" / "peer-1" / "output.log").read_text()
    assert "trains in round 2" in trained
    assert "trains in round 1" not in trained
