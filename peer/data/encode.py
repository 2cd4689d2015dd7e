"""Rows as token ids, kept compactly, and batches out of them.

Prompt and response are tokenised apart, so where the response starts never depends on how a
tokenizer would merge across the border. A launcher encodes once, saves, and every process loads.

Shapes: n rows, t tokens of all rows together, B rows of a batch, L tokens of its longest row.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from peer.data.fields import Row
from peer.data.template import prompt
from peer.errors import UserError

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase

PUBLISHED_MAX_LENGTH = 1024
"""Where the published FedKSeed program cuts."""

IGNORED = -100
"""The label that PyTorch's cross entropy leaves out."""

_CHUNK = 256
"""Rows tokenised at once: a tokenizer's own answer takes many times the memory of the ids in it."""


@dataclass(frozen=True, eq=False)
class Encoded:
    """Token ids of n rows, end to end: prompt, response, end of sequence."""

    tokens: NDArray[np.int32]
    """Shape (t,)."""

    offsets: NDArray[np.int64]
    """Shape (n + 1,): row i is tokens[offsets[i]:offsets[i + 1]]."""

    prompt_lengths: NDArray[np.int32]
    """Shape (n,): how many of a row's tokens are its prompt; at least one comes after."""

    categories: NDArray[np.int32]
    """Shape (n,): indices into `category_names`."""

    category_names: tuple[str, ...]

    tasks: NDArray[np.int32]
    """Shape (n,): indices into `task_names`; all alike where the source names no tasks."""

    task_names: tuple[str, ...]

    cut_away: int
    """Rows dropped because they are too long, or no token of their response was left of them."""

    test_tasks: tuple[str, ...] = ()
    """The tasks that the source sets apart for tests, if it does; some may have no row here."""

    def __len__(self) -> int:
        return len(self.prompt_lengths)

    def save(self, path: Path) -> None:
        """Write everything to `path`, as .npz (whatever the suffix), with nothing pickled."""
        with path.open("wb") as file:
            np.savez(
                file,
                tokens=self.tokens,
                offsets=self.offsets,
                prompt_lengths=self.prompt_lengths,
                categories=self.categories,
                category_names=_pack(self.category_names),
                tasks=self.tasks,
                task_names=_pack(self.task_names),
                cut_away=np.int64(self.cut_away),
                test_tasks=_pack(self.test_tasks),
            )

    @classmethod
    def load(cls, path: Path) -> Encoded:
        """Read what `save` wrote. Raises UserError where that is not what `path` holds."""
        try:
            # Opened here, since numpy leaves a broken file open.
            with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
                return cls(
                    tokens=arrays["tokens"],
                    offsets=arrays["offsets"],
                    prompt_lengths=arrays["prompt_lengths"],
                    categories=arrays["categories"],
                    category_names=_unpack(arrays["category_names"]),
                    tasks=arrays["tasks"],
                    task_names=_unpack(arrays["task_names"]),
                    cut_away=int(arrays["cut_away"]),
                    test_tasks=_unpack(arrays["test_tasks"]),
                )
        except FileNotFoundError:
            raise UserError(f"{path}: no such file") from None
        # A truncated or foreign file shows itself in one of these ways.
        except (OSError, ValueError, KeyError, EOFError, TypeError, zipfile.BadZipFile):
            raise UserError(f"{path}: no encoded rows; allowed: a file saved by kseed") from None


def default_max_length(positions: int) -> int:
    """Return where rows are cut for a model of so many positions, if the user does not say."""
    return min(PUBLISHED_MAX_LENGTH, positions)


