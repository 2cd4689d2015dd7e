"""How near to each other peers that average have come: their mean, and the distance from it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from peer.weights import Weights, weighted_sum

_CHUNK = 2**18


@dataclass(frozen=True)
class Consensus:
    """Where some peers' weights x_i lie.

    Attributes:
        mean: sum_i s_i x_i for their shares s_i.
        distance: sqrt(1/N sum_i |x_i - mean|^2), the consensus distance (Kong et al., 2021,
            "Consensus control for decentralized deep learning", section 3.2).
        relative: the same, divided by how far the mean has come from where all have started; NaN
            if it is there still.
    """

    mean: Weights
    distance: float
    relative: float


def consensus(states: Sequence[Weights], shares: Sequence[float], start: Weights) -> Consensus:
    """Return where peers' weights lie, in one pass over them.

    Args:
        states: of N peers, at least one.
        shares: what each counts for in the mean, N numbers with the sum 1.
        start: the weights that all have started from.
    """
    mean = weighted_sum(list(zip(shares, states, strict=True)))
    apart, moved = 0.0, 0.0
    for at in range(0, len(mean), _CHUNK):
        centre = mean.values(at, at + _CHUNK)
        moved += float(np.sum((centre - start.values(at, at + _CHUNK)) ** 2))
        for state in states:
            apart += float(np.sum((state.values(at, at + _CHUNK) - centre) ** 2))
    distance = math.sqrt(apart / len(states))
    return Consensus(mean, distance, distance / math.sqrt(moved) if moved else math.nan)


def mean_of(states: Mapping[int, Weights], rows: Sequence[int], start: Weights) -> Consensus:
    """Return where the weights of some peers lie, each counting for as much as it has rows.

    Args:
        states: by peer, at least one.
        rows: n_i of all peers.
        start: see `consensus`.
    """
    total = sum(rows[peer] for peer in states)
    ordered = sorted(states)
    shares = [rows[peer] / total for peer in ordered]
    return consensus([states[peer] for peer in ordered], shares, start)
