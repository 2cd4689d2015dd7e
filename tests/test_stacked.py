"""Losses of several replicas in one forward pass: those of each alone, but for the last bits."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    BertConfig,
    GPT2Config,
    LlamaConfig,
    MistralConfig,
    PretrainedConfig,
)

from peer.data.encode import IGNORED
from peer.errors import UserError
from peer.evaluation import mean_loss
from peer.local_data import Rows
from peer.model import FlatModel, load_model
from peer.stacked import check_stackable, stacked_losses

CLOSE = {"float32": 1e-5, "bfloat16": 1e-2, "float16": 3e-3}
SMALL: dict[str, Any] = {
    "vocab_size": 48,
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
    "initializer_range": 0.3,
}


def model_of(config: PretrainedConfig) -> FlatModel:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return FlatModel(AutoModelForCausalLM.from_config(config), torch.device("cpu"))


def replicas_of(model: FlatModel, count: int) -> torch.Tensor:
    """Weights as far from one another as local steps never take them."""
    generator = torch.Generator().manual_seed(5)
    noise = torch.randn(count, len(model.weights), generator=generator)
    return (model.weights + 0.05 * noise).to(model.weights.dtype)


def batches_of(lengths: list[list[int]]) -> list[Rows]:
    """One batch for each replica, of rows with these lengths; half of each row has labels."""
    generator = torch.Generator().manual_seed(7)
    batches = []
    for rows in lengths:
        shape = (len(rows), max(rows))
        input_ids = torch.randint(0, 40, shape, generator=generator)
        mask = torch.stack([(torch.arange(shape[1]) < length).long() for length in rows])
        input_ids *= mask
        halves = torch.tensor([length // 2 for length in rows])[:, None]
        labels = torch.where((torch.arange(shape[1]) >= halves) & (mask == 1), input_ids, IGNORED)
        batches.append((input_ids, mask, labels))
    return batches


def alone(model: FlatModel, weights: torch.Tensor, rows: list[Rows]) -> list[float]:
    """The same, one replica after the other."""
    kept, losses = model.weights.clone(), []
    for own, batch in zip(weights, rows, strict=True):
        model.weights.copy_(own)
        losses.append(mean_loss(model, batch))
    model.weights.copy_(kept)
    return losses


@pytest.mark.parametrize(
    "lengths",
    [
        [[9]],
        [[9], [9], [9], [9]],
        [[5], [31], [2], [17], [31]],
        [[9, 4], [20, 20], [3, 7]],
        [[2, 30, 11], [30, 2, 11]],
    ],
    ids=str,
)
@pytest.mark.parametrize("dtype", CLOSE)
def test_losses_are_those_of_each_replica_alone(
    lengths: list[list[int]], dtype: str, tiny_model: Path
) -> None:
    model = load_model(str(tiny_model), dtype, torch.device("cpu"))
    weights, rows = replicas_of(model, len(lengths)), batches_of(lengths)
    expected = alone(model, weights, rows)
    before = model.weights.clone()
    assert stacked_losses(model, weights, rows) == pytest.approx(expected, rel=CLOSE[dtype])
    assert torch.equal(model.weights, before)
    if dtype == "float32":
        # Replicas whose losses lie closer than that could be mixed up without a trace.
        ordered = sorted(expected)
        assert all(b - a > CLOSE[dtype] * b for a, b in itertools.pairwise(ordered))


def test_the_same_losses_come_again(tiny_model: Path) -> None:
    model = load_model(str(tiny_model), "float32", torch.device("cpu"))
    weights, rows = replicas_of(model, 3), batches_of([[5], [31], [17]])
    assert stacked_losses(model, weights, rows) == stacked_losses(model, weights, rows)


def test_one_replica_s_bad_weights_are_its_own_trouble(tiny_model: Path) -> None:
    model = load_model(str(tiny_model), "float32", torch.device("cpu"))
    weights, rows = replicas_of(model, 3), batches_of([[8], [8], [8]])
    expected = alone(model, weights, rows)
    weights[1].fill_(math.nan)
    one, bad, other = stacked_losses(model, weights, rows)
    assert math.isnan(bad)
    assert [one, other] == pytest.approx([expected[0], expected[2]], rel=1e-5)


def test_tied_weights_move_together(tied_model: Path) -> None:
    model = load_model(str(tied_model), "float32", torch.device("cpu"))
    weights, rows = replicas_of(model, 3), batches_of([[8], [12], [8]])
    expected = alone(model, weights, rows)
    assert stacked_losses(model, weights, rows) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    "config",
    [
        GPT2Config(vocab_size=48, n_embd=16, n_layer=2, n_head=2, n_positions=64),
        LlamaConfig(**SMALL, num_key_value_heads=2, attn_implementation="eager"),
        pytest.param(
            MistralConfig(**SMALL, num_key_value_heads=2, sliding_window=4),
            # Attention with a mask is left to vmap, which says what that costs.
            marks=pytest.mark.filterwarnings("ignore:There is a performance drop"),
        ),
    ],
    ids=["other-layers", "attention-written-out", "masked-attention"],
)
def test_other_models_stack_too(config: PretrainedConfig) -> None:
    model = model_of(config)
    check_stackable(model)
    weights, rows = replicas_of(model, 3), batches_of([[9], [20], [31]])
    expected = alone(model, weights, rows)
    assert stacked_losses(model, weights, rows) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("dtype", CLOSE)
def test_looking_whether_a_model_stacks_leaves_it_alone(dtype: str, tiny_model: Path) -> None:
    model = load_model(str(tiny_model), dtype, torch.device("cpu"))
    before = model.weights.clone()
    check_stackable(model)
    assert torch.equal(model.weights, before)
    # That its loss is not a number is not for this to tell.
    model.weights.fill_(math.nan)
    check_stackable(model)


@pytest.mark.parametrize("spread", [0.3, 0.02])
def test_a_model_that_looks_ahead_is_refused(spread: float) -> None:
    # With small weights what comes after a token hardly counts, but it does.
    model = model_of(BertConfig(**SMALL | {"initializer_range": spread}))
    with pytest.raises(UserError, match=r"side_by_side above 1 .* it is not causal"):
        check_stackable(model)


def test_a_model_that_asks_what_its_numbers_are_is_refused(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load_model(str(tiny_model), "float32", torch.device("cpu"))
    layer = model.module.model.layers[0].mlp
    forward = layer.forward

    def undecided(hidden: torch.Tensor) -> torch.Tensor:
        return forward(hidden) if float(hidden.sum()) > 0 else hidden

    monkeypatch.setattr(layer, "forward", undecided)
    with pytest.raises(UserError, match=r"side_by_side above 1 is not allowed with this model: ."):
        check_stackable(model)
