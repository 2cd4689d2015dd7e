"""Whole simulated runs: what they leave, that they agree, and that they go on where they ended."""

from __future__ import annotations

import csv
import json
import math
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import peer.setup
import sim
import topology
from peer.accumulator import Accumulator
from peer.chronicle import Chronicle
from peer.config import experiment_from
from peer.entry import make_end
from peer.errors import UserError
from peer.perturbation import reference
from peer.rebuild import weights_digest
from peer.records import RunFolder
from peer.seeds import candidate_seeds
from peer.store import EntryStore
from peer.summary import Outcome, summarise
from peer.traffic import Traffic
from peer.trainer import LocalRound, SyntheticTrainer, Trainer
from peer.zeroth_order import evaluate
from sim import runner
from sim.runner import simulate

Options = dict[str, Any]

SCHEMA = {
    "": "schema engine method peers rounds local_steps candidate_seeds perturbation topology model "
    "eval_loss rouge_l digests entries timeouts_fired faults bytes seconds peak_memory_bytes",
    "topology": "name nodes edges diameter",
    "model": "name parameters dtype",
    "eval_loss": "initial final per_round",
    "digests": "accumulator model all_equal",
    "entries": "published received_per_peer",
    "faults": "crashes restarts joins leaves partitions exit_signals",
    "bytes": "payload_total control_total wire_total per_peer_round_mean "
    "lower_bound_payload_total redundancy",
    "seconds": "wall local_steps rebuild evaluation",
}
"""The names that other programs read."""


@pytest.fixture(scope="module")
def tiny(tiny_model: Path, tiny_data: Path) -> Options:
    return {
        "model": str(tiny_model),
        "data": str(tiny_data),
        "peers": 4,
        "rounds": 3,
        "local_steps": 3,
        "candidate_seeds": 32,
        "learning_rate": 1e-3,
        "eval_rows": 8,
    }


SYNTHETIC: Options = {
    "trainer": "synthetic",
    "peers": 5,
    "rounds": 4,
    "local_steps": 6,
    "candidate_seeds": 32,
}


def run(out: Path, options: Options, **changes: Any) -> dict[str, Any]:
    return simulate(experiment_from(options | {"out": str(out)} | changes))


@pytest.fixture(scope="module")
def finished(tiny: Options, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return run(tmp_path_factory.mktemp("runs") / "finished", tiny)


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "rounds.jsonl").read_text().splitlines()]


def links(folder: Path) -> list[dict[str, int]]:
    with (folder / "links.csv").open(newline="") as file:
        return [{key: int(value) for key, value in row.items()} for row in csv.DictReader(file)]


def without_costs(summary: dict[str, Any]) -> dict[str, Any]:
    unlike = {"seconds", "peak_memory_bytes", "folder"}
    return {key: value for key, value in summary.items() if key not in unlike}


def test_the_summary_has_the_names_of_the_schema(finished: dict[str, Any]) -> None:
    for part, names in SCHEMA.items():
        assert set(names.split()) <= set(finished[part] if part else finished)
    assert finished["schema"] == 1
    assert finished["engine"] == "sim"
    assert "processes" not in finished


def test_the_summary_on_disk_is_the_one_returned(finished: dict[str, Any]) -> None:
    folder = Path(finished["folder"])
    assert json.loads((folder / "summary.json").read_text()) == finished


def test_the_summary_says_what_was_run(finished: dict[str, Any], tiny: Options) -> None:
    for name in ("peers", "rounds", "local_steps", "candidate_seeds"):
        assert finished[name] == tiny[name]
    assert (finished["method"], finished["perturbation"]) == ("fedkseed", "gaussian")
    assert finished["topology"] == {"name": "ring", "nodes": 4, "edges": 4, "diameter": 2}
    assert finished["model"]["name"] == tiny["model"]
    assert finished["model"]["dtype"] == "float32"
    assert finished["data"]["eval_rows"] == 8
    assert sum(finished["data"]["rows_per_peer"]) == 72 - 8
    assert finished["rouge_l"] is None
    assert finished["timeouts_fired"] == finished["skipped_steps"] == 0
    assert finished["missing_peers"] == finished["faults"]["exit_signals"] == []
    assert finished["entries"] == {"published": 4 * 4, "received_per_peer": [3 * 4] * 4}
    assert finished["peak_memory_bytes"] > 10**7
    assert all(seconds > 0 for seconds in finished["seconds"].values())
    assert finished["seconds"]["wall"] >= finished["seconds"]["local_steps"]


