"""Graphs that vary over time: their slots, what is up when, how fast all hear of all."""

from __future__ import annotations

import json
from math import ceil, log2
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mesh import agreement
from test_topology_drawing import comments

import topology
from peer.config import Experiment
from peer.errors import UserError
from peer.setup import prepare
from peer.trainer import SyntheticTrainer
from sim.cli import main
from sim.link_model import LinkModel
from sim.slots import Slots
from sim.world import World
from topology import TopologyError, Varying, build, describe, measure
from topology.drawing import SLOTS_SHOWN, draw
from topology.measures import VaryingMeasures
from topology.varying import MOST_MATCHED, VARYING, Edge, slots_to_spread

sequences = st.lists(
    st.lists(
        st.tuples(st.integers(0, 6), st.integers(0, 6)).filter(lambda pair: pair[0] != pair[1]),
        max_size=6,
    ),
    min_size=1,
    max_size=5,
)


def varying(name: str, peers: int, seed: int = 0) -> Varying:
    graph = build(name, peers, seed=seed)
    assert isinstance(graph, Varying)
    return graph


def from_file(folder: Path, slots: Any) -> Varying:
    path = folder / "sequence.json"
    path.write_text(json.dumps(slots))
    graph = topology.load(path)
    assert isinstance(graph, Varying)
    return graph


def connected_sequence(drawn: list[list[Edge]]) -> list[list[Edge]]:
    """A path over all peers in the first slot, so that the union is connected."""
    return [[*drawn[0], *((peer, peer + 1) for peer in range(6))], *drawn[1:]]


def slow_spread(graph: Varying) -> int:
    """Sets of peers, slot by slot."""
    known = {peer: {peer} for peer in graph.nodes}
    slot = 0
    while any(len(each) < len(known) for each in known.values()):
        before = {peer: set(each) for peer, each in known.items()}
        for i, j in graph.edges_at(slot):
            known[i] |= before[j]
            known[j] |= before[i]
        slot += 1
    return slot


# Families


@given(st.integers(2, 300), st.integers(0, 1000))
def test_one_peer_exponential_is_the_definition(peers: int, slot: int) -> None:
    graph = varying("one-peer-exponential", peers)
    assert graph.period == ceil(log2(peers))
    step = 2 ** (slot % ceil(log2(peers)))
    links = {frozenset({peer, (peer + step) % peers}) for peer in range(peers)}
    assert {frozenset(edge) for edge in graph.edges_at(slot)} == links
    assert graph.edges == build("exponential", peers).edges


@pytest.mark.parametrize("power", range(1, 11))
def test_one_peer_exponential_reaches_all_in_log2_slots(power: int) -> None:
    assert slots_to_spread(varying("one-peer-exponential", 2**power)) == power


@given(st.integers(2, 60), st.integers(0, 2**64), st.integers(0, 10**6))
def test_matchings_leave_nobody_out_but_the_odd_one(peers: int, seed: int, slot: int) -> None:
    graph = varying("random-matching", peers, seed)
    edges = graph.edges_at(slot)
    assert all(0 <= i < j < peers for i, j in edges)
    ends = [end for edge in edges for end in edge]
    assert len(ends) == len(set(ends)) == peers - peers % 2
    assert varying("random-matching", peers, seed).edges_at(slot) == edges
    assert edges <= set(graph.edges)
    assert graph.edges == build("complete", peers).edges


def test_matchings_are_drawn_from_all_alike() -> None:
    """Every pair of 6 peers is matched in a fifth of the slots; each slot and seed is another."""
    graph = varying("random-matching", 6)
    slots = [graph.edges_at(slot) for slot in range(5000)]
    for edge in graph.edges:
        assert abs(sum(edge in slot for slot in slots) - 1000) < 5 * (5000 * 0.2 * 0.8) ** 0.5
    assert len(set(slots)) == 15
    other = varying("random-matching", 6, seed=1)
    assert [other.edges_at(slot) for slot in range(20)] != slots[:20]


def test_random_matching_has_a_bound() -> None:
    assert len(build("random-matching", MOST_MATCHED).nodes) == MOST_MATCHED
    with pytest.raises(TopologyError) as refusal:
        build("random-matching", MOST_MATCHED + 1)
    assert str(refusal.value) == (
        "random-matching takes at most 512 peers, since any two of them may meet; 513 given "
        "(one-peer-exponential takes more)"
    )


