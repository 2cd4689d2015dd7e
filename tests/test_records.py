"""Run folders: what is refused, without writing, and that what is written comes back."""

from __future__ import annotations

import csv
import json
import math
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import topology
from peer.accumulator import Accumulator
from peer.config import Experiment, experiment_from
from peer.errors import UserError
from peer.importance import probabilities
from peer.records import RunFolder, finite
from peer.traffic import LinkCount, Traffic
from peer.units import Units

GRAPH = topology.build("ring", 4)
OTHER_VALUES: dict[str, Any] = {
    "topology": "star",
    "peers": 5,
    "degree": 3,
    "local_steps": 51,
    "candidate_seeds": 17,
    "learning_rate": 2e-4,
    "epsilon": 2e-3,
    "batch_size": 2,
    "participation": 0.5,
    "method": "fedkseed-pro",
    "trainer": "synthetic",
    "perturbation": "gaussian",
    "gradient_bytes": 2,
    "gradient_bound": 512.0,
    "model": "other/model",
    "data": "other.jsonl",
    "partition": "iid",
    "alpha": 0.6,
    "eval_rows": 9,
    "rouge_rows": 3,
    "new_tokens": 9,
    "max_length": 60,
    "dtype": "bfloat16",
    "seed": 1,
    "step_seconds": 0.2,
    "speed_spread": 0.5,
    "stragglers": 0.2,
    "slowdown": 3.0,
    "slot_seconds": 0.2,
    "latency": "0.2",
    "latency_per": "frame",
    "bandwidth": 1e6,
    "loss": 0.1,
    "duplication": 0.1,
    "reordering": 0.1,
    "side_by_side": 2,
    "gossip": "flood",
    "schedule": "async",
    "tick": 0.5,
    "sign": True,
    "fold": False,
    "aggregation": "server",
    "optimizer": "adam",
    "accumulate": 2,
    "local_epochs": 1,
    "directions": 3,
    "rank": 4,
    "lora_alpha": 8,
    "virtual_tokens": 10,
    "coordinates": 100,
    "blocks": 3,
    "global_learning_rate": 2.0,
    "held_out": "last",
    "train_share": 0.5,
    "test_share": 0.5,
    "min_rows": 2,
    "long_rows": "drop",
}


def experiment(out: Path | str, **options: Any) -> Experiment:
    return experiment_from({"peers": 4, "out": str(out)} | options)


def made(path: Path, engine: str = "sim", **options: Any) -> RunFolder:
    """A folder as a run has begun it."""
    folder = RunFolder(path)
    folder.create(experiment(path, **options), GRAPH, engine)
    return folder


def contents(path: Path) -> dict[str, bytes]:
    return {
        str(each.relative_to(path)): each.read_bytes() if each.is_file() else b""
        for each in path.rglob("*")
    }


def refused(asked: Experiment, engine: str = "sim") -> str:
    """The one line of a refusal, which changes nothing in the folder."""
    before = contents(Path(asked.out)) if Path(asked.out).is_dir() else None
    with pytest.raises(UserError) as refusal:
        RunFolder.for_experiment(asked, engine)
    after = contents(Path(asked.out)) if Path(asked.out).is_dir() else None
    assert before == after
    assert len(str(refusal.value).splitlines()) == 1
    return str(refusal.value)


def test_a_folder_that_is_not_there_or_empty_is_taken_and_not_yet_made(tmp_path: Path) -> None:
    for out in (tmp_path / "new", tmp_path / "deep" / "er", tmp_path):
        for resume in (False, True):
            asked = experiment(out, resume=resume)
            assert RunFolder.for_experiment(asked, "sim").path == out
    assert not list(tmp_path.iterdir())


def test_a_run_is_not_overwritten(tmp_path: Path) -> None:
    made(tmp_path)
    assert refused(experiment(tmp_path)) == (
        f"out = {str(tmp_path)!r} already holds a run; choose another folder, "
        "or resume it with --resume"
    )


