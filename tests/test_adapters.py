"""Adapted models are flat models, frozen below and alike everywhere, and peft loads them."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import PeftModel
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    OlmoConfig,
    OlmoForCausalLM,
)

from peer import adapter_size as formulas
from peer.adapters import KINDS, AdaptedModel, Adapter, export_adapter
from peer.data.encode import Encoded, batch
from peer.errors import UserError
from peer.evaluation import evaluate, mean_loss
from peer.first_order import FirstOrder
from peer.forward_steps import MeZO
from peer.local_data import Rows
from peer.model import FlatModel, load_model
from peer.model_size import Shape
from peer.perturbation import perturbation
from peer.pretrained import Pretrained
from peer.weights_digest import weights_digest
from peer.zeroth_order import Step

CPU = torch.device("cpu")
TOKENS = 5


def drawn(make: Callable[[], Any]) -> Any:
    """A module with random weights, without a change to anybody's draws."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return make()


def gpt2() -> FlatModel:
    config = GPT2Config(
        vocab_size=80,
        n_positions=64,
        n_embd=16,
        n_layer=2,
        n_head=2,
        bos_token_id=1,
        eos_token_id=1,
    )
    return FlatModel(drawn(lambda: GPT2LMHeadModel(config)), CPU)


@pytest.fixture(params=["llama", "gpt2"])
def base(request: pytest.FixtureRequest, tiny_model: Path) -> FlatModel:
    """A new model of each of two architectures; one has learned positions and dropout."""
    return gpt2() if request.param == "gpt2" else load_model(str(tiny_model), "float32", CPU)


def adapted(base: FlatModel, kind: str, root_seed: int = 7) -> AdaptedModel:
    return AdaptedModel(base, Adapter(kind, virtual_tokens=TOKENS), root_seed)


def some_rows(size: int = 4) -> Rows:
    """Rows of several lengths, padded on the right; some tokens are no label."""
    numbers = np.random.default_rng(3)
    input_ids = torch.from_numpy(numbers.integers(2, 40, (size, 12)))
    mask, labels = torch.ones_like(input_ids), input_ids.clone()
    for row in range(1, size):
        mask[row, 12 - row :] = 0
    labels[:, :4] = -100
    labels[mask == 0] = -100
    return input_ids, mask, labels


@pytest.mark.parametrize(
    ("kind", "count"),
    [
        ("lora", formulas.lora),
        ("prompt-encoder", formulas.prompt_encoder),
        ("soft-prompt", formulas.soft_prompt),
    ],
)
def test_there_are_as_many_parameters_as_the_formulas_say(
    kind: str, count: Callable[..., int]
) -> None:
    config = LlamaConfig(
        vocab_size=50,
        hidden_size=24,
        intermediate_size=40,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=6,
    )
    shape = Shape(hidden=24, layers=3, intermediate=40, vocabulary=50, queries=24, keys=12)
    base = FlatModel(drawn(lambda: LlamaForCausalLM(config)), CPU)
    assert len(base.weights) == shape.parameters
    model = AdaptedModel(base, Adapter(kind), 0)
    assert len(model.weights) == model.layout.parameters == count(shape)


@pytest.mark.parametrize("kind", KINDS)
def test_the_flat_weights_are_the_adapters_alone(kind: str, base: FlatModel) -> None:
    below = {id(parameter) for parameter in base.module.parameters()}
    model = adapted(base, kind)
    names = [slot.name for slot in model.layout.slots]
    assert names == sorted(n for n, p in model.module.named_parameters() if id(p) not in below)
    for slot, parameter in zip(model.layout.slots, model.parameters(), strict=True):
        assert parameter.data_ptr() == model.weights[slot.offset :].data_ptr()
    assert model.weights.dtype == torch.float32
    assert not any(p.requires_grad for p in model.module.parameters())
    assert not any(part.training for part in model.module.modules())
    assert Pretrained(model).digest == weights_digest(model.weights)


