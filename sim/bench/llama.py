"""A Llama of about a wanted size with random weights, and rows for it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

import numpy as np
import torch

from peer.data.encode import Encoded

if TYPE_CHECKING:
    from transformers import LlamaConfig, LlamaForCausalLM

_VOCABULARY: Final = 32000
_WEIGHTS_PER_TOKEN: Final = 640
_HEAD: Final = 64
_POSITIONS: Final = 2048


def llama_config(parameters: int, tokens: int) -> LlamaConfig:
    """Return the configuration of a Llama of nearly so many parameters.

    Its proportions are those of small published ones: 32,000 tokens (fewer below 20 million
    parameters) whose embeddings are tied, heads of 64, about 64 times as wide as it has layers, the
    inner layer about 8/3 times as wide. Below a million parameters there may be a single head.

    Args:
        parameters: wanted, at least 10,000.
        tokens: a row has, at most.
    """
    from transformers import LlamaConfig

    vocabulary = max(64, min(_VOCABULARY, parameters // _WEIGHTS_PER_TOKEN // 8 * 8))
    hidden, layers, inner = min(
        _shapes(parameters, vocabulary),
        key=lambda shape: (
            abs(math.log(shape[0] / (64 * shape[1]))) + abs(math.log(3 * shape[2] / (8 * shape[0])))
        ),
    )
    heads = 1 if hidden % _HEAD else hidden // _HEAD
    return LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=hidden,
        intermediate_size=inner,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        max_position_embeddings=max(_POSITIONS, tokens),
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=1,
        pad_token_id=1,
    )


def _shapes(parameters: int, vocabulary: int) -> Iterator[tuple[int, int, int]]:
    """Yield (hidden, layers, inner) of models whose inner layer can make up the wanted number."""
    step = 16 if parameters < 1_000_000 else _HEAD
    for hidden in range(step, math.isqrt(parameters) + step, step):
        for layers in range(1, 129):
            attention = 4 * hidden * hidden + 2 * hidden
            rest = parameters - vocabulary * hidden - hidden - layers * attention
            inner = round(rest / (3 * hidden * layers) / 8) * 8
            if inner >= 2 * hidden:
                yield hidden, layers, inner


def random_llama(config: LlamaConfig, dtype: str, device: torch.device) -> LlamaForCausalLM:
    """Return a model with random weights, in evaluation mode; the same ones each time."""
    from transformers import LlamaForCausalLM

    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = LlamaForCausalLM(config)
    model.requires_grad_(False)
    model.train(False)
    torch.nn.Module.to(model, device=device, dtype=getattr(torch, dtype))
    return model


def parameter_shapes(config: LlamaConfig) -> list[tuple[int, ...]]:
    """Return the shape of each parameter, tied ones once, without making any."""
    from transformers import LlamaForCausalLM

    with torch.device("meta"):
        model = LlamaForCausalLM(config)
    return [tuple(parameter.shape) for parameter in model.parameters()]


def random_rows(count: int, tokens: int, vocabulary: int) -> Encoded:
    """Return rows of exactly so many tokens, half of them prompt."""
    numbers = np.random.default_rng(0).integers(0, vocabulary, count * tokens)
    alike = np.zeros(count, np.int32)
    return Encoded(
        tokens=numbers.astype(np.int32),
        offsets=np.arange(0, (count + 1) * tokens, tokens, dtype=np.int64),
        prompt_lengths=np.full(count, tokens // 2, np.int32),
        categories=alike,
        category_names=("",),
        tasks=alike,
        task_names=("",),
        cut_away=0,
    )
