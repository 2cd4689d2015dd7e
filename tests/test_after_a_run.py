"""What is done with a run's folder, for every method: export, rollback, resume and report."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from page_reader import PageReader
from runs import Options, lines, run
from test_resume import counted, interrupted, the_same

from peer.config import experiment_from
from peer.data.encode import batch
from peer.errors import UserError
from peer.evaluation import PADDING, row_losses
from peer.export import export
from peer.methods import METHODS
from peer.model import FlatModel, load_model
from peer.records import RunFolder
from peer.rollback import rollback
from peer.setup import load_corpus
from peer.weights_digest import weights_digest
from sim.cli import main
from sim.report import write_report

CPU = torch.device("cpu")
LONG_SUMS = ("ferret", "fedkseed-infinite")
FULL = [name for name, method in METHODS.items() if method.trains.adapter is None]
ADAPTERS = [name for name in METHODS if name not in FULL]


class Ended(dict[str, Path]):
    """Runs by method, each made when it is first looked at: not every worker needs all."""

    def __init__(self, options: Options, folder: Path) -> None:
        super().__init__()
        self._options, self._folder = options, folder

    def __missing__(self, method: str) -> Path:
        options = self._options | {"method": method, "rounds": 2, "coordinates": 64}
        run(self._folder / method, options, virtual_tokens=3)
        self[method] = self._folder / method
        return self[method]


@pytest.fixture(scope="module")
def ended(tiny_options: Options, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The folder of a run of every method, by name."""
    return Ended(tiny_options, tmp_path_factory.mktemp("every"))


@pytest.mark.parametrize("method", FULL)
def test_the_exported_model_is_what_the_run_has_come_to(
    method: str, ended: dict[str, Path], tmp_path: Path
) -> None:
    digest = export(ended[method], tmp_path / "model")
    again = load_model(str(tmp_path / "model"), "float32", CPU)
    assert weights_digest(again.weights) == digest
    summary = json.loads((ended[method] / "summary.json").read_text())
    assert (digest in summary["digests"]["model"]) == (not METHODS[method].averages)
    assert final_loss(ended[method], again) == pytest.approx(summary["eval_loss"]["final"])


def final_loss(folder: Path, model: FlatModel) -> float:
    corpus = load_corpus(RunFolder(folder).experiment())
    return row_losses(model, corpus.encoded, corpus.split.held_out).mean


@pytest.mark.parametrize("method", ADAPTERS)
def test_an_exported_adapter_is_what_peft_loads(
    method: str, ended: dict[str, Path], tiny_model: Path, tmp_path: Path
) -> None:
    from peft import PeftModel

    to = tmp_path / "adapter"
    export(ended[method], to)
    base: Any = load_model(str(tiny_model), "float32", CPU).module
    with warnings.catch_warnings():
        # What peft asks of transformers is no matter of ours.
        warnings.simplefilter("ignore")
        adapted = PeftModel.from_pretrained(base, str(to)).eval()
    experiment = RunFolder(ended[method]).experiment()
    loss, tokens = 0.0, 0
    corpus = load_corpus(experiment)
    for row in corpus.split.held_out:
        ids, mask, labels = batch(corpus.encoded, [row], PADDING)
        with torch.inference_mode():
            logits = adapted(input_ids=ids, attention_mask=mask).logits
        logits = logits[:, logits.shape[1] - ids.shape[1] :]
        each = torch.nn.functional.cross_entropy(
            logits[0, :-1], labels[0, 1:], ignore_index=-100, reduction="sum"
        )
        loss, tokens = loss + float(each), tokens + int((labels[0, 1:] != -100).sum())
    final = lines(ended[method])[-1]["eval_loss"]
    assert loss / tokens == pytest.approx(final, rel=1e-4)


def test_the_command_says_what_it_has_written(
    ended: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], tiny_model: Path
) -> None:
    for method, words in (
        ("fedavg", "the tuned model is in {0}\n"),
        ("fedit", "the LoRA factors are in {0}, for peft.PeftModel.from_pretrained on {1}\n"),
    ):
        to = tmp_path / method
        assert main(["export", str(ended[method]), "--to", str(to)]) == 0
        model = f"the model {tiny_model}"
        assert capsys.readouterr().out == words.format(to, model)


@pytest.mark.parametrize("method", LONG_SUMS)
def test_a_run_goes_back_and_on_again(method: str, ended: dict[str, Path], tmp_path: Path) -> None:
    records = lines(ended[method])
    rollback(ended[method], 1, tmp_path / "back")
    assert RunFolder(tmp_path / "back").read_accumulator().digest() == records[1]["accumulator"]
    values = {"out": str(tmp_path / "back"), "resume": True}
    experiment = vars(RunFolder(ended[method]).experiment()) | values
    run(tmp_path / "back", experiment)
    assert lines(tmp_path / "back")[-1]["accumulator"] == records[-1]["accumulator"]


