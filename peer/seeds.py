"""Candidate seeds, and every other thing that peers draw alike: who is active, which seed is next.

Each draw is a function of the experiment's root seed, a domain and two coordinates, through Philox.
Nothing is drawn from a stream, so no peer depends on how often another one has drawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from peer.philox import philox

SEED_LIMIT = 2**64
"""Root seeds and candidate seeds lie in [0, 2**64)."""


class Domain(IntEnum):
    """What a random word is for; two domains never share a counter."""

    CANDIDATE_SEEDS = 1
    PARTICIPATION = 2
    LOCAL_STEPS = 3
    SYNTHETIC = 4
    HOLD_OUT = 5
    SHARDS = 6
    BATCHES = 7
    LATENCIES = 8
    FRAMES = 9
    SPEEDS = 10
    DIRECTIONS = 11
    ADAPTERS = 12
    SAMPLES = 13


def random_words(root_seed: int, domain: Domain, a: int, b: int, count: int) -> NDArray[np.uint64]:
    """Return `count` 64-bit words at coordinates (a, b) of a domain; 0 <= a < 2**56, b < 2**32."""
    blocks = np.arange((count + 1) // 2, dtype=np.uint64) + (np.uint64(b) << np.uint64(32))
    words = philox(root_seed, blocks, (domain << 56) | a).astype(np.uint64)
    pairs = words[:, 0::2] | (words[:, 1::2] << np.uint64(32))
    return pairs.reshape(-1)[:count]


def words_at(
    root_seed: int, domain: Domain, a: NDArray[np.uint64], b: NDArray[np.uint64]
) -> NDArray[np.uint64]:
    """Return the first word at each of many coordinates (a, b), as `random_words` does at one."""
    words = philox(root_seed, b << np.uint64(32), np.uint64(domain << 56) | a).astype(np.uint64)
    return words[:, 0] | (words[:, 1] << np.uint64(32))


def candidate_seeds(root_seed: int, count: int) -> NDArray[np.uint64]:
    """Return the K candidate seeds: shape (count,), all different, in [0, 2**64)."""
    drawn = count
    while True:
        words = random_words(root_seed, Domain.CANDIDATE_SEEDS, 0, 0, drawn)
        _, first = np.unique(words, return_index=True)
        if len(first) >= count:
            return words[np.sort(first)[:count]]
        drawn += count


def draw_uniform(
    root_seed: int, origin: int, round_: int, steps: int, candidates: int
) -> NDArray[np.int64]:
    """Return the seed indices of one entry's local steps, drawn with replacement.

    They follow from (origin, round), so they need not travel. No index is likelier than
    another by more than candidates / 2**32. Shape (steps,), values in [0, candidates).
    """
    words = random_words(root_seed, Domain.LOCAL_STEPS, origin, round_, steps)
    high = words >> np.uint64(32)
    return ((high * np.uint64(candidates)) >> np.uint64(32)).astype(np.int64)


def draw_weighted(
    root_seed: int, origin: int, round_: int, steps: int, weights: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Return seed indices drawn in proportion to integer weights (FedKSeed-Pro).

    Args:
        root_seed: the experiment's.
        origin: the peer that draws.
        round_: of the steps.
        steps: how many to draw.
        weights: shape (K,), at least 0, at least one above; their sum below 2**63.
    """
    cumulative = np.cumsum(weights)
    total = int(cumulative[-1])
    words = random_words(root_seed, Domain.LOCAL_STEPS, origin, round_, steps)
    targets = np.array([(int(word) * total) >> 64 for word in words], dtype=np.int64)
    return np.searchsorted(cumulative, targets, side="right").astype(np.int64)


def active_count(members: int, participation: float) -> int:
    """Return how many of so many peers train in a round: the nearest number, at least one."""
    return max(1, round(participation * members))


def active_peers(
    root_seed: int,
    peers: int,
    participation: float,
    round_: int,
    members: Sequence[int] | None = None,
) -> tuple[int, ...]:
    """Return, in order, who trains in a round: as many as `active_count` says.

    Args:
        root_seed: the experiment's.
        peers: how many there are on the roster, whenever they join or leave.
        participation: the share of the members that train.
        round_: the round.
        members: who may be drawn in this round, in ascending order; None: everybody.
    """
    members = range(peers) if members is None else members
    active = active_count(len(members), participation)
    if active >= len(members):
        return tuple(members)
    words = random_words(root_seed, Domain.PARTICIPATION, round_, 0, peers)[list(members)]
    places = np.argsort(words, kind="stable")[:active]
    return tuple(sorted(members[place] for place in places.tolist()))
