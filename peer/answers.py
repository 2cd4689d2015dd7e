"""What a model says to held-out prompts, and how near it comes to what was expected."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from peer.data.encode import Encoded
from peer.generation import ends_of, generate
from peer.model import FlatModel
from peer.rouge import rouge_l
from peer.tasks import Tasks

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SAMPLES: Final = 8
"""Answers that are kept to be read."""

_PROMPT_SHOWN: Final = 400
"""The last characters of a prompt that are kept with its answer."""


@dataclass(frozen=True, eq=False)
class Answers:
    """What a model has said to n rows.

    Attributes:
        rows: shape (n,), ascending.
        texts: what it said to each.
        rouge_l: shape (n,), see `peer.rouge`.
    """

    rows: NDArray[np.int64]
    texts: list[str]
    rouge_l: NDArray[np.float64]

    @property
    def mean(self) -> float:
        """Mean Rouge-L of all answers."""
        return float(self.rouge_l.mean())


class Questions:
    """The prompts of some held-out rows: the same ones, however often they are asked.

    What is expected is what a row's response tokens say, cut where rows are cut, as in the papers'
    program.

    Args:
        encoded: all rows.
        held_out: rows that are not trained on, ascending.
        tokenizer: makes texts of tokens.
        count: how many to ask, spread over the tasks; all, if there are not so many.
        new_tokens: the most tokens of an answer.
        positions: see `peer.generation.generate`.

    Attributes:
        rows: which are asked, ascending.
    """

    def __init__(
        self,
        encoded: Encoded,
        held_out: NDArray[np.int64],
        tokenizer: PreTrainedTokenizerBase,
        *,
        count: int,
        new_tokens: int,
        positions: int,
    ) -> None:
        self._tasks = Tasks(encoded)
        self.rows = self._tasks.spread(held_out, count)
        self._tokenizer = tokenizer
        self._new_tokens, self._positions = new_tokens, positions
        starts, borders = encoded.offsets[self.rows], encoded.prompt_lengths[self.rows]
        ends = encoded.offsets[self.rows + 1]
        pieces = [
            (encoded.tokens[start : start + border], encoded.tokens[start + border : end])
            for start, border, end in zip(starts, borders, ends, strict=True)
        ]
        self._prompts = [prompt for prompt, _ in pieces]
        self._expected = self._read([response.tolist() for _, response in pieces])

    def ask(self, model: FlatModel, told: Callable[[int, int], None] = lambda *_: None) -> Answers:
        """Return what a model says now; see `peer.generation.generate`."""
        said = generate(
            model,
            self._prompts,
            new_tokens=self._new_tokens,
            positions=self._positions,
            ends=ends_of(model, self._tokenizer),
            told=told,
        )
        texts = self._read(said)
        pairs = zip(self._expected, texts, strict=True)
        scores = [rouge_l(expected, text) for expected, text in pairs]
        return Answers(self.rows, texts, np.array(scores))

    def samples(self, answers: Answers) -> list[dict[str, Any]]:
        """Return some rows with the answers given, as lines of samples.jsonl but for the round."""
        places = self._tasks.spread(answers.rows, SAMPLES)
        chosen = np.searchsorted(answers.rows, places)
        prompts = self._read([self._prompts[place].tolist() for place in chosen])
        return [
            {
                "row": int(self.rows[place]),
                "task": self._tasks.of(self.rows[place]),
                "prompt": prompt[-_PROMPT_SHOWN:],
                "expected": self._expected[place],
                "generated": answers.texts[place],
                "rouge_l": float(answers.rouge_l[place]),
            }
            for place, prompt in zip(chosen, prompts, strict=True)
        ]

    def _read(self, tokens: list[list[int]]) -> list[str]:
        texts = self._tokenizer.batch_decode(tokens, skip_special_tokens=True)
        return [text.strip() for text in texts]