# Sequences from files


@settings(deadline=None)
@given(sequences)
def test_a_sequence_is_read_slot_by_slot(
    tmp_path_factory: pytest.TempPathFactory, drawn: list[list[Edge]]
) -> None:
    slots = connected_sequence(drawn)
    graph = from_file(tmp_path_factory.mktemp("run"), slots)
    assert graph.name == "sequence"
    assert graph.period == len(slots)
    for slot in range(2 * len(slots)):
        links = {(min(edge), max(edge)) for edge in slots[slot % len(slots)]}
        assert graph.edges_at(slot) == links
    assert set(graph.edges) == set().union(*map(graph.edges_at, range(len(slots))))


def test_a_sequence_of_names_with_repeats_and_loops(tmp_path: Path) -> None:
    graph = from_file(tmp_path, [[["b", "a"], ["a", "b"]], [], [["b", 10], ["b", "b"]]])
    assert graph.names == ("10", "a", "b")
    assert [graph.edges_at(slot) for slot in range(4)] == [
        {(1, 2)},
        set(),
        {(0, 2)},
        {(1, 2)},
    ]
    assert graph.notes == (
        "Repeated links were merged: 1 fewer.",
        "Links of a node to itself were dropped: 1 fewer.",
    )


# Changes and spread


@settings(deadline=None)
@given(sequences, st.sampled_from([0.5, 2.0]))
def test_changes_lead_from_slot_to_slot(
    tmp_path_factory: pytest.TempPathFactory, drawn: list[list[Edge]], seconds: float
) -> None:
    """Applied one after the other they give each slot's links; nothing goes up that is up."""
    graph = from_file(tmp_path_factory.mktemp("run"), connected_sequence(drawn))
    slots = Slots(graph, seconds)
    up = set(graph.edges)
    for slot in range(3 * len(drawn)):
        assert slots.next_time == slot * seconds
        raised, lowered = slots.turn()
        assert list(raised) == sorted(raised)
        assert list(lowered) == sorted(lowered)
        assert not up & set(raised)
        assert up >= set(lowered)
        up = (up | set(raised)) - set(lowered)
        assert up == graph.edges_at(slot)


@settings(deadline=None)
@given(sequences)
def test_spread_is_that_of_sets(
    tmp_path_factory: pytest.TempPathFactory, drawn: list[list[Edge]]
) -> None:
    graph = from_file(tmp_path_factory.mktemp("run"), connected_sequence(drawn))
    assert slots_to_spread(graph) == slow_spread(graph)


@pytest.mark.parametrize("peers", [2, 7, 40])
@pytest.mark.parametrize("name", VARYING)
def test_spread_of_families_is_that_of_sets(name: str, peers: int) -> None:
    graph = varying(name, peers, seed=peers)
    assert slots_to_spread(graph) == slow_spread(graph)


def test_spread_gives_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The far end of a path hears of the near end hop by hop, against the order of the slots.
    graph = from_file(tmp_path, [[[i, i + 1]] for i in range(8)])
    assert slots_to_spread(graph) == slow_spread(graph) == 57
    monkeypatch.setattr("topology.varying.SPREAD_LIMIT", 57)
    assert slots_to_spread(graph) is None
    monkeypatch.setattr("topology.measures.SPREAD_LIMIT", 57)
    assert "spread        more than 57 slots" in describe(graph, measure(graph))


# Measures, pictures, commands


def test_measures_are_those_of_all_slots_and_of_time() -> None:
    graph = varying("one-peer-exponential", 16)
    measures = measure(graph)
    assert isinstance(measures, VaryingMeasures)
    union = measure(build("exponential", 16))
    assert vars(measures) == vars(union) | {
        "period": 4,
        "slot_edges_min": 8,
        "slot_edges_max": 16,
        "spread_slots": 4,
    }
    assert describe(graph, measures).splitlines() == [
        "topology      one-peer-exponential, varying over time",
        "peers         16",
        "links         56 in all, 8 to 16 at a time",
        "degree        7",
        "diameter      2 hops",
        "mean path     1.53 hops",
        "spectral gap  0.5",
        "slots         4, again and again",
        "spread        4 slots from everyone to everyone",
    ]
    pair = build("random-matching", 2)
    assert describe(pair, measure(pair)).splitlines()[-2:] == [
        "slots         each drawn anew",
        "spread        1 slot from everyone to everyone",
    ]


