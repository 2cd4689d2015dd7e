"""Held-out rows, shards, and the order in which a peer uses its rows."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from peer.data.order import rows_for, shuffles
from peer.data.partition import KINDS, hold_out, partition
from peer.errors import UserError
from peer.seeds import Domain, random_words

seeds = st.integers(0, 2**64 - 1)
labels = st.lists(st.integers(0, 5), min_size=1, max_size=80)
alphas = st.sampled_from([1e-300, 1e-3, 0.1, 0.5, 1.0, 100.0, 1e300])


def same(left: list[NDArray[np.int64]], right: list[NDArray[np.int64]]) -> bool:
    return len(left) == len(right) and all(map(np.array_equal, left, right))


# Held-out rows


@given(st.integers(1, 200), st.data(), seeds)
def test_hold_out_divides_all_rows(n: int, data: st.DataObject, seed: int) -> None:
    eval_rows = data.draw(st.integers(0, n - 1))
    train, held_out = hold_out(n, eval_rows, seed)
    assert len(held_out) == eval_rows
    assert np.array_equal(np.sort(np.concatenate([train, held_out])), np.arange(n))
    assert np.array_equal(train, np.sort(train))
    assert np.array_equal(held_out, np.sort(held_out))
    assert same(list(hold_out(n, eval_rows, seed)), [train, held_out])


@pytest.mark.parametrize("eval_rows", [-1, 10, 11])
def test_hold_out_leaves_a_row(eval_rows: int) -> None:
    with pytest.raises(UserError) as caught:
        hold_out(10, eval_rows, 0)
    assert str(caught.value) == f"eval_rows {eval_rows} of 10 rows; allowed: from 0 to 9"


# Shards


@settings(deadline=None)
@given(st.sampled_from(KINDS), labels, st.data(), alphas, seeds)
def test_each_row_is_in_one_shard_and_no_shard_is_empty(
    kind: str, categories: list[int], data: st.DataObject, alpha: float, seed: int
) -> None:
    peers = data.draw(st.integers(1, len(categories)))
    shards = partition(kind, categories, peers, alpha, seed)
    assert len(shards) == peers
    assert all(len(shard) and np.array_equal(shard, np.sort(shard)) for shard in shards)
    assert np.array_equal(np.sort(np.concatenate(shards)), np.arange(len(categories)))
    assert same(partition(kind, categories, peers, alpha, seed), shards)


@settings(deadline=None)
@given(st.sampled_from(["iid", "dirichlet"]), labels, st.data(), alphas, seeds)
def test_each_peer_has_the_least_rows(
    kind: str, categories: list[int], data: st.DataObject, alpha: float, seed: int
) -> None:
    peers = data.draw(st.integers(1, len(categories)))
    least = data.draw(st.integers(1, len(categories) // peers))
    shards = partition(kind, categories, peers, alpha, seed, least)
    assert min(map(len, shards)) >= least
    assert np.array_equal(np.sort(np.concatenate(shards)), np.arange(len(categories)))


def test_rows_move_from_the_largest_shards_alone() -> None:
    categories = [0] * 40 + [1] * 20
    # So small an alpha gives a category to one peer.
    sizes = [len(own) for own in partition("dirichlet", categories, 6, 1e-300, 4, 8)]
    assert sorted(sizes) == [8, 8, 8, 8, 14, 14]


def test_by_category_tells_who_would_have_too_few_rows() -> None:
    with pytest.raises(UserError) as caught:
        partition("by-category", [0] * 9 + [1] * 2, 3, 1.0, 0, 3)
    assert str(caught.value) == (
        "min_rows = 3 is not allowed: by category one of 3 peers would have 2 rows"
    )


@given(labels, st.data(), seeds)
def test_iid_shards_are_of_one_size(categories: list[int], data: st.DataObject, seed: int) -> None:
    peers = data.draw(st.integers(1, len(categories)))
    sizes = [len(shard) for shard in partition("iid", categories, peers, 1.0, seed)]
    assert max(sizes) - min(sizes) <= 1


@given(labels, st.data(), seeds)
def test_by_category_keeps_categories_together(
    categories: list[int], data: st.DataObject, seed: int
) -> None:
    peers = data.draw(st.integers(1, len(categories)))
    shards = partition("by-category", categories, peers, 1.0, seed)
    held = [set(np.take(categories, shard).tolist()) for shard in shards]
    counts = {label: categories.count(label) for label in categories}
    holders = {label: sum(label in own for own in held) for label in counts}
    if peers <= len(counts):
        assert set(holders.values()) == {1}
        # The last category that the largest shard took went where the rows were fewest.
        sizes = [len(shard) for shard in shards]
        largest = held[int(np.argmax(sizes))]
        assert max(sizes) - min(sizes) <= min(counts[label] for label in largest)
    else:
        assert all(len(own) == 1 for own in held)
        for label, count in counts.items():
            own = [len(s) for s, h in zip(shards, held, strict=True) if label in h]
            assert max(own) - min(own) <= 1
            # A holder fewer for another category would not have left less to each in the end.
            assert all(
                counts[other] / (holders[other] - 1) >= count / holders[label]
                for other in counts
                if holders[other] > 1
            )


def test_labels_may_be_texts_or_numbers() -> None:
    texts = ["b", "a", "c", "a", "b", "a"]
    numbers = [1, 0, 2, 0, 1, 0]
    for kind in KINDS:
        assert same(partition(kind, texts, 3, 0.5, 1), partition(kind, numbers, 3, 0.5, 1))


def test_small_alpha_makes_peers_differ_and_large_makes_them_alike() -> None:
    categories = np.repeat(np.arange(8), 500)

    def mean_distance(alpha: float) -> float:
        """Total variation between a peer's categories and all, mean over peers and seeds."""
        distances = []
        for seed in range(10):
            for shard in partition("dirichlet", categories, 10, alpha, seed):
                own = np.bincount(categories[shard], minlength=8) / len(shard)
                distances.append(np.abs(own - 1 / 8).sum() / 2)
        return float(np.mean(distances))

    assert mean_distance(0.1) > 0.55 > mean_distance(1.0) > 0.2 > 0.05 > mean_distance(100.0)