@pytest.mark.parametrize("resume", [False, True])
def test_a_folder_of_something_else_is_refused(resume: bool, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    line = refused(experiment(tmp_path, resume=resume))
    assert line == f"out = {str(tmp_path)!r} is not empty and holds no run"


@pytest.mark.parametrize("resume", [False, True])
def test_a_file_is_no_folder(resume: bool, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("kept")
    line = refused(experiment(path, resume=resume))
    assert line == f"out = {str(path)!r} is a file, a folder is wanted"
    assert path.read_text() == "kept"


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("kept")
    out = tmp_path / "file" / "run"
    asked = experiment(out)
    with pytest.raises(UserError) as refusal:
        RunFolder.for_experiment(asked, "sim").create(asked, GRAPH, "sim")
    assert str(refusal.value) == f"out = {str(out)!r} cannot be made: Not a directory"


def test_a_run_is_resumed_by_the_same_experiment(tmp_path: Path) -> None:
    made(tmp_path)
    asked = experiment(tmp_path, resume=True)
    assert RunFolder.for_experiment(asked, "sim").path == tmp_path


def test_all_that_defines_a_run_has_another_value_here() -> None:
    identity = set(Experiment().identity())
    assert set(OTHER_VALUES) == identity - {"scenario"}
    assert all(getattr(Experiment(), name) != other for name, other in OTHER_VALUES.items())


@pytest.mark.parametrize("name", OTHER_VALUES)
def test_another_experiment_is_refused_with_the_key_and_both_values(
    name: str, tmp_path: Path
) -> None:
    # A server needs a star, which would be another difference.
    both = {"topology": "star"} if name == "aggregation" else {}
    folder = made(tmp_path, **both)
    there = getattr(folder.experiment(), name)
    line = refused(experiment(tmp_path, resume=True, **both, **{name: OTHER_VALUES[name]}))
    assert line == (
        f"{tmp_path} holds another experiment: {name} is {there!r} there "
        f"and {OTHER_VALUES[name]!r} here"
    )


@pytest.mark.parametrize(
    "change",
    [
        {"rounds": 8},
        {"rounds": 9},
        {"device": "cpu"},
        {"threads": 2},
        {"log_level": "error"},
        {"json": True},
        {"round_timeout": 1.0},
        {"settle_timeout": 1.0},
    ],
    ids=str,
)
def test_a_resumed_run_may_differ_in_what_does_not_define_it(
    change: dict[str, Any], tmp_path: Path
) -> None:
    made(tmp_path)
    asked = experiment(tmp_path, resume=True, **change)
    assert RunFolder.for_experiment(asked, "sim").path == tmp_path


def test_rounds_may_only_grow(tmp_path: Path) -> None:
    made(tmp_path, rounds=5)
    assert refused(experiment(tmp_path, resume=True, rounds=4)) == (
        f"rounds = 4 is not allowed: {tmp_path} has been started with 5, "
        "and the number may only grow"
    )


@pytest.mark.parametrize("engine", ["sim", "launch", "peer"])
def test_another_engine_cannot_resume(engine: str, tmp_path: Path) -> None:
    made(tmp_path, engine)
    asked = experiment(tmp_path, resume=True)
    for other in {"sim", "launch", "peer"} - {engine}:
        assert refused(asked, other) == f"{tmp_path} was not made by `kseed {other}`"
    assert RunFolder.for_experiment(asked, engine)


def test_a_damaged_configuration_is_refused(tmp_path: Path) -> None:
    made(tmp_path)
    (tmp_path / "config.toml").write_text("peers = ")
    assert "is no TOML file" in refused(experiment(tmp_path, resume=True))
    (tmp_path / "config.toml").write_text("piers = 4")
    assert "there is no such option" in refused(experiment(tmp_path, resume=True))


def test_a_new_folder_is_named_after_the_run_and_never_one_that_exists(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    asked = experiment("", method="fedkseed-pro", topology="some/where/mesh.graphml")
    first = RunFolder.for_experiment(asked, "sim")
    assert first.path == Path("runs/mesh-4-fedkseed-pro-1")
    first.create(asked, GRAPH, "sim")
    assert RunFolder.for_experiment(asked, "sim").path == Path("runs/mesh-4-fedkseed-pro-2")
    Path("runs/mesh-4-fedkseed-pro-2").write_text("a file counts too")
    assert RunFolder.for_experiment(asked, "sim").path == Path("runs/mesh-4-fedkseed-pro-3")
    ring = replace(asked, topology="ring", method="fedkseed")
    assert RunFolder.for_experiment(ring, "sim").path == Path("runs/ring-4-fedkseed-1")


def test_the_folder_holds_the_resolved_experiment_and_the_graph(tmp_path: Path) -> None:
    out = tmp_path / 'quote " and \\ and ü'
    asked = experiment(out, seed=7, data='odd"name\n.jsonl', json=True, dry_run=True)
    RunFolder(out).create(asked, GRAPH, "sim")
    stored = RunFolder(out).experiment()
    # What tells one call what to do is no part of the run.
    assert stored == replace(asked, json=False, dry_run=False, out="", resume=False)
    assert topology.load(out / "topology.json") == GRAPH
    assert (out / "sim").is_dir()
    assert sorted(each.name for each in out.iterdir()) == ["config.toml", "sim", "topology.json"]


def test_resuming_with_more_rounds_is_kept(tmp_path: Path) -> None:
    folder = made(tmp_path, rounds=2)
    asked = experiment(tmp_path, rounds=6, resume=True)
    folder.create(asked, GRAPH, "sim")
    assert folder.experiment().rounds == 6
    assert refused(experiment(tmp_path, rounds=2, resume=True)).startswith("rounds = 2 ")


def test_a_folder_without_a_run_has_no_experiment(tmp_path: Path) -> None:
    with pytest.raises(UserError) as refusal:
        RunFolder(tmp_path).experiment()
    assert str(refusal.value) == f"{tmp_path} is no run folder: there is no config.toml in it"


def line_of(round_: int, loss: float | None = 1.0) -> dict[str, Any]:
    return {"round": round_, "eval_loss": loss, "skipped_steps": 0, "accumulator": "ab" * 16}


def test_rounds_come_back_and_a_torn_line_is_left_out(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    assert folder.read_rounds() == []
    records = [line_of(n, 4.0 - n) for n in range(3)]
    folder.write_rounds(records)
    assert folder.read_rounds() == records
    path = tmp_path / "rounds.jsonl"
    whole = path.read_text()
    assert whole.count("\n") == 3
    last = len(whole.splitlines()[-1])
    for lost in range(2, last + 1):
        path.write_text(whole[:-lost])
        assert folder.read_rounds() == records[:2]
    path.write_text(whole[:-1])
    assert folder.read_rounds() == records
    path.write_text("")
    assert folder.read_rounds() == []
    folder.write_rounds(records[:1])
    assert folder.read_rounds() == records[:1]


def test_what_follows_a_damaged_line_is_not_trusted(tmp_path: Path) -> None:
    first, last = json.dumps(line_of(0)), json.dumps(line_of(2))
    for damaged in ('{"rou', "5", '{"round": 1}', json.dumps(line_of(1) | {"round": "x"})):
        (tmp_path / "rounds.jsonl").write_text(f"{first}\n{damaged}\n{last}\n")
        assert RunFolder(tmp_path).read_rounds() == [line_of(0)]


numbers = st.floats() | st.integers() | st.none() | st.booleans() | st.text()
documents = st.recursive(
    numbers,
    lambda inner: st.lists(inner) | st.tuples(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@given(documents)
def test_everything_is_written_as_strict_json(document: Any) -> None:
    def no_constant(name: str) -> None:
        pytest.fail(f"{name} is no JSON")

    written = finite(document)
    assert json.loads(json.dumps(written), parse_constant=no_constant) == written
    assert finite(written) == written


def test_numbers_that_are_not_finite_become_null_and_all_others_stay() -> None:
    given_ = {"a": math.nan, "b": [math.inf, 1.5, (-math.inf, 2)], "c": {"d": None, "e": True}}
    assert finite(given_) == {"a": None, "b": [None, 1.5, [None, 2]], "c": {"d": None, "e": True}}


def test_records_with_losses_that_are_not_finite_stay_readable(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.write_rounds([line_of(0, math.nan)])
    assert folder.read_rounds() == [line_of(0, None)]
    folder.write_summary({"eval_loss": {"final": math.inf}})
    assert json.loads((tmp_path / "summary.json").read_text()) == {"eval_loss": {"final": None}}


counts = st.builds(LinkCount, *(st.integers(0, 2**62) for _ in range(6)))
links = st.dictionaries(st.tuples(st.integers(0, 2**20), st.integers(0, 2**20)), counts)


@given(links)
@settings(max_examples=30)
def test_links_come_back(tmp_path_factory: pytest.TempPathFactory, held: Any) -> None:
    path = tmp_path_factory.mktemp("links")
    traffic = Traffic()
    for (sender, receiver), count in held.items():
        traffic.add(sender, receiver, count)
    folder = RunFolder(path)
    folder.write_links(traffic)
    back = folder.read_links()
    assert list(back.links()) == list(traffic.links())
    assert back.total() == traffic.total()


def test_links_are_a_table_that_others_can_read(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    assert list(folder.read_links().links()) == []
    traffic = Traffic()
    traffic.add(3, 0, LinkCount(1, 200, 2, 30, 13, 237))
    traffic.add(0, 3, LinkCount(0, 0, 1, 15, 2))
    folder.write_links(traffic)
    with (tmp_path / "links.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    names = ["payload_messages", "payload_bytes", "control_messages", "control_bytes"]
    assert list(rows[0]) == ["sender", "receiver", *names, "framing_bytes", "handshake_bytes"]
    assert [list(map(int, row.values())) for row in rows] == [
        [0, 3, 0, 0, 1, 15, 2, 0],
        [3, 0, 1, 200, 2, 30, 13, 237],
    ]


@st.composite
def accumulators(draw: st.DrawFn) -> Accumulator:
    units = Units(draw(st.integers(-60, 9)), draw(st.integers(12, 24)), draw(st.integers(12, 24)))
    k = draw(st.integers(1, 20))
    column = st.lists(st.integers(-(2**51) + 1, 2**51 - 1), min_size=k, max_size=k)
    sums, magnitudes, drawn = (np.array(draw(column), dtype=np.int64) for _ in range(3))
    return Accumulator(units, sums, np.abs(magnitudes), np.abs(drawn))


@given(accumulators())
@settings(max_examples=30)
def test_an_accumulator_comes_back_to_the_bit(
    tmp_path_factory: pytest.TempPathFactory, held: Accumulator
) -> None:
    folder = RunFolder(tmp_path_factory.mktemp("accumulator"))
    folder.write_accumulator(held, with_probabilities=False)
    back = folder.read_accumulator()
    assert back.units == held.units
    assert back.digest() == held.digest()
    assert back.sums.dtype == back.magnitudes.dtype == back.counts.dtype == np.int64
    assert not (folder.path / "probabilities.csv").exists()


def test_probabilities_are_written_for_people(tmp_path: Path) -> None:
    held = Accumulator.empty(5, Units(-14, 24, 24))
    held.add(np.array([0, 3, 3]), np.array([0.5, 2.0, -1.0], dtype=np.float32), 1.0)
    RunFolder(tmp_path).write_accumulator(held, with_probabilities=True)
    with (tmp_path / "probabilities.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["seed_index"]) for row in rows] == list(range(5))
    assert [int(row["drawn"]) for row in rows] == [1, 0, 0, 2, 0]
    found = [float(row["probability"]) for row in rows]
    assert found == pytest.approx(probabilities(held).tolist(), rel=1e-8)
    assert sum(found) == pytest.approx(1.0)


def test_a_run_that_has_not_ended_has_no_accumulator(tmp_path: Path) -> None:
    with pytest.raises(UserError) as refusal:
        made(tmp_path).read_accumulator()
    assert str(refusal.value) == f"{tmp_path} has no accumulator.npz: the run has not ended"


def _save(path: Path, **arrays: Any) -> None:
    with path.open("wb") as file:
        np.savez(file, **arrays)


def test_a_damaged_accumulator_is_refused(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.write_accumulator(Accumulator.empty(4, Units(-14, 24, 24)), with_probabilities=False)
    path = tmp_path / "accumulator.npz"
    whole = path.read_bytes()
    zeros = np.zeros(4, dtype=np.int64)
    fields = {"sums": zeros, "magnitudes": zeros, "counts": zeros}
    damage: list[Any] = [
        lambda: path.write_bytes(b""),
        lambda: path.write_bytes(b"no archive"),
        lambda: path.write_bytes(whole[: len(whole) // 2]),
        lambda: path.write_bytes(whole[:200] + b"\xff" + whole[201:]),
        lambda: _save(path, **fields),
        lambda: _save(path, **fields, units=np.array([1, 2])),
        lambda: _save(path, units=np.array([1, 2, 3]), sums=zeros),
        lambda: _save(path, **fields, units=np.array([{"a": 1}], dtype=object)),
    ]
    for harm in damage:
        harm()
        with pytest.raises(UserError) as refusal:
            folder.read_accumulator()
        assert str(refusal.value).startswith(f"{path} cannot be read: ")
        assert len(str(refusal.value).splitlines()) == 1


def test_nothing_half_written_is_left(tmp_path: Path) -> None:
    folder = made(tmp_path)
    folder.write_rounds([line_of(0)])
    folder.write_links(Traffic())
    folder.write_accumulator(Accumulator.empty(4, Units(-14, 24, 24)), with_probabilities=True)
    folder.write_summary({"schema": 1})
    assert sorted(each.name for each in tmp_path.iterdir()) == [
        "accumulator.npz",
        "config.toml",
        "links.csv",
        "probabilities.csv",
        "rounds.jsonl",
        "sim",
        "summary.json",
        "topology.json",
    ]


def test_a_failure_while_writing_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = RunFolder(tmp_path)
    folder.write_rounds([line_of(0)])
    before = Accumulator.empty(4, Units(-14, 24, 24))
    folder.write_accumulator(before, with_probabilities=False)

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    monkeypatch.setattr(Path, "write_text", full)
    after = Accumulator.empty(4, Units(-14, 24, 24))
    after.sums[0] = 1
    with pytest.raises(OSError, match="No space left"):
        folder.write_accumulator(after, with_probabilities=False)
    with pytest.raises(OSError, match="No space left"):
        folder.write_rounds([line_of(0), line_of(1)])
    assert folder.read_accumulator().digest() == before.digest()
    assert folder.read_rounds() == [line_of(0)]


def test_link_counts_have_the_columns_of_the_table() -> None:
    assert list(asdict(LinkCount())) == [
        "payload_messages",
        "payload_bytes",
        "control_messages",
        "control_bytes",
        "framing_bytes",
        "handshake_bytes",
    ]