@pytest.mark.parametrize(
    ("name", "peers", "slots"),
    [
        ("one-peer-exponential", 2, 1),
        ("one-peer-exponential", 16, 4),
        ("one-peer-exponential", 200, SLOTS_SHOWN),
        ("random-matching", 9, SLOTS_SHOWN),
    ],
)
def test_slots_are_drawn_side_by_side(tmp_path: Path, name: str, peers: int, slots: int) -> None:
    draw(build(name, peers), tmp_path / "one.svg")
    draw(build(name, peers), tmp_path / "two.svg")
    assert (tmp_path / "one.svg").read_bytes() == (tmp_path / "two.svg").read_bytes()
    texts = comments(tmp_path / "one.svg")
    for slot in range(SLOTS_SHOWN + 1):
        assert texts.count(f"slot {slot}") == (slot < slots)
    # Every slot shows every peer.
    if peers <= 16:
        assert texts.count(str(peers - 1)) == slots


def test_an_empty_slot_can_be_drawn(tmp_path: Path) -> None:
    draw(from_file(tmp_path, [[["a", "b"]], []]), tmp_path / "x.svg")
    assert {"slot 0", "slot 1"} < set(comments(tmp_path / "x.svg"))


def test_the_command_measures_and_draws(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["topology", "one-peer-exponential"]) == 0
    graph = build("one-peer-exponential", 8)
    lines = [describe(graph, measure(graph)), "drawn to one-peer-exponential-8.svg", ""]
    assert capsys.readouterr().out == "\n".join(lines)
    assert "slot 2" in comments(tmp_path / "one-peer-exponential-8.svg")


@pytest.mark.parametrize("name", VARYING)
def test_real_processes_refuse_it_in_one_line(
    name: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    line = f"{name} varies over time, which only `kseed sim` can do"
    experiment = Experiment(topology=name, trainer="synthetic", out=str(tmp_path / "run"))
    for engine in ("launch", "peer"):
        with pytest.raises(UserError) as refusal:
            prepare(experiment, engine)
        assert str(refusal.value) == line
    assert isinstance(prepare(experiment, "sim").graph, Varying)
    peer = tmp_path / "peer.toml"
    peer.write_text(f'topology = "{name}"\nid = 0\nbind = "tcp://127.0.0.1:0"\naddresses = []\n')
    for arguments in (["launch", "--topology", name], ["peer", str(peer)]):
        assert main(arguments) == 2
        assert capsys.readouterr().err == f"kseed: {line}\n"


# In the simulator


def test_frames_go_over_links_that_are_up_and_over_no_others() -> None:
    graph = varying("random-matching", 6)
    protocol = agreement(6, rounds=3, round_timeout=5.0)
    neighbours = {peer: graph.neighbours(peer) for peer in graph.nodes}
    world = World(
        neighbours, protocol, SyntheticTrainer(0), step_seconds=0.3, slots=Slots(graph, 0.25)
    )
    came: list[tuple[float, Edge]] = []
    deliver = world.network._deliver

    def keep(sender: int, receiver: int, frame: bytes) -> None:
        came.append((world.schedule.now, (min(sender, receiver), max(sender, receiver))))
        deliver(sender, receiver, frame)

    world.network._deliver = keep
    world.run()
    assert len(came) > 50
    latency = LinkModel().expected_latency(0, 1)
    for time, edge in came:
        # Rounding can put what was sent at the very turn into the slot before.
        sent = (time - latency) / 0.25
        assert edge in graph.edges_at(int(sent + 1e-9)) | graph.edges_at(max(0, int(sent - 1e-9)))
    assert len({edge for _, edge in came}) > len(graph.edges) / 2
    # Peers know which of their links are up, and send over no others.
    assert world.network.counts().lost == 0
    assert all(gossip.finished is not None for gossip in world.peers)