def test_all_peers_agree_and_their_model_is_the_rebuild(finished: dict[str, Any]) -> None:
    digests = finished["digests"]
    assert digests["all_equal"] is True
    assert len(digests["accumulator"]) == len(digests["model"]) == 4
    assert len(set(digests["accumulator"])) == len(set(digests["model"])) == 1
    folder = RunFolder(Path(finished["folder"]))
    held = folder.read_accumulator()
    assert held.digest() == digests["accumulator"][0]
    tuner = peer.setup.build_tuner(folder.experiment(), remember=False, threads=1)
    exponent = held.units.exponent - held.units.fraction_bits
    seeds = candidate_seeds(0, 32)
    model = reference.rebuild(reference.GAUSSIAN, tuner.w0, seeds, held.sums, exponent)
    assert weights_digest(model) == digests["model"][0]
    assert held.counts.sum() == 4 * 3 * 3


def test_losses_are_those_of_the_models_of_each_round(finished: dict[str, Any]) -> None:
    folder = RunFolder(Path(finished["folder"]))
    loss, records = finished["eval_loss"], lines(folder.path)
    assert [record["round"] for record in records] == [0, 1, 2, 3]
    assert [record["eval_loss"] for record in records] == [loss["initial"], *loss["per_round"]]
    assert loss["final"] == loss["per_round"][-1]
    assert len(set(loss["per_round"])) == 3
    experiment = folder.experiment()
    corpus = peer.setup.deal(experiment, *peer.setup.encode_rows(experiment))
    tuner = peer.setup.build_tuner(experiment, remember=False, threads=1)
    rows = corpus.split.held_out
    assert loss["initial"] == evaluate(tuner.model, corpus.encoded, rows)
    assert loss["final"] == tuner.evaluate(folder.read_accumulator(), corpus.encoded, rows)
    assert records[0]["train_loss"] is None
    assert all(0 < record["train_loss"] < 10 for record in records[1:])
    assert records[3]["accumulator"] == finished["digests"]["accumulator"][0]
    assert len({record["accumulator"] for record in records}) == 4


def test_bytes_are_the_sums_over_all_links(finished: dict[str, Any]) -> None:
    rows, cost = links(Path(finished["folder"])), finished["bytes"]
    pairs = [(row["sender"], row["receiver"]) for row in rows]
    ring = {(0, 1), (1, 2), (2, 3), (0, 3)}
    assert set(pairs) == ring | {(j, i) for i, j in ring}
    assert len(pairs) == 8
    for kind in ("payload", "control", "framing"):
        assert cost[f"{kind}_total"] == sum(row[f"{kind}_bytes"] for row in rows)
    assert cost["wire_total"] == sum(
        row["payload_bytes"] + row["control_bytes"] + row["framing_bytes"] for row in rows
    )
    # By peer: sent plus received, everything included.
    of_peer = [
        sum(
            row["payload_bytes"] + row["control_bytes"] + row["framing_bytes"]
            for row in rows
            if peer_ in (row["sender"], row["receiver"])
        )
        for peer_ in range(4)
    ]
    assert cost["per_peer_round_mean"] == np.mean(of_peer) / 3
    records = lines(Path(finished["folder"]))
    for name in ("payload_bytes", "control_bytes", "wire_bytes"):
        sent = [record[name] for record in records]
        assert sent == sorted(sent)
        assert sent[-1] <= cost[name.replace("bytes", "total")]


@pytest.mark.parametrize(
    ("graph", "edges"), [("line", 4), ("ring", 5), ("star", 4), ("complete", 10), ("tree", 4)]
)
def test_payload_is_what_flooding_sends(graph: str, edges: int, tmp_path: Path) -> None:
    summary = run(tmp_path / "run", SYNTHETIC, topology=graph)
    cost = summary["bytes"]
    assert summary["digests"]["all_equal"]
    assert cost["redundancy"] == (2 * edges - 5 + 1) / 4
    assert cost["payload_total"] == cost["redundancy"] * cost["lower_bound_payload_total"]


