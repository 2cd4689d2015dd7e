"""Graphs from files: what is read, how it is numbered, and what is refused."""

import json
from contextlib import suppress

import networkx as nx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from topology import FAMILIES, VARYING, Topology, TopologyError, build, load, save, to_node_link

GRAPHML = """<?xml version="1.0" encoding="{encoding}"?>
<graphml xmlns="http://graphml.graphdrawing.org/xmlns">{body}</graphml>"""


@pytest.fixture
def file(tmp_path):
    def write(content: str | bytes, name: str = "graph.edges"):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


def graphml(body: str) -> bytes:
    return GRAPHML.format(encoding="UTF-8", body=body).encode()


NAMES = st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=8)


@st.composite
def topologies(draw):
    names = tuple(draw(st.lists(NAMES, min_size=2, max_size=12, unique=True)))
    tree = {(draw(st.integers(0, peer - 1)), peer) for peer in range(1, len(names))}
    pairs = st.tuples(st.integers(0, len(names) - 1), st.integers(0, len(names) - 1))
    more = {(min(pair), max(pair)) for pair in draw(st.lists(pairs)) if pair[0] != pair[1]}
    notes = tuple(draw(st.lists(NAMES, max_size=2)))
    return Topology(draw(NAMES), tuple(sorted(tree | more)), names, notes)


@settings(deadline=None)
@given(topologies())
def test_node_link_round_trip(tmp_path_factory, topology):
    path = tmp_path_factory.mktemp("run") / "topology.json"
    save(topology, path)
    assert load(path) == topology
    assert json.loads(path.read_text(encoding="utf-8")) == to_node_link(topology)


@pytest.mark.parametrize("family", FAMILIES)
def test_families_round_trip(tmp_path, family):
    topology = build(family, 16, degree=5)
    save(topology, tmp_path / "topology.json")
    # What varies over time is saved as all its links together.
    union = Topology(topology.name, topology.edges, topology.names, topology.notes)
    assert load(tmp_path / "topology.json") == union
    assert (union == topology) == (family not in VARYING)


@settings(deadline=None)
@given(topologies())
def test_graphml_as_networkx_writes_it(tmp_path_factory, topology):
    path = tmp_path_factory.mktemp("run") / "graph.graphml"
    written = nx.relabel_nodes(topology.graph, dict(enumerate(topology.names)))
    nx.set_edge_attributes(written, 1.5, "weight")
    nx.write_graphml(written, path)
    read = load(path)
    assert read.name == "graph"
    assert read.notes == ()
    assert set(read.names) == set(topology.names)
    assert edges_by_name(read) == edges_by_name(topology)


@settings(deadline=None)
@given(topologies())
def test_edge_list_of_any_names(tmp_path_factory, topology):
    path = tmp_path_factory.mktemp("run") / "graph.txt"
    names = [name.replace("#", "x") + str(peer) for peer, name in enumerate(topology.names)]
    lines = [f"{names[i]}\t{names[j]}  # link" for i, j in topology.edges]
    path.write_text("# a comment\n\n" + "\n".join(lines), encoding="utf-8")
    read = load(path)
    assert edges_by_name(read) == {frozenset((names[i], names[j])) for i, j in topology.edges}


def edges_by_name(topology: Topology) -> set[frozenset[str]]:
    return {frozenset((topology.names[i], topology.names[j])) for i, j in topology.edges}


def test_nodes_are_numbered_by_value_or_else_by_name(file):
    assert load(file("10 9\n9 -2\n")).names == ("-2", "9", "10")
    assert load(file("10 9\n9 b\n")).names == ("10", "9", "b")
    assert load(file("10 9\n9 -2\n")).edges == ((0, 1), (1, 2))


def test_networkx_node_link_with_links_and_text_ids(file):
    data = {
        "directed": True,
        "nodes": [{"id": "b"}, {"id": "a"}, {"id": 3, "name": "third"}],
        "links": [{"source": "a", "target": "b", "weight": 2}, {"source": 3, "target": "a"}],
    }
    topology = load(file(json.dumps(data), "x.json"))
    assert topology.names == ("third", "a", "b")
    assert topology.edges == ((0, 1), (1, 2))
    assert topology.notes == ("Directions were dropped: links work both ways.",)


def test_what_is_not_simple_is_mended_with_notes(file):
    topology = load(file("a b\nb a\na b\nb b\nb c\n"))
    assert topology.edges == ((0, 1), (1, 2))
    assert topology.notes == (
        "Repeated links were merged: 2 fewer.",
        "Links of a node to itself were dropped: 1 fewer.",
    )


def test_directed_graphml(file):
    nodes = '<node id="a"/><node id="b"/>'
    link = '<edge source="b" target="a"/>'
    notes = ("Directions were dropped: links work both ways.",)
    body = f'<graph edgedefault="directed">{nodes}{link}</graph>'
    assert load(file(graphml(body), "x.graphml")).notes == notes
    body = f'<graph edgedefault="undirected">{nodes}{link}</graph>'
    assert load(file(graphml(body), "x.graphml")).notes == ()


def test_other_encodings_and_byte_order_marks(file):
    assert load(file(b"\xef\xbb\xbfa b\r\nb c\r\n")).names == ("a", "b", "c")
    body = '<graph><node id="é"/><node id="b"/><edge source="é" target="b"/></graph>'
    latin = GRAPHML.format(encoding="ISO-8859-1", body=body).encode("latin-1")
    assert load(file(latin, "x.graphml")).names == ("b", "é")


NODES = '"nodes": [{"id": 1}, {"id": 2}]'

