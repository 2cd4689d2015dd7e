"""Cuts: a set of histories and its sums, shared by those who have come to the same set."""

from __future__ import annotations

import gc
import random

import networkx as nx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mesh import Mesh, agreement, history, over, seeding

from peer.cut import Cuts
from peer.entry import HISTORY, make_ack
from peer.log import HASH_MODULUS, Run, runs_of
from peer.protocol import Protocol

PROTOCOL = agreement(5, rounds=4, seeding="weighted")
POOL = [
    Run(history(PROTOCOL, peer, round_, round_, fill=(1 + peer + 5 * round_) / 32), None)
    for round_ in range(4)
    for peer in range(5)
]
subsets = st.lists(st.sampled_from(range(len(POOL))), unique=True).map(
    lambda places: [POOL[place] for place in places]
)


def separate(protocol: Protocol) -> Cuts:
    return Cuts(protocol.empty_accumulator, protocol.add)


@given(subsets, st.randoms(use_true_random=False))
def test_a_cut_depends_on_its_set_alone(entries: list[Run], source: random.Random) -> None:
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
    assert (one_by_one.sum, one_by_one.ends) == (at_once.sum, at_once.ends)
    assert one_by_one.digest == at_once.digest
    assert one_by_one.accumulator.digest() == at_once.accumulator.digest()


@given(subsets, subsets)
def test_other_sets_have_other_digests(one: list[Run], other: list[Run]) -> None:
    cuts = separate(PROTOCOL)
    digests = [cuts.extended(cuts.empty(), histories).digest for histories in (one, other)]
    assert (digests[0] == digests[1]) == (set(one) == set(other))


def test_what_stands_before_a_history_belongs_to_the_cut_and_what_stands_after_does_not() -> None:
    """Who acknowledges the cut acknowledges where each log ends, and with which contents."""
    protocol = agreement(3, rounds=40, participation=0.5)
    first, last = history(protocol, 1, 0, 0), history(protocol, 1, 2, 36)
    acks = [make_ack(1, 1, 34, bytes([fill]) * 8) for fill in (1, 2)]
    with_one, with_other, without = (
        runs_of([first, *between, last]) for between in (acks[:1], acks[1:], [])
    )
    cuts = separate(protocol)
    digests = set()
    for runs in (with_one, with_other, without):
        histories = [run for run in runs if run.entry.kind is HISTORY]
        cut = cuts.extended(cuts.empty(), histories)
        assert cut.ends == {1: (3, 36)}
        assert cut.sum == sum(run.entry.hash for run in runs) % HASH_MODULUS
        digests.add(cut.digest)
    assert len(digests) == 3
    ended = runs_of([first, make_ack(1, 1, 34, bytes(8))])
    assert cuts.extended(cuts.empty(), ended[:1]).ends == {1: (1, 0)}


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
    options = {
        "seeding": seeding(pro),
        "participation": 0.6,
        "gossip": "tree",
        "rounds": 5,
    }
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
    protocol = agreement(3, seeding=seeding(pro))
    cut = protocol.cuts.extended(protocol.cuts.empty(), runs_of([history(protocol, 1, 0, 0)]))
    assert cut.accumulator.sums.any()
    assert cut.accumulator.counts.any() == pro
    assert cut.accumulator.magnitudes.any() == pro
