"""Models, tokenizers and options that do not go together: one line, and nothing is written."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    BertConfig,
    BertModel,
    T5Config,
    T5ForConditionalGeneration,
)

from peer import hub
from sim.cli import main


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")


def bert(folder: Path) -> None:
    for path in [*folder.glob("*.safetensors"), *folder.glob("*config.json")]:
        if path.name != "tokenizer_config.json":
            path.unlink()
    config = BertConfig(
        vocab_size=200,
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=1,
        intermediate_size=8,
    )
    BertModel(config).save_pretrained(folder)


def t5(folder: Path) -> None:
    config = T5Config(vocab_size=200, d_model=8, d_kv=8, d_ff=8, num_layers=1, num_heads=1)
    T5ForConditionalGeneration(config).save_pretrained(folder)


def no_tokenizer(folder: Path) -> None:
    for path in folder.glob("tokenizer*"):
        path.unlink()


def no_end(folder: Path) -> None:
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    tokenizer.eos_token = None
    tokenizer.save_pretrained(folder)


def few_tokens(folder: Path) -> None:
    module: Any = AutoModelForCausalLM.from_pretrained(folder)
    module.resize_token_embeddings(8)
    module.save_pretrained(folder)


MODELS: dict[str, tuple[Callable[[Path], None], str]] = {
    "encoder": (bert, "is not whole: "),
    "encoder and decoder": (t5, "Unrecognized configuration class"),
    "no tokenizer": (no_tokenizer, ": its tokenizer cannot be loaded"),
    "no end of sequence": (no_end, "the tokenizer has no end-of-sequence token"),
    "another tokenizer": (few_tokens, "the tokenizer is not the model's: it makes a token "),
}

OPTIONS: dict[str, tuple[list[str], str]] = {
    "unknown optimiser": (["fedavg", "--optimizer", "sdg"], "did you mean sgd"),
    "closure": (["fedavg", "--optimizer", "lbfgs"], "cannot move a vector by its gradient alone"),
    "half precision": (
        ["fedavg", "--optimizer", "adam", "--dtype", "float16"],
        "not allowed with float16 weights",
    ),
    "star": (["fedavg", "--aggregation", "server"], "needs topology = 'star'"),
    "async": (["fedavg", "--schedule", "async"], "must be sync"),
    "coordinates": (
        ["ferret", "--blocks", "2", "--coordinates", "33", "--candidate-seeds", "16"],
        "allow at most 32",
    ),
    "sums": (
        ["ferret", "--blocks", "2", "--candidate-seeds", "4194305"],
        "each of the 2 blocks has as many sums, so at most 4194304 are allowed",
    ),
    "endless": (["fedkseed-infinite", "--local-steps", "65536", "--rounds", "43"], "8388608"),
    "blocks": (["ferret", "--blocks", "1000000"], "make at most as many blocks"),
    "prompt": (["fedprompt", "--virtual-tokens", "127"], "the model has 128 positions"),
    "prompt and row": (
        ["fedptuning", "--virtual-tokens", "28", "--max-length", "101"],
        "the model has 100 positions",
    ),
}


@pytest.fixture
def refused(tiny_data: Path, capfd: pytest.CaptureFixture[str]) -> Callable[..., str]:
    def told(command: str, model: str | Path, *flags: str) -> str:
        capfd.readouterr()
        # What a method has no use for is warned of, in a line of its own.
        own = ["--data", str(tiny_data), "--eval-rows", "4", "--log-level", "error"]
        own += ["--candidate-seeds", "16"]
        assert (
            main([command, "--model", str(model), *own, "--peers", "3", "--rounds", "1", *flags])
            == 2
        )
        output = capfd.readouterr()
        assert output.out == ""
        assert len(output.err.splitlines()) == 1
        assert not list(Path.cwd().iterdir())
        return output.err

    return told


@pytest.mark.parametrize("name", MODELS)
def test_a_model_that_is_none_is_told(
    name: str, tiny_model: Path, tmp_path: Path, refused: Callable[..., str]
) -> None:
    spoil, expected = MODELS[name]
    folder = tmp_path / "model"
    shutil.copytree(tiny_model, folder)
    spoil(folder)
    assert expected in refused("sim", folder)


@pytest.mark.parametrize("command", ["sim", "launch"])
@pytest.mark.parametrize("name", OPTIONS)
def test_options_that_do_not_go_together_are_told(
    name: str, command: str, tiny_model: Path, refused: Callable[..., str]
) -> None:
    flags, expected = OPTIONS[name]
    assert expected in refused(command, tiny_model, "--method", *flags)


@pytest.mark.parametrize("command", ["sim", "launch"])
@pytest.mark.parametrize("name", ["coordinates", "sums", "endless"])
def test_they_are_told_without_a_model_to_train(
    name: str, command: str, tiny_model: Path, refused: Callable[..., str]
) -> None:
    flags, expected = OPTIONS[name]
    assert expected in refused(command, tiny_model, "--method", *flags, "--trainer", "synthetic")


def test_a_hub_that_cannot_be_reached_is_asked_once(
    monkeypatch: pytest.MonkeyPatch, refused: Callable[..., str]
) -> None:
    asked = []

    class Session:
        def head(self, url: str, timeout: float) -> None:
            asked.append((url, timeout))
            raise OSError("no route")

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.utils.get_session", Session)
    hub.ready_hub.cache_clear()
    try:
        for _ in range(2):
            assert "couldn't find them in the cached files" in refused("sim", "nobody/nothing")
    finally:
        hub.ready_hub.cache_clear()
    assert asked == [(constants.ENDPOINT, hub.SECONDS)]
