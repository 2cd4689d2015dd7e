"""Pictures of runs: what they show is what the run folder says, and the same each time."""

import html
import math
import re
import subprocess
import sys
from collections import defaultdict
from xml.etree import ElementTree

import matplotlib as mpl
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import topology
from peer.config import Experiment
from peer.errors import UserError
from peer.records import RunFolder
from peer.traffic import LinkCount, Traffic
from sim.curves import bytes_figure, loss_figure, rouge_figure
from sim.plots import draw_run, link_bytes
from sim.runner import simulate
from sim.words import bytes_in_words
from topology.drawing import LABEL_LIMIT

SVG = "{http://www.w3.org/2000/svg}"


def run(folder, **options):
    """Make a run folder by a run without a model; return its summary."""
    return simulate(Experiment(trainer="synthetic", local_steps=3, out=str(folder), **options))


def record(number, eval_loss=None, train_loss=None, payload=0, control=0, wire=None):
    """A line of rounds.jsonl."""
    return {
        "round": number,
        "eval_loss": eval_loss,
        "train_loss": train_loss,
        "skipped_steps": 0,
        "accumulator": "00" * 16,
        "payload_bytes": payload,
        "control_bytes": control,
        "wire_bytes": payload + control if wire is None else wire,
    }


def parsed(path):
    parser = ElementTree.XMLParser(target=ElementTree.TreeBuilder(insert_comments=True))
    return ElementTree.parse(path, parser).getroot()


def texts(path):
    """matplotlib writes each text as a comment beside its shapes, with hyphens kept apart."""
    comments = (html.unescape(node.text or "") for node in parsed(path).iter(ElementTree.Comment))
    return [line.strip() for comment in comments for line in comment.splitlines()]


def group(path, name):
    return parsed(path).find(f".//{SVG}g[@id='{name}']")


def strokes(path):
    """The links of links.svg as (width, colour, first x), in the order in which they are drawn."""
    found = []
    for line in group(path, "links").iter(f"{SVG}path"):
        style = line.attrib["style"]
        width = re.search(r"stroke-width: ([\d.]+)", style)
        colour = re.search(r"stroke: (#\w+)", style)
        x = re.match(r"M ([\d.]+)", line.attrib["d"])
        found.append((float(width[1]) if width else 1.0, colour[1], float(x[1])))
    return found


def test_a_run_without_a_model_gets_two_pictures_the_same_each_time(tmp_path):
    summary = run(tmp_path / "run", peers=8, rounds=2)
    first = draw_run(tmp_path / "run")
    assert first == [tmp_path / "run" / "plots" / name for name in ("links.svg", "bytes.svg")]
    before = [path.read_bytes() for path in first]
    with mpl.rc_context({"font.size": 30, "axes.facecolor": "red", "svg.hashsalt": "another"}):
        assert draw_run(tmp_path / "run") == first
    assert [path.read_bytes() for path in first] == before
    assert sorted((tmp_path / "run" / "plots").iterdir()) == sorted(first)

    total = bytes_in_words(summary["bytes"]["wire_total"])
    links, over_rounds = map(texts, first)
    assert any(f"FedKSeed on ring, 8 peers: {total} over 8 links, " in line for line in links)
    assert f"Bytes sent since the start, all peers together: {total}" in over_rounds
    assert "bytes over the link (kB)" in links
    assert {"rounds done", "bytes since the start (kB)"} <= set(over_rounds)


def test_another_process_draws_the_same_bytes(tmp_path):
    run(tmp_path / "run", topology="watts-strogatz", peers=12, rounds=1)
    here = [path.read_bytes() for path in draw_run(tmp_path / "run")]
    program = "import sys, pathlib, sim.plots; sim.plots.draw_run(pathlib.Path(sys.argv[1]))"
    subprocess.run([sys.executable, "-c", program, tmp_path / "run"], check=True)
    plots = tmp_path / "run" / "plots"
    assert [(plots / name).read_bytes() for name in ("links.svg", "bytes.svg")] == here


def test_the_command_line_loads_neither_torch_nor_matplotlib():
    program = "import sys, sim.cli; sys.exit(bool({'torch', 'matplotlib'} & set(sys.modules)))"
    subprocess.run([sys.executable, "-c", program], check=True)


def test_runs_do_not_load_matplotlib():
    program = "import sys, sim.cli, sim.runner, sim.closing; sys.exit('matplotlib' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True)


def test_a_resumed_run_is_drawn_whole(tmp_path):
    run(tmp_path / "run", peers=4, rounds=1)
    before = draw_run(tmp_path / "run")[1].read_bytes()
    summary = run(tmp_path / "run", peers=4, rounds=3, resume=True)
    after = draw_run(tmp_path / "run")[1]
    assert after.read_bytes() != before
    assert {"0", "1", "2", "3"} <= set(texts(after))
    total = bytes_in_words(summary["bytes"]["wire_total"])
    assert f"Bytes sent since the start, all peers together: {total}" in texts(after)