def test_the_same_experiment_gives_the_same_run(
    finished: dict[str, Any], tiny: Options, tmp_path: Path
) -> None:
    again = run(tmp_path / "again", tiny)
    assert without_costs(again) == without_costs(finished)
    first = Path(finished["folder"])
    assert lines(tmp_path / "again") == lines(first)
    for name in ("links.csv", "topology.json", "rounds.jsonl"):
        assert (tmp_path / "again" / name).read_bytes() == (first / name).read_bytes()


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1},
        {"learning_rate": 2e-3},
        {"epsilon": 2e-3},
        {"batch_size": 2},
        {"partition": "iid"},
        {"perturbation": "rademacher"},
        {"dtype": "bfloat16"},
        {"gradient_bytes": 1},
        {"method": "fedkseed-pro"},
        {"participation": 0.5},
    ],
    ids=lambda change: "-".join(change),
)
def test_another_experiment_gives_another_model_that_all_agree_on(
    change: Options, finished: dict[str, Any], tiny: Options, tmp_path: Path
) -> None:
    summary = run(tmp_path / "run", tiny, **change)
    assert summary["digests"]["all_equal"]
    assert len(set(summary["digests"]["model"])) == 1
    assert summary["digests"]["model"][0] != finished["digests"]["model"][0]
    assert math.isfinite(summary["eval_loss"]["final"])


def test_neither_topology_nor_logging_changes_the_model(
    finished: dict[str, Any], tiny: Options, tmp_path: Path
) -> None:
    for number, change in enumerate([{"topology": "star"}, {"log_level": "error"}]):
        summary = run(tmp_path / str(number), tiny, **change)
        assert summary["digests"] == finished["digests"]
        assert summary["eval_loss"] == finished["eval_loss"]


def test_only_active_peers_publish(tiny: Options, tmp_path: Path) -> None:
    summary = run(tmp_path / "run", tiny, participation=0.5, rounds=4)
    # Two histories a round, and everybody's END.
    assert summary["entries"]["published"] == 2 * 4 + 4
    assert summary["digests"]["all_equal"]
    held = RunFolder(tmp_path / "run").read_accumulator()
    assert held.counts.sum() == 2 * 4 * 3


@pytest.mark.parametrize("width", [1, 2])
def test_narrow_gradients_are_smaller_on_the_wire(width: int, tmp_path: Path) -> None:
    summary = run(tmp_path / "run", SYNTHETIC, gradient_bytes=width, local_steps=40)
    wide = run(tmp_path / "wide", SYNTHETIC, local_steps=40)
    assert summary["digests"]["all_equal"]
    assert summary["digests"]["accumulator"] != wide["digests"]["accumulator"]
    # Each of the 20 histories is sent 6 times; all else in them is as before, but for the length.
    saved = wide["bytes"]["payload_total"] - summary["bytes"]["payload_total"]
    assert 20 * 6 * 40 * (4 - width) <= saved < 20 * 6 * (40 * (4 - width) + 4)
    assert summary["gradient_bytes"] == width


def test_pro_says_how_likely_each_seed_is(tiny: Options, tmp_path: Path) -> None:
    summary = run(tmp_path / "run", tiny, method="fedkseed-pro")
    assert summary["digests"]["all_equal"]
    held = RunFolder(tmp_path / "run").read_accumulator()
    with (tmp_path / "run" / "probabilities.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["drawn"]) for row in rows] == held.counts.tolist()
    chances = [float(row["probability"]) for row in rows]
    assert sum(chances) == pytest.approx(1.0)
    assert max(chances) <= math.e * min(chances) * (1 + 1e-6)
    assert len(set(chances)) > 10


def test_plain_fedkseed_writes_no_probabilities(finished: dict[str, Any]) -> None:
    assert not (Path(finished["folder"]) / "probabilities.csv").exists()


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_weights_of_16_bits_agree_too(dtype: str, tiny: Options, tmp_path: Path) -> None:
    summary = run(tmp_path / "run", tiny, dtype=dtype)
    assert summary["digests"]["all_equal"]
    assert summary["model"]["dtype"] == dtype
    assert summary["eval_loss"]["final"] != summary["eval_loss"]["initial"]


def test_a_run_whose_loss_is_lost_still_agrees_and_says_so(tiny: Options, tmp_path: Path) -> None:
    summary = run(
        tmp_path / "run", tiny, dtype="float16", learning_rate=1e3, gradient_bound=32768.0
    )
    assert summary["digests"]["all_equal"]
    assert summary["eval_loss"]["final"] is None
    assert math.isfinite(summary["eval_loss"]["initial"])
    skipped = [record["skipped_steps"] for record in lines(tmp_path / "run")]
    assert summary["skipped_steps"] == sum(skipped)
    # The first step of each of the 4 peers is taken, and ruins the weights.
    assert skipped == [0, 4 * 2, 4 * 3, 4 * 3]
    held = RunFolder(tmp_path / "run").read_accumulator()
    assert held.counts.sum() == 4
    json.dumps(summary, allow_nan=False)


def test_without_a_model_there_are_neither_losses_nor_model_digests(tmp_path: Path) -> None:
    summary = run(tmp_path / "run", SYNTHETIC)
    assert summary["model"] is None
    assert summary["eval_loss"] is None
    assert summary["data"] is None
    assert summary["digests"]["model"] is None
    assert summary["digests"]["all_equal"] is True
    assert [record["eval_loss"] for record in lines(tmp_path / "run")] == [None] * 5


def test_a_study_of_traffic_needs_no_torch(tmp_path: Path) -> None:
    code = (
        "import sys, sim\n"
        f"summary = sim.run(out={str(tmp_path / 'run')!r}, **{SYNTHETIC!r})\n"
        "assert summary['digests']['all_equal']\n"
        "assert not {'torch', 'transformers', 'zmq', 'numba'} & set(sys.modules)\n"
    )
    root = Path(__file__).parents[1]
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, cwd=root)
    assert (tmp_path / "run" / "summary.json").exists()
    assert sorted((tmp_path / "run" / "plots").glob("*.svg"))