@pytest.mark.parametrize("kind", KINDS)
def test_steps_of_each_kind_move_the_adapter_and_not_a_bit_of_the_base(
    kind: str, dtype: str, tiny_model: Path, encoded: Encoded
) -> None:
    base = load_model(str(tiny_model), dtype, CPU)
    before = base.weights.clone()
    model, rows = adapted(base, kind), batch(encoded, np.arange(8), 0)
    start, first = model.weights.clone(), mean_loss(model, rows)
    step = Step(epsilon=1e-3, learning_rate=1e-2, gradient_bound=1024.0, batch_size=8)
    MeZO(perturbation("gaussian", "cpu", 1), step, 1).run(model, [rows] * 3, 0, 0)
    assert not torch.equal(model.weights, start)
    model.weights.copy_(start)
    update = FirstOrder("adam", 1e-2).run(model, [rows] * 10)
    assert update.losses[0] == pytest.approx(first, rel=1e-2 if dtype != "float32" else 1e-6)
    assert update.skipped == 0
    assert mean_loss(model, rows) < first - 0.05
    assert torch.equal(base.weights, before)
    assert base.weights.dtype == getattr(torch, dtype)
    assert np.isfinite(evaluate(model, encoded, np.arange(20)))


def test_lora_begins_as_the_model_below(base: FlatModel) -> None:
    rows = some_rows()
    before = base.losses(*rows)
    model = adapted(base, "lora")
    after = model.losses(*rows)
    assert torch.equal(after[0], before[0])
    assert torch.equal(after[1], before[1])
    model.weights.add_(0.1)
    assert not torch.allclose(model.losses(*rows)[0], before[0], rtol=1e-3)


@pytest.mark.parametrize("kind", ["prompt-encoder", "soft-prompt"])
def test_losses_behind_virtual_tokens_are_those_of_embeddings_put_together_by_hand(
    kind: str, base: FlatModel
) -> None:
    input_ids, mask, labels = some_rows()
    plain: Any = base.module
    model = adapted(base, kind)
    losses, tokens = model.losses(input_ids, mask, labels)
    part = model.module.prompt_encoder.default
    prompt = part.embedding.weight
    if kind == "prompt-encoder":
        for layer in part.mlp_head:
            prompt = layer(prompt)
    assert prompt.shape == (TOKENS, 16)
    for row in range(len(input_ids)):
        length = int(mask[row].sum())
        embedded = plain.get_input_embeddings()(input_ids[row, :length])
        logits = plain(inputs_embeds=torch.cat([prompt, embedded])[None]).logits[0]
        wanted = 0.0
        for t in range(1, length):
            if labels[row, t] != -100:
                chances = logits[TOKENS + t - 1].double().log_softmax(dim=-1)
                wanted -= float(chances[labels[row, t]])
        assert float(losses[row]) == pytest.approx(wanted, rel=1e-5)
    assert tokens.tolist() == (labels[:, 1:] != -100).sum(dim=1).tolist()


@pytest.mark.parametrize("kind", KINDS)
def test_every_peer_begins_with_the_same_bits(kind: str) -> None:
    drawn_before = torch.random.get_rng_state()
    model = adapted(gpt2(), kind)
    assert torch.equal(torch.random.get_rng_state(), drawn_before)
    other = adapted(gpt2(), kind, root_seed=8)
    base = gpt2()
    with torch.random.fork_rng():
        torch.manual_seed(99)
        torch.set_num_threads(2)
        try:
            same = adapted(base, kind)
        finally:
            torch.set_num_threads(1)
    assert same.layout.digest() == model.layout.digest()
    assert weights_digest(same.weights) == weights_digest(model.weights)
    assert weights_digest(other.weights) != weights_digest(model.weights)


