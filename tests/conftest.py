"""A model and a data set so small that whole runs with them take a second."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch

if TYPE_CHECKING:
    from peer.data.encode import Encoded

if not torch.cuda.is_available():
    # Triton looks when it is imported: here, before any test module can be the first to do so.
    os.environ["TRITON_INTERPRET"] = "1"

# A shell starts what goes on in its background with Ctrl-C ignored, and so would be the commands
# that tests start and interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)

# As in a run. On a busy machine threads that wait for one another at every tiny product take ten
# times as long as one alone.
torch.set_num_threads(1)


def pytest_xdist_auto_num_workers() -> int:
    """Run one test more than there are cores: many wait for processes most of the time."""
    from peer.perturbation.cpu import cores

    return cores() + 1


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the longest tests, or one would run alone at the end."""

    def is_short(item: pytest.Item) -> bool:
        limit = item.get_closest_marker("timeout")
        return limit is None or limit.args[0] < _LONG

    items.sort(key=is_short)


_LONG = 600
"""Seconds that are allowed to the longest tests."""

COLOURS = ("red", "blue", "green", "grey")
ANIMALS = ("cat", "dog", "hen", "fox", "owl", "bee")
ROWS = 72


def tiny_rows() -> list[dict[str, str]]:
    """Instruction rows of three categories; every other one has a context."""
    rows = []
    for number in range(ROWS):
        colour, animal = COLOURS[number % 4], ANIMALS[number // 4 % 6]
        rows.append(
            {
                "instruction": f"Name the {('colour', 'animal', 'pair')[number % 3]} .",
                "context": f"The {animal} is {colour} ." if number % 2 else "",
                "response": (colour, animal, f"{colour} {animal} and {animal}")[number % 3],
                "category": ("colours", "animals", "pairs")[number % 3],
            }
        )
    return rows


def save_tiny_model(folder: Path, *, tied: bool = False) -> Path:
    """Save a Llama of a few thousand random weights, with a tokenizer of one token a word."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    from peer.data.template import WITH_CONTEXT, WITHOUT_CONTEXT

    texts = [WITH_CONTEXT, WITHOUT_CONTEXT, *(" ".join(row.values()) for row in tiny_rows())]
    split = pre_tokenizers.Whitespace()
    words = {word for text in texts for word, _ in split.pre_tokenize_str(text)}
    vocabulary = {word: i for i, word in enumerate(["<unk>", "</s>", *sorted(words)])}
    inner = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    inner.pre_tokenizer = split
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=inner, eos_token="</s>", unk_token="<unk>", pad_token="</s>"
    )
    tokenizer.save_pretrained(folder)
    config = LlamaConfig(
        vocab_size=len(vocabulary),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=128,
        initializer_range=0.2,
        tie_word_embeddings=tied,
        bos_token_id=None,
        eos_token_id=1,
        pad_token_id=1,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = LlamaForCausalLM(config)
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Hugging Face folder with a causal LM of about 10 thousand weights and its tokenizer."""
    return save_tiny_model(tmp_path_factory.mktemp("tiny") / "model")


@pytest.fixture(scope="session")
def tied_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with its output embedding tied to its input embedding."""
    return save_tiny_model(tmp_path_factory.mktemp("tied") / "model", tied=True)


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """72 rows of instruction, context, response and category, one JSON object a line."""
    path = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    lines = [json.dumps(row) + "\n" for row in tiny_rows()]
    path.write_text("".join(lines), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def encoded(tiny_model: Path, tiny_data: Path) -> Encoded:
    """These rows as token ids."""
    from peer.data.encode import encode
    from peer.data.rows import load_rows
    from peer.model import load_tokenizer

    return encode(load_rows(str(tiny_data)).rows, load_tokenizer(str(tiny_model)), 128)


@pytest.fixture(scope="module", params=["float32", "bfloat16", "float16"])
def dtype(request: pytest.FixtureRequest) -> str:
    """Each type that weights can have."""
    return str(request.param)


@pytest.fixture(scope="session")
def tiny_options(tiny_model: Path, tiny_data: Path) -> dict[str, Any]:
    """An experiment with them that takes a quarter of a second."""
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
