"""Which rows of an experiment are used, and for what: FedKSeed, section 5.1.3.

some tasks, or random rows, are held out -> tasks with too few rows are left out
    -> a share of each task's rows is drawn -> and dealt to the peers

Everything follows from a seed, so each peer can work it out alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from peer.data.encode import Encoded
from peer.data.held_out import ROWS, held_out_rows, tasks_of
from peer.data.order import shuffles
from peer.data.partition import Shards, grouped, hold_out, partition
from peer.errors import UserError
from peer.options import refuse
from peer.seeds import Domain

BY_TASK: Final = "by-task"
"""Each training task is a peer of its own."""

# Streams of Domain.SAMPLES.
_TRAIN, _TEST, _EVALUATED = range(3)


@dataclass(frozen=True, eq=False)
class Split:
    """The rows of an experiment: some held out, others with one peer each, the rest unused."""

    held_out: NDArray[np.int64]
    shards: Shards


@dataclass(frozen=True, kw_only=True)
class Division:
    """How rows are divided: the options of these names.

    Attributes:
        partition: `by-task`, or one of `partition.KINDS`.
        peers: how many shards.
        alpha: of the Dirichlet partition.
        seed: the experiment's.
        eval_rows: with `held_out = rows` so many are held out; else at most so many rows of the
            held-out tasks are evaluated, drawn at random, and 0 stands for all.
        held_out: see `peer.data.held_out`.
        train_share: the share of each task's rows that is drawn for training: the nearest number,
            at least one.
        test_share: the same for held-out tasks; `held_out = rows` has none.
        min_rows: the least rows of a peer. With `by-task` and `by-category`, tasks or categories
            that have fewer are left out, counted before a share is drawn, as the published program
            does (20). The other partitions, and categories divided among peers, see to it after. Of
            a held-out task at least so many rows are drawn, as there, if it has them.
    """

    partition: str
    peers: int
    alpha: float
    seed: int
    eval_rows: int
    held_out: str = ROWS
    train_share: float = 1.0
    test_share: float = 1.0
    min_rows: int = 1


def divide(encoded: Encoded, wanted: Division) -> Split:
    """Hold rows out and deal others to peers, all by their numbers in `encoded`, ascending.

    Raises:
        UserError: the rows cannot be divided like this; see `partition` and `held_out_rows`, too.
    """
    train = _large_enough(encoded, _train_rows(encoded, wanted), wanted)
    train = _draw(encoded, train, wanted.train_share, 1, wanted.seed, _TRAIN)
    if wanted.partition == BY_TASK:
        _, labels = tasks_of(encoded)
        count = len(np.unique(labels[train]))
        if wanted.peers != count:
            raise UserError(
                f"{wanted.peers} peers for {count} training tasks; allowed with partition ="
                f" {BY_TASK}: as many peers as tasks"
            )
        # Whole groups, each to a peer of its own; how many rows one needs was looked at above.
        kind, least = "by-category", 1
    else:
        labels, kind, least = encoded.categories, wanted.partition, wanted.min_rows
    shards = partition(kind, labels[train], wanted.peers, wanted.alpha, wanted.seed, least)
    return Split(_evaluated_rows(encoded, wanted), [train[shard] for shard in shards])


def count_training_tasks(encoded: Encoded, wanted: Division) -> int:
    """Return how many peers `by-task` makes.

    Raises:
        UserError: as `divide`, or fewer than two.
    """
    train = _large_enough(encoded, _train_rows(encoded, wanted), wanted)
    count = len(np.unique(tasks_of(encoded)[1][train]))
    if count < 2:
        refuse("partition", BY_TASK, "there is one training task, and a run has at least 2 peers")
    return count


def _train_rows(encoded: Encoded, wanted: Division) -> NDArray[np.int64]:
    if wanted.held_out == ROWS:
        return hold_out(len(encoded), wanted.eval_rows, wanted.seed)[0]
    return np.flatnonzero(~held_out_rows(encoded, wanted.held_out))


def _evaluated_rows(encoded: Encoded, wanted: Division) -> NDArray[np.int64]:
    if wanted.held_out == ROWS:
        return hold_out(len(encoded), wanted.eval_rows, wanted.seed)[1]
    rows = np.flatnonzero(held_out_rows(encoded, wanted.held_out))
    rows = _draw(encoded, rows, wanted.test_share, wanted.min_rows, wanted.seed, _TEST)
    if 0 < wanted.eval_rows < len(rows):
        order = shuffles(wanted.seed, Domain.SAMPLES, _EVALUATED, 0, 1, len(rows))[0]
        rows = np.sort(rows[order[: wanted.eval_rows]])
    return rows


def _large_enough(encoded: Encoded, rows: NDArray[np.int64], wanted: Division) -> NDArray[np.int64]:
    """Return the rows without those of groups that are too small to be a peer's."""
    if wanted.partition == BY_TASK:
        (_, labels), kind = tasks_of(encoded), "task"
    elif wanted.partition == "by-category":
        labels, kind = encoded.categories, "category"
    else:
        return rows
    sizes = np.bincount(labels[rows])
    if sizes.max() < wanted.min_rows:
        allowed = f"the largest training {kind} has {sizes.max()} rows"
        refuse("min_rows", wanted.min_rows, allowed)
    return rows[sizes[labels[rows]] >= wanted.min_rows]


def _draw(
    encoded: Encoded, rows: NDArray[np.int64], share: float, least: int, seed: int, stream: int
) -> NDArray[np.int64]:
    """Return a share of each task's rows, drawn at random, but at least so many where it has them.

    How many is the nearest whole number (the published program rounds down).
    """
    if share == 1:
        return rows
    names, tasks = tasks_of(encoded)
    shuffled = rows[shuffles(seed, Domain.SAMPLES, stream, 0, 1, len(rows))[0]]
    drawn = [
        group[: max(least, round(share * len(group)))]
        for group in grouped(shuffled, tasks, len(names))
    ]
    return np.sort(np.concatenate(drawn))