GOLDEN = {
    "lora": "aa1007dd214a8daa56e27cb738719377",
    "prompt-encoder": "cf8ffe2a5751f1af9c16376e108b0053",
    "soft-prompt": "40011f3f2ce780293e89317e7ec1bf1b",
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_first_weights_are_golden(kind: str) -> None:
    assert weights_digest(adapted(gpt2(), kind).weights) == GOLDEN[kind]


def test_first_weights_have_the_spread_that_torch_gives_such_layers() -> None:
    config = GPT2Config(
        vocab_size=8,
        n_positions=8,
        n_embd=256,
        n_layer=1,
        n_head=1,
        bos_token_id=1,
        eos_token_id=1,
    )
    model = AdaptedModel(FlatModel(GPT2LMHeadModel(config), CPU), Adapter("prompt-encoder"), 1)
    parts = {
        slot.name.removeprefix("prompt_encoder.default."): model.weights[slot.offset :][: slot.size]
        for slot in model.layout.slots
    }
    embedding = parts.pop("embedding.weight")
    assert float(embedding.mean()) == pytest.approx(0, abs=0.05)
    assert float(embedding.std()) == pytest.approx(1, abs=0.05)
    assert len(parts) == 6
    for part in parts.values():
        assert float(part.abs().max()) <= 1 / 16
        assert float(part.mean()) == pytest.approx(0, abs=0.01)
        assert float(part.std()) == pytest.approx(1 / 16 / 3**0.5, rel=0.1)
    numbers = torch.cat(list(parts.values()))
    assert len(numbers.unique()) > 0.95 * len(numbers)


@pytest.mark.parametrize("kind", KINDS)
def test_answers_are_those_of_whole_passes(kind: str, base: FlatModel) -> None:
    model = adapted(base, kind)
    # So that LoRA's adapter counts as well.
    model.weights.add_(torch.sin(torch.arange(len(model.weights))) / 4)
    rows = [[5, 9, 3, 22, 7], [11, 30]]
    wanted = []
    for row in rows:
        whole = torch.tensor([row])
        for _ in range(6):
            following = model.module(input_ids=whole).logits[:, -1:].argmax(dim=-1)
            whole = torch.cat([whole, following], dim=1)
        wanted.append(whole[0].tolist()[-6:])
    # Padded on the left, as for any generation in batches.
    input_ids = torch.tensor([rows[0], [1, 1, 1, *rows[1]]])
    mask = torch.tensor([[1, 1, 1, 1, 1], [0, 0, 0, 1, 1]])
    made = model.module.generate(
        input_ids=input_ids,
        attention_mask=mask,
        max_new_tokens=6,
        do_sample=False,
        eos_token_id=None,
        pad_token_id=1,
    )
    assert torch.equal(made[:, :5], input_ids)
    assert made[:, 5:].tolist() == wanted


@pytest.mark.parametrize("kind", KINDS)
def test_peft_loads_what_was_saved(kind: str, tiny_model: Path, tmp_path: Path) -> None:
    model = adapted(load_model(str(tiny_model), "float32", CPU), kind)
    model.weights.mul_(1.5).add_(0.01)
    export_adapter(model, tmp_path / "adapter")
    names = {path.name for path in (tmp_path / "adapter").iterdir()}
    assert {"adapter_config.json", "adapter_model.safetensors"} <= names
    plain: Any = AutoModelForCausalLM.from_pretrained(str(tiny_model))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        loaded: Any = PeftModel.from_pretrained(plain, str(tmp_path / "adapter")).eval()
    input_ids, mask, labels = some_rows()
    with torch.no_grad():
        logits = loaded(input_ids=input_ids, attention_mask=mask).logits
    expected = model.losses(input_ids, mask, labels)[0]
    torch.testing.assert_close(model.label_losses(logits, labels)[0], expected)


def test_a_model_that_peft_does_not_know_is_told_in_one_line() -> None:
    config = OlmoConfig(
        vocab_size=8,
        hidden_size=8,
        intermediate_size=8,
        num_hidden_layers=1,
        num_attention_heads=1,
        pad_token_id=1,
        bos_token_id=None,
        eos_token_id=1,
    )
    base = FlatModel(drawn(lambda: OlmoForCausalLM(config)), CPU)
    with pytest.raises(UserError, match="a lora adapter into a model of type 'olmo': ") as refusal:
        adapted(base, "lora")
    assert len(str(refusal.value).splitlines()) == 1
    assert "allowed are types that it knows, such as llama" in str(refusal.value)


def test_a_prompt_takes_positions_and_lora_none() -> None:
    assert [Adapter(kind).positions for kind in KINDS] == [0, 20, 20]