def encode(
    rows: Sequence[Row],
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
    *,
    drop_long: bool = False,
) -> Encoded:
    """Tokenise all rows: the prompt as the tokenizer starts a text, the response plain, then eos.

    Each row is cut to its first `max_length` tokens (at least 2). A row is dropped, and counted, if
    that leaves no token of its response, or, with `drop_long`, if it cuts anything.

    FedKSeed's paper (section 5.1.2) leaves long rows out. The published program does so with
    Natural Instructions only, where it counts the input's characters, and cuts the rows of Dolly.

    Raises:
        UserError: max_length below 2, a tokenizer without an end of sequence, or no row left.
    """
    if max_length < 2:
        raise UserError(f"max_length {max_length}; allowed: at least 2, a prompt and a response")
    if tokenizer.eos_token_id is None:
        raise UserError("the tokenizer has no end-of-sequence token; allowed: one that has")
    pieces, prompt_lengths, kept = [], [], []
    for start in range(0, len(rows), _CHUNK):
        chunk = rows[start : start + _CHUNK]
        prompts = _token_ids(tokenizer, [prompt(row) for row in chunk], special=True)
        responses = _token_ids(tokenizer, [row.response for row in chunk], special=False)
        for row, head, response in zip(chunk, prompts, responses, strict=True):
            if len(head) >= max_length or not response:
                continue
            ids = [*head, *response, tokenizer.eos_token_id]
            if drop_long and len(ids) > max_length:
                continue
            pieces.append(np.array(ids[:max_length], dtype=np.int32))
            prompt_lengths.append(len(head))
            kept.append(row)
    if not kept:
        left, least = ("whole row", "row") if drop_long else ("response", "prompt")
        raise UserError(
            f"max_length {max_length} leaves no {left} in any of {len(rows)} rows;"
            f" allowed: longer than the shortest {least}"
        )
    category_names, categories = _codes([row.category for row in kept])
    task_names, tasks = _codes([row.task for row in kept])
    return Encoded(
        tokens=np.concatenate(pieces),
        offsets=np.cumsum([0, *map(len, pieces)], dtype=np.int64),
        prompt_lengths=np.array(prompt_lengths, dtype=np.int32),
        categories=categories,
        category_names=category_names,
        tasks=tasks,
        task_names=task_names,
        cut_away=len(rows) - len(kept),
    )


def batch(
    encoded: Encoded, indices: ArrayLike, pad_id: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return (input_ids, attention_mask, labels) of some rows, each int64 of shape (B, L).

    Rows are padded on the right. Labels are -100 on prompt and padding; an end of sequence that was
    not cut off is a label, even if `pad_id` is the same number.

    Args:
        encoded: all rows.
        indices: shape (B,), B at least 1; a row may come twice.
        pad_id: the token that fills up.
    """
    import torch

    indices = np.asarray(indices, dtype=np.int64)
    starts, ends = encoded.offsets[indices], encoded.offsets[indices + 1]
    shape = (len(indices), int((ends - starts).max()))
    input_ids = np.full(shape, pad_id, dtype=np.int64)
    attention_mask = np.zeros(shape, dtype=np.int64)
    labels = np.full(shape, IGNORED, dtype=np.int64)
    for b, (index, start, end) in enumerate(zip(indices, starts, ends, strict=True)):
        length, prompt_length = end - start, encoded.prompt_lengths[index]
        input_ids[b, :length] = encoded.tokens[start:end]
        attention_mask[b, :length] = 1
        labels[b, prompt_length:length] = input_ids[b, prompt_length:length]
    return (
        torch.from_numpy(input_ids),
        torch.from_numpy(attention_mask),
        torch.from_numpy(labels),
    )


def _token_ids(
    tokenizer: PreTrainedTokenizerBase, texts: list[str], special: bool
) -> list[list[int]]:
    ids: list[list[int]] = tokenizer(
        texts,
        add_special_tokens=special,
        return_attention_mask=False,
        return_token_type_ids=False,
        # Too long a text is dealt with in `encode`; a warning about it would mislead.
        verbose=False,
    )["input_ids"]
    return ids


def _codes(labels: list[str]) -> tuple[tuple[str, ...], NDArray[np.int32]]:
    names = tuple(sorted(set(labels)))
    code = {name: i for i, name in enumerate(names)}
    return names, np.array([code[label] for label in labels], dtype=np.int32)


def _pack(names: tuple[str, ...]) -> NDArray[np.uint8]:
    return np.frombuffer(json.dumps(names).encode(), dtype=np.uint8)


def _unpack(packed: NDArray[np.uint8]) -> tuple[str, ...]:
    return tuple(json.loads(packed.tobytes()))
