"""Greedy generation in batches says what one prompt at a time says, token by token."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from transformers import GPT2Config, GPT2LMHeadModel

from peer import generation
from peer.adapters import KINDS, AdaptedModel, Adapter
from peer.data.encode import Encoded, encode
from peer.data.rows import load_rows
from peer.generation import _batches, ends_of, generate
from peer.model import FlatModel, load_model, load_tokenizer, positions

STORIES = Path(__file__).parents[2] / "shared" / "data" / "stories260K-hf"
CPU = torch.device("cpu")


def one_at_a_time(
    model: FlatModel, prompt: NDArray[np.int32], new_tokens: int, positions: int, ends: list[int]
) -> list[int]:
    """Return the argmax of the last position again and again, by whole forward passes."""
    whole = prompt.tolist()
    with torch.inference_mode():
        while len(whole) < min(len(prompt) + new_tokens, positions):
            token = int(model.module(input_ids=torch.tensor([whole])).logits[0, -1].argmax())
            if token in ends:
                break
            whole.append(token)
    return whole[len(prompt) :]


def prompts_of(encoded: Encoded, rows: list[int]) -> list[NDArray[np.int32]]:
    starts, lengths = encoded.offsets[rows], encoded.prompt_lengths[rows]
    return [
        encoded.tokens[start : start + length]
        for start, length in zip(starts, lengths, strict=True)
    ]


@pytest.mark.parametrize(
    "source",
    [
        "builtin",
        pytest.param(
            str(STORIES),
            marks=pytest.mark.skipif(
                not STORIES.exists(), reason="stories260K is not beside the project"
            ),
        ),
    ],
    ids=["builtin", "stories260K"],
)
def test_batches_say_what_a_plain_loop_says(source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, tokenizer = load_model(source, "float32", CPU), load_tokenizer(source)
    encoded = encode(load_rows("builtin").rows[:60], tokenizer, 512)
    prompts = prompts_of(encoded, [0, 7, 21, 34, 35, 49, 58])
    texts = ["Once upon a time, there was", "The"]
    prompts += [np.array(tokenizer(text)["input_ids"], dtype=np.int32) for text in texts]
    # One that leaves three positions.
    most = positions(source)
    prompts.append(np.resize(prompts[0], most - 3))
    # Sentences end sooner than texts.
    ends = (*ends_of(model, tokenizer), tokenizer(".", add_special_tokens=False)["input_ids"][-1])
    expected = [one_at_a_time(model, prompt, 20, most, [*ends]) for prompt in prompts]
    assert len({len(answer) for answer in expected}) > 2, "some end early"
    assert len(expected[-1]) <= 3
    told: list[tuple[int, int]] = []
    options = {"new_tokens": 20, "positions": most, "ends": ends}
    batched = generate(
        model, prompts, told=lambda done, total: told.append((done, total)), **options
    )
    assert batched == expected
    assert told[-1] == (len(prompts), len(prompts))
    monkeypatch.setattr(generation, "GENERATION_TOKENS", 1)
    assert generate(model, prompts, **options) == expected


def test_settings_of_the_models_folder_do_not_matter(tiny_model: Path, encoded: Encoded) -> None:
    model = load_model(str(tiny_model), "float32", CPU)
    prompts = prompts_of(encoded, [0, 1, 2, 3, 40])
    options = {"new_tokens": 12, "positions": 128, "ends": (1,)}
    before = generate(model, prompts, **options)
    chosen = model.module.generation_config
    chosen.update(do_sample=True, temperature=3.0, repetition_penalty=9.0, max_length=7)
    chosen.update(num_beams=3, eos_token_id=None, no_repeat_ngram_size=1)
    assert generate(model, prompts, **options) == before
    assert model.module.generation_config is chosen
    assert any(len(set(answer)) < len(answer) for answer in before), "a penalty would show"


def test_tokens_that_end_a_text_are_the_tokenizers_and_the_models(tiny_model: Path) -> None:
    model, tokenizer = load_model(str(tiny_model), "float32", CPU), load_tokenizer(str(tiny_model))
    for named, ends in ((None, (1,)), (5, (1, 5)), ([7, 1, 5], (1, 7, 5))):
        model.module.generation_config.eos_token_id = named
        assert ends_of(model, tokenizer) == ends


def test_a_tokenizer_without_padding_will_do(tiny_model: Path, encoded: Encoded) -> None:
    model, tokenizer = load_model(str(tiny_model), "float32", CPU), load_tokenizer(str(tiny_model))
    tokenizer.pad_token = None
    model.module.config.pad_token_id = model.module.generation_config.pad_token_id = None
    prompts = prompts_of(encoded, [0, 1, 5])
    assert len({len(prompt) for prompt in prompts}) > 1
    ends = ends_of(model, tokenizer)
    expected = [one_at_a_time(model, prompt, 6, 128, [*ends]) for prompt in prompts]
    assert generate(model, prompts, new_tokens=6, positions=128, ends=ends) == expected


def test_positions_that_are_learned_are_not_left(encoded: Encoded) -> None:
    config = GPT2Config(vocab_size=200, n_positions=64, n_embd=16, n_layer=1, n_head=2)
    config.bos_token_id, config.eos_token_id = None, 1
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = FlatModel(GPT2LMHeadModel(config), CPU)
    row = encoded.tokens[:40] % 200
    # With 64 positions these have room for 10, 10, 9, 1, none and none.
    prompts = [np.resize(row, length) for length in (3, 54, 55, 63, 64, 70)]
    said = generate(model, prompts, new_tokens=10, positions=64, ends=(1,))
    expected = [one_at_a_time(model, prompt, 10, 64, [1]) for prompt in prompts]
    assert said == expected
    assert [len(answer) for answer in said] == [10, 10, 9, 1, 0, 0]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_adapted_models_say_what_a_plain_loop_says(
    architecture: str, kind: str, tiny_model: Path, encoded: Encoded
) -> None:
    base = load_model(str(tiny_model), "float32", CPU)
    if architecture == "gpt2":
        vocabulary = base.module.get_input_embeddings().num_embeddings
        config = GPT2Config(vocab_size=vocabulary, n_positions=128, n_embd=16, n_layer=2, n_head=2)
        config.bos_token_id, config.eos_token_id = None, 1
        with torch.random.fork_rng():
            torch.manual_seed(0)
            base = FlatModel(GPT2LMHeadModel(config), CPU)
    adapter = Adapter(kind, virtual_tokens=5)
    model = AdaptedModel(base, adapter, 0)
    # So that LoRA's adapter counts as well.
    model.weights.add_(torch.sin(torch.arange(len(model.weights))) / 4)
    most = 128 - adapter.positions
    prompts = prompts_of(encoded, [0, 1, 2, 3, 5, 40])
    prompts.append(np.resize(prompts[0], most - 3))
    assert len({len(prompt) for prompt in prompts}) > 2
    expected = [one_at_a_time(model, prompt, 8, most, [1]) for prompt in prompts]
    assert len(expected[-1]) <= 3
    owners = [part for part in model.module.modules() if "generation_config" in vars(part)]
    before = [part.generation_config for part in owners]
    assert generate(model, prompts, new_tokens=8, positions=most, ends=(1,)) == expected
    assert all(part.generation_config is old for part, old in zip(owners, before, strict=True))


@given(
    lengths=st.lists(st.integers(1, 40), max_size=30),
    new_tokens=st.integers(1, 30),
    positions=st.integers(2, 40),
    limit=st.integers(1, 200),
)
@settings(deadline=None)
def test_every_prompt_with_room_is_in_one_batch_of_limited_size(
    lengths: list[int], new_tokens: int, positions: int, limit: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(generation, "GENERATION_TOKENS", limit)
        array = np.array(lengths, dtype=np.int64)
        made = list(_batches(array, new_tokens, positions))
    met = [int(place) for places, _ in made for place in places]
    assert sorted(met) == [place for place, length in enumerate(lengths) if length < positions]
    for places, room in made:
        longest = max(lengths[place] for place in places)
        assert len(places) == 1 or len(places) * (longest + room) <= limit
        for place in places:
            assert room == min(new_tokens, positions - lengths[place])
