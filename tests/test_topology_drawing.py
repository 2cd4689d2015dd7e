"""Pictures: well-formed, the same each time, and every peer with a place of its own."""

import subprocess
import sys
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from topology import FAMILIES, Topology, TopologyError, build, load, save
from topology.drawing import LABEL_LIMIT, draw
from topology.layout import STRESS_LIMIT, paths, positions


def comments(path) -> list[str]:
    """matplotlib writes each text as a comment beside its shapes."""
    parser = ElementTree.XMLParser(target=ElementTree.TreeBuilder(insert_comments=True))
    root = ElementTree.parse(path, parser).getroot()
    return [(node.text or "").strip() for node in root.iter(ElementTree.Comment)]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("peers", [4, 16, LABEL_LIMIT])
def test_pictures_are_well_formed_labelled_and_the_same_each_time(tmp_path, family, peers):
    draw(build(family, peers), tmp_path / "one.svg")
    draw(build(family, peers), tmp_path / "two.svg")
    assert (tmp_path / "one.svg").read_bytes() == (tmp_path / "two.svg").read_bytes()
    texts = comments(tmp_path / "one.svg")
    assert set(map(str, range(peers))) <= set(texts)
    assert any(text.startswith(f"{family}: {peers} peers, ") for text in texts)


def test_another_process_draws_the_same_bytes(tmp_path):
    draw(build("erdos-renyi", 20), tmp_path / "here.svg")
    command = ["-m", "topology", "erdos-renyi", "--peers", "20", "--svg", tmp_path / "there.svg"]
    subprocess.run([sys.executable, *command], check=True, capture_output=True)
    assert (tmp_path / "here.svg").read_bytes() == (tmp_path / "there.svg").read_bytes()


def test_many_peers_carry_no_labels_and_many_links_become_an_image(tmp_path, monkeypatch):
    draw(build("ring", LABEL_LIMIT + 1), tmp_path / "ring.svg", title="a title of one's own")
    assert comments(tmp_path / "ring.svg") == ["a title of one's own"]
    assert b"<image" not in (tmp_path / "ring.svg").read_bytes()
    monkeypatch.setattr("topology.drawing.VECTOR_LIMIT", LABEL_LIMIT)
    draw(build("ring", LABEL_LIMIT + 1), tmp_path / "image.svg")
    assert b"<image" in (tmp_path / "image.svg").read_bytes()


@settings(deadline=None, max_examples=25)
@given(
    st.lists(
        st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=20),
        min_size=3,
        max_size=3,
        unique=True,
    )
)
def test_any_name_can_be_drawn(tmp_path_factory, names):
    path = tmp_path_factory.mktemp("names") / "x.svg"
    draw(Topology("$ & <$", ((0, 1), (1, 2)), tuple(names)), path)
    assert ElementTree.parse(path).getroot().tag.endswith("svg")


def test_names_are_no_formulas(tmp_path):
    names = ("$\\frac$", "$x$", "--")
    draw(Topology("$\\frac$", ((0, 1), (1, 2)), names), tmp_path / "x.svg")
    assert comments(tmp_path / "x.svg") == ["$\\frac$: 3 peers, 2 links"]


def test_pictures_that_cannot_be_written(tmp_path):
    with pytest.raises(TopologyError, match=r"is saved as \.svg; x\.png given"):
        draw(build("ring", 3), "x.png")
    with pytest.raises(TopologyError, match="cannot be written: No such file"):
        draw(build("ring", 3), tmp_path / "none" / "x.svg")


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("peers", [4, 16, 64, 256])
def test_every_peer_has_a_place_of_its_own(family, peers):
    points = positions(build(family, peers, degree=8))
    assert points.shape == (peers, 2)
    assert np.ptp(points, axis=0).max() == pytest.approx(2, abs=1e-4)
    assert np.abs(points).max() <= 1 + 1e-4
    assert len(np.unique(points, axis=0)) == peers


@pytest.mark.parametrize("family", FAMILIES)
def test_paths_join_the_ends_of_their_links(family):
    topology = build(family, 36 if family != "hypercube" else 32)
    points = positions(topology)
    lines = paths(topology, points)
    assert len(lines) == len(topology.edges)
    for (i, j), line in zip(topology.edges, lines, strict=True):
        assert np.allclose(line[0], points[i])
        assert np.allclose(line[-1], points[j])


@pytest.mark.parametrize("peers", [9, 25, 35, 64])
def test_links_around_a_torus_keep_clear_of_other_peers(peers):
    topology = build("torus", peers)
    points = positions(topology)
    step = np.linalg.norm(points[1] - points[0])
    for (i, j), line in zip(topology.edges, paths(topology, points), strict=True):
        others = np.delete(points, [i, j], axis=0)
        apart = np.linalg.norm(line[:, None] - others, axis=2)
        assert apart.min() > 0.2 * step


def test_layouts_show_the_family():
    grid = positions(build("grid", 6))
    assert len(set(grid[:, 0])) == 3
    assert len(set(grid[:, 1])) == 2
    star = positions(build("star", 9))
    assert np.allclose(star[0], 0)
    assert np.allclose(np.linalg.norm(star[1:], axis=1), 1)
    tree = positions(build("tree", 7))
    assert tree[0, 1] > tree[1, 1] == tree[2, 1] > tree[3, 1]
    assert np.allclose(tree[1, 0], tree[[3, 4], 0].mean(), atol=1e-4)


def test_a_borrowed_name_does_not_mislead_the_layout(tmp_path):
    impostors = [
        Topology("torus", ((0, 1), (1, 2), (2, 3), (3, 4)), tuple("abcde")),
        Topology("torus", ((0, 1), (0, 2), (0, 3), (1, 2)), tuple("abcd")),
        Topology("hypercube", ((0, 1), (1, 2)), tuple("abc")),
    ]
    for impostor in impostors:
        other = Topology("other", impostor.edges, impostor.names)
        assert np.array_equal(positions(impostor), positions(other))
    save(build("torus", 12), tmp_path / "t.json")
    assert np.array_equal(positions(load(tmp_path / "t.json")), positions(build("torus", 12)))


def test_large_graphs_without_a_layout_go_on_a_circle():
    radii = np.linalg.norm(positions(build("barabasi-albert", STRESS_LIMIT + 1)), axis=1)
    assert np.allclose(radii, 1, atol=1e-3)


@pytest.mark.parametrize("seed", range(5))
def test_peers_placed_by_distance_do_not_cover_each_other(seed):
    points = positions(build("erdos-renyi", 64, seed=seed))
    apart = np.linalg.norm(points[:, None] - points, axis=2) + 9 * np.eye(64)
    assert apart.min() > 0.4 * np.sqrt(np.ptp(points, axis=0).prod() / 64)


def test_distances_on_paper_are_like_hops():
    """A path drawn by distances lies on a line, its peers a step apart."""
    edges = tuple((peer, peer + 1) for peer in range(9))
    points = positions(Topology("other", edges, tuple(map(str, range(10)))))
    steps = np.linalg.norm(np.diff(points, axis=0), axis=1)
    assert np.allclose(steps, steps.mean(), rtol=0.1)
    assert np.linalg.norm(points[0] - points[9]) > 0.9 * steps.sum()