def test_dirichlet_sizes_follow_the_distribution() -> None:
    """With one category a peer's share is a coordinate of Dirichlet(alpha): mean and variance."""
    peers, alpha, n = 4, 2.0, 10_000
    shares = np.array(
        [
            [len(shard) / n for shard in partition("dirichlet", [0] * n, peers, alpha, seed)]
            for seed in range(400)
        ]
    )
    variance = (1 / peers) * (1 - 1 / peers) / (peers * alpha + 1)
    assert np.abs(shares.mean(axis=0) - 1 / peers).max() < 4 * (variance / 400) ** 0.5
    assert abs(shares.var() / variance - 1) < 0.15


def test_shards_depend_on_the_seed() -> None:
    categories = [i % 7 for i in range(70)]
    for kind in KINDS:
        assert not same(
            partition(kind, categories, 5, 0.5, 1), partition(kind, categories, 5, 0.5, 2)
        )


@pytest.mark.parametrize(
    ("kind", "n", "peers", "alpha", "message"),
    [
        ("zipf", 9, 3, 1.0, "partition 'zipf'; allowed: iid, dirichlet, by-category"),
        ("iid", 9, 0, 1.0, "0 peers; allowed: at least 1"),
        ("iid", 9, 10, 1.0, "9 rows for 10 peers; allowed: at least one row for each peer"),
        ("iid", 0, 1, 1.0, "0 rows for 1 peers; allowed: at least one row for each peer"),
        ("dirichlet", 9, 3, 0.0, "alpha 0.0; allowed: above 0 and finite"),
        ("dirichlet", 9, 3, -1.0, "alpha -1.0; allowed: above 0 and finite"),
        ("dirichlet", 9, 3, float("nan"), "alpha nan; allowed: above 0 and finite"),
        ("dirichlet", 9, 3, float("inf"), "alpha inf; allowed: above 0 and finite"),
    ],
)
def test_partition_refuses(kind: str, n: int, peers: int, alpha: float, message: str) -> None:
    with pytest.raises(UserError) as caught:
        partition(kind, [0] * n, peers, alpha, 0)
    assert str(caught.value) == message


# The order of rows


def test_no_domain_is_used_twice() -> None:
    assert len(set(map(int, Domain))) == len(Domain.__members__)
    assert max(Domain) < 2**8


@given(seeds, st.integers(0, 2**56 - 1), st.integers(0, 2**32 - 4), st.integers(1, 40))
def test_shuffles_sort_the_words_of_their_coordinates(
    seed: int, stream: int, first: int, n: int
) -> None:
    for k, order in enumerate(shuffles(seed, Domain.BATCHES, stream, first, 3, n)):
        words = random_words(seed, Domain.BATCHES, stream, first + k, n)
        assert order.tolist() == sorted(range(n), key=lambda i: int(words[i]))


def test_shuffles_are_uniform() -> None:
    """All 24 orders of 4 things, 4,800 times: chi-square below its 99.9% point, 49.7."""
    orders = shuffles(3, Domain.BATCHES, 0, 0, 4800, 4)
    _, counts = np.unique(orders, axis=0, return_counts=True)
    assert len(counts) == 24
    assert ((counts - 200) ** 2 / 200).sum() < 49.7


@given(
    seeds,
    st.integers(0, 50),
    st.integers(1, 6),
    st.integers(1, 5),
    st.integers(1, 12),
    st.integers(0, 30),
)
def test_rows_pass_through_the_shard_in_epochs(
    seed: int, peer: int, steps: int, batch_size: int, shard_size: int, start: int
) -> None:
    rounds = range(start, start + 4)
    drawn = [rows_for(seed, peer, r, steps, batch_size, shard_size) for r in rounds]
    assert {own.shape for own in drawn} == {(steps, batch_size)}
    passed = np.concatenate([own.reshape(-1) for own in drawn])
    first = -start * steps * batch_size % shard_size
    for at in range(first, len(passed) - shard_size + 1, shard_size):
        assert sorted(passed[at : at + shard_size].tolist()) == list(range(shard_size))
    assert len(set(passed[:first].tolist())) == min(first, len(passed))
    again = rows_for(seed, peer, start, steps, batch_size, shard_size)
    assert np.array_equal(again, drawn[0])


def test_peers_rounds_epochs_and_seeds_have_orders_of_their_own() -> None:
    base = rows_for(1, 0, 0, 50, 1, 50)
    for other in (
        rows_for(2, 0, 0, 50, 1, 50),
        rows_for(1, 1, 0, 50, 1, 50),
        rows_for(1, 0, 1, 50, 1, 50),
    ):
        assert not np.array_equal(base, other)


def test_golden_rows() -> None:
    """A change here makes a resumed or repeated run train on other rows."""
    assert rows_for(42, 3, 0, 4, 2, 5).tolist() == [[3, 0], [1, 4], [2, 1], [2, 4]]
    assert rows_for(42, 3, 1, 4, 2, 5).tolist() == [[0, 3], [4, 3], [0, 1], [2, 0]]
    assert rows_for(2**64 - 1, 1000, 60, 3, 1, 10_007).tolist() == [[9032], [8394], [291]]
