"""The built-in model and instructions: what their programs make, and new to each other."""

from __future__ import annotations

import json
import math
from collections import Counter
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM

from peer import builtin
from peer.builtin import instructions, pretrain
from peer.builtin.text import document, documents

ROWS = [json.loads(line) for line in builtin.INSTRUCTIONS.read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def model() -> LlamaForCausalLM:
    return AutoModelForCausalLM.from_pretrained(builtin.MODEL)


def test_the_package_stays_small() -> None:
    files = [builtin.INSTRUCTIONS, *builtin.MODEL.iterdir()]
    assert sum(path.stat().st_size for path in files) < 2_000_000


def test_the_weights_are_finite_and_float32(model: LlamaForCausalLM) -> None:
    parameters = list(model.parameters())
    assert sum(parameter.numel() for parameter in parameters) == 201_920
    assert all(parameter.dtype == torch.float32 for parameter in parameters)
    assert all(bool(torch.isfinite(parameter).all()) for parameter in parameters)


def test_the_model_knows_the_language_it_was_trained_on(model: LlamaForCausalLM) -> None:
    tokenizer = AutoTokenizer.from_pretrained(builtin.MODEL)
    loss = pretrain.held_out_loss(model, tokenizer, 20)
    assert loss < 1.0 < 5.0 < math.log(len(tokenizer))


def test_instructions_are_what_their_program_makes() -> None:
    made = instructions.rows(instructions.SEED, instructions.ROWS_PER_CATEGORY)
    assert instructions.as_json_lines(made) == builtin.INSTRUCTIONS.read_text(encoding="utf-8")


def test_instructions_are_of_several_kinds_and_all_different() -> None:
    assert len(ROWS) == 2000
    kinds = Counter(row["category"] for row in ROWS)
    assert len(kinds) >= 6
    assert min(kinds.values()) >= 100
    assert len({(row["instruction"], row["context"]) for row in ROWS}) == len(ROWS)
    assert all(row["response"].strip() for row in ROWS)


def test_text_is_a_function_of_seed_and_number() -> None:
    assert list(documents(5, 3)) == [document(5, number) for number in range(3)]
    assert document(5, 0) != document(6, 0) != document(6, 1)


def test_the_text_holds_neither_the_template_nor_an_instruction() -> None:
    text = "\n".join(documents(0, 2000))
    for words in ("### Instruction", "### Response", "Below is an instruction"):
        assert words not in text
    assert not any(row["instruction"] in text for row in ROWS)


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_the_model_can_be_made_again(tmp_path: Path) -> None:
    pretrain.main(["--to", str(tmp_path / "model"), "--steps", "3"])
    made = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    shipped = AutoModelForCausalLM.from_pretrained(builtin.MODEL)
    assert made.config.to_dict().keys() == shipped.config.to_dict().keys()
    assert [p.shape for p in made.parameters()] == [p.shape for p in shipped.parameters()]
    again = AutoTokenizer.from_pretrained(tmp_path / "model")
    assert again.get_vocab() == AutoTokenizer.from_pretrained(builtin.MODEL).get_vocab()
