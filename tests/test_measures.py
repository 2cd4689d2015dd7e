"""Runs that measure Rouge-L and tasks: when, on which rows, what is left, and nothing else."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from runs import lines, run, without_costs

from peer.answers import Answers, Questions
from peer.config import experiment_from
from peer.corpus import deal, encode_rows
from peer.data.encode import Encoded
from peer.errors import UserError
from peer.evaluation import evaluate
from peer.generation import generate
from peer.launcher import launch
from peer.model import load_model, load_tokenizer
from peer.rollback import rollback
from peer.rouge import rouge_l
from peer.setup import prepare
from sim.closing import closing_words
from sim.estimate import estimate, in_words

SHARED = Path(__file__).parents[2] / "shared" / "data"
STORIES = SHARED / "stories260K-hf"
TASKS = SHARED / "natural-instructions-mini" / "tasks"

Options = dict[str, Any]


@pytest.fixture(scope="module")
def asking(tiny_options: Options) -> Options:
    return tiny_options | {"rouge_rows": 5, "rouge_every": 2, "new_tokens": 6}


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory, asking: Options) -> dict[str, Any]:
    """The summary of a run of three rounds."""
    return run(tmp_path_factory.mktemp("asked") / "run", asking)


def samples(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "samples.jsonl").read_text().splitlines()]


def counted(monkeypatch: pytest.MonkeyPatch, stop_at: int = 99) -> list[int]:
    """Have it counted how often a model is asked; the process dies when it is for the last time."""
    ask, times = Questions.ask, [0]

    def counting(self: Questions, *args: Any) -> Answers:
        if times[0] == stop_at:
            raise KeyboardInterrupt
        times[0] += 1
        return ask(self, *args)

    monkeypatch.setattr(Questions, "ask", counting)
    return times


def test_rouge_is_measured_at_both_ends_and_every_so_many_rounds(asked: dict[str, Any]) -> None:
    records = lines(Path(asked["folder"]))
    values = [record["rouge_l"] for record in records]
    assert [value is None for value in values] == [False, True, False, False]
    assert asked["rouge_l"] == {
        "initial": values[0],
        "final": values[3],
        "per_round": {"2": values[2], "3": values[3]},
    }
    assert [record["tasks"] is None for record in records] == [False, True, False, False]
    assert all(0 <= value <= 1 for value in values if value is not None)
    assert "Rouge-L        " in closing_words(asked)


def test_the_numbers_are_those_of_model_rows_and_answers(
    asked: dict[str, Any], asking: Options
) -> None:
    experiment = experiment_from(asking)
    corpus = deal(experiment, *encode_rows(experiment))
    encoded, held_out = corpus.encoded, corpus.split.held_out
    model = load_model(asking["model"], "float32", torch.device("cpu"))
    tokenizer = load_tokenizer(asking["model"])
    first, *_, last = lines(Path(asked["folder"]))
    for measure in first["tasks"]:
        code = encoded.category_names.index(measure["task"])
        its = held_out[encoded.categories[held_out] == code]
        assert measure["rows"] == len(its)
        assert measure["loss"] == pytest.approx(evaluate(model, encoded, its), rel=1e-6)
    assert sum(measure["rows"] for measure in first["tasks"]) == len(held_out)
    assert sum(measure["answers"] for measure in first["tasks"]) == 5
    said = [line for line in samples(Path(asked["folder"])) if line["round"] == 0]
    assert len(said) == 5
    assert {line["row"] for line in said} <= set(held_out.tolist())
    for line in said:
        start, border = encoded.offsets[line["row"]], encoded.prompt_lengths[line["row"]]
        prompt = encoded.tokens[start : start + border]
        (tokens,) = generate(model, [prompt], new_tokens=6, positions=128, ends=(1,))
        assert line["generated"] == tokenizer.decode(tokens)
        response = encoded.tokens[start + border : encoded.offsets[line["row"] + 1]]
        assert line["expected"] == tokenizer.decode(response, skip_special_tokens=True)
        assert tokenizer.decode(prompt).endswith(line["prompt"])
        assert line["rouge_l"] == rouge_l(line["expected"], line["generated"])
    mean = np.mean([line["rouge_l"] for line in said])
    assert first["rouge_l"] == pytest.approx(mean)
    assert asked["tasks"] == [
        {
            "task": after["task"],
            "rows": after["rows"],
            "loss": {"initial": before["loss"], "final": after["loss"]},
            "rouge_l": {"initial": before["rouge_l"], "final": after["rouge_l"]},
        }
        for before, after in zip(first["tasks"], last["tasks"], strict=True)
    ]


def test_tasks_are_a_table_too(asked: dict[str, Any]) -> None:
    with (Path(asked["folder"]) / "tasks.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["task"] for row in rows] == ["animals", "colours", "pairs"]
    for row, task in zip(rows, asked["tasks"], strict=True):
        assert int(row["rows"]) == task["rows"]
        for what in ("loss", "rouge_l"):
            for end in ("initial", "final"):
                assert float(row[f"{what}_{end}"]) == task[what][end]


def test_measuring_changes_nothing_else(
    asked: dict[str, Any], tiny_options: Options, tmp_path: Path
) -> None:
    plain = run(tmp_path / "plain", tiny_options)
    assert plain["rouge_l"] is None
    assert [task["rouge_l"] for task in plain["tasks"]] == [None] * 3
    assert not (tmp_path / "plain" / "samples.jsonl").exists()
    measured = ("rouge_l", "tasks")
    rest = {key: value for key, value in without_costs(asked).items() if key not in measured}
    assert rest == {key: value for key, value in without_costs(plain).items() if key in rest}


def test_peers_need_not_agree_on_what_is_measured(tiny_options: Options, asking: Options) -> None:
    plain, measuring = (
        prepare(experiment_from(options), "sim").protocol for options in (tiny_options, asking)
    )
    assert plain.fields == measuring.fields


def test_the_same_run_says_the_same(asked: dict[str, Any], asking: Options, tmp_path: Path) -> None:
    again = run(tmp_path / "run", asking)
    assert without_costs(again) == without_costs(asked)
    assert samples(tmp_path / "run") == samples(Path(asked["folder"]))


def test_a_resumed_run_asks_after_no_round_twice(
    asked: dict[str, Any], asking: Options, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, before = tmp_path / "run", Path(asked["folder"])
    with monkeypatch.context() as patch:
        times = counted(patch)
        run(out, asking, rounds=2)
        assert times == [2]
        resumed = run(out, asking, resume=True)
        assert times == [3]
        assert run(out, asking, resume=True)["tasks"] == asked["tasks"]
        assert times == [3]
    assert resumed["rouge_l"] == asked["rouge_l"]
    assert resumed["tasks"] == asked["tasks"]
    assert samples(out) == samples(before)


@pytest.mark.parametrize("times", [0, 1, 2])
def test_a_run_killed_while_it_answers_ends_alike(
    times: int,
    asked: dict[str, Any],
    asking: Options,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = tmp_path / "run"
    with monkeypatch.context() as patch:
        counted(patch, stop_at=times)
        with pytest.raises(KeyboardInterrupt):
            run(out, asking)
    with monkeypatch.context() as patch:
        left = counted(patch)
        resumed = run(out, asking, resume=True)
        assert left == [3 - times]
    assert resumed["rouge_l"] == asked["rouge_l"]
    assert resumed["tasks"] == asked["tasks"]
    assert samples(out) == samples(Path(asked["folder"]))


def test_what_is_asked_stays_and_how_often_may_change(
    asked: dict[str, Any], asking: Options, tmp_path: Path
) -> None:
    out = shutil.copytree(asked["folder"], tmp_path / "run")
    for name, value in (("rouge_rows", 4), ("new_tokens", 7)):
        with pytest.raises(UserError, match=f"{name} is {asking[name]} there and {value} here"):
            run(out, asking | {name: value}, resume=True)
    longer = run(out, asking, rouge_every=1, rounds=5, resume=True)
    assert list(longer["rouge_l"]["per_round"]) == ["2", "3", "4", "5"]


def test_a_rollback_keeps_the_answers_of_its_rounds(asked: dict[str, Any], tmp_path: Path) -> None:
    rollback(Path(asked["folder"]), 2, tmp_path / "back")
    kept = [line for line in samples(Path(asked["folder"])) if line["round"] <= 2]
    assert samples(tmp_path / "back") == kept
    rollback(Path(asked["folder"]), 1, tmp_path / "further")
    assert {line["round"] for line in samples(tmp_path / "further")} == {0}


def test_damaged_samples_are_left_out(
    asked: dict[str, Any], asking: Options, tmp_path: Path
) -> None:
    out = shutil.copytree(asked["folder"], tmp_path / "run")
    path = out / "samples.jsonl"
    first, *_ = path.read_text().splitlines(keepends=True)
    path.write_text(first + "[]\n" + first)
    run(out, asking, rounds=4, resume=True)
    assert [line["round"] for line in samples(out)].count(4) == 5
    assert [line["round"] for line in samples(out)].count(0) == 1


def test_what_it_would_cost_is_told(asking: Options, tmp_path: Path) -> None:
    cost = estimate(experiment_from(asking | {"out": str(tmp_path / "run")}), "sim")
    assert cost["seconds"]["answers"] > 0
    assert cost["seconds"]["total"] > 3 * cost["seconds"]["answers"]
    assert ", answers " in in_words(cost)
    assert not (tmp_path / "run").exists()


def test_more_rows_than_are_held_out_are_all_of_them(asking: Options, tmp_path: Path) -> None:
    summary = run(tmp_path / "run", asking | {"rouge_rows": 99, "rounds": 1})
    first, *_ = lines(tmp_path / "run")
    assert sum(measure["answers"] for measure in first["tasks"]) == asking["eval_rows"]
    assert summary["rouge_l"] is not None


def test_who_says_what_is_expected_has_all_and_who_is_silent_nothing(
    encoded: Encoded, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = np.arange(12)
    tokenizer = load_tokenizer(str(tiny_model))
    questions = Questions(encoded, rows, tokenizer, count=12, new_tokens=4, positions=128)
    model = load_model(str(tiny_model), "float32", torch.device("cpu"))
    starts = encoded.offsets[:12] + encoded.prompt_lengths[:12]
    responses = [
        encoded.tokens[a:b].tolist() for a, b in zip(starts, encoded.offsets[1:], strict=False)
    ]
    for said, score in ((responses, 1.0), ([[]] * 12, 0.0)):
        monkeypatch.setattr("peer.answers.generate", lambda *_, said=said, **__: said)
        answers = questions.ask(model)
        assert answers.rouge_l.tolist() == [score] * 12
        assert answers.mean == score
    kept = questions.samples(answers)
    assert len(kept) == 8
    assert {line["task"] for line in kept} == {"animals", "colours", "pairs"}
    by_row = {line["row"]: line for line in kept}
    assert by_row[0]["expected"] == "red"
    assert all(line["generated"] == "" for line in kept)


@pytest.mark.skipif(
    not (STORIES.exists() and TASKS.exists()),
    reason="stories260K and Natural Instructions are not beside the project",
)
def test_natural_instructions_are_told_task_by_task(tmp_path: Path) -> None:
    names = (
        "task105_story_cloze-rocstories_sentence_generation",
        "task1146_country_capital",
        "task1508_wordnet_antonyms",
    )
    (tmp_path / "tasks").mkdir()
    for name in names:
        task = json.loads((TASKS / f"{name}.json").read_text(encoding="utf-8"))
        task["Instances"] = task["Instances"][:40]
        (tmp_path / "tasks" / f"{name}.json").write_text(json.dumps(task))
    summary = run(
        tmp_path / "run",
        {
            "model": str(STORIES),
            "data": str(tmp_path / "tasks"),
            "peers": 3,
            "rounds": 1,
            "local_steps": 2,
            "candidate_seeds": 16,
            "eval_rows": 24,
            "rouge_rows": 9,
            "new_tokens": 16,
        },
    )
    assert [task["task"] for task in summary["tasks"]] == [*names]
    assert sum(task["rows"] for task in summary["tasks"]) == 24
    assert all(task["rouge_l"]["initial"] is not None for task in summary["tasks"])
    assert 0 < summary["rouge_l"]["initial"] < 1
    assert {line["task"] for line in samples(tmp_path / "run")} == set(names)
    assert all(line["generated"] for line in samples(tmp_path / "run"))


@pytest.mark.slow
def test_processes_end_with_the_simulators_answers(
    asked: dict[str, Any], asking: Options, tmp_path: Path
) -> None:
    launched = launch(experiment_from(asking | {"out": str(tmp_path / "run")}))
    assert launched["rouge_l"] == asked["rouge_l"]
    assert launched["tasks"] == asked["tasks"]
    assert samples(tmp_path / "run") == samples(Path(asked["folder"]))
