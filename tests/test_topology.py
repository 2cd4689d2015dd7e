"""Families of graphs: what each one is, at every size it can have."""

from math import log2

import networkx as nx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from topology import FAMILIES, Topology, TopologyError, build, resolve
from topology.families import sides

SIZES = st.integers(2, 70)
RANDOM = ("random-regular", "erdos-renyi", "watts-strogatz", "barabasi-albert")


def possible(family: str, peers: int) -> bool:
    if family in ("grid", "torus"):
        return any(peers % side == 0 for side in range(2, peers))
    return family != "hypercube" or log2(peers).is_integer()


def attempt(family: str, peers: int, degree: int, seed: int) -> Topology | str:
    try:
        return build(family, peers, degree=degree, seed=seed)
    except TopologyError as error:
        return str(error)


def degrees(topology: Topology) -> list[int]:
    return [len(topology.neighbours(peer)) for peer in topology.nodes]


@settings(deadline=None)
@given(st.sampled_from(FAMILIES), SIZES, st.integers(1, 80), st.integers(0, 2**64))
def test_every_topology_is_simple_connected_and_numbered(family, peers, degree, seed):
    topology = attempt(family, peers, degree, seed)
    if isinstance(topology, str):
        sparse = family in RANDOM and degree < 4
        assert sparse or not possible(family, peers), topology
        assert "\n" not in topology
        return
    assert possible(family, peers)
    assert topology.name == family
    assert list(topology.nodes) == list(range(peers))
    assert topology.names == tuple(map(str, range(peers)))
    assert list(topology.edges) == sorted({(i, j) for i, j in topology.edges if i < j})
    assert nx.is_connected(topology.graph)
    assert sorted(topology.graph.edges) == list(topology.edges)
    for peer in topology.nodes:
        assert list(topology.neighbours(peer)) == sorted(topology.graph[peer])


@settings(deadline=None)
@given(st.sampled_from(FAMILIES), SIZES, st.integers(4, 10), st.integers(0, 1000))
def test_same_arguments_same_topology(family, peers, degree, seed):
    if possible(family, peers):
        one = build(family, peers, degree=degree, seed=seed)
        assert build(family, peers, degree=degree, seed=seed) == one
        if family not in (*RANDOM, "random-matching"):
            assert build(family, peers, degree=degree + 1, seed=seed + 1) == one


@pytest.mark.parametrize("family", RANDOM)
def test_seed_matters_in_random_families(family):
    assert len({build(family, 40, seed=seed).edges for seed in range(5)}) == 5


