"""The first tree of each origin: shortest paths, no peer overworked, all computed alike."""

from __future__ import annotations

import itertools
import random
from collections import Counter

import networkx as nx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from peer.roster import Roster
from peer.trees import EAGER_CAP, Trees


def roster(peers: int, **changes: object) -> Roster:
    return Roster((1,) * peers, 1.0, 0, **changes)  # type: ignore[arg-type]


def trees_of(graph: nx.Graph, members: Roster | None = None, weight: bool = False) -> Trees:
    def latency(a: int, b: int) -> float:
        return float(graph[a][b]["latency"])

    neighbours = {node: sorted(graph[node]) for node in graph}
    return Trees(neighbours, members or roster(len(graph)), latency if weight else None)


def edges(trees: Trees, graph: nx.Graph, origin: int, round_: int = 0) -> nx.DiGraph:
    tree = nx.DiGraph()
    tree.add_node(origin)
    for peer in graph:
        children = trees.children(origin, round_, peer)
        assert len(children) == len(set(children))
        assert set(children) <= set(graph[peer])
        tree.add_edges_from((peer, child) for child in children)
    return tree


graphs = st.builds(
    lambda peers, share, seed: nx.compose(
        nx.random_labeled_tree(peers, seed=seed), nx.gnp_random_graph(peers, share, seed=seed)
    ),
    st.integers(2, 24),
    st.sampled_from([0.0, 0.1, 0.3, 1.0]),
    st.integers(0, 2**32 - 1),
)


@settings(max_examples=150, deadline=None)
@given(graphs, st.booleans(), st.randoms(use_true_random=False))
def test_a_tree_reaches_everybody_once(
    graph: nx.Graph, weighted: bool, source: random.Random
) -> None:
    for a, b in graph.edges:
        graph[a][b]["latency"] = source.uniform(0.01, 0.1)
    trees = trees_of(graph, weight=weighted)
    for origin in graph:
        tree = edges(trees, graph, origin)
        assert set(tree) == set(graph)
        assert tree.number_of_edges() == len(graph) - 1
        assert all(degree == (node != origin) for node, degree in tree.in_degree)
        assert nx.is_weakly_connected(tree)


@settings(max_examples=100, deadline=None)
@given(
    st.integers(3, 30),
    st.integers(0, 2**32 - 1),
    st.booleans(),
    st.randoms(use_true_random=False),
)
def test_paths_are_the_shortest_where_no_peer_is_full(
    peers: int, seed: int, weighted: bool, source: random.Random
) -> None:
    """Against networkx' Dijkstra; degree 4 is below the cap."""
    graph = nx.connected_watts_strogatz_graph(peers, min(4, peers - 1), 0.3, seed=seed)
    if max(degree for _, degree in graph.degree) > EAGER_CAP:
        return
    for a, b in graph.edges:
        graph[a][b]["latency"] = source.uniform(0.01, 0.1) if weighted else 1.0
    trees = trees_of(graph, weight=weighted)
    for origin in graph:
        tree = edges(trees, graph, origin)
        expected = nx.single_source_dijkstra_path_length(graph, origin, weight="latency")
        found = {origin: 0.0}
        for parent, child in nx.bfs_edges(tree, origin):
            found[child] = found[parent] + graph[parent][child]["latency"]
        assert found == pytest.approx(expected)


@pytest.mark.parametrize("peers", [2, 9, 10, 30, 80])
def test_nobody_uploads_for_all_in_a_complete_graph(peers: int) -> None:
    graph = nx.complete_graph(peers)
    trees = trees_of(graph)
    for origin in graph:
        tree = edges(trees, graph, origin)
        assert max(degree for _, degree in tree.out_degree) <= EAGER_CAP
        assert tree.number_of_edges() == peers - 1
        depths = nx.single_source_shortest_path_length(tree, origin)
        # As flat as the cap allows.
        assert max(depths.values()) <= 1 + len(
            [
                1
                for level in range(1, 9)
                if peers - 1 > sum(EAGER_CAP**i for i in range(1, level + 1))
            ]
        )


def test_a_star_s_hub_has_no_choice() -> None:
    graph = nx.star_graph(40)
    trees = trees_of(graph)
    assert len(trees.children(0, 0, 0)) == 40
    for origin in (1, 17):
        assert trees.children(origin, 0, origin) == [0]
        assert set(trees.children(origin, 0, 0)) == set(graph) - {0, origin}


def test_a_cap_that_cuts_somebody_off_is_lifted() -> None:
    """A hub with 20 leaves among peers that all could serve each other."""
    graph = nx.complete_graph(12)
    graph.add_edges_from((0, leaf) for leaf in range(12, 32))
    trees = trees_of(graph)
    for origin in (0, 5, 20):
        tree = edges(trees, graph, origin)
        assert set(tree) == set(graph)
        assert tree.number_of_edges() == len(graph) - 1


@settings(max_examples=50, deadline=None)
@given(graphs, st.randoms(use_true_random=False))
def test_everybody_computes_the_same_tree(graph: nx.Graph, source: random.Random) -> None:
    """Whatever order nodes and edges were told in, and whoever was asked for before."""
    nodes, links = list(graph.nodes), list(graph.edges)
    source.shuffle(nodes)
    source.shuffle(links)
    other = nx.Graph()
    other.add_nodes_from(sorted(nodes))
    other.add_edges_from(links)
    one, two = trees_of(graph), trees_of(other)
    for origin in reversed(list(graph)):
        two.children(origin, 0, origin)
    for origin, peer in itertools.product(graph, graph):
        assert one.children(origin, 0, peer) == two.children(origin, 0, peer)


def test_equal_paths_do_not_all_prefer_one_peer() -> None:
    """Two hubs between 30 leaves carry about as much each."""
    graph = nx.complete_bipartite_graph(2, 30)
    trees = trees_of(graph)
    load = Counter(dict.fromkeys((0, 1), 0))
    for origin in range(2, 32):
        for hub in (0, 1):
            load[hub] += len(trees.children(origin, 0, hub))
    assert 0.5 < load[0] / load[1] < 2.0


# Members


def test_only_members_are_pushed_to() -> None:
    graph = nx.complete_graph(6)
    members = roster(6, first=(0, 0, 3, 0, 0, 0), last=(None, None, None, None, 5, None))
    trees = trees_of(graph, members)
    present = {0: {0, 1, 3, 4, 5}, 3: {0, 1, 2, 3, 4, 5}, 4: {0, 1, 2, 3, 4, 5}, 5: {0, 1, 2, 3, 5}}
    for round_, expected in present.items():
        for origin in expected:
            assert set(edges(trees, graph, origin, round_)) == expected


def test_an_origin_that_has_left_still_reaches_the_others() -> None:
    """Its END is of the round from which it is no member any more."""
    graph = nx.cycle_graph(6)
    trees = trees_of(graph, roster(6, last=(None, None, 2, None, None, None)))
    tree = edges(trees, graph, 2, 2)
    assert set(tree) == set(graph)
    assert tree.number_of_edges() == 5
    # As one that is not there, it is nobody's way.
    assert edges(trees, graph, 1, 2).out_degree(2) == 0 if 2 in edges(trees, graph, 1, 2) else True


def test_members_that_cannot_be_reached_are_left_out() -> None:
    graph = nx.path_graph(5)
    trees = trees_of(graph, roster(5, last=(None, None, 2, None, None)))
    assert set(edges(trees, graph, 0, 2)) == {0, 1}
    assert set(edges(trees, graph, 4, 2)) == {3, 4}