BAD = [
    ("", "x.edges", "x.edges: a topology needs at least 2 peers; x has 0"),
    ("# nothing\n", "x.txt", "x has 0"),
    ("a a\n", "x.edgelist", "x has 1"),
    ("a b\nc d\n", "x.edges", "into 2 components, and no path joins a to c"),
    ("a b\na\n", "x.edges", "x.edges: line 2 has 1 fields; a link is two ids"),
    ("a b 0.5\n", "x.edges", "line 1 has 3 fields"),
    (b"a \xff\n", "x.edges", "x.edges: not text in UTF-8"),
    (b"a b\x07\n", "x.edges", "names are printable text"),
    ("a b\n", "x.csv", "x.csv has no suffix that graphs are read from: .graphml, .json"),
    ("", "x.json", "not JSON: Expecting value"),
    (b"\xff", "x.json", "not text in UTF-8"),
    ("[" * 100_000, "x.json", "not JSON"),
    ("7", "x.json", "an object with nodes and edges"),
    ("[]", "x.json", "a sequence has at least one graph; there is none"),
    ("[[]]", "x.json", "a topology needs at least 2 peers; x has 0"),
    ("[[[1, 2]], 7]", "x.json", "graph 1 of the sequence is no list of links"),
    ("[[[1, 2]], {}]", "x.json", "graph 1 of the sequence is no list of links"),
    ("[[[1, 2, 3]]]", "x.json", "a link of graph 0 is no pair of ids, which are text or integers"),
    ("[[[1, 1.5]]]", "x.json", "a link of graph 0 is no pair of ids"),
    ("[[], [[true, 1]]]", "x.json", "a link of graph 1 is no pair of ids"),
    ('[["ab"]]', "x.json", "a link of graph 0 is no pair of ids"),
    ("[[[1, 2]], [[3, 4]]]", "x.json", "into 2 components, and no path joins 1 to 3"),
    ("{}", "x.json", "needs 'nodes', a list of objects"),
    ('{"nodes": [1]}', "x.json", "needs 'nodes', a list of objects"),
    ("{" + NODES + "}", "x.json", "needs 'edges', a list of objects"),
    ('{"nodes": [{"id": 1.5}], "edges": []}', "x.json", "every 'id' .* text or an integer"),
    ('{"nodes": [{"id": true}], "edges": []}', "x.json", "every 'id' .* text or an integer"),
    ('{"nodes": [{"id": 1}, {"id": "1"}], "edges": []}', "x.json", "two nodes have the same id"),
    ("{" + NODES + ', "edges": [{"source": 1}]}', "x.json", "every 'target' .* text or an"),
    (
        "{" + NODES + ', "edges": [{"source": 1, "target": 3}]}',
        "x.json",
        "an edge ends at '3', which is no node",
    ),
    ("{" + NODES + ', "edges": []}', "x.json", "into 2 components, and no path joins 1 to 2"),
    ("", "x.graphml", "not well-formed XML: no element found"),
    ("<graphml>", "x.graphml", "not well-formed XML"),
    (b'<?xml version="1.0" encoding="none"?><a/>', "x.graphml", "not well-formed XML"),
    (graphml(""), "x.graphml", "has one graph, not nested; this has 0"),
    (graphml("<graph/>"), "x.graphml", "x has 0"),
    (graphml("<graph><node/></graph>"), "x.graphml", "node without id"),
    (graphml('<graph><edge source="a"/></graph>'), "x.graphml", "edge without target"),
    (graphml('<graph><node id="a"/><node id="a"/></graph>'), "x.graphml", "have the same id"),
    (graphml("<graph><hyperedge/></graph>"), "x.graphml", "a hyperedge is no link"),
    (
        graphml('<graph><edge source="a" target="b"/></graph>'),
        "x.graphml",
        "an edge ends at 'a', which is no node",
    ),
]


@pytest.mark.parametrize(("content", "name", "line"), BAD)
def test_bad_files_are_told_in_one_line(file, content, name, line):
    with pytest.raises(TopologyError, match=line) as raised:
        load(file(content, name))
    assert "\n" not in str(raised.value)


@settings(deadline=None)
@given(st.sampled_from(["x.graphml", "x.json", "x.edges"]), st.binary(max_size=60), st.data())
def test_damaged_files_never_raise_anything_else(tmp_path_factory, name, noise, data):
    whole = {
        "x.graphml": graphml('<graph><node id="a"/><edge source="a" target="a"/></graph>'),
        "x.json": json.dumps(to_node_link(build("ring", 3))).encode(),
        "x.edges": b"a b\nb c\n",
    }[name]
    cut = data.draw(st.integers(0, len(whole)))
    rest = data.draw(st.integers(cut, len(whole)))
    path = tmp_path_factory.mktemp("damaged") / name
    path.write_bytes(whole[:cut] + noise + whole[rest:])
    with suppress(TopologyError):
        assert isinstance(load(path), Topology)


def test_files_that_cannot_be_opened(tmp_path):
    with pytest.raises(TopologyError, match=r"none\.json cannot be read: No such file"):
        load(tmp_path / "none.json")
    with pytest.raises(TopologyError, match="cannot be read: embedded null"):
        load("a\0.json")
    (tmp_path / "folder.json").mkdir()
    with pytest.raises(TopologyError, match="cannot be read: Is a directory"):
        load(tmp_path / "folder.json")
    with pytest.raises(TopologyError, match="cannot be written"):
        save(build("ring", 3), tmp_path / "none" / "x.json")
    with pytest.raises(TopologyError, match=r"is saved as \.json"):
        save(build("ring", 3), tmp_path / "x.graphml")
