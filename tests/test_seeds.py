"""What every peer draws alike: against the definition, in range, fair, and the same for ever."""

from __future__ import annotations

from collections import Counter
from fractions import Fraction
from itertools import accumulate, combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from peer import seeds
from peer.seeds import (
    SEED_LIMIT,
    Domain,
    active_peers,
    candidate_seeds,
    draw_uniform,
    draw_weighted,
    random_words,
    words_at,
)

root_seeds = st.integers(0, SEED_LIMIT - 1)
numbers_32 = st.integers(0, 2**32 - 1)
numbers_56 = st.integers(0, 2**56 - 1)


def slow_block(key: int, counter: int) -> list[int]:
    """Philox4x32-10 on Python integers, after the paper."""
    c = [counter >> 32 * word & 0xFFFFFFFF for word in range(4)]
    k0, k1 = key & 0xFFFFFFFF, key >> 32
    for _ in range(10):
        p0, p1 = c[0] * 0xD2511F53, c[2] * 0xCD9E8D57
        c = [p1 >> 32 ^ c[1] ^ k0, p1 & 0xFFFFFFFF, p0 >> 32 ^ c[3] ^ k1, p0 & 0xFFFFFFFF]
        k0, k1 = (k0 + 0x9E3779B9) & 0xFFFFFFFF, (k1 + 0xBB67AE85) & 0xFFFFFFFF
    return c