@pytest.mark.parametrize("method", [name for name in METHODS if METHODS[name].averages])
def test_what_keeps_no_log_goes_neither_back_nor_on(
    method: str, ended: dict[str, Path], tmp_path: Path
) -> None:
    told = f"{ended[method]} cannot be rolled back: {method} keeps no log of entries"
    with pytest.raises(UserError) as refusal:
        rollback(ended[method], 1, tmp_path / "back")
    assert str(refusal.value) == told
    assert not (tmp_path / "back").exists()
    with pytest.raises(UserError, match="keeps no log to go on from"):
        experiment_from({"method": method, "resume": True, "out": str(ended[method])})


@pytest.mark.parametrize("method", LONG_SUMS)
def test_a_run_killed_in_the_middle_ends_like_one_that_was_not(
    method: str,
    ended: dict[str, Path],
    tiny_options: Options,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    options = tiny_options | {"method": method, "rounds": 2, "coordinates": 64, "virtual_tokens": 3}
    before = interrupted(monkeypatch, 5, lambda: run(tmp_path / "run", options))
    resumed: dict[str, Any] = {}
    after = counted(
        monkeypatch, lambda: resumed.update(run(tmp_path / "run", options, resume=True))
    )
    the_same(resumed, json.loads((ended[method] / "summary.json").read_text()))
    assert sorted(before + after) == [(peer, round_) for peer in range(4) for round_ in range(2)]


@pytest.mark.parametrize("method", METHODS)
def test_a_report_of_a_whole_run_warns_of_nothing_and_has_the_method_s_curves(
    method: str, ended: dict[str, Path], tmp_path: Path
) -> None:
    text = write_report(ended[method], tmp_path / "report.html").read_text(encoding="utf-8")
    page = PageReader(text)
    assert page.warnings == []
    assert page.headings[0] == (1, f"{METHODS[method].title} on ring, 4 peers")
    averages = METHODS[method].averages
    wanted = ["consensus"] if averages else ["rebuild"] if method == "fedkseed-infinite" else []
    kinds = [svg["class"] for svg in page.elements("svg")]
    assert kinds == [f"picture {kind}" for kind in ("loss", *wanted, "bytes", "links")]
    head, *rows = page.tables["Round by round"]
    assert head[-1] == ("mean of the weights" if averages else "accumulator")
    records = lines(ended[method])
    assert ("perturbations" in head) == (not averages)
    for row, record in zip(rows, records, strict=True):
        if averages:
            assert record["perturbations"] is None
            at = head.index("peers from their mean")
            assert row[at] == f"{record['consensus_distance']:.3g}"
        else:
            assert row[head.index("perturbations")] == f"{record['perturbations']:,}"
    told = "peers near each other, as they average" if averages else "all 4 peers equal"
    assert told in page.texts


def test_a_rebuild_without_a_pool_has_a_perturbation_for_each_step(ended: dict[str, Path]) -> None:
    made = [record["perturbations"] for record in lines(ended["fedkseed-infinite"])]
    assert made == [0, 12, 24]
    few = [record["perturbations"] for record in lines(ended["fedkseed"])]
    assert few[0] == 0 < few[1] <= few[2] <= 24
    summary = json.loads((ended["fedkseed"] / "summary.json").read_text())
    assert summary["rebuild"]["perturbations"] == few[1:]
    assert all(seconds > 0 for seconds in summary["rebuild"]["seconds"])


def test_with_a_server_all_end_alike_and_there_is_no_distance_to_draw(
    tiny_options: Options, tmp_path: Path
) -> None:
    options = tiny_options | {"method": "fedavg", "topology": "star", "aggregation": "server"}
    summary = run(tmp_path / "run", options, rounds=2)
    assert summary["digests"]["all_equal"]
    page = PageReader(write_report(tmp_path / "run").read_text(encoding="utf-8"))
    assert page.headings[0] == (1, "FedAvg with a server on star, 4 peers")
    assert page.warnings == []
    assert [svg["class"] for svg in page.elements("svg")] == [
        "picture loss",
        "picture bytes",
        "picture links",
    ]
    assert "all 4 peers equal" in page.texts


@pytest.mark.parametrize("method", ["fedavg", "fedit", "ferret", "fedkseed-infinite"])
def test_peers_that_end_near_each_other_are_no_failure(
    method: str, tiny_options: Options, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    values = tiny_options | {"method": method, "rounds": 1, "out": tmp_path / "run"}
    values |= {"coordinates": 64}
    flags = [text for k, v in values.items() for text in (f"--{k.replace('_', '-')}", str(v))]
    assert main(["sim", *flags]) == 0
    assert "NOT EQUAL" not in capsys.readouterr().out