def test_one_call_from_a_notebook(tiny: Options, tmp_path: Path) -> None:
    options = tiny | {"out": str(tmp_path / "run"), "rounds": 1, "local_steps": 1}
    summary = sim.run(**options)
    assert summary["folder"] == str(tmp_path / "run")
    assert {path.name for path in (tmp_path / "run").iterdir()} == {
        "accumulator.npz",
        "config.toml",
        "links.csv",
        "plots",
        "rounds.jsonl",
        "sim",
        "summary.json",
        "topology.json",
    }
    again = sim.run(experiment_from(options | {"out": str(tmp_path / "other")}))
    assert again["digests"] == summary["digests"]
    with pytest.raises(UserError, match="there is no such option; did you mean learning_rate"):
        sim.run(lerning_rate=1.0)


def ended(accumulators: list[str], models: list[str], **changes: Any) -> dict[str, Any]:
    """The summary of a run that ended with these digests."""
    outcome = Outcome(
        accumulator_digests=accumulators,
        model_digests=models,
        entries=[make_end(0, 0, 4), make_end(1, 0, 4)],
        received=[1, 1],
        timeouts=0,
        missing=(),
        traffic=Traffic(),
    )
    experiment = experiment_from(SYNTHETIC | {"peers": 2})
    graph = topology.build("line", 2)
    return summarise("sim", experiment, graph, None, None, replace(outcome, **changes))


@pytest.mark.parametrize(
    ("accumulators", "models", "equal"),
    [
        (["a", "a"], ["m", "m"], True),
        (["a", "a"], [], True),
        (["a", "b"], ["m", "m"], False),
        (["a", "a"], ["m", "n"], False),
        (["a", "b"], [], False),
    ],
)
def test_equal_means_that_accumulators_and_models_are(
    accumulators: list[str], models: list[str], equal: bool
) -> None:
    assert ended(accumulators, models)["digests"] == {
        "accumulator": accumulators,
        "model": models or None,
        "all_equal": equal,
    }


def test_what_went_wrong_is_in_the_summary() -> None:
    summary = ended(["a", "b"], [], timeouts=3, missing=(1,), rejected=4, exit_signals=[9])
    assert summary["timeouts_fired"] == 3
    assert summary["missing_peers"] == [1]
    assert summary["rejected_messages"] == 4
    assert summary["faults"]["exit_signals"] == [9]
    assert "processes" not in summary
    processes = [{"peer": 0, "pid": 7, "address": "tcp://127.0.0.1:5000"}]
    assert ended(["a", "a"], [], processes=processes)["processes"] == processes


def test_without_entries_there_is_no_redundancy() -> None:
    assert ended(["a", "a"], [])["bytes"]["redundancy"] == 0.0
    assert ended(["a", "a"], [], entries=[])["bytes"]["redundancy"] is None