def slow_words(root_seed: int, domain: int, a: int, b: int, count: int) -> list[int]:
    """Counter, from the top: domain (8 bits), a (56), b (32), block (32); two words a block."""
    words: list[int] = []
    for block in range((count + 1) // 2):
        c = slow_block(root_seed, domain << 120 | a << 64 | b << 32 | block)
        words += [c[1] << 32 | c[0], c[3] << 32 | c[2]]
    return words[:count]


def chi_square_is_plausible(counts: np.ndarray, expected: np.ndarray) -> bool:
    """Within five standard deviations of its mean: neither too uneven nor too even."""
    statistic = float(np.sum((counts - expected) ** 2 / expected))
    freedom = len(counts) - 1
    return abs(statistic - freedom) < 5 * (2 * freedom) ** 0.5


@given(root_seeds, st.sampled_from(Domain), numbers_56, numbers_32, st.integers(0, 9))
def test_words_are_the_definition_s(
    root_seed: int, domain: Domain, a: int, b: int, count: int
) -> None:
    words = random_words(root_seed, domain, a, b, count)
    assert words.dtype == np.uint64
    assert words.tolist() == slow_words(root_seed, domain, a, b, count)


@given(
    root_seeds,
    st.sampled_from(Domain),
    st.lists(st.tuples(numbers_56, numbers_32), max_size=5),
)
def test_words_at_many_places_are_those_at_each(
    root_seed: int, domain: Domain, places: list[tuple[int, int]]
) -> None:
    a, b = np.array(places, dtype=np.uint64).reshape(-1, 2).T
    words = words_at(root_seed, domain, a, b)
    assert words.tolist() == [slow_words(root_seed, domain, *place, 1)[0] for place in places]


def test_golden_words() -> None:
    assert [hex(word) for word in random_words(0, Domain.CANDIDATE_SEEDS, 0, 0, 3).tolist()] == [
        "0x29946dd3910223a1",
        "0xde653caf621adeee",
        "0x48d84baefa4c6e6d",
    ]


coordinates = st.tuples(st.sampled_from(Domain), numbers_56, numbers_32)


@given(st.lists(coordinates, min_size=2, max_size=8, unique=True))
def test_two_draws_never_share_a_counter(places: list[tuple[Domain, int, int]]) -> None:
    """The ranges of counters that the longest possible draws could touch do not overlap."""
    ranges = []
    with pytest.MonkeyPatch.context() as patch:
        calls: list[tuple[int, int]] = []

        def record(key: int, low: np.ndarray, high: int) -> np.ndarray:
            del key
            calls.append((high, int(low[0])))
            return np.zeros((len(low), 4), np.uint32)

        patch.setattr(seeds, "philox", record)
        for domain, a, b in places:
            random_words(0, domain, a, b, 1)
        ranges = [(high << 64) + low for high, low in calls]
    assert len(ranges) == len(places)
    assert all(abs(one - other) >= 2**32 for one, other in combinations(ranges, 2))
    assert all(start + 2**32 <= 2**128 for start in ranges)


# Candidate seeds


def test_golden_candidate_seeds() -> None:
    assert candidate_seeds(0, 3).tolist() == [
        2996140407546586017,
        16025281573030649582,
        5249028580596018797,
    ]
    assert candidate_seeds(SEED_LIMIT - 1, 2).tolist() == [9027807244936363845, 7987052803881409859]


@given(root_seeds, st.integers(1, 300))
def test_candidate_seeds_are_distinct(root_seed: int, count: int) -> None:
    drawn = candidate_seeds(root_seed, count)
    assert drawn.dtype == np.uint64
    assert drawn.shape == (count,)
    assert len(set(drawn.tolist())) == count


@given(root_seeds, st.integers(1, 100), st.integers(0, 100))
def test_fewer_candidate_seeds_are_a_prefix_of_more(root_seed: int, count: int, more: int) -> None:
    assert candidate_seeds(root_seed, count).tolist() == (
        candidate_seeds(root_seed, count + more)[:count].tolist()
    )


@given(root_seeds, st.integers(1, 16), st.integers(1, 16))
def test_words_that_repeat_are_passed_over(root_seed: int, count: int, fewer: int) -> None:
    """64-bit words never repeat in a test, so here only their last four bits count."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(seeds, "random_words", lambda *args: random_words(*args) % np.uint64(16))
        drawn = candidate_seeds(root_seed, count).tolist()
        prefix = candidate_seeds(root_seed, min(count, fewer)).tolist()
    words = [word % 16 for word in slow_words(root_seed, 1, 0, 0, 600)]
    assert drawn == list(dict.fromkeys(words))[:count]
    assert prefix == drawn[: len(prefix)]


# Seed indices of local steps


def test_golden_uniform_draws() -> None:
    assert draw_uniform(7, 3, 2, 8, 1024).tolist() == [785, 291, 285, 175, 819, 810, 418, 81]


@given(
    root_seeds,
    numbers_32,
    numbers_32,
    st.integers(0, 20),
    st.one_of(st.integers(1, 70), st.integers(1, 2**24)),
)
def test_uniform_draws_are_the_definition_s(
    root_seed: int, origin: int, sequence: int, steps: int, candidates: int
) -> None:
    drawn = draw_uniform(root_seed, origin, sequence, steps, candidates)
    words = slow_words(root_seed, Domain.LOCAL_STEPS, origin, sequence, steps)
    assert drawn.dtype == np.int64
    assert drawn.tolist() == [(word >> 32) * candidates // 2**32 for word in words]
    assert all(0 <= index < candidates for index in drawn.tolist())


@given(root_seeds, st.integers(1, 40), st.integers(0, 40))
def test_fewer_steps_are_a_prefix_of_more(root_seed: int, steps: int, more: int) -> None:
    longer = draw_uniform(root_seed, 1, 2, steps + more, 1000)
    assert draw_uniform(root_seed, 1, 2, steps, 1000).tolist() == longer[:steps].tolist()


@pytest.mark.parametrize("candidates", [1, 2, 3, 1000, 4096, 2**16 + 1, 2**24, 2**32 - 1])
def test_extreme_words_stay_in_range(candidates: int, monkeypatch: pytest.MonkeyPatch) -> None:
    words = np.array([0, 2**64 - 1], dtype=np.uint64)
    monkeypatch.setattr(seeds, "random_words", lambda *_: words)
    assert draw_uniform(0, 0, 0, 2, candidates).tolist() == [0, candidates - 1]


@pytest.mark.parametrize("candidates", [2, 10, 64, 1000])
def test_uniform_draws_are_uniform(candidates: int) -> None:
    steps = 50 * candidates
    drawn = [draw_uniform(11, origin, 0, steps, candidates) for origin in range(20)]
    counts = np.bincount(np.concatenate(drawn), minlength=candidates)
    assert chi_square_is_plausible(counts, np.full(candidates, 20.0 * steps / candidates))


def test_draws_of_neighbouring_entries_are_independent() -> None:
    """Pairs (draw of one entry, draw at the same step of the next) fill an 8 x 8 table evenly."""
    drawn = np.stack([draw_uniform(5, 4, sequence, 400, 8) for sequence in range(33)])
    across = np.bincount((drawn[:-1] * 8 + drawn[1:]).reshape(-1), minlength=64)
    within = np.bincount((drawn[:, :-1:2] * 8 + drawn[:, 1::2]).reshape(-1), minlength=64)
    for counts in (across, within):
        assert chi_square_is_plausible(counts, np.full(64, counts.sum() / 64))


weight_lists = st.lists(
    st.one_of(st.just(0), st.integers(0, 9), st.integers(0, 2**55)), min_size=1, max_size=60
).filter(any)


def test_golden_weighted_draws() -> None:
    weights = np.array([5, 0, 1, 2**40, 2**41])
    assert draw_weighted(7, 3, 2, 12, weights).tolist() == [4, 3, 3, 3, 4, 4, 4, 3, 3, 4, 3, 3]


@given(root_seeds, numbers_32, weight_lists, st.integers(0, 20))
def test_weighted_draws_are_the_definition_s(
    root_seed: int, sequence: int, weights: list[int], steps: int
) -> None:
    """The index of the first weight at which the running sum passes the word's share of the sum."""
    drawn = draw_weighted(root_seed, 9, sequence, steps, np.array(weights))
    words = slow_words(root_seed, Domain.LOCAL_STEPS, 9, sequence, steps)
    running = list(accumulate(weights))
    expected = [
        next(
            index
            for index, reached in enumerate(running)
            if reached > Fraction(word, 2**64) * running[-1] // 1
        )
        for word in words
    ]
    assert drawn.dtype == np.int64
    assert drawn.tolist() == expected
    assert all(weights[index] > 0 for index in drawn.tolist())


@pytest.mark.parametrize(
    ("weights", "first", "last"),
    [
        ([1], 0, 0),
        ([0, 3, 0, 4, 0], 1, 3),
        ([0, 0, 2**63 - 1], 2, 2),
        ([2**62, 2**62 - 1, 0], 0, 1),
        ([1] + [0] * 10, 0, 0),
    ],
)
def test_extreme_words_meet_no_empty_weight(
    weights: list[int], first: int, last: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = np.array([0, 2**64 - 1], dtype=np.uint64)
    monkeypatch.setattr(seeds, "random_words", lambda *_: words)
    assert draw_weighted(0, 0, 0, 2, np.array(weights)).tolist() == [first, last]


def test_weighted_draws_are_proportional() -> None:
    weights = np.array([1, 0, 2, 3, 0, 10, 100, 1000, 0]) * 2**40
    drawn = np.concatenate([draw_weighted(3, 2, number, 5000, weights) for number in range(20)])
    counts = np.bincount(drawn, minlength=len(weights))
    some = weights > 0
    assert counts[~some].tolist() == [0, 0, 0]
    assert chi_square_is_plausible(counts[some], weights[some] * (100_000 / weights.sum()))


# Who is active


def test_golden_active_peers() -> None:
    assert [active_peers(7, 20, 0.25, round_) for round_ in range(3)] == [
        (0, 6, 9, 10, 14),
        (2, 4, 5, 7, 19),
        (0, 4, 8, 13, 17),
    ]


@given(root_seeds, st.integers(1, 200), st.floats(0.001, 1.0), st.integers(0, 2**24))
def test_active_peers_are_the_definition_s(
    root_seed: int, peers: int, participation: float, round_: int
) -> None:
    """The peers with the least words; their number is the nearest to the share, at least one."""
    active = active_peers(root_seed, peers, participation, round_)
    words = slow_words(root_seed, Domain.PARTICIPATION, round_, 0, peers)
    by_word = sorted(range(peers), key=words.__getitem__)
    assert list(active) == sorted(by_word[: len(active)])
    assert abs(len(active) - participation * peers) <= 0.5 or len(active) == 1
    assert all(type(peer) is int for peer in active)


@pytest.mark.parametrize(
    ("peers", "participation", "size"),
    [
        (8, 1.0, 8),
        (8, 0.999, 8),
        (1, 0.01, 1),
        (200, 0.05, 10),
        (5, 0.5, 2),
        (7, 0.5, 4),
        (9, 1e-9, 1),
    ],
)
def test_the_number_of_active_peers(peers: int, participation: float, size: int) -> None:
    assert len(active_peers(1, peers, participation, 3)) == size


def test_everybody_gets_a_fair_share() -> None:
    rounds, peers, active = 4000, 40, 10
    chosen = Counter(peer for r in range(rounds) for peer in active_peers(9, peers, 0.25, r))
    counts = np.array([chosen[peer] for peer in range(peers)], dtype=float)
    expected = rounds * active / peers
    # Drawn without replacement, so a count's variance is that of (1 - 1/4) of a Poisson number's.
    statistic = float(np.sum((counts - expected) ** 2) / (expected * 0.75))
    assert abs(statistic - (peers - 1)) < 5 * (2 * peers) ** 0.5
    together = Counter(
        pair for r in range(rounds) for pair in combinations(active_peers(9, peers, 0.25, r), 2)
    )
    likely = rounds * active * (active - 1) / (peers * (peers - 1))
    assert max(abs(count - likely) for count in together.values()) < 6 * likely**0.5
    assert len(together) == peers * (peers - 1) // 2
