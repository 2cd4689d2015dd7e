"""Large graphs as arrays: the graphs of `build`, or other draws of the same distribution."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import TypeVar

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from topology import FAMILIES, VARYING, Topology, TopologyError, build
from topology.arrays import Links, build_links, links_of
from topology.counts import EXPECTED_ONLY, count_links
from topology.drawn import draw_pairs

T = TypeVar("T")

STATIC = [family for family in FAMILIES if family not in VARYING]


def edges(links: Links) -> list[tuple[int, int]]:
    pairs = zip(links.senders().tolist(), links.ends.tolist(), strict=True)
    return [(a, b) for a, b in pairs if a < b]


def attempt(make: Callable[..., T], family: str, peers: int, degree: int, seed: int) -> T | str:
    try:
        return make(family, peers, degree=degree, seed=seed)
    except TopologyError as error:
        return str(error)


@settings(deadline=None)
@given(st.sampled_from(STATIC), st.integers(2, 70), st.integers(1, 12), st.integers(0, 2**64))
def test_arrays_hold_the_graph_that_build_returns(
    family: str, peers: int, degree: int, seed: int
) -> None:
    """Those of index arithmetic as well as those that are drawn; what cannot be had fails alike."""
    graph = attempt(build, family, peers, degree, seed)
    links = attempt(build_links, family, peers, degree, seed)
    if isinstance(graph, str) or isinstance(links, str):
        assert links == graph
        return
    assert (links.name, links.peers, links.notes) == (family, peers, graph.notes)
    assert links.count == len(graph.edges)
    for peer in graph.nodes:
        assert tuple(links.neighbours(peer)) == graph.neighbours(peer)
    assert edges(links) == list(graph.edges)
    same = links_of(graph)
    assert (same.name, same.notes) == (family, graph.notes)
    assert np.array_equal(same.starts, links.starts)
    assert np.array_equal(same.ends, links.ends)


@settings(deadline=None)
@given(st.sampled_from(STATIC), st.integers(2, 200), st.integers(1, 12))
def test_links_are_counted_without_the_graph(family: str, peers: int, degree: int) -> None:
    try:
        graph = build(family, peers, degree=degree)
    except TopologyError:
        return
    count = count_links(family, peers, degree=degree)
    if family in EXPECTED_ONLY:
        fitted = min(degree, peers - 1)
        assert count == round(peers * fitted / 2)
    else:
        assert count == len(graph.edges)


# Drawn by array operations


@settings(deadline=None)
@given(st.integers(5, 200), st.integers(3, 8), st.integers(0, 2**32))
def test_a_regular_graph_is_simple_connected_and_regular(
    peers: int, degree: int, seed: int
) -> None:
    if degree >= peers / 2:
        return
    (a, b), notes = draw_pairs("random-regular", peers, degree=degree, seed=seed)
    graph = Topology("x", tuple(zip(a.tolist(), b.tolist(), strict=True)), names(peers)).graph
    assert {each for _, each in graph.degree} == {degree + degree * peers % 2}
    assert "another draw" in notes[-1]
    again, _ = draw_pairs("random-regular", peers, degree=degree, seed=seed)
    assert np.array_equal(a, again[0])
    assert np.array_equal(b, again[1])


def names(peers: int) -> tuple[str, ...]:
    return tuple(map(str, range(peers)))


def test_regular_graphs_come_as_often_as_networkx_draws_them() -> None:
    """All 70 labelled 3-regular connected graphs of 6 peers, by whether they have triangles.

    60 are prisms and 10 are K3,3; drawn alike, 1 in 7 has no triangle.
    """
    kinds: Counter[bool] = Counter()
    seen = set()
    for seed in range(1400):
        (a, b), _ = draw_pairs("random-regular", 6, degree=3, seed=seed)
        pairs = tuple(zip(a.tolist(), b.tolist(), strict=True))
        seen.add(pairs)
        kinds[sum(nx.triangles(nx.Graph(pairs)).values()) == 0] += 1
    assert len(seen) == 70
    drawn = Counter(
        sum(nx.triangles(nx.random_regular_graph(3, 6, seed=seed)).values()) == 0
        for seed in range(1400)
    )
    # Five standard deviations of the difference of two such counts.
    assert abs(kinds[True] - drawn[True]) < 5 * (2 * 1400 * (1 / 7) * (6 / 7)) ** 0.5


def test_erdos_renyi_links_each_pair_with_the_same_probability() -> None:
    peers, degree, draws = 40, 12, 400
    counts = np.zeros((peers, peers))
    totals = []
    for seed in range(draws):
        (a, b), _ = draw_pairs("erdos-renyi", peers, degree=degree, seed=seed)
        assert (a < b).all()
        assert len({*zip(a.tolist(), b.tolist(), strict=True)}) == len(a)
        counts[a, b] += 1
        totals.append(len(a))
    share = degree / (peers - 1)
    possible = peers * (peers - 1) / 2
    deviation = (possible * share * (1 - share)) ** 0.5
    assert abs(np.mean(totals) - possible * share) < 5 * deviation / draws**0.5
    assert 0.8 < np.std(totals) / deviation < 1.2
    each = counts[np.triu_indices(peers, 1)] / draws
    assert abs(each - share).max() < 5.5 * (share * (1 - share) / draws) ** 0.5


# What cannot be had


@pytest.mark.parametrize(
    ("family", "peers", "degree", "line"),
    [
        ("complete", 10**6, 4, "999,999,000,000 links, both directions counted; there is room for"),
        ("random-matching", 8, 4, "random-matching varies over time"),
        ("torus", 13, 4, "both at least 2, which 13 is not"),
        ("ring", 1, 4, "a topology needs at least 2 peers"),
        ("erdos-renyi", 10**6, 4, "about 18,316 peers have no link; try a degree of 20 or more"),
    ],
)
def test_what_there_is_no_room_for_is_told_in_one_line(
    family: str, peers: int, degree: int, line: str
) -> None:
    with pytest.raises(TopologyError, match=line) as raised:
        build_links(family, peers, degree=degree)
    assert "\n" not in str(raised.value)


def test_a_graph_that_varies_has_no_arrays_and_no_count() -> None:
    with pytest.raises(TopologyError, match="one-peer-exponential varies over time"):
        links_of(build("one-peer-exponential", 8))
    with pytest.raises(TopologyError, match="varies over time"):
        count_links("random-matching", 8)


@pytest.mark.slow
def test_a_million_peers_are_quickly_built() -> None:
    links = build_links("random-regular", 10**6, degree=4, seed=1)
    assert (links.peers, links.count) == (10**6, 2 * 10**6)
    assert (links.degrees == 4).all()
    assert (np.diff(links.ends.reshape(-1, 4), axis=1) > 0).all()
    assert (links.ends != links.senders()).all()
    # Whoever is somebody's neighbour has it for a neighbour.
    key = links.senders().astype(np.int64) * links.peers + links.ends
    assert np.array_equal(np.sort(links.ends.astype(np.int64) * links.peers + links.senders()), key)
