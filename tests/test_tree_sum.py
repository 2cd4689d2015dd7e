"""Sums along a tree, a cost model: the design's figures, and draws counted one by one."""

from __future__ import annotations

import networkx as nx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import topology
from peer.entry import pack_indices
from peer.seeds import draw_uniform
from sim.volume.tree_sum import (
    SumTree,
    breadth_first,
    break_even,
    expected_distinct,
    histories_bytes,
    message_bytes,
    push_tree,
    simulated_sums_bytes,
    sums_bytes,
)
from topology.arrays import links_of

K = 4096
TORUS = topology.build("torus", 100)
DESIGN = {1: (0.06, 0.10), 20: (1.19, 1.66), 50: (2.97, 3.09), 200: (11.88, 3.97)}
"""MB of histories with 6 bytes a step, and of sums, by tau."""


@pytest.mark.parametrize("tau", DESIGN)
def test_the_designs_figures_to_each_digit(tau: int) -> None:
    megabytes = (
        histories_bytes(100, tau, 6) / 1e6,
        sums_bytes(breadth_first(links_of(TORUS)), tau, K).total,
    )
    assert (round(megabytes[0], 2), round(megabytes[1] / 1e6, 2)) == DESIGN[tau]


@pytest.mark.parametrize("origin", range(0, 100, 9))
def test_the_trees_of_entries_cost_nearly_the_same(origin: int) -> None:
    for tau, (_, sums) in DESIGN.items():
        total = sums_bytes(push_tree(TORUS, origin), tau, K).total / 1e6
        assert abs(total - sums) < max(0.005, 0.015 * sums)


def test_histories_with_derived_indices_take_a_third_less() -> None:
    assert histories_bytes(100, 20, 4) * 3 == histories_bytes(100, 20, 6) * 2


def test_where_they_break_even() -> None:
    per_seed = {}
    for peers in (100, 256, 4096):
        tree = breadth_first(links_of(topology.build("torus", peers)))
        for step_bytes in (6, 4):
            tau = break_even(tree, step_bytes, K)
            sums = sums_bytes(tree, tau, K).total
            assert sums == pytest.approx(histories_bytes(peers, tau, step_bytes), rel=1e-9)
            per_seed[peers, step_bytes] = round(peers * tau / K, 2)
    assert per_seed == {
        (100, 6): 1.32,
        (100, 4): 2.24,
        (256, 6): 1.25,
        (256, 4): 2.15,
        (4096, 6): 1.16,
        (4096, 4): 2.04,
    }


GRAPHS = [("line", 2), ("ring", 7), ("star", 9), ("tree", 15), ("torus", 36), ("complete", 12)]


@pytest.mark.parametrize(("family", "peers"), GRAPHS)
def test_trees_span_the_graph_by_shortest_paths(family: str, peers: int) -> None:
    graph = topology.build(family, peers)
    root = peers - 1
    hops = nx.single_source_shortest_path_length(graph.graph, root)
    tree = breadth_first(links_of(graph), root)
    depths = {root: 0}
    assert tree.parents[root] == -1
    for peer in tree.order[1:]:
        assert tree.parents[peer] in graph.neighbours(peer)
        depths[peer] = depths[tree.parents[peer]] + 1
    assert depths == hops
    assert tree.height() == max(hops.values())
    pushed = push_tree(graph, root)
    assert sorted(pushed.order) == list(graph.nodes)
    assert all(pushed.parents[peer] in graph.neighbours(peer) for peer in pushed.order[1:])


def test_subtrees() -> None:
    tree = SumTree(order=[2, 0, 1, 3], parents=[2, 0, -1, 0])
    assert tree.below([1.0, 10.0, 100.0, 1000.0]).tolist() == [1011.0, 10.0, 1000.0]


@given(
    draws=st.lists(st.lists(st.integers(0, 19), max_size=12), min_size=6, max_size=6),
    root=st.integers(0, 5),
)
def test_simulated_bytes_are_those_of_the_messages(draws: list[list[int]], root: int) -> None:
    tree = breadth_first(links_of(topology.build("grid", 6)), root)
    below: dict[int, set[int]] = {peer: set(draws[peer]) for peer in range(6)}
    for peer in reversed(tree.order[1:]):
        below[tree.parents[peer]] |= below[peer]

    def length(seeds: set[int]) -> int:
        sparse = len(pack_indices(np.array(sorted(seeds), np.int64), 20)) + 8 * len(seeds)
        return min(sparse, 8 * 20)

    found = simulated_sums_bytes(tree, [np.array(each, np.int64) for each in draws], 20)
    assert found.up == sum(length(below[peer]) for peer in tree.order[1:])
    assert found.down == 5 * length(below[root])


@pytest.mark.parametrize("tau", [1, 10, 40, 200])
def test_the_expectation_is_the_mean_of_real_draws(tau: int) -> None:
    tree = breadth_first(links_of(TORUS))
    totals = []
    for round_ in range(30):
        drawn = (draw_uniform(3, peer, round_, tau, K) for peer in range(100))
        totals.append(simulated_sums_bytes(tree, drawn, K).total)
    error = np.std(totals, ddof=1) / np.sqrt(len(totals))
    expected = sums_bytes(tree, tau, K).total
    assert abs(np.mean(totals) - expected) < 4 * error + 1e-3 * expected


def test_one_draw_is_one_seed_and_many_are_all() -> None:
    assert expected_distinct(np.array([0.0, 1.0, 1e9]), K).tolist() == pytest.approx([0, 1, K])
    assert expected_distinct(np.array([0.0, 1.0, 5.0]), 1).tolist() == [0, 1, 1]
    assert message_bytes(np.array([1.0, K]), K).tolist() == [10, 8 * K]
    # Beyond 65,536 seeds an index takes 4 bytes.
    assert message_bytes(np.array([1.0]), 2**16 + 1).tolist() == [12]


@given(
    peers=st.integers(2, 40),
    step_bytes=st.sampled_from([1, 2, 3, 4, 6, 8]),
    candidates=st.sampled_from([1, 2, 20, 1024, 2**24]),
)
def test_there_is_one_break_even_for_every_setting(
    peers: int, step_bytes: int, candidates: int
) -> None:
    tree = breadth_first(links_of(topology.build("line", peers)))
    tau = break_even(tree, step_bytes, candidates)
    for factor, more in ((0.01, True), (0.5, True), (0.98, True), (1.02, False), (50, False)):
        sums = sums_bytes(tree, factor * tau, candidates).total
        assert (sums > histories_bytes(peers, factor * tau, step_bytes)) == more