@pytest.mark.parametrize(
    ("options", "links"),
    [
        ({"topology": "line", "peers": 2}, 1),
        ({"topology": "line", "peers": 8}, 7),
        ({"topology": "torus", "peers": 16}, 32),
        ({"topology": "tree", "peers": LABEL_LIMIT}, LABEL_LIMIT - 1),
        pytest.param({"topology": "random-regular", "peers": 100}, 200, marks=pytest.mark.slow),
    ],
)
def test_every_link_is_drawn_and_peers_are_numbered_where_there_is_room(tmp_path, options, links):
    run(tmp_path / "run", rounds=1, **options)
    path, _ = draw_run(tmp_path / "run")
    assert len(strokes(path)) == links
    peers = options["peers"]
    assert len(group(path, "peers").findall(f".//{SVG}use")) == peers
    numbered = [peer for peer in range(peers + 1) if group(path, f"peer-{peer}") is not None]
    assert numbered == (list(range(peers)) if peers <= LABEL_LIMIT else [])


def test_links_are_the_thicker_and_darker_the_more_went_over_them(tmp_path):
    run(tmp_path / "run", topology="line", peers=6, rounds=1)
    sent = [700, 0, 5_000, 900, 20_000]
    traffic = Traffic()
    for link, number in enumerate(sent):
        traffic.add(link, link + 1, LinkCount(payload_bytes=number // 2))
        traffic.add(link + 1, link, LinkCount(control_bytes=number // 4, framing_bytes=number // 4))
    RunFolder(tmp_path / "run").write_links(traffic)
    path, _ = draw_run(tmp_path / "run")
    drawn = strokes(path)
    # The busiest are on top, so drawn last; peers of a line stand from left to right.
    left_to_right = sorted(x for _, _, x in drawn)
    assert [left_to_right.index(x) for _, _, x in drawn] == list(np.argsort(sent))
    widths = [width for width, _, _ in drawn]
    assert widths == sorted(widths)
    assert widths[-1] / widths[0] == pytest.approx(5, rel=1e-3)
    brightness = [sum(bytes.fromhex(colour[1:])) for _, colour, _ in drawn]
    assert brightness == sorted(brightness, reverse=True)
    assert brightness[0] > brightness[-1]
    assert any(line.endswith("26.6 kB over 5 links, 0 B to 20.0 kB each") for line in texts(path))


def test_links_that_carried_the_same_look_the_same_and_their_number_is_said_once(tmp_path):
    run(tmp_path / "run", topology="complete", peers=4, rounds=1)
    graph = topology.build("complete", 4)
    traffic = Traffic()
    for i, j in graph.edges:
        traffic.add(i, j, LinkCount(payload_bytes=1_500))
    RunFolder(tmp_path / "run").write_links(traffic)
    path, _ = draw_run(tmp_path / "run")
    ((_, colour),) = {(width, colour) for width, colour, _ in strokes(path)}
    assert sum(bytes.fromhex(colour[1:])) < 255, "the dark end: none has carried more"
    assert any(line.endswith("9.00 kB over 6 links, 1.50 kB each") for line in texts(path))


def test_nothing_sent_can_be_drawn(tmp_path):
    run(tmp_path / "run", peers=4, rounds=1)
    folder = RunFolder(tmp_path / "run")
    folder.write_links(Traffic())
    folder.write_rounds([record(0), record(1)])
    links, over_rounds = draw_run(tmp_path / "run")
    assert any(line.endswith("0 B over 4 links, 0 B each") for line in texts(links))
    assert "bytes since the start (B)" in texts(over_rounds)


def test_a_run_that_has_not_begun_can_be_drawn(tmp_path):
    run(tmp_path / "run", peers=4, rounds=1)
    RunFolder(tmp_path / "run").write_rounds([])
    assert [path.name for path in draw_run(tmp_path / "run")] == ["links.svg", "bytes.svg"]


@pytest.mark.parametrize("name", ["$x", "a_$b^$", "<&>", "a--b", "节点图", "n" * 200])
def test_any_name_of_a_graph_can_be_drawn(tmp_path, name):
    graph = topology.build("ring", 5)
    topology.save(topology.Topology(name, graph.edges, graph.names), tmp_path / "graph.json")
    run(tmp_path / "run", topology=str(tmp_path / "graph.json"), rounds=1)
    path, _ = draw_run(tmp_path / "run")
    shown = name[:29].replace("--", "- -")
    assert any(f"FedKSeed on {shown}" in line for line in texts(path))


def test_a_folder_without_a_run_is_the_users_mistake(tmp_path):
    with pytest.raises(UserError, match="is no run folder"):
        draw_run(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_losses_get_a_picture_of_their_own(tmp_path):
    run(tmp_path / "run", peers=4, rounds=1)
    rounds = [record(0, 4.2), record(1, 4.1, 4.3), record(2, 4.0, 4.2)]
    RunFolder(tmp_path / "run").write_rounds(rounds)
    *_, path = draw_run(tmp_path / "run")
    assert path == tmp_path / "run" / "plots" / "loss.svg"
    assert len(group(path, "eval_loss").findall(f".//{SVG}use")) == 3
    assert len(group(path, "train_loss").findall(f".//{SVG}use")) == 2
    assert {"rounds done", "loss (nats per token)", "held-out rows"} <= set(texts(path))


def test_the_training_loss_is_left_out_where_there_is_none(tmp_path):
    run(tmp_path / "run", peers=4, rounds=1)
    RunFolder(tmp_path / "run").write_rounds([record(0, 4.2), record(1, 4.1)])
    *_, path = draw_run(tmp_path / "run")
    assert group(path, "eval_loss") is not None
    assert group(path, "train_loss") is None
    assert not any(line.startswith("training") for line in texts(path))


def test_rouge_gets_a_picture_where_it_was_measured(tmp_path):
    run(tmp_path / "run", peers=4, rounds=1)
    rounds = [record(0, 4.2) | {"rouge_l": 0.11}, record(1, 4.1), record(2, 4.0) | {"rouge_l": 0.2}]
    RunFolder(tmp_path / "run").write_rounds(rounds)
    *_, path = draw_run(tmp_path / "run")
    assert path == tmp_path / "run" / "plots" / "rouge.svg"
    assert len(group(path, "rouge_l").findall(f".//{SVG}use")) == 2
    assert {"rounds done", "Rouge-L, F measure (%)"} <= set(texts(path))
    (axes,) = rouge_figure([*rounds, record(3)], "a caption").axes
    (line,) = axes.get_lines()
    np.testing.assert_array_equal(line.get_xdata(), [0, 2])
    np.testing.assert_allclose(line.get_ydata(), [11, 20])
    assert axes.get_xlim()[1] > 3, "as far as the run went"


@pytest.mark.parametrize("rounds", [1, 3, 60])
def test_loss_curves_have_the_numbers_of_the_rounds(rounds):
    records = [record(0, 4.0)] + [
        record(number, 4.0 - 0.01 * number, 4.5 - 0.01 * number) for number in range(1, rounds + 1)
    ]
    (axes,) = loss_figure(records, "a caption").axes
    held_out, training = axes.get_lines()
    np.testing.assert_array_equal(held_out.get_xdata(), range(rounds + 1))
    np.testing.assert_array_equal(held_out.get_ydata(), [line["eval_loss"] for line in records])
    np.testing.assert_array_equal(
        training.get_ydata(), [math.nan] + [line["train_loss"] for line in records[1:]]
    )


def test_rounds_whose_loss_was_not_finite_leave_a_gap_that_is_seen():
    (axes,) = loss_figure([record(0, 4.0), record(1, 4.1), record(2), record(3)], "").axes
    low, high = axes.get_xlim()
    assert low < 0
    assert high > 3
    np.testing.assert_array_equal(axes.get_lines()[0].get_ydata(), [4.0, 4.1, math.nan, math.nan])


def test_areas_of_bytes_stand_on_each_other_and_reach_what_was_sent():
    records = [
        record(0, payload=0, control=8_000, wire=9_000),
        record(1, payload=10_000, control=9_000, wire=20_000),
        record(2, payload=30_000, control=10_000, wire=42_000),
    ]
    (axes,) = bytes_figure(records, "a caption").axes
    assert axes.get_ylabel() == "bytes since the start (kB)"
    payload, rest = (area.get_paths()[0].vertices for area in axes.collections)
    assert {(0, 0), (1, 10), (2, 30)} <= set(map(tuple, payload))
    assert {(0, 0), (1, 10), (2, 30), (0, 9), (1, 20), (2, 42)} <= set(map(tuple, rest))
    assert axes.get_ylim()[0] == 0
    assert axes.get_ylim()[1] > 42


FAMILIES = st.sampled_from([("ring", 5), ("star", 7), ("complete", 4), ("torus", 9)])


@given(FAMILIES, st.data())
def test_both_directions_of_a_link_are_added_and_nothing_is_lost(family, data):
    graph = topology.build(*family)
    directed = [*graph.edges, *((j, i) for i, j in graph.edges)]
    counts = data.draw(
        st.dictionaries(st.sampled_from(directed), st.tuples(*[st.integers(0, 2**40)] * 3))
    )
    traffic = Traffic()
    expected: defaultdict[tuple[int, int], int] = defaultdict(int)
    for (sender, receiver), (payload, control, framing) in counts.items():
        count = LinkCount(payload_bytes=payload, control_bytes=control, framing_bytes=framing)
        traffic.add(sender, receiver, count)
        expected[tuple(sorted((sender, receiver)))] += payload + control + framing
    sent = link_bytes(graph, traffic)
    assert sent.tolist() == [expected[edge] for edge in graph.edges]
    assert sent.sum() == traffic.total().wire_bytes
