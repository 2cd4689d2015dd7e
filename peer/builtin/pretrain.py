"""Make the built-in model again: `python -m peer.builtin.pretrain --to DIR`.

A byte-level BPE tokenizer and a small Llama are trained from scratch on the text of `text`. Program
and seed fix everything but the last bits: how a machine's libraries order floating-point sums
differs, so a model made elsewhere is as good as this one, not equal to it.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

from peer.builtin.text import document, documents

if TYPE_CHECKING:
    from numpy.typing import NDArray

SPECIAL_TOKENS = ("<unk>", "<s>", "</s>", "<pad>")
UNK, BOS, EOS, PAD = range(4)
HELD_OUT_SEED = 1
"""The seed of text that the model has never seen; it is trained on another."""


@dataclass(frozen=True)
class Recipe:
    """All that fixes the model, up to the last bits."""

    seed: int = 0
    """Of the text, of its order and of the initial weights."""

    vocabulary: int = 1024
    """Tokens, 256 bytes and 4 special ones among them."""

    tokenizer_documents: int = 4000
    hidden: int = 64
    intermediate: int = 172
    layers: int = 3
    heads: int = 8
    key_value_heads: int = 4
    positions: int = 512
    """The greatest length; the window that is trained on is `window`."""

    window: int = 256
    """Tokens of one training sequence, at most `positions`."""

    batch_size: int = 8
    steps: int = 3000
    initial_deviation: float = 0.1
    """Of the initial weights. Larger than usual: with larger weights the loss bends less sharply
    along a random direction, so zeroth-order tuning may take larger steps."""

    learning_rate: float = 4e-3
    """The peak: after a linear warm-up over 1/20 of the steps, a cosine takes it to a tenth."""


def train_tokenizer(recipe: Recipe) -> PreTrainedTokenizerFast:
    """Return a tokenizer in which every byte has a token, so nothing is ever unknown."""
    tokenizer = Tokenizer(models.BPE(unk_token=SPECIAL_TOKENS[UNK]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=recipe.vocabulary,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(documents(recipe.seed, recipe.tokenizer_documents), trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{SPECIAL_TOKENS[BOS]} $A",
        pair=f"{SPECIAL_TOKENS[BOS]} $A $B",
        special_tokens=[(SPECIAL_TOKENS[BOS], BOS)],
    )
    # Older releases of transformers give this class types, newer ones do not.
    wrap: Any = PreTrainedTokenizerFast
    wrapped: PreTrainedTokenizerFast = wrap(
        tokenizer_object=tokenizer,
        unk_token=SPECIAL_TOKENS[UNK],
        bos_token=SPECIAL_TOKENS[BOS],
        eos_token=SPECIAL_TOKENS[EOS],
        pad_token=SPECIAL_TOKENS[PAD],
        model_max_length=recipe.positions,
        clean_up_tokenization_spaces=False,
    )
    return wrapped


def new_model(recipe: Recipe) -> LlamaForCausalLM:
    """Return a model with random weights, float32."""
    torch.manual_seed(recipe.seed)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=recipe.vocabulary,
            hidden_size=recipe.hidden,
            intermediate_size=recipe.intermediate,
            num_hidden_layers=recipe.layers,
            num_attention_heads=recipe.heads,
            num_key_value_heads=recipe.key_value_heads,
            max_position_embeddings=recipe.positions,
            initializer_range=recipe.initial_deviation,
            tie_word_embeddings=True,
            bos_token_id=BOS,
            eos_token_id=EOS,
            pad_token_id=PAD,
        )
    )


def batches(tokenizer: PreTrainedTokenizerFast, recipe: Recipe) -> Iterator[NDArray[np.int64]]:
    """Yield windows of the endless text, each (batch_size, window), no document coming twice."""
    size = recipe.batch_size * recipe.window
    ids: list[int] = []
    number = 0
    while True:
        while len(ids) < size:
            texts = [document(recipe.seed, number + i) for i in range(64)]
            number += len(texts)
            for encoded in tokenizer(texts)["input_ids"]:
                ids += [*encoded, EOS]
        yield np.array(ids[:size], dtype=np.int64).reshape(recipe.batch_size, recipe.window)
        del ids[:size]


def learning_rate(recipe: Recipe, step: int) -> float:
    """Return the learning rate of a step, 0 <= step < recipe.steps."""
    warm_up = max(1, recipe.steps // 20)
    if step < warm_up:
        return recipe.learning_rate * (step + 1) / warm_up
    done = (step - warm_up) / max(1, recipe.steps - warm_up)
    return recipe.learning_rate * (0.1 + 0.45 * (1 + math.cos(math.pi * done)))


def train(recipe: Recipe) -> tuple[LlamaForCausalLM, PreTrainedTokenizerFast]:
    """Return a model and its tokenizer, trained as the recipe says; prints its progress."""
    tokenizer = train_tokenizer(recipe)
    model = new_model(recipe)
    optimiser = torch.optim.AdamW(model.parameters(), lr=0.0, betas=(0.9, 0.95), weight_decay=0.0)
    start = time.monotonic()
    for step, ids in zip(range(recipe.steps), batches(tokenizer, recipe), strict=False):
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(recipe, step)
        tokens = torch.from_numpy(ids)
        loss = model(input_ids=tokens, labels=tokens).loss
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        if (step + 1) % max(1, recipe.steps // 40) == 0:
            seconds = time.monotonic() - start
            print(
                f"step {step + 1}/{recipe.steps}  loss {loss.item():.3f} nats per token"
                f"  {seconds:.0f} s",
                flush=True,
            )
    return model, tokenizer


def held_out_loss(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, count: int) -> float:
    """Return the mean loss, in nats per token, on `count` documents never trained on."""
    total, tokens = 0.0, 0
    with torch.no_grad():
        for text in documents(HELD_OUT_SEED, count):
            ids = torch.tensor([[*tokenizer(text)["input_ids"], EOS]])
            predicted = ids.shape[1] - 1
            total += model(input_ids=ids, labels=ids).loss.item() * predicted
            tokens += predicted
    return total / tokens


def save(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, to: Path) -> None:
    """Write a Hugging Face folder, float32."""
    model.save_pretrained(to)
    tokenizer.save_pretrained(to)


def main(arguments: list[str] | None = None) -> None:
    """Run the program."""
    parser = argparse.ArgumentParser(description="Make the built-in model again.")
    parser.add_argument("--to", type=Path, required=True, help="the folder to write")
    parser.add_argument("--steps", type=int, default=Recipe.steps, help="training steps")
    options = parser.parse_args(arguments)
    recipe = Recipe(steps=options.steps)
    model, tokenizer = train(recipe)
    print(f"held-out loss {held_out_loss(model, tokenizer, 200):.3f} nats per token")
    save(model, tokenizer, options.to)


if __name__ == "__main__":
    main()