@settings(deadline=None)
@given(SIZES)
def test_diameters_of_regular_families(peers):
    diameters = {
        "ring": peers // 2,
        "line": peers - 1,
        "star": min(2, peers - 1),
        "complete": 1,
        "hypercube": peers.bit_length() - 1,
    }
    if (shape := sides(peers)) is not None:
        rows, columns = shape
        diameters |= {"grid": rows + columns - 2, "torus": rows // 2 + columns // 2}
    for family, diameter in diameters.items():
        if possible(family, peers):
            assert nx.diameter(build(family, peers).graph) == diameter, family


@settings(deadline=None)
@given(SIZES)
def test_degrees_of_regular_families(peers):
    assert set(degrees(build("ring", peers))) == {min(2, peers - 1)}
    assert set(degrees(build("complete", peers))) == {peers - 1}
    assert degrees(build("star", peers)) == [peers - 1] + [1] * (peers - 1)
    assert len(build("tree", peers).edges) == peers - 1
    assert max(degrees(build("tree", peers))) <= 3
    if possible("hypercube", peers):
        assert set(degrees(build("hypercube", peers))) == {peers.bit_length() - 1}
    if (shape := sides(peers)) is not None:
        assert set(degrees(build("torus", peers))) == {sum(min(side - 1, 2) for side in shape)}


@settings(deadline=None)
@given(st.integers(2, 500))
def test_sides_are_the_most_square_factors(peers):
    pairs = [(side, peers // side) for side in range(2, peers) if peers % side == 0]
    assert sides(peers) == min(
        (pair for pair in pairs if pair[0] <= pair[1]),
        key=lambda pair: pair[1] - pair[0],
        default=None,
    )


@settings(deadline=None)
@given(SIZES)
def test_exponential_links_are_powers_of_two(peers):
    expected = {
        (min(i, j), max(i, j))
        for i in range(peers)
        for k in range(8)
        if 2**k < peers
        for j in ((i + 2**k) % peers, (i - 2**k) % peers)
    }
    assert set(build("exponential", peers).edges) == expected


def test_mesh_and_tree_are_numbered_as_documented():
    assert build("grid", 6).edges == ((0, 1), (0, 3), (1, 2), (1, 4), (2, 5), (3, 4), (4, 5))
    assert build("torus", 6).edges == tuple(sorted([*build("grid", 6).edges, (0, 2), (3, 5)]))
    assert build("tree", 6).edges == ((0, 1), (0, 2), (1, 3), (1, 4), (2, 5))


@settings(deadline=None)
@given(SIZES, st.integers(3, 80), st.integers(0, 99))
def test_random_regular_has_the_degree_it_states(peers, degree, seed):
    topology = build("random-regular", peers, degree=degree, seed=seed)
    (actual,) = set(degrees(topology))
    odd = degree < peers and degree * peers % 2 == 1
    assert actual == min(degree + odd, peers - 1)
    assert len(topology.notes) == (actual != degree)
    assert all(f"from {degree} to {actual}" in note for note in topology.notes)


@settings(deadline=None)
@given(st.integers(3, 70), st.integers(4, 80), st.integers(0, 99))
def test_even_degrees_of_watts_strogatz_and_barabasi_albert(peers, degree, seed):
    even = min(degree, peers - 1) // 2 * 2
    small_world = build("watts-strogatz", peers, degree=degree, seed=seed)
    assert len(small_world.edges) == peers * even // 2
    attached = build("barabasi-albert", peers, degree=degree, seed=seed)
    assert len(attached.edges) == even // 2 * (peers - even // 2)
    for topology in (small_world, attached):
        assert len(topology.notes) == (even != degree)
        assert all(f"from {degree} to {even}" in note for note in topology.notes)


def test_watts_strogatz_keeps_most_of_its_ring():
    lattice = {(i, (i + k) % 1000) for i in range(1000) for k in (1, 2)}
    lattice = {(min(edge), max(edge)) for edge in lattice}
    kept = len(lattice & set(build("watts-strogatz", 1000).edges))
    assert 0.85 < kept / 2000 < 0.95


def test_erdos_renyi_has_the_expected_degree():
    means = [2 * len(build("erdos-renyi", 200, degree=10, seed=s).edges) / 200 for s in range(20)]
    assert 9.7 < sum(means) / 20 < 10.3
    assert build("erdos-renyi", 30, degree=29).edges == build("complete", 30).edges


@pytest.mark.parametrize(
    ("family", "peers", "degree", "line"),
    [
        ("mesh", 8, 4, "no family is called 'mesh'; there are ring, line,"),
        ("ring", 1, 4, "a topology needs at least 2 peers; 1 given"),
        ("ring", -3, 4, "a topology needs at least 2 peers; -3 given"),
        ("torus", 13, 4, "both at least 2, which 13 is not; 12 and 14 would do"),
        ("grid", 2, 4, "a grid needs rows x columns peers .* 2 is not; 4 would do"),
        ("hypercube", 12, 4, "a power of two peers, which 12 is not; 8 and 16 would do"),
        ("random-regular", 12, 0, "a degree is at least 1; 0 given"),
        ("watts-strogatz", 12, 1, "with 12 peers needs a degree of at least 2; 1 given"),
        ("erdos-renyi", 1000, 2, "with degree 2 was connected; try a degree of 7 or more"),
    ],
)
def test_what_cannot_be_built_is_told_in_one_line(family, peers, degree, line):
    with pytest.raises(TopologyError, match=line) as raised:
        build(family, peers, degree=degree)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("edges", "names", "line"),
    [
        ((), ("a",), "at least 2 peers; x has 1"),
        ((), (), "at least 2 peers; x has 0"),
        (((0, 1),), ("a", "a"), "two peers of x have the same name"),
        (((0, 1),), ("a", "b\n"), "names are printable text"),
        (((0, 1),), ("a", ""), "names are printable text"),
        (((0, 2),), ("a", "b", "c", "d"), "into 3 components, and no path joins a to b"),
    ],
)
def test_no_topology_without_two_named_connected_peers(edges, names, line):
    with pytest.raises(TopologyError, match=line):
        Topology("x", edges, names)


@pytest.mark.parametrize(
    "edges", [((1, 0),), ((0, 0),), ((0, 1), (0, 1)), ((1, 2), (0, 1)), ((0, 3),), ((-1, 0),)]
)
def test_edges_must_be_sorted_pairs_of_peers(edges):
    with pytest.raises(ValueError, match="edges are"):
        Topology("x", edges, ("a", "b", "c"))


def test_resolve_takes_families_and_files(tmp_path):
    file = tmp_path / "three.edges"
    file.write_text("a b\nb c\n")
    assert resolve("ring", 5) == build("ring", 5)
    assert resolve("random-regular", 8, degree=3, seed=7) == build(
        "random-regular", 8, degree=3, seed=7
    )
    assert resolve(str(file)).names == ("a", "b", "c")
    assert resolve(str(file), 3) == resolve(str(file))
    for arguments, line in [
        (("ring",), "ring needs a number of peers"),
        ((str(file), 4), "sets the number of peers to 3; 4 given"),
        (("rings", 4), "'rings' is neither a family .* nor a file"),
    ]:
        with pytest.raises(TopologyError, match=line):
            resolve(*arguments)
