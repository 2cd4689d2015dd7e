"""Whole simulated runs: what they leave behind, and that all peers agree."""

from __future__ import annotations

import csv
import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from runs import SYNTHETIC, Options, lines, links, run, without_costs
from training import whole

import peer.corpus
import peer.setup
import sim
from peer.config import experiment_from
from peer.errors import UserError
from peer.evaluation import evaluate
from peer.perturbation import reference
from peer.records import RunFolder
from peer.seeds import candidate_seeds
from peer.weights_digest import weights_digest

KINDS = ("payload", "control", "framing", "handshake")
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
def finished(tiny_options: Options, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return run(tmp_path_factory.mktemp("runs") / "finished", tiny_options)


def test_the_summary_has_the_names_of_the_schema(finished: dict[str, Any]) -> None:
    for part, names in SCHEMA.items():
        assert set(names.split()) <= set(finished[part] if part else finished)
    assert finished["schema"] == 1
    assert finished["engine"] == "sim"
    assert "processes" not in finished


def test_the_summary_on_disk_is_the_one_returned(finished: dict[str, Any]) -> None:
    folder = Path(finished["folder"])
    assert json.loads((folder / "summary.json").read_text()) == finished


def test_the_summary_says_what_was_run(finished: dict[str, Any], tiny_options: Options) -> None:
    for name in ("peers", "rounds", "local_steps", "candidate_seeds"):
        assert finished[name] == tiny_options[name]
    assert (finished["method"], finished["perturbation"]) == ("fedkseed", "rademacher")
    assert finished["topology"] == {"name": "ring", "nodes": 4, "edges": 4, "diameter": 2}
    assert finished["model"]["name"] == tiny_options["model"]
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
    global_model = peer.setup.build_global_model(folder.experiment(), remember=False, threads=1)
    exponent = held.units.exponent - held.units.fraction_bits
    seeds = candidate_seeds(0, 32)
    model = reference.rebuild(
        reference.RADEMACHER, whole(global_model.w0), seeds, held.sums, exponent
    )
    assert weights_digest(model) == digests["model"][0]
    assert held.sums.any()
    # Nothing is drawn by importance.
    assert not held.counts.any()


def test_losses_are_those_of_the_models_of_each_round(finished: dict[str, Any]) -> None:
    folder = RunFolder(Path(finished["folder"]))
    loss, records = finished["eval_loss"], lines(folder.path)
    assert [record["round"] for record in records] == [0, 1, 2, 3]
    assert [record["eval_loss"] for record in records] == [loss["initial"], *loss["per_round"]]
    assert loss["final"] == loss["per_round"][-1]
    assert len(set(loss["per_round"])) == 3
    experiment = folder.experiment()
    corpus = peer.corpus.deal(experiment, *peer.corpus.encode_rows(experiment))
    global_model = peer.setup.build_global_model(experiment, remember=False, threads=1)
    rows = corpus.split.held_out
    assert loss["initial"] == evaluate(global_model.model, corpus.encoded, rows)
    assert loss["final"] == global_model.evaluate(folder.read_accumulator(), corpus.encoded, rows)
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
    for kind in KINDS:
        assert cost[f"{kind}_total"] == sum(row[f"{kind}_bytes"] for row in rows)
    assert cost["wire_total"] == sum(sum(row[f"{kind}_bytes"] for kind in KINDS) for row in rows)
    # By peer: sent plus received, everything included.
    of_peer = [
        sum(
            sum(row[f"{kind}_bytes"] for kind in KINDS)
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
def test_payload_is_what_flooding_and_trees_send(graph: str, edges: int, tmp_path: Path) -> None:
    flood = run(tmp_path / "flood", SYNTHETIC, topology=graph, gossip="flood")
    tree = run(tmp_path / "tree", SYNTHETIC, topology=graph, gossip="tree")
    assert flood["digests"] == tree["digests"]
    assert flood["digests"]["all_equal"]
    assert flood["bytes"]["redundancy"] == (2 * edges - 5 + 1) / 4
    assert tree["bytes"]["redundancy"] == 1
    for cost in (flood["bytes"], tree["bytes"]):
        assert cost["payload_total"] == cost["redundancy"] * cost["lower_bound_payload_total"]


def test_the_same_experiment_gives_the_same_run(
    finished: dict[str, Any], tiny_options: Options, tmp_path: Path
) -> None:
    again = run(tmp_path / "again", tiny_options)
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
        {"perturbation": "gaussian"},
        {"dtype": "bfloat16"},
        {"gradient_bytes": 1},
        {"method": "fedkseed-pro"},
        {"participation": 0.5},
    ],
    ids=lambda change: "-".join(change),
)
def test_another_experiment_gives_another_model_that_all_agree_on(
    change: Options, finished: dict[str, Any], tiny_options: Options, tmp_path: Path
) -> None:
    summary = run(tmp_path / "run", tiny_options, **change)
    assert summary["digests"]["all_equal"]
    assert len(set(summary["digests"]["model"])) == 1
    assert summary["digests"]["model"][0] != finished["digests"]["model"][0]
    assert math.isfinite(summary["eval_loss"]["final"])


def test_neither_topology_nor_logging_changes_the_model(
    finished: dict[str, Any], tiny_options: Options, tmp_path: Path
) -> None:
    for number, change in enumerate([{"topology": "star"}, {"log_level": "error"}]):
        summary = run(tmp_path / str(number), tiny_options, **change)
        assert summary["digests"] == finished["digests"]
        assert summary["eval_loss"] == finished["eval_loss"]


def test_only_active_peers_publish(tiny_options: Options, tmp_path: Path) -> None:
    options = tiny_options | {"method": "fedkseed-pro"}
    summary = run(tmp_path / "run", options, participation=0.5, rounds=4)
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
    # Each of the 20 histories is sent 4 times; all else in them is as before, but for the length.
    saved = wide["bytes"]["payload_total"] - summary["bytes"]["payload_total"]
    assert 20 * 4 * 40 * (4 - width) <= saved < 20 * 4 * (40 * (4 - width) + 4)
    assert summary["gradient_bytes"] == width


def test_pro_says_how_likely_each_seed_is(tiny_options: Options, tmp_path: Path) -> None:
    summary = run(tmp_path / "run", tiny_options, method="fedkseed-pro")
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
def test_weights_of_16_bits_agree_too(dtype: str, tiny_options: Options, tmp_path: Path) -> None:
    summary = run(tmp_path / "run", tiny_options, dtype=dtype)
    assert summary["digests"]["all_equal"]
    assert summary["model"]["dtype"] == dtype
    assert summary["eval_loss"]["final"] != summary["eval_loss"]["initial"]


def test_a_run_whose_loss_is_lost_still_agrees_and_says_so(
    tiny_options: Options, tmp_path: Path
) -> None:
    options = tiny_options | {"method": "fedkseed-pro", "dtype": "float16"}
    summary = run(tmp_path / "run", options, learning_rate=1e3, gradient_bound=32768.0)
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


def test_one_call_from_a_notebook(tiny_options: Options, tmp_path: Path) -> None:
    options = tiny_options | {"out": str(tmp_path / "run"), "rounds": 1, "local_steps": 1}
    summary = sim.run(**options)
    assert summary["folder"] == str(tmp_path / "run")
    assert {path.name for path in (tmp_path / "run").iterdir()} == {
        "accumulator.npz",
        "config.toml",
        "layout.json",
        "links.csv",
        "plots",
        "rounds.jsonl",
        "sim",
        "summary.json",
        "tasks.csv",
        "topology.json",
    }
    again = sim.run(experiment_from(options | {"out": str(tmp_path / "other")}))
    assert again["digests"] == summary["digests"]
    with pytest.raises(UserError, match="there is no such option; did you mean learning_rate"):
        sim.run(lerning_rate=1.0)
