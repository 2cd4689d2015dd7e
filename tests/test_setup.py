"""From an experiment to what a run is made of: graph, corpus, roster, agreement, trainer."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import topology
from peer.agreement import LOCAL_NAMES, build_protocol
from peer.config import Experiment, experiment_from
from peer.corpus import Corpus, deal, encode_rows
from peer.errors import UserError
from peer.global_model import GlobalModel
from peer.protocol import Protocol
from peer.scenario import parse_scenario
from peer.seeds import candidate_seeds
from peer.setup import build_global_model, prepare, resolve_topology, seeds_of
from peer.trainer import SyntheticTrainer
from peer.training import build_trainer
from peer.zeroth_order import ZerothOrderTrainer

SYNTHETIC: dict[str, Any] = {"trainer": "synthetic", "peers": 6, "rounds": 3, "local_steps": 4}


@pytest.fixture(scope="module")
def real(tiny_model: Path, tiny_data: Path) -> Experiment:
    return experiment_from(
        {
            "model": str(tiny_model),
            "data": str(tiny_data),
            "peers": 4,
            "rounds": 2,
            "local_steps": 3,
            "candidate_seeds": 16,
            "eval_rows": 8,
            "degree": 2,
        }
    )


@pytest.fixture(scope="module")
def parts(real: Experiment) -> tuple[Corpus, GlobalModel]:
    return deal(real, *encode_rows(real)), build_global_model(real, remember=False, threads=1)


def agreement(experiment: Experiment, parts: tuple[Corpus, GlobalModel] | None = None) -> Protocol:
    experiment, graph = resolve_topology(experiment)
    return build_protocol(experiment, graph, *(parts or (None, None)))


def differing(one: Protocol, other: Protocol) -> set[str]:
    names = {*one.fields, *other.fields}
    return {name for name in names if one.fields.get(name) != other.fields.get(name)}


CHANGES: dict[str, Any] = {
    "topology": "star",
    "peers": 5,
    "degree": 3,
    "local_steps": 4,
    "candidate_seeds": 17,
    "learning_rate": 1.1e-4,
    "epsilon": 2e-3,
    "batch_size": 2,
    "participation": 0.5,
    "method": "fedkseed-pro",
    "aggregation": None,
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
    "trainer": "synthetic",
    "perturbation": "gaussian",
    "gossip": "flood",
    "schedule": "async",
    "gradient_bytes": 2,
    "gradient_bound": 512.0,
    "model": None,
    "data": None,
    "partition": "iid",
    "alpha": 0.6,
    "held_out": "pairs",
    "eval_rows": 9,
    "train_share": 0.5,
    "test_share": 0.5,
    "min_rows": 2,
    "rouge_rows": 3,
    "new_tokens": 9,
    "max_length": 60,
    "long_rows": "drop",
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
    "tick": 0.5,
    "sign": True,
    "fold": False,
    "scenario": parse_scenario([{"verb": "crash", "peer": 1, "time": 1.5}]),
}
"""Another value of each option that defines a run; None: there is none, or not here."""


def test_every_option_that_defines_a_run_is_looked_at_below(real: Experiment) -> None:
    assert set(CHANGES) == set(real.identity())


@pytest.mark.parametrize("name", sorted(set(CHANGES) - set(LOCAL_NAMES)))
def test_another_value_of_an_option_is_another_agreement(name: str, real: Experiment) -> None:
    before = agreement(real)
    if CHANGES[name] is None:
        assert name in before.fields
        return
    assert name in differing(before, agreement(replace(real, **{name: CHANGES[name]})))


@pytest.mark.parametrize(
    ("change", "fields"),
    [
        ({"topology": "star"}, {"edges"}),
        ({"topology": "complete"}, {"edges"}),
        ({"eval_rows": 9}, {"roster", "shards"}),
        ({"rounds": 3}, {"rounds"}),
        # So long a run needs another unit for its sums.
        ({"rounds": 30000}, {"rounds", "units"}),
        ({"learning_rate": 9e-4}, {"learning_rate", "units"}),
        ({"learning_rate": 1.01e-4}, {"learning_rate"}),
        ({"seed": 3}, {"seed", "roster", "shards"}),
        ({"dtype": "float16"}, {"dtype"}),
        ({"peers": 5}, {"peers", "edges", "roster", "shards"}),
    ],
)
def test_what_options_lead_to_is_compared_too(
    change: dict[str, Any], fields: set[str], real: Experiment, parts: tuple[Corpus, GlobalModel]
) -> None:
    other = replace(real, **change)
    corpus = deal(other, *encode_rows(other))
    assert differing(agreement(real, parts), agreement(other, (corpus, parts[1]))) == fields


@pytest.mark.parametrize(
    "change",
    [
        {"device": "cpu"},
        {"threads": 2},
        {"out": "elsewhere"},
        {"out": "elsewhere", "resume": True},
        {"log_level": "debug"},
        {"json": True},
        {"dry_run": True},
        {"round_timeout": 7.0},
        {"settle_timeout": 7.0},
        {"step_seconds": 0.2},
        {"slot_seconds": 0.2},
        {"latency": "uniform:0.02-0.08", "latency_per": "frame", "bandwidth": 1e6},
        {"loss": 0.1, "duplication": 0.1, "reordering": 0.1},
        {"side_by_side": 2},
    ],
    ids=lambda change: "-".join(change),
)
def test_what_each_peer_may_choose_is_not_compared(
    change: dict[str, Any], real: Experiment, parts: tuple[Corpus, GlobalModel]
) -> None:
    assert not differing(agreement(real, parts), agreement(replace(real, **change), parts))


def test_names_of_files_are_not_compared_but_what_is_in_them(
    real: Experiment,
    parts: tuple[Corpus, GlobalModel],
    tiny_model: Path,
    tiny_data: Path,
    tmp_path: Path,
) -> None:
    model = shutil.copytree(tiny_model, tmp_path / "model")
    data = shutil.copy(tiny_data, tmp_path / "copy.jsonl")
    edges = tmp_path / "ring.edgelist"
    edges.write_text("0 1\n1 2\n2 3\n3 0\n")
    other = replace(real, model=str(model), data=str(data), topology=str(edges))
    rebuilt = (
        deal(other, *encode_rows(other)),
        build_global_model(other, remember=False, threads=1),
    )
    assert not differing(agreement(real, parts), agreement(other, rebuilt))

    from safetensors.torch import load_file, save_file

    tensors = load_file(model / "model.safetensors")
    tensors["model.norm.weight"][3] += 2.0**-20
    save_file(tensors, model / "model.safetensors", metadata={"format": "pt"})
    global_model = build_global_model(other, remember=False, threads=1)
    assert differing(agreement(real, parts), agreement(other, (parts[0], global_model))) == {"w0"}

    # One word is another corpus, and one usable row less is another roster too.
    lines = data.read_text().splitlines(keepends=True)
    data.write_text("".join([lines[0].replace("red", "blue"), *lines[1:]]))
    corpus = deal(other, *encode_rows(other))
    assert differing(agreement(real, parts), agreement(other, (corpus, global_model))) == {
        "w0",
        "shards",
    }
    data.write_text("".join(lines[1:]))
    corpus = deal(other, *encode_rows(other))
    differences = differing(agreement(real, parts), agreement(other, (corpus, global_model)))
    assert differences == {"w0", "shards", "roster"}


def test_where_rows_are_cut_is_compared_where_it_matters(
    real: Experiment, parts: tuple[Corpus, GlobalModel]
) -> None:
    longest = int(np.diff(parts[0].encoded.offsets).max())
    for max_length, fields in ((128, set()), (longest, set()), (longest - 1, {"shards"})):
        other = replace(real, max_length=max_length)
        corpus = deal(other, *encode_rows(other))
        assert differing(agreement(real, parts), agreement(other, (corpus, parts[1]))) == fields


def test_another_layout_is_noticed(
    real: Experiment, parts: tuple[Corpus, GlobalModel], tied_model: Path
) -> None:
    global_model = build_global_model(
        replace(real, model=str(tied_model)), remember=False, threads=1
    )
    assert differing(agreement(real, parts), agreement(real, (parts[0], global_model))) == {
        "layout",
        "w0",
    }


def test_the_pre_trained_weights_are_compared_and_not_the_present_ones(
    real: Experiment, parts: tuple[Corpus, GlobalModel]
) -> None:
    before = agreement(real, parts)
    parts[1].model.weights.add_(1.0)
    assert not differing(before, agreement(real, parts))


def test_fields_do_not_hang_on_the_process() -> None:
    # Python's own hashes of texts differ from process to process.
    code = (
        "from peer.config import experiment_from; from peer.setup import *;"
        "from peer.agreement import build_protocol;"
        f"experiment, graph = resolve_topology(experiment_from({SYNTHETIC!r}));"
        "fields = build_protocol(experiment, graph, None, None).fields;"
        "print({name: value.hex() for name, value in fields.items()})"
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": seed, "PATH": ""},
            cwd=Path(__file__).parents[1],
            check=True,
            capture_output=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(found) == 1
    here = agreement(experiment_from(SYNTHETIC)).fields
    assert str({name: value.hex() for name, value in here.items()}) == found.pop().decode().strip()


def test_a_protocol_says_what_the_experiment_says(
    real: Experiment, parts: tuple[Corpus, GlobalModel]
) -> None:
    experiment = replace(
        real, method="fedkseed-pro", gradient_bytes=1, round_timeout=3.0, settle_timeout=4.0
    )
    protocol = agreement(experiment, parts)
    assert protocol.roster.rows == tuple(len(shard) for shard in parts[0].split.shards)
    assert sum(protocol.roster.rows) == 72 - 8
    assert protocol.roster.root_seed == real.seed
    assert protocol.roster.participation == 1.0
    assert (protocol.rounds, protocol.local_steps, protocol.candidate_seeds) == (2, 3, 16)
    assert (protocol.gradient_bytes, protocol.gradient_bound) == (1, 1024.0)
    assert protocol.seeds.importance
    assert not agreement(real, parts).seeds.importance
    assert protocol.learning_rate == 1e-4
    assert protocol.units.exponent == -14
    assert (protocol.round_timeout, protocol.settle_timeout) == (3.0, 4.0)


def test_without_a_corpus_all_peers_weigh_the_same() -> None:
    protocol = agreement(experiment_from(SYNTHETIC | {"participation": 0.5, "seed": 9}))
    assert protocol.roster.rows == (1,) * 6
    assert all(len(protocol.roster.active(round_)) == 3 for round_ in range(3))
    assert not {"w0", "layout"} & set(protocol.fields)


def test_by_task_the_data_set_the_number_of_peers(real: Experiment, tmp_path: Path) -> None:
    # Without tasks the three categories are the tasks.
    by_task = replace(real, partition="by-task", peers=7, out=str(tmp_path / "run"))
    prepared = prepare(by_task, "sim")
    assert prepared.experiment.peers == len(prepared.graph.nodes) == 3
    assert prepared.protocol.roster.rows == tuple(map(len, prepared.corpus.split.shards))  # type: ignore[union-attr]
    # A process of a launch is told that number, and comes to the same.
    encoded, empty = encode_rows(by_task)
    corpus = deal(prepared.experiment, encoded, empty)
    assert corpus.digest() == prepared.corpus.digest()  # type: ignore[union-attr]
    left = prepare(replace(by_task, held_out="last"), "sim")
    assert left.experiment.peers == 2
    corpus = deal(left.experiment, encoded, empty)
    assert corpus.digest() == left.corpus.digest()  # type: ignore[union-attr]
    of = [
        encoded.categories[rows].tolist() for rows in (corpus.split.held_out, *corpus.split.shards)
    ]
    assert of[0] == [encoded.category_names.index("pairs")] * real.eval_rows
    assert sorted(of[1:]) == [[0] * 24, [1] * 24]


def test_by_task_takes_a_graph_of_as_many_peers_or_none(real: Experiment, tmp_path: Path) -> None:
    by_task = replace(real, partition="by-task")
    with pytest.raises(topology.TopologyError, match=r"^a torus needs .* which 3 is not; "):
        prepare(replace(by_task, topology="torus"), "sim")
    path = tmp_path / "four.edgelist"
    path.write_text("0 1\n1 2\n2 3\n")
    with pytest.raises(UserError) as refusal:
        prepare(replace(by_task, topology=str(path)), "sim")
    assert str(refusal.value) == (
        "4 peers for 3 training tasks; allowed with partition = by-task: as many peers as tasks"
    )
    path.write_text("0 1\n1 2\n")
    assert prepare(replace(by_task, topology=str(path)), "sim").experiment.peers == 3


def test_without_a_model_by_task_leaves_the_number_of_peers() -> None:
    experiment = experiment_from(SYNTHETIC | {"partition": "by-task"})
    assert prepare(experiment, "sim").experiment.peers == 6


def test_all_held_out_rows_are_evaluated_unless_there_are_to_be_fewer(real: Experiment) -> None:
    rows = encode_rows(real)
    for eval_rows, held_out in ((0, 24), (30, 24), (5, 5)):
        corpus = deal(replace(real, held_out="pairs", eval_rows=eval_rows), *rows)
        assert len(corpus.split.held_out) == held_out
        assert sum(map(len, corpus.split.shards)) == 48


def test_the_test_tasks_of_a_folder_come_to_the_division(real: Experiment, tmp_path: Path) -> None:
    from test_natural_instructions import write_collection

    folder = write_collection(tmp_path, "task1_x\ntask2_x\ntask4_x\n", "task3_x\n")
    experiment = replace(real, data=str(folder), held_out="test", partition="by-task", peers=3)
    corpus = deal(experiment, *encode_rows(experiment))
    assert corpus.split.held_out.tolist() == [4, 5]
    assert sorted(shard.tolist() for shard in corpus.split.shards) == [[0, 1], [2, 3], [6, 7]]


@pytest.mark.parametrize(
    ("one", "other", "fields"),
    [
        ({"held_out": "last"}, {"held_out": "pairs"}, set()),
        ({"held_out": "last"}, {"held_out": "colours"}, {"shards"}),
        ({"long_rows": "cut"}, {"long_rows": "drop"}, set()),
        ({"train_share": 1.0}, {"train_share": 0.5}, {"train_share", "shards", "roster"}),
        ({"held_out": "last"}, {"held_out": "last", "test_share": 0.5}, {"test_share", "shards"}),
        ({"min_rows": 1}, {"min_rows": 16}, {"min_rows", "shards", "roster"}),
    ],
)
def test_who_has_which_rows_is_compared(
    one: dict[str, Any],
    other: dict[str, Any],
    fields: set[str],
    real: Experiment,
    parts: tuple[Corpus, GlobalModel],
) -> None:
    rows = encode_rows(real)
    both = [replace(real, eval_rows=8, **change) for change in (one, other)]
    agreed = [agreement(own, (deal(own, *rows), parts[1])) for own in both]
    assert differing(*agreed) == fields


@pytest.mark.parametrize("partition", ["iid", "dirichlet", "by-category"])
def test_every_row_is_held_out_or_dealt_to_one_peer(partition: str, real: Experiment) -> None:
    corpus = deal(replace(real, partition=partition), *encode_rows(real))
    held_out, shards = corpus.split.held_out, corpus.split.shards
    assert len(held_out) == 8
    assert len(shards) == 4
    assert all(len(shard) for shard in shards)
    assert sorted(np.concatenate([held_out, *shards])) == list(range(72))
    assert corpus.unusable == 0


def test_unusable_rows_are_counted_whatever_makes_them_so(
    real: Experiment, tiny_data: Path, tmp_path: Path
) -> None:
    path = tmp_path / "rows.jsonl"
    row = {"instruction": "Name the pair .", "context": "", "category": "pairs"}
    empty = [json.dumps(row | {"response": text}) + "\n" for text in ("", " \n")]
    long = json.dumps(row | {"instruction": "The red cat " * 60, "response": "red"}) + "\n"
    path.write_text(tiny_data.read_text() + "".join(empty) + long)
    corpus = deal(real, *encode_rows(replace(real, data=str(path))))
    assert corpus.unusable == 3
    assert len(corpus.encoded) == 72


def test_rows_are_cut_where_the_user_or_the_model_says(real: Experiment) -> None:
    by_model, _ = encode_rows(real)
    longest = int(np.diff(by_model.offsets).max())
    assert longest <= 128
    shorter, _ = encode_rows(replace(real, max_length=longest - 1))
    assert int(np.diff(shorter.offsets).max()) == longest - 1
    same, _ = encode_rows(replace(real, max_length=128))
    assert same.tokens.tolist() == by_model.tokens.tolist()
    with pytest.raises(UserError, match=r"^max_length = 129 .*: the model has 128 positions$"):
        encode_rows(replace(real, max_length=129))


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"eval_rows": 72}, "eval_rows 72 of 72 rows; allowed: from 0 to 71"),
        ({"eval_rows": 500}, "eval_rows 500 of 72 rows; allowed: from 0 to 71"),
        ({"eval_rows": 69}, "3 rows for 4 peers; allowed: at least one row for each peer"),
        (
            {"eval_rows": 0},
            "eval_rows = 0 is not allowed: at least 1, unless tasks are held out (held_out)",
        ),
        (
            {"min_rows": 17},
            "64 rows for 4 peers; allowed: at least min_rows = 17 rows for each peer",
        ),
        (
            {"held_out": "paris"},
            "held_out = 'paris' is not allowed: the data has no task or category 'paris'; did you"
            " mean pairs?",
        ),
        ({"peers": 65}, "64 rows for 65 peers; allowed: at least one row for each peer"),
    ],
)
def test_too_few_rows_are_told(change: dict[str, Any], line: str, real: Experiment) -> None:
    with pytest.raises(UserError) as refusal:
        prepare(replace(real, **change), "sim")
    assert str(refusal.value) == line


def test_as_many_peers_as_rows_is_enough(real: Experiment) -> None:
    corpus = deal(replace(real, peers=64), *encode_rows(real))
    assert [len(shard) for shard in corpus.split.shards] == [1] * 64


def test_a_missing_data_file_is_told_before_a_model_is_looked_for(tmp_path: Path) -> None:
    experiment = experiment_from(
        {"data": str(tmp_path / "missing.jsonl"), "model": str(tmp_path / "missing")}
    )
    with pytest.raises(UserError, match=r"missing\.jsonl: no such file"):
        prepare(experiment, "sim")


def test_a_file_sets_the_number_of_peers(tmp_path: Path) -> None:
    for suffix, text in {
        "edgelist": "a b\nb c\n",
        "json": json.dumps(
            {
                "nodes": [{"id": 4}, {"id": 5}, {"id": 6}],
                "edges": [{"source": 4, "target": 5}, {"source": 5, "target": 6}],
            }
        ),
    }.items():
        path = tmp_path / f"three.{suffix}"
        path.write_text(text)
        experiment, graph = resolve_topology(experiment_from({"topology": str(path)}))
        assert experiment.peers == len(graph.nodes) == 3
        assert graph.edges == ((0, 1), (1, 2))
        protocol = agreement(experiment_from(SYNTHETIC | {"topology": str(path)}))
        assert protocol.roster.rows == (1, 1, 1)


def test_families_take_degree_and_seed_of_the_experiment() -> None:
    def edges(**change: Any) -> tuple[tuple[int, int], ...]:
        values = {"topology": "random-regular", "peers": 12, "degree": 3, **change}
        return resolve_topology(experiment_from(values))[1].edges

    assert edges() == topology.build("random-regular", 12, degree=3, seed=0).edges
    assert edges() != edges(seed=1)
    assert len(edges(degree=5)) == 30


def test_all_mistakes_show_before_anything_is_written(
    real: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    mistakes = [
        {"topology": "rong"},
        {"topology": "hypercube", "peers": 7},
        {"topology": "missing.graphml"},
        {"model": "missing"},
        {"data": "missing.jsonl"},
        {"eval_rows": 72},
        {"max_length": 129},
        {"max_length": 1},
        {"rounds": 2**24, "local_steps": 2**17, "gradient_bound": 32768.0},
    ]
    for mistake in mistakes:
        with pytest.raises((UserError, topology.TopologyError)) as refusal:
            prepare(replace(real, **mistake, out="here"), "sim")
        assert len(str(refusal.value).splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_preparing_writes_nothing(
    real: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    prepared = prepare(replace(real, out="here"), "sim")
    assert prepared.folder.path == Path("here")
    assert not list(tmp_path.iterdir())
    assert prepared.global_model is not None
    assert prepared.global_model.model.weights.dtype == torch.float32
    assert (
        prepared.protocol.fields == agreement(real, (prepared.corpus, prepared.global_model)).fields
    )  # type: ignore[arg-type]


def test_the_trainer_is_the_one_that_is_asked_for(
    real: Experiment, parts: tuple[Corpus, GlobalModel]
) -> None:
    assert isinstance(build_trainer(real, *parts), ZerothOrderTrainer)
    assert isinstance(build_trainer(experiment_from(SYNTHETIC), None, None), SyntheticTrainer)


def test_the_trainer_takes_its_steps_by_the_experiment(
    real: Experiment, parts: tuple[Corpus, GlobalModel]
) -> None:
    cut = agreement(real, parts).empty_accumulator()
    indices = np.array([3, 5])

    def gradients(**change: Any) -> bytes:
        trainer = build_trainer(replace(real, **change), *parts)
        return trainer.train(1, 0, cut, indices).gradients.tobytes()

    changes: list[dict[str, Any]] = [
        {},
        {"epsilon": 2e-3},
        {"learning_rate": 1e-2},
        {"batch_size": 2},
        {"seed": 5},
    ]
    assert len({gradients(**change) for change in changes}) == len(changes)
    assert np.abs(np.frombuffer(gradients(gradient_bound=1.0))).max() == 1.0


def test_candidate_seeds_follow_from_the_root_seed() -> None:
    experiment = experiment_from({"seed": 6, "candidate_seeds": 40})
    assert seeds_of(experiment).tolist() == candidate_seeds(6, 40).tolist()


def test_the_number_of_threads_is_the_experiments(real: Experiment) -> None:
    before = torch.get_num_threads()
    try:
        build_global_model(replace(real, threads=2), remember=False, threads=1)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_a_run_has_an_end_to_its_peers() -> None:
    with pytest.raises(UserError, match=r"peers = 262145 is not allowed: a run has at most 262144"):
        prepare(Experiment(peers=2**18 + 1, trainer="synthetic"), "sim")