# Resuming


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
        made.append(Fragile(peer.setup.build_trainer(*parts), last))
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
    tiny: Options,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = tmp_path / "run"
    before = interrupted(monkeypatch, last, lambda: run(out, tiny))
    assert not (out / "summary.json").exists()
    assert len(lines(out)) == last // 4 + 1
    resumed: dict[str, Any] = {}
    after = counted(monkeypatch, lambda: resumed.update(run(out, tiny, resume=True)))
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
    tiny: Options,
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
            run(out, tiny)
    assert len(RunFolder(out).read_rounds()) == evaluations
    resumed = run(out, tiny, resume=True)
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
    tiny: Options,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = tmp_path / "run"
    interrupted(monkeypatch, last, lambda: run(out, tiny))
    path = out / "rounds.jsonl"
    texts = path.read_text().splitlines(keepends=True)
    path.write_text("".join(texts[:kept]) + "".join(texts[kept : kept + 1])[:-30])
    the_same(run(out, tiny, resume=True), finished)
    for name in ("round", "eval_loss", "accumulator"):
        found, whole = lines(out), lines(Path(finished["folder"]))
        assert [record[name] for record in found] == [record[name] for record in whole]


def test_an_ended_run_is_resumed_without_training(
    finished: dict[str, Any], tiny: Options, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run"
    run(out, tiny)
    before, resumed = lines(out), {}
    payload = sum(row["payload_bytes"] for row in links(out))
    taken = counted(monkeypatch, lambda: resumed.update(run(out, tiny, resume=True)))
    assert taken == []
    the_same(resumed, finished)
    assert lines(out) == before
    assert resumed["bytes"]["payload_total"] == payload


def test_resuming_where_nothing_was_saved_starts_anew(
    finished: dict[str, Any], tiny: Options, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    for name in ("empty", "new"):
        summary = run(tmp_path / name, tiny, resume=True)
        assert without_costs(summary) == without_costs(finished)


def test_more_rounds_go_on_from_where_the_run_had_ended(
    finished: dict[str, Any], tiny: Options, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run"
    short = run(out, tiny, rounds=2)
    resumed: dict[str, Any] = {}
    taken = counted(monkeypatch, lambda: resumed.update(run(out, tiny, resume=True)))
    assert sorted(taken) == [(peer_, 2) for peer_ in range(4)]
    assert resumed["digests"]["all_equal"]
    assert resumed["eval_loss"]["per_round"][:2] == short["eval_loss"]["per_round"]
    assert len(resumed["eval_loss"]["per_round"]) == 3
    assert RunFolder(out).experiment().rounds == 3
    # The END of the first life stays in every log.
    assert resumed["entries"]["published"] == finished["entries"]["published"] + 4


@pytest.mark.parametrize("method", ["fedkseed", "fedkseed-pro"])
def test_four_rounds_at_once_are_two_and_two_more(
    method: str, tiny: Options, tmp_path: Path
) -> None:
    options = tiny | {"method": method, "rounds": 4}
    whole = run(tmp_path / "whole", options)
    out = tmp_path / "run"
    run(out, options, rounds=2)
    resumed = run(out, options, resume=True)
    assert resumed["eval_loss"] == whole["eval_loss"]
    assert resumed["digests"] == whole["digests"]


def test_another_experiment_does_not_go_on_with_a_run(
    finished: dict[str, Any], tiny: Options
) -> None:
    folder = Path(finished["folder"])
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    with pytest.raises(UserError, match="seed is 0 there and 1 here"):
        run(folder, tiny, seed=1, resume=True)
    with pytest.raises(UserError, match="already holds a run"):
        run(folder, tiny)
    after = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert before == after


# The trainer without a model


def test_synthetic_histories_are_functions_of_seed_peer_and_round() -> None:
    cut = Accumulator.empty(4, peer.setup.choose_units(1e-4, 1, 50, 1.0, 2))
    indices = np.zeros(50, dtype=np.int64)
    made = {
        (seed, peer_, round_): SyntheticTrainer(seed).train(peer_, round_, cut, indices)
        for seed in (0, 1)
        for peer_ in (0, 1)
        for round_ in (0, 1)
    }
    assert len({each.gradients.tobytes() for each in made.values()}) == 8
    again = SyntheticTrainer(1).train(0, 1, cut, indices + 3)
    assert again.gradients.tobytes() == made[1, 0, 1].gradients.tobytes()
    everything = np.concatenate([each.gradients for each in made.values()])
    assert np.all(np.abs(everything) < 1)
    assert abs(everything.mean()) < 0.1
    assert everything.std() == pytest.approx(3**-0.5, rel=0.1)
    assert all(math.isnan(each.loss) and each.skipped == 0 for each in made.values())
