"""Random rows held out for evaluation, and rows dealt to peers.

Everything follows from a seed, so each peer can work it out alone. Shards are arrays of row numbers
in ascending order.
"""

from __future__ import annotations

import heapq
import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from peer.data.order import shuffles
from peer.errors import UserError
from peer.seeds import Domain

Shards = list[NDArray[np.int64]]

KINDS = ("iid", "dirichlet", "by-category")

_ATTEMPTS = 10
"""Dirichlet draws before rows are moved by hand: with many peers no draw may ever do."""


def hold_out(n: int, eval_rows: int, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return (train rows, held-out rows) of n rows, each ascending; `eval_rows` are held out.

    Raises:
        UserError: eval_rows below 0, or so many that no row is left to train on.
    """
    if not 0 <= eval_rows < n:
        raise UserError(f"eval_rows {eval_rows} of {n} rows; allowed: from 0 to {n - 1}")
    order = shuffles(seed, Domain.HOLD_OUT, 0, 0, 1, n)[0]
    return np.sort(order[eval_rows:]), np.sort(order[:eval_rows])


def partition(
    kind: str, categories: ArrayLike, peers: int, alpha: float, seed: int, least: int = 1
) -> Shards:
    """Deal n rows to peers: every row in exactly one shard, no shard with fewer than `least`.

    - `iid`: a shuffle cut into pieces whose sizes differ by at most one.
    - `dirichlet`: each category's rows are divided in proportions drawn from Dirichlet(alpha); the
      smaller alpha, the more the peers differ (Yurochkin et al., 2019, "Bayesian Nonparametric
      Federated Learning of Neural Networks"). Drawn again a few times while a peer has too few
      rows; one that has too few still takes them from the largest shards. (The published FedKSeed
      program draws until each has 10, and gives a peer with an even share no further category.)
    - `by-category`: whole categories, the largest first, each to the peer with the fewest rows so
      far. With more peers than categories no peer has two: a category is divided evenly among
      several, the more the larger it is. Given tasks instead of categories it is the division of
      Natural Instructions that FedKSeed uses.

    Args:
        kind: one of `KINDS`.
        categories: shape (n,), a label for each row: numbers or texts.
        peers: how many shards, from 1 to n.
        alpha: above 0, finite; only `dirichlet` uses it.
        seed: 0 <= seed < 2**64.
        least: rows of a peer, at least 1.

    Returns:
        `peers` arrays of places in `categories`.

    Raises:
        UserError: an argument outside of what is allowed, or too few rows.
    """
    _, labels = np.unique(np.asarray(categories), return_inverse=True)
    n = len(labels)
    if kind not in KINDS:
        raise UserError(f"partition {kind!r}; allowed: {', '.join(KINDS)}")
    if peers < 1:
        raise UserError(f"{peers} peers; allowed: at least 1")
    if n < peers * least:
        each = "one row" if least == 1 else f"min_rows = {least} rows"
        raise UserError(f"{n} rows for {peers} peers; allowed: at least {each} for each peer")
    order = shuffles(seed, Domain.SHARDS, 0, 0, 1, n)[0]
    if kind == "iid":
        shards = np.array_split(order, peers)
    else:
        groups = grouped(order, labels, labels.max() + 1)
        if kind == "dirichlet":
            shards = _dirichlet(order, groups, peers, alpha, seed, least)
        else:
            dealt = _whole(groups, peers) if len(groups) >= peers else _divided(groups, peers)
            # Sizes must not say which peer has which shard: numbers are places in a topology.
            shards = [dealt[i] for i in shuffles(seed, Domain.SHARDS, 1, 0, 1, peers)[0]]
            fewest = min(map(len, shards))
            if fewest < least:
                raise UserError(
                    f"min_rows = {least} is not allowed: by category one of {peers} peers would"
                    f" have {fewest} rows"
                )
    return [np.sort(shard) for shard in shards]


def grouped(order: NDArray[np.int64], group_of: NDArray[np.integer], count: int) -> Shards:
    """Return the rows of each of `count` groups, in their order; `group_of` goes by row."""
    groups = group_of[order]
    ends = np.cumsum(np.bincount(groups, minlength=count))
    return np.split(order[np.argsort(groups, kind="stable")], ends[:-1])


def _dirichlet(
    order: NDArray[np.int64], groups: Shards, peers: int, alpha: float, seed: int, least: int
) -> Shards:
    if not (math.isfinite(alpha) and alpha > 0):
        raise UserError(f"alpha {alpha}; allowed: above 0 and finite")
    generator = np.random.Generator(np.random.Philox(np.random.SeedSequence((seed, Domain.SHARDS))))
    owners = np.empty(len(order), dtype=np.int64)
    for _ in range(_ATTEMPTS):
        for group in groups:
            ends = np.cumsum(generator.dirichlet(np.full(peers, alpha)))
            places = np.arange(len(group)) / len(group)
            owners[group] = np.searchsorted(ends[:-1], places, side="right")
        if np.bincount(owners, minlength=peers).min() >= least:
            break
    return _filled(grouped(order, owners, peers), least)


def _filled(shards: Shards, least: int) -> Shards:
    """Return the shards after those below `least` have taken rows, one by one, from the largest."""
    lists = [shard.tolist() for shard in shards]
    heap = [(-len(rows), i) for i, rows in enumerate(lists) if len(rows) > least]
    heapq.heapify(heap)
    for rows in lists:
        while len(rows) < least:
            largest = heap[0][1]
            rows.append(lists[largest].pop())
            heapq.heapreplace(heap, (-len(lists[largest]), largest))
    return [np.array(rows, dtype=np.int64) for rows in lists]


def _whole(groups: Shards, peers: int) -> Shards:
    heap: list[tuple[int, int]] = [(0, i) for i in range(peers)]
    dealt: list[Shards] = [[] for _ in range(peers)]
    for group in sorted(groups, key=len, reverse=True):
        rows, i = heap[0]
        dealt[i].append(group)
        heapq.heapreplace(heap, (rows + len(group), i))
    return [np.concatenate(own) for own in dealt]


def _divided(groups: Shards, peers: int) -> Shards:
    holders = [1] * len(groups)
    heap = [(-float(len(group)), i) for i, group in enumerate(groups)]
    heapq.heapify(heap)
    for _ in range(peers - len(groups)):
        i = heap[0][1]
        holders[i] += 1
        heapq.heapreplace(heap, (-len(groups[i]) / holders[i], i))
    return [
        shard
        for group, count in zip(groups, holders, strict=True)
        for shard in np.array_split(group, count)
    ]
