"""Greedy generation: a model goes on from many prompts at once, each time with its likeliest token.

Shapes: n prompts, B of them in a batch, L tokens of the longest of these.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import takewhile
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from peer.model import FlatModel

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

GENERATION_TOKENS = 8192
"""At most so many tokens are kept at once, those to come included, but always a whole row."""


def ends_of(model: FlatModel, tokenizer: PreTrainedTokenizerBase) -> tuple[int, ...]:
    """Return the tokens that end a text: the tokenizer's first, then those that the model names.

    Args:
        model: its generation_config may name some.
        tokenizer: one with an end-of-sequence token, as rows are encoded with no other.
    """
    named: int | list[int] | None = model.module.generation_config.eos_token_id
    also = named if isinstance(named, list) else [] if named is None else [named]
    return tuple(dict.fromkeys((tokenizer.eos_token_id, *also)))


def generate(
    model: FlatModel,
    prompts: Sequence[NDArray[np.int32]],
    *,
    new_tokens: int,
    positions: int,
    ends: Sequence[int],
    told: Callable[[int, int], None] = lambda *_: None,
) -> list[list[int]]:
    """Return what a model says to prompts, as token ids without prompt and end.

    Each answer goes on to the first of `ends`, for `new_tokens` tokens, or to the model's last
    position: a prompt that leaves less room than `new_tokens` is kept whole, and its answer is
    shorter. (The papers' program allows 128 tokens everywhere, behind prompts of at most 1,024.)

    Whatever the model's folder says of sampling, penalties or beams is left aside. Answers do not
    hang on who shares a batch, but for likelihoods that are equal up to rounding.

    Args:
        model: as it is now.
        prompts: n arrays of token ids, none empty.
        new_tokens: the most tokens of an answer, at least 1.
        positions: of the model, without those that an adapter's virtual tokens take.
        ends: see `ends_of`; the first fills up short prompts, too, and is masked there.
        told: called with how many answers there are so far, and n.

    Returns:
        n lists, in the order of the prompts.
    """
    device = model.weights.device
    answers: list[list[int]] = [[] for _ in prompts]
    done = 0
    with _greedy(model.module, ends) as config:
        lengths = np.array([len(prompt) for prompt in prompts], dtype=np.int64)
        for places, room in _batches(lengths, new_tokens, positions):
            input_ids, mask = _left_padded([prompts[place] for place in places], ends[0])
            config.max_new_tokens = room
            module: Any = model.module
            whole = module.generate(input_ids=input_ids.to(device), attention_mask=mask.to(device))
            for place, tokens in zip(places, whole[:, input_ids.shape[1] :].tolist(), strict=True):
                answers[place] = list(takewhile(lambda token: token not in ends, tokens))
            done += len(places)
            told(done, len(prompts))
    return answers


def _batches(
    lengths: NDArray[np.int64], new_tokens: int, positions: int
) -> Iterator[tuple[NDArray[np.int64], int]]:
    """Yield which prompts go together and how many tokens their answers may have.

    Prompts without any room are in no batch.

    Args:
        lengths: of the prompts.
        new_tokens: the most tokens of an answer.
        positions: of prompt and answer together.
    """
    order = np.argsort(-lengths, kind="stable")
    ordered = lengths[order]
    start = int(np.searchsorted(-ordered, -positions, side="right"))
    while start < len(order):
        longest = int(ordered[start])
        room = min(new_tokens, positions - longest)
        stop = start + max(1, GENERATION_TOKENS // (longest + room))
        if room < new_tokens:
            # Beside a longer one, shorter ones would have their answers cut, or it leave positions.
            stop = min(stop, int(np.searchsorted(-ordered, -longest, side="right")))
        yield order[start:stop], room
        start = min(stop, len(order))


def _left_padded(
    prompts: Sequence[NDArray[np.int32]], filler: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return input_ids and attention_mask, int64 of shape (B, L), prompts ending side by side."""
    longest = max(map(len, prompts))
    input_ids = np.full((len(prompts), longest), filler, dtype=np.int64)
    mask = np.zeros_like(input_ids)
    for b, prompt in enumerate(prompts):
        input_ids[b, longest - len(prompt) :] = prompt
        mask[b, longest - len(prompt) :] = 1
    return torch.from_numpy(input_ids), torch.from_numpy(mask)


@contextmanager
def _greedy(module: torch.nn.Module, ends: Sequence[int]) -> Iterator[Any]:
    """Have a model generate greedily and nothing else; yield the settings, to be completed."""
    from transformers import GenerationConfig

    config = GenerationConfig(  # type: ignore[no-untyped-call]
        do_sample=False,
        num_beams=1,
        eos_token_id=list(ends),
        pad_token_id=ends[0],
    )
    # An argument of `generate` would be mixed with them; a wrapped model has them more than once.
    owners = [part for part in module.modules() if "generation_config" in vars(part)]
    before = [part.generation_config for part in owners]
    try:
        for part in owners:
            part.generation_config = config  # type: ignore[assignment]
        yield config
    finally:
        for part, kept in zip(owners, before, strict=True):
            part.generation_config = kept
