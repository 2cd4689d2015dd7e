"""Measures against their definitions, written out densely, and against closed forms."""

import doctest
from collections import Counter
from math import cos, pi

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import topology.measures
from topology import FAMILIES, Topology, build, describe, measure
from topology.distances import hop_counts
from topology.mixing import spectral_gap


@st.composite
def built(draw, most: int = 90):
    family = draw(st.sampled_from(FAMILIES))
    sizes = {"grid": [4, 6, 12, 35, 64], "hypercube": [2, 4, 8, 16, 64]}
    sizes["torus"] = sizes["grid"]
    peers = draw(st.sampled_from(sizes[family]) if family in sizes else st.integers(2, most))
    return build(family, peers, degree=draw(st.integers(6, 9)), seed=draw(st.integers(0, 99)))


def dense_gap(graph: Topology) -> float:
    """The definition: 1 - max |lambda| over all eigenvalues but the first."""
    degrees = [len(graph.neighbours(peer)) for peer in graph.nodes]
    w = np.zeros((len(degrees), len(degrees)))
    for i, j in graph.edges:
        w[i, j] = w[j, i] = 1 / (1 + max(degrees[i], degrees[j]))
    w += np.diag(1 - w.sum(axis=1))
    eigenvalues = np.linalg.eigvalsh(w)
    return float(1 - np.abs(eigenvalues[:-1]).max())


@settings(deadline=None)
@given(built())
def test_hop_counts_are_those_of_breadth_first_searches(graph):
    counted = Counter(
        hops
        for _, lengths in nx.all_pairs_shortest_path_length(graph.graph)
        for hops in lengths.values()
        if hops
    )
    assert dict(enumerate(hop_counts(graph).tolist(), start=1)) == counted


def test_hop_counts_of_more_peers_than_one_block():
    counts = hop_counts(build("torus", 72 * 72))
    assert len(counts) == 72
    assert counts.sum() == 72**2 * (72**2 - 1)
    assert counts[:3].tolist() == [72**2 * 4, 72**2 * 8, 72**2 * 12]


@settings(deadline=None)
@given(built())
def test_spectral_gap_is_the_dense_one(graph):
    assert spectral_gap(graph) == pytest.approx(dense_gap(graph), rel=1e-8, abs=1e-12)


@pytest.mark.parametrize("peers", [3, 4, 5, 50, 2000])
def test_spectral_gap_of_rings(peers):
    eigenvalues = [1 / 3 + 2 / 3 * cos(2 * pi * k / peers) for k in range(1, peers)]
    gap = 1 - max(map(abs, eigenvalues))
    assert spectral_gap(build("ring", peers)) == pytest.approx(gap, rel=1e-6)


@pytest.mark.parametrize("peers", [2, 3, 10, 300])
def test_spectral_gap_of_complete_graphs_is_one(peers):
    assert spectral_gap(build("complete", peers)) == pytest.approx(1)


@pytest.mark.parametrize("dimension", [1, 2, 5, 11])
def test_spectral_gap_of_hypercubes(dimension):
    gap = 2 / (dimension + 1)
    assert spectral_gap(build("hypercube", 2**dimension)) == pytest.approx(min(gap, 2 - gap))


@pytest.mark.parametrize("half", [3, 4, 20])
def test_spectral_gap_where_the_negative_eigenvalue_is_the_larger(half):
    edges = tuple((i, half + j) for i in range(half) for j in range(half))
    bipartite = Topology("bipartite", edges, tuple(map(str, range(2 * half))))
    assert spectral_gap(bipartite) == pytest.approx(2 / (half + 1))


@settings(deadline=None)
@given(built())
def test_measures_follow_from_the_graph(graph):
    measures = measure(graph)
    degrees = dict(graph.graph.degree).values()
    assert (measures.nodes, measures.edges) == (len(graph.nodes), len(graph.edges))
    assert (measures.degree_min, measures.degree_max) == (min(degrees), max(degrees))
    assert measures.degree_mean == pytest.approx(2 * measures.edges / measures.nodes)
    assert measures.diameter == nx.diameter(graph.graph)
    assert measures.mean_path == pytest.approx(nx.average_shortest_path_length(graph.graph))
    assert 0 < measures.spectral_gap <= 1 + 1e-12


@pytest.mark.parametrize("family", ["torus", "random-regular", "barabasi-albert", "star"])
def test_thousands_of_peers(family):
    measures = measure(build(family, 3000))
    assert measures.nodes == 3000
    assert measures.diameter >= measures.mean_path > 1
    assert 0 < measures.spectral_gap < 1


def test_describe_is_a_table_of_two_columns():
    assert doctest.testmod(topology.measures).failed == 0
    star = build("star", 1200)
    assert describe(star, measure(star)).splitlines() == [
        "topology      star",
        "peers         1,200",
        "links         1,199",
        "degree        1 to 1199, mean 2.00",
        "diameter      2 hops",
        "mean path     2.00 hops",
        "spectral gap  0.000833",
    ]
    pair = build("random-regular", 2)
    assert describe(pair, measure(pair)).splitlines()[-3:] == [
        "mean path     1.00 hops",
        "spectral gap  1",
        "The degree was lowered from 4 to 1, the most that 2 peers allow.",
    ]
