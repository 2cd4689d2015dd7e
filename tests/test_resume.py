"""Runs that were ended, killed or cut short go on where they were, and end alike."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from runs import SYNTHETIC, Options, lines, links, run, without_costs

import peer.training
from peer.accumulator import Accumulator
from peer.chronicle import Chronicle
from peer.errors import UserError
from peer.records import RunFolder
from peer.store import EntryStore
from peer.trainer import LocalRound, Trainer
from sim import runner


@pytest.fixture(scope="module")
def finished(tiny_options: Options, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return run(tmp_path_factory.mktemp("runs") / "finished", tiny_options)


class Killed(Exception):
    """What stands for a process that ends in the middle of its work."""


class Fragile:
    """A trainer that is killed at one of its local rounds."""

    def __init__(self, trainer: Trainer, last: int) -> None:
        self.trainer = trainer
        self.calls: list[tuple[int, int]] = []
        self._last = last

    def train(
        self, peer: int, round_: int, cut: Accumulator, indices: NDArray[np.int64]
    ) -> LocalRound:
        if len(self.calls) == self._last:
            raise Killed
        self.calls.append((peer, round_))
        return self.trainer.train(peer, round_, cut, indices)


def interrupted(
    patch: pytest.MonkeyPatch, last: int, start: Callable[[], object]
) -> list[tuple[int, int]]:
    """Start a run and kill it at a local round; return the local rounds that were taken."""
    made: list[Fragile] = []

    def fragile(*parts: Any) -> Fragile:
        made.append(Fragile(peer.training.build_trainer(*parts), last))
        return made[-1]

    with patch.context() as here:
        here.setattr(runner, "build_trainer", fragile)
        try:
            start()
        except Killed:
            assert len(made[0].calls) == last
    return made[0].calls


def counted(patch: pytest.MonkeyPatch, start: Callable[[], object]) -> list[tuple[int, int]]:
    """Start a run that nothing kills; return the local rounds that were taken."""
    return interrupted(patch, 10**9, start)


def the_same(resumed: dict[str, Any], whole: dict[str, Any]) -> None:
    for name in ("digests", "eval_loss", "model", "entries", "rounds", "missing_peers"):
        assert resumed[name] == whole[name]


@pytest.mark.parametrize("last", [0, 1, 4, 6, 8, 11])
def test_a_run_killed_in_a_local_round_ends_like_one_that_was_not(
    last: int,
    finished: dict[str, Any],
    tiny_options: Options,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = tmp_path / "run"
    before = interrupted(monkeypatch, last, lambda: run(out, tiny_options))
    assert not (out / "summary.json").exists()
    assert len(lines(out)) == last // 4 + 1
    resumed: dict[str, Any] = {}
    after = counted(monkeypatch, lambda: resumed.update(run(out, tiny_options, resume=True)))
    the_same(resumed, finished)
    # Each local round is taken once in the two lives together.
    assert sorted(before + after) == [(peer_, round_) for peer_ in range(4) for round_ in range(3)]
    records, whole = lines(out), lines(Path(finished["folder"]))
    for name in ("round", "eval_loss", "accumulator"):
        assert [record[name] for record in records] == [record[name] for record in whole]
    rows = links(out)
    assert resumed["bytes"]["payload_total"] == sum(row["payload_bytes"] for row in rows)


@pytest.mark.parametrize(
    "changes", [{}, {"method": "fedkseed-pro"}, {"participation": 0.4}], ids=str
)
def test_a_run_killed_at_any_local_round_ends_alike(
    changes: Options, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = SYNTHETIC | changes
    whole: dict[str, Any] = {}
    taken = counted(monkeypatch, lambda: whole.update(run(tmp_path / "whole", options)))
    assert len(taken) >= 8
    for last in range(0, len(taken), 2):
        out = tmp_path / str(last)
        interrupted(monkeypatch, last, lambda out=out: run(out, options))  # type: ignore[misc]
        the_same(run(out, options, resume=True), whole)
        assert [record["round"] for record in lines(out)] == [0, 1, 2, 3, 4]


def test_a_run_killed_again_and_again_ends_alike(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run(tmp_path / "whole", SYNTHETIC)
    out = tmp_path / "run"
    for _ in range(6):
        interrupted(monkeypatch, 3, lambda: run(out, SYNTHETIC, resume=True))
    the_same(run(out, SYNTHETIC, resume=True), whole)


@pytest.mark.parametrize("evaluations", range(4))
def test_a_run_killed_while_it_evaluates_has_every_round_in_the_end(
    evaluations: int,
    finished: dict[str, Any],
    tiny_options: Options,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Evaluating is what a real run does for most of the time between two rounds.
    out, done = tmp_path / "run", []
    evaluated = Chronicle._evaluate

    def fragile(self: Chronicle, cut: Accumulator) -> float:
        if len(done) == evaluations:
            raise Killed
        done.append(cut)
        return evaluated(self, cut)

    with monkeypatch.context() as patch:
        patch.setattr(Chronicle, "_evaluate", fragile)
        with pytest.raises(Killed):
            run(out, tiny_options)
    assert len(RunFolder(out).read_rounds()) == evaluations
    resumed = run(out, tiny_options, resume=True)
    the_same(resumed, finished)
    assert [record["round"] for record in lines(out)] == [0, 1, 2, 3]


@pytest.mark.parametrize("kept", range(1, 20, 3))
def test_a_run_killed_while_it_stores_ends_alike(
    kept: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run(tmp_path / "whole", SYNTHETIC)
    out, stored = tmp_path / "run", []
    append = EntryStore.append

    def fragile(self: EntryStore, entries: Any, **options: Any) -> None:
        if len(stored) == kept:
            raise Killed
        stored.append(entries)
        append(self, entries, **options)

    with monkeypatch.context() as patch:
        patch.setattr(EntryStore, "append", fragile)
        with pytest.raises(Killed):
            run(out, SYNTHETIC)
    the_same(run(out, SYNTHETIC, resume=True), whole)
    assert [record["round"] for record in lines(out)] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("kept", range(4))
@pytest.mark.parametrize("last", [9, 10**9], ids=["killed", "ended"])
def test_lines_that_are_torn_or_lost_are_written_again(
    kept: int,
    last: int,
    finished: dict[str, Any],
    tiny_options: Options,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = tmp_path / "run"
    interrupted(monkeypatch, last, lambda: run(out, tiny_options))
    path = out / "rounds.jsonl"
    texts = path.read_text().splitlines(keepends=True)
    path.write_text("".join(texts[:kept]) + "".join(texts[kept : kept + 1])[:-30])
    the_same(run(out, tiny_options, resume=True), finished)
    for name in ("round", "eval_loss", "accumulator"):
        found, whole = lines(out), lines(Path(finished["folder"]))
        assert [record[name] for record in found] == [record[name] for record in whole]


def test_an_ended_run_is_resumed_without_training(
    finished: dict[str, Any], tiny_options: Options, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run"
    run(out, tiny_options)
    before, resumed = lines(out), {}
    payload = sum(row["payload_bytes"] for row in links(out))
    taken = counted(monkeypatch, lambda: resumed.update(run(out, tiny_options, resume=True)))
    assert taken == []
    the_same(resumed, finished)
    assert lines(out) == before
    assert resumed["bytes"]["payload_total"] == payload


def test_resuming_where_nothing_was_saved_starts_anew(
    finished: dict[str, Any], tiny_options: Options, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    for name in ("empty", "new"):
        summary = run(tmp_path / name, tiny_options, resume=True)
        assert without_costs(summary) == without_costs(finished)


def test_more_rounds_go_on_from_where_the_run_had_ended(
    finished: dict[str, Any], tiny_options: Options, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run"
    short = run(out, tiny_options, rounds=2)
    resumed: dict[str, Any] = {}
    taken = counted(monkeypatch, lambda: resumed.update(run(out, tiny_options, resume=True)))
    assert sorted(taken) == [(peer_, 2) for peer_ in range(4)]
    assert resumed["digests"]["all_equal"]
    assert resumed["eval_loss"]["per_round"][:2] == short["eval_loss"]["per_round"]
    assert len(resumed["eval_loss"]["per_round"]) == 3
    assert RunFolder(out).experiment().rounds == 3
    # The END of the first life stays in every log.
    assert resumed["entries"]["published"] == finished["entries"]["published"] + 4


@pytest.mark.parametrize("method", ["fedkseed", "fedkseed-pro"])
def test_four_rounds_at_once_are_two_and_two_more(
    method: str, tiny_options: Options, tmp_path: Path
) -> None:
    options = tiny_options | {"method": method, "rounds": 4}
    whole = run(tmp_path / "whole", options)
    out = tmp_path / "run"
    run(out, options, rounds=2)
    resumed = run(out, options, resume=True)
    assert resumed["eval_loss"] == whole["eval_loss"]
    assert resumed["digests"] == whole["digests"]


def test_another_experiment_does_not_go_on_with_a_run(
    finished: dict[str, Any], tiny_options: Options
) -> None:
    folder = Path(finished["folder"])
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    with pytest.raises(UserError, match="seed is 0 there and 1 here"):
        run(folder, tiny_options, seed=1, resume=True)
    with pytest.raises(UserError, match="already holds a run"):
        run(folder, tiny_options)
    after = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert before == after
