"""Cuts: a set of histories and its sums, shared by those who have come to the same set."""

from __future__ import annotations

import gc
import random

import networkx as nx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mesh import Mesh, agreement, history, over

from peer.cut import Cuts
from peer.entry import Entry
from peer.protocol import Protocol

PROTOCOL = agreement(5, rounds=4, weighted_draws=True)
POOL = [
    history(PROTOCOL, peer, round_, round_, fill=(1 + peer + 5 * round_) / 32)
    for round_ in range(4)
    for peer in range(5)
]
subsets = st.lists(st.sampled_from(range(len(POOL))), unique=True).map(
    lambda places: [POOL[place] for place in places]
)


def separate(protocol: Protocol) -> Cuts:
    return Cuts(protocol.empty_accumulator, protocol.add)


@given(subsets, st.randoms(use_true_random=False))
def test_a_cut_depends_on_its_set_alone(entries: list[Entry], source: random.Random) -> None:
    """Whatever the order, and however many are added at once, shared or not."""
    shuffled = list(entries)
    source.shuffle(shuffled)
    shared, alone = separate(PROTOCOL), separate(PROTOCOL)
    at_once = shared.extended(shared.empty(), entries)
    one_by_one = alone.empty()
    while shuffled:
        taken = source.randint(1, len(shuffled))
        one_by_one = alone.extended(one_by_one, shuffled[:taken])
        del shuffled[:taken]
    assert one_by_one.sum == at_once.sum
    assert one_by_one.digest == at_once.digest
    assert one_by_one.accumulator.digest() == at_once.accumulator.digest()


@given(subsets, subsets)
def test_what_is_taken_out_again_leaves_nothing(one: list[Entry], other: list[Entry]) -> None:
    more = [entry for entry in other if entry not in one]
    cuts = separate(PROTOCOL)
    before = cuts.extended(cuts.empty(), one)
    both = cuts.extended(before, more)
    again = separate(PROTOCOL).extended(both, more, -1)
    assert again.digest == before.digest
    assert again.accumulator.digest() == before.accumulator.digest()
    assert (both.digest == before.digest) == (not more)


def test_replicas_with_the_same_set_share_one_object() -> None:
    cuts = separate(PROTOCOL)
    one = cuts.extended(cuts.extended(cuts.empty(), POOL[:2]), POOL[2:5])
    other = cuts.extended(cuts.empty(), POOL[4::-1])
    assert one is other
    assert cuts.extended(one, []) is one


def test_a_cut_that_nobody_holds_is_forgotten() -> None:
    cuts = separate(PROTOCOL)
    cut = cuts.extended(cuts.empty(), POOL)
    assert len(cuts._known) == 1
    digest = cut.digest
    del cut
    gc.collect()
    assert len(cuts._known) == 0
    assert cuts.extended(cuts.empty(), POOL).digest == digest


def test_a_cut_is_not_changed_by_what_follows_from_it() -> None:
    cuts = separate(PROTOCOL)
    first = cuts.extended(cuts.empty(), POOL[:5])
    before = first.accumulator.digest()
    cuts.extended(first, POOL[5:])
    assert first.accumulator.digest() == before


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10**6), st.booleans())
def test_sharing_gives_the_bits_of_replicas_that_share_nothing(seed: int, pro: bool) -> None:
    graph = nx.connected_watts_strogatz_graph(8, 4, 0.4, seed=seed)
    options = {"weighted_draws": pro, "participation": 0.6, "gossip": "tree", "rounds": 5}
    shared = Mesh(graph, agreement(8, **options))
    # Each has an agreement of its own, and with it cuts of its own.
    alone = Mesh(graph, {peer: over(graph, agreement(8, **options)) for peer in graph})
    for mesh in (shared, alone):
        mesh.start()
        mesh.run()
    assert alone.sent == shared.sent
    assert len(alone.accumulators()) == 1
    assert alone.accumulators() == shared.accumulators()


@pytest.mark.parametrize("pro", [False, True])
def test_magnitudes_and_counts_are_kept_for_pro_alone(pro: bool) -> None:
    protocol = agreement(3, weighted_draws=pro)
    cut = protocol.cuts.extended(protocol.cuts.empty(), [history(protocol, 1, 0, 0)])
    assert cut.accumulator.sums.any()
    assert cut.accumulator.counts.any() == pro
    assert cut.accumulator.magnitudes.any() == pro
