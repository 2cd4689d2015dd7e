"""Blocks partition the weights; those drawn of the seeds are different, even, and everybody's."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from peer.block_draw import draw_blocks
from peer.blocks import block_offsets
from peer.errors import UserError

sizes_of = st.lists(st.integers(1, 10_000), min_size=1, max_size=40)
quick = settings(deadline=None, max_examples=100)


@given(sizes=sizes_of, data=st.data())
@quick
def test_equal_parts_differ_by_one_at_most(sizes, data):
    parts = data.draw(st.integers(1, sum(sizes)))
    offsets = block_offsets(sizes, parts)
    assert offsets[0] == 0
    assert offsets[-1] == sum(sizes)
    lengths = np.diff(offsets)
    assert len(lengths) == parts
    assert lengths.min() >= 1
    assert lengths.max() - lengths.min() <= 1


@given(sizes=sizes_of)
@quick
def test_grouped_blocks_end_where_tensors_do_and_could_not_be_fewer(sizes):
    offsets = block_offsets(sizes, 0)
    ends = [0, *np.cumsum(sizes).tolist()]
    most = 0.9 * np.median(sizes)
    assert offsets[0] == 0
    assert offsets[-1] == ends[-1]
    assert set(offsets.tolist()) <= set(ends)
    tensors = np.diff([ends.index(offset) for offset in offsets])
    lengths = np.diff(offsets)
    assert (tensors >= 1).all()
    assert (lengths[tensors > 1] <= most).all()
    for length, at in zip(lengths, offsets[1:-1].tolist(), strict=False):
        assert length + sizes[ends.index(at)] > most


def test_llama_of_24_layers_has_the_papers_194_blocks():
    hidden, inner, vocabulary = 2048, 5632, 32000
    layer = [hidden**2] * 4 + [hidden * inner] * 3 + [hidden] * 2
    sizes = [vocabulary * hidden, *layer * 24, hidden, vocabulary * hidden]
    assert len(block_offsets(sizes, 0)) - 1 == 194


def test_more_blocks_than_weights_are_refused():
    with pytest.raises(UserError, match="blocks = 8: the 7 weights make at most as many"):
        block_offsets([3, 4], 8)


@given(
    root=st.integers(0, 2**64 - 1),
    origin=st.integers(0, 2**24 - 1),
    round_=st.integers(0, 2**32 - 1),
    candidates=st.integers(1, 60),
    data=st.data(),
)
@quick
def test_each_block_gets_as_many_different_seeds_as_it_has_coordinates(
    root, origin, round_, candidates, data
):
    counts = np.array(data.draw(st.lists(st.integers(0, candidates), max_size=8)), dtype=np.int64)
    flat = draw_blocks(root, origin, round_, counts, candidates)
    assert flat.dtype == np.int64
    assert (np.diff(flat) > 0).all()
    found = np.bincount(flat // candidates, minlength=len(counts))
    assert found.tolist() == counts.tolist()


@given(
    counts=st.lists(st.integers(0, 30), min_size=2, max_size=6),
    other=st.integers(0, 30),
    at=st.integers(0, 5),
)
@quick
def test_a_blocks_seeds_do_not_hang_on_what_other_blocks_have(counts, other, at):
    at %= len(counts)
    changed = [other if block == at else count for block, count in enumerate(counts)]
    some, others = (draw_blocks(5, 2, 9, np.array(each), 30) for each in (counts, changed))
    assert some[some // 30 != at].tolist() == others[others // 30 != at].tolist()


def test_every_seed_is_as_likely_and_so_is_every_pair():
    """6000 draws of 3 of 6: each seed in half of them, each pair in a fifth."""
    counts = np.full(6000, 3)
    drawn = (draw_blocks(1, 0, 0, counts, 6) % 6).reshape(-1, 3)
    seeds = np.bincount(drawn.reshape(-1)) / 6000
    assert np.abs(seeds - 0.5).max() < 5 * np.sqrt(0.25 / 6000)
    pairs = np.zeros((6, 6))
    for a, b in ((0, 1), (0, 2), (1, 2)):
        np.add.at(pairs, (drawn[:, a], drawn[:, b]), 1 / 6000)
    assert np.abs(pairs[np.triu_indices(6, 1)] - 0.2).max() < 5 * np.sqrt(0.16 / 6000)


def test_origins_rounds_blocks_and_roots_draw_apart():
    counts = np.array([10, 10])
    draws = {
        tuple((draw_blocks(root, origin, round_, counts, 1000)[block * 10 :][:10] % 1000).tolist())
        for root in (0, 1)
        for origin in (0, 1)
        for round_ in (0, 1)
        for block in (0, 1)
    }
    assert len(draws) == 16


def test_the_draw_is_fixed():
    drawn = draw_blocks(7, 3, 2, np.array([2, 0, 3]), 100)
    assert drawn.tolist() == [66, 74, 214, 267, 292]
