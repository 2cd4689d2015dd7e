"""The rows of an experiment as token ids, and who has which."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, fields, replace
from typing import Any

from numpy.typing import NDArray

from peer.config import Experiment
from peer.data import encode as encoding
from peer.data.apart import set_apart
from peer.data.division import Division, Split, count_training_tasks, divide
from peer.data.held_out import ROWS
from peer.data.rows import load_rows
from peer.errors import UserError
from peer.options import refuse


@dataclass(frozen=True)
class Corpus:
    """The rows of an experiment as token ids, and who has which.

    Attributes:
        encoded: all usable rows.
        split: those held out, and each peer's shard.
        unusable: rows dropped because they have no response, or none within max_length, or, where
            long rows are dropped, are longer.
    """

    encoded: encoding.Encoded
    split: Split
    unusable: int

    def set_apart(self, share: float, seed: int) -> Corpus:
        """Return the same rows with some of each peer's own held out in place of those that are.

        Args:
            share: see `peer.data.apart.set_apart`.
            seed: the experiment's.

        Raises:
            UserError: no peer has two rows.
        """
        rows, shards = set_apart(self.split.shards, share, seed)
        return replace(self, split=replace(self.split, held_out=rows, shards=shards))

    def digest(self) -> str:
        """Return 32 hexadecimal digits over the token ids and who has which rows."""
        hasher = hashlib.blake2b(digest_size=16)
        rows = (self.encoded.tokens, self.encoded.offsets, self.encoded.prompt_lengths)
        arrays: list[NDArray[Any]] = [*rows, self.split.held_out, *self.split.shards]
        for numbers in arrays:
            hasher.update(len(numbers).to_bytes(8, "little") + numbers.tobytes())
        return hasher.hexdigest()


def encode_rows(experiment: Experiment) -> tuple[encoding.Encoded, int]:
    """Load and tokenise the data; return the rows and how many had no response."""
    # A missing data file is told before a model is looked for, and the other way round costs more.
    loaded = load_rows(experiment.data)
    from peer.model import load_tokenizer, positions

    most = positions(experiment.model) - experiment.virtual_positions
    if most < 2:
        refuse(
            "virtual_tokens",
            experiment.virtual_tokens,
            f"the model has {most + experiment.virtual_tokens} positions, and rows need 2 of them",
        )
    if experiment.max_length > most:
        raise UserError(
            f"max_length = {experiment.max_length} is not allowed: the model has {most} positions"
        )
    length = experiment.max_length or encoding.default_max_length(most)
    tokenizer = load_tokenizer(experiment.model)
    drop_long = experiment.long_rows == "drop"
    encoded = encoding.encode(loaded.rows, tokenizer, length, drop_long=drop_long)
    return replace(encoded, test_tasks=loaded.test_tasks), loaded.empty_responses


def with_a_peer_for_each_task(experiment: Experiment, encoded: encoding.Encoded) -> Experiment:
    """Return the experiment with the number of peers that `partition = by-task` makes.

    Raises:
        UserError: there are fewer than two training tasks.
    """
    return replace(experiment, peers=count_training_tasks(encoded, _division(experiment)))


def deal(experiment: Experiment, encoded: encoding.Encoded, empty: int) -> Corpus:
    """Hold rows out and deal others to the peers."""
    if experiment.held_out == ROWS and not experiment.eval_rows:
        refuse("eval_rows", 0, "at least 1, unless tasks are held out (held_out)")
    return Corpus(encoded, divide(encoded, _division(experiment)), empty + encoded.cut_away)


def _division(experiment: Experiment) -> Division:
    return Division(**{item.name: getattr(experiment, item.name) for item in fields(Division)})
