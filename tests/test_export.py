"""A run's model as a Hugging Face folder: the weights that the run ended with, or a refusal."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

import sim
from peer.accumulator import Accumulator
from peer.config import experiment_from
from peer.errors import UserError
from peer.export import export
from peer.model import FlatModel, load_model, load_tokenizer
from peer.records import RunFolder
from peer.units import Units
from peer.weights_digest import weights_digest
from sim.runner import simulate


def run(out: Path, model: Path, data: Path, **options: Any) -> dict[str, Any]:
    values = {
        "model": str(model),
        "data": str(data),
        "out": str(out),
        "peers": 3,
        "rounds": 2,
        "local_steps": 2,
        "candidate_seeds": 16,
        "learning_rate": 1e-2,
        "eval_rows": 4,
    }
    return simulate(experiment_from(values | options))


@pytest.fixture(scope="module")
def finished(
    tiny_model: Path, tiny_data: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    return run(tmp_path_factory.mktemp("exported") / "run", tiny_model, tiny_data)


def flattened(module: Any) -> torch.Tensor:
    """A module's parameters in one tensor, by sorted name, tied ones once."""
    seen: dict[int, torch.Tensor] = {}
    for _, parameter in sorted(module.named_parameters(remove_duplicate=False)):
        seen.setdefault(id(parameter), parameter.detach().reshape(-1))
    return torch.cat(list(seen.values()))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("tied", [False, True])
def test_the_exported_model_is_the_one_that_the_run_ended_with(
    tied: bool, dtype: str, tiny_model: Path, tied_model: Path, tiny_data: Path, tmp_path: Path
) -> None:
    source = tied_model if tied else tiny_model
    summary = run(tmp_path / "run", source, tiny_data, dtype=dtype)
    to = tmp_path / "deep" / "model"
    digest = export(tmp_path / "run", to)
    assert summary["digests"]["model"] == [digest] * 3
    module: Any = AutoModelForCausalLM.from_pretrained(str(to), dtype="auto")
    assert module.dtype == getattr(torch, dtype)
    assert weights_digest(flattened(module)) == digest
    embeddings = (module.get_input_embeddings().weight, module.get_output_embeddings().weight)
    assert (embeddings[0] is embeddings[1]) == tied
    # What was exported can be tuned again.
    again = load_model(str(to), dtype, torch.device("cpu"))
    assert weights_digest(again.weights) == digest
    before = load_model(str(source), dtype, torch.device("cpu"))
    assert weights_digest(before.weights) != digest
    assert again.layout == before.layout


def test_the_tokenizer_goes_with_the_model(
    finished: dict[str, Any], tiny_model: Path, tmp_path: Path
) -> None:
    export(Path(finished["folder"]), tmp_path / "model")
    text = "Name the pair . The red cat is grey ."
    exported = AutoTokenizer.from_pretrained(str(tmp_path / "model"))
    assert exported(text)["input_ids"] == load_tokenizer(str(tiny_model))(text)["input_ids"]
    assert exported.eos_token_id == 1


def test_the_run_folder_stays_as_it_is(finished: dict[str, Any], tmp_path: Path) -> None:
    folder = Path(finished["folder"])
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    export(folder, tmp_path / "model")
    assert before == {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_answers_of_the_exported_model_are_those_of_the_tuned_one(
    finished: dict[str, Any], tmp_path: Path, tiny_model: Path
) -> None:
    export(Path(finished["folder"]), tmp_path / "model")
    ids = torch.tensor([[4, 8, 15, 16, 23]])
    exported: Any = AutoModelForCausalLM.from_pretrained(str(tmp_path / "model")).eval()
    tuned = load_model(str(tiny_model), "float32", torch.device("cpu"))
    flat = FlatModel(exported, torch.device("cpu"))
    tuned.weights.copy_(flat.weights)
    assert torch.equal(exported(input_ids=ids).logits, tuned.module(input_ids=ids).logits)


def refused(folder: Path, to: Path) -> str:
    before = sorted(to.rglob("*")) if to.is_dir() else to.exists()
    with pytest.raises(UserError) as refusal:
        export(folder, to)
    assert before == (sorted(to.rglob("*")) if to.is_dir() else to.exists())
    assert len(str(refusal.value).splitlines()) == 1
    return str(refusal.value)


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    for folder in (tmp_path / "missing", tmp_path):
        line = refused(folder, tmp_path / "model")
        assert line == f"{folder} is no run folder: there is no config.toml in it"


def test_a_target_that_exists_is_refused(finished: dict[str, Any], tmp_path: Path) -> None:
    empty, file = tmp_path / "empty", tmp_path / "file"
    empty.mkdir()
    file.write_text("kept")
    for to in (empty, file):
        line = refused(Path(finished["folder"]), to)
        assert line == f"{to} exists already, a new folder is wanted"
    below = file / "model"
    assert refused(Path(finished["folder"]), below) == f"{below} cannot be made: Not a directory"
    assert file.read_text() == "kept"


def test_a_run_without_a_model_is_refused(tmp_path: Path) -> None:
    values = {"trainer": "synthetic", "peers": 3, "rounds": 1, "out": str(tmp_path / "run")}
    simulate(experiment_from(values))
    line = refused(tmp_path / "run", tmp_path / "model")
    assert line.endswith("was made by the synthetic trainer: there is no model to export")


def test_a_run_that_has_not_ended_is_refused(finished: dict[str, Any], tmp_path: Path) -> None:
    copy = shutil.copytree(finished["folder"], tmp_path / "run")
    (copy / "accumulator.npz").unlink()
    assert refused(copy, tmp_path / "model") == (
        f"{copy} has no accumulator.npz: the run has not ended"
    )


def test_the_accumulator_of_another_run_is_refused(
    finished: dict[str, Any], tmp_path: Path
) -> None:
    copy = shutil.copytree(finished["folder"], tmp_path / "run")
    other = Accumulator.empty(17, Units(-14, 24, 24))
    RunFolder(copy).write_accumulator(other, with_probabilities=False)
    refused(copy, tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_a_run_whose_model_is_gone_is_refused(
    tiny_model: Path, tiny_data: Path, tmp_path: Path
) -> None:
    model = shutil.copytree(tiny_model, tmp_path / "source")
    run(tmp_path / "run", model, tiny_data)
    shutil.rmtree(model)
    assert refused(tmp_path / "run", tmp_path / "model").startswith(f"model = {str(model)!r}: ")


def test_another_model_than_the_runs_is_refused(
    tmp_path: Path, tiny_model: Path, tiny_options: dict[str, Any]
) -> None:
    mine = tmp_path / "model"
    shutil.copytree(tiny_model, mine)
    options = {**tiny_options, "model": str(mine), "rounds": 1, "out": str(tmp_path / "run")}
    sim.run(**options)
    weights = load_file(mine / "model.safetensors")
    name = sorted(weights)[0]
    weights[name][0] += 1.0
    save_file(weights, mine / "model.safetensors", metadata={"format": "pt"})
    refusal = f"model = '{mine}' is not the one that {tmp_path / 'run'} has started from"
    with pytest.raises(UserError) as export_refused:
        export(tmp_path / "run", tmp_path / "to")
    assert str(export_refused.value) == refusal
    with pytest.raises(UserError) as resume_refused:
        sim.run(**options | {"resume": True, "rounds": 2})
    assert str(resume_refused.value) == refusal
