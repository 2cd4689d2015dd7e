"""Volumes by graph algorithms: the simulator's own counts, and a sample that knows its error."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from peer import wire
from peer.entry import Kind
from peer.errors import UserError
from peer.events import EntryAdded
from peer.roster import Roster
from peer.trees import Trees
from sim.bench.worlds import build_world, experiment
from sim.volume.spread import extrapolate, spread_volume
from sim.volume.spread_words import in_words
from sim.volume.walk_progress import WalkProgress
from sim.volume.walks import link_loads, walk
from topology import FAMILIES, VARYING, Topology, TopologyError, build
from topology.arrays import Links, build_links, links_of

STATIC = [family for family in FAMILIES if family not in VARYING]
MODES = ("flood", "tree")


def loads(links: Links, gossip: str, weights: dict[int, tuple[int, ...]]) -> Counter:
    """Return what each (sender, receiver) carries, without those that carry nothing."""
    origins = np.array(sorted(weights))
    walks = walk(links, gossip, origins, np.array([weights[origin] for origin in sorted(weights)]))
    firsts, whole = walks.firsts.sum(axis=0)[:, 0], int(walks.weights.sum())
    carried = link_loads(links, gossip, firsts, whole).tolist()
    pairs = zip(links.senders().tolist(), links.ends.tolist(), strict=True)
    return Counter({pair: load for pair, load in zip(pairs, carried, strict=True) if load})


# Against the simulator


def simulated(family: str, peers: int, gossip: str, participation: float, degree: int = 4):
    """Run a small network; return its topology, entries with their hops, and payload by link."""
    hop = 2.0**-7
    published, last = {}, {}
    frames, volume = Counter(), Counter()

    def observe(peer, event):
        if isinstance(event, EntryAdded):
            entry, now = event.entry, world.schedule.now
            if entry.origin == peer:
                published[entry] = now
            last[entry] = now

    def observe_frame(_what, sender, receiver, frame):
        if wire.is_payload(frame):
            frames[sender, receiver] += 1
            volume[sender, receiver] += len(frame)

    world = build_world(
        experiment(
            topology=family,
            peers=peers,
            degree=degree,
            gossip=gossip,
            participation=participation,
            rounds=2,
            local_steps=3,
            candidate_seeds=16,
            # All links take the same time, a binary fraction, so that equal times are equal.
            latency=str(hop),
            # Digests that come before entries would make neighbours ask for them.
            tick=2.0,
        ),
        observe=observe,
        observe_frame=observe_frame,
    )
    world.run()
    hops = {entry: round((last[entry] - time) / hop) for entry, time in published.items()}
    return hops, frames, volume


@pytest.mark.parametrize("gossip", MODES)
@pytest.mark.parametrize("family", STATIC)
@pytest.mark.parametrize(("peers", "participation"), [(4, 1.0), (16, 0.3), (64, 0.05)])
def test_the_simulator_counts_the_same_on_every_link(
    family: str, gossip: str, peers: int, participation: float
) -> None:
    """Messages and bytes of every directed link, and the hops of every entry."""
    if family == "complete":
        # Flooding sends every entry over every link.
        peers = min(peers, 24)
    degree = 3 if peers == 4 else 6 if family == "erdos-renyi" else 4
    hops, frames, volume = simulated(family, peers, gossip, participation, degree)
    links = links_of(build(family, peers, degree=degree))
    entries = list(hops)
    lengths = np.array([len(wire.encode_entry(entry)) for entry in entries])
    origins = np.array([entry.origin for entry in entries])
    assert {entry.kind for entry in entries} == {Kind.HISTORY, Kind.END}
    assert loads(links, gossip, {o: (n,) for o, n in Counter(origins.tolist()).items()}) == frames
    each = Counter()
    for origin, length in zip(origins.tolist(), lengths.tolist(), strict=True):
        each[origin] += length
    assert loads(links, gossip, {o: (n,) for o, n in each.items()}) == volume

    result = spread_volume(links, gossip, origins, lengths)
    assert result.exact
    assert (result.entries, result.origins) == (len(entries), peers)
    assert result.sends == frames.total()
    assert result.payload_bytes == volume.total()
    assert result.last_hops_max == max(hops.values())
    assert result.last_hops_mean == pytest.approx(np.average(list(hops.values()), weights=lengths))
    directed = np.array([volume[pair] for pair in both_ways(links)])
    assert result.link_bytes.most == pytest.approx(directed.max())
    assert result.link_bytes.median == pytest.approx(np.median(directed))
    assert result.link_bytes_mean == pytest.approx(directed.mean())
    of_peers = Counter()
    for (sender, receiver), sent in volume.items():
        of_peers[sender] += sent
        of_peers[receiver] += sent
    assert result.peer_bytes.most == pytest.approx(max(of_peers.values()))
    assert result.peer_bytes.deviation == pytest.approx(np.std(list(of_peers.values())))
    assert result.peer_bytes_mean == pytest.approx(np.mean(list(of_peers.values())))


def both_ways(links: Links) -> list[tuple[int, int]]:
    return list(zip(links.senders().tolist(), links.ends.tolist(), strict=True))


# Against slow references

graphs = st.builds(
    lambda peers, share, seed: nx.compose(
        nx.random_labeled_tree(peers, seed=seed), nx.gnp_random_graph(peers, share, seed=seed)
    ),
    st.integers(2, 40),
    st.sampled_from([0.0, 0.1, 0.3, 1.0]),
    st.integers(0, 2**32 - 1),
)


def as_links(graph: nx.Graph) -> Links:
    edges = sorted((min(edge), max(edge)) for edge in graph.edges)
    return links_of(Topology("x", tuple(edges), tuple(map(str, sorted(graph)))))


@settings(max_examples=60, deadline=None)
@given(graphs, st.randoms(use_true_random=False))
def test_flooding_goes_over_all_links_but_those_back(graph: nx.Graph, source) -> None:
    """networkx's breadth-first search, which takes neighbours in the order of the graph."""
    ordered = nx.Graph()
    ordered.add_nodes_from(sorted(graph))
    ordered.add_edges_from(sorted((min(edge), max(edge)) for edge in graph.edges))
    origins = source.sample(sorted(graph), source.randint(1, len(graph)))
    weights = {origin: (source.randint(1, 1000),) for origin in origins}
    expected: Counter = Counter()
    for origin, (weight,) in weights.items():
        back = {
            (child, parent)
            for parent, child in nx.bfs_edges(ordered, origin, sort_neighbors=sorted)
        }
        for a, b in graph.edges:
            for pair in {(a, b), (b, a)} - back:
                expected[pair] += weight
    links = as_links(graph)
    assert loads(links, "flood", weights) == expected
    hops = {o: nx.single_source_shortest_path_length(graph, o) for o in origins}
    lengths = np.array([weights[origin][0] for origin in origins])
    result = spread_volume(links, "flood", np.array(origins), lengths)
    assert result.payload_bytes == expected.total()
    last = [max(hops[origin].values()) for origin in origins]
    assert result.last_hops_max == max(last)
    assert result.last_hops_mean == pytest.approx(np.average(last, weights=lengths))
    total = [sum(hops[origin].values()) / (len(graph) - 1) for origin in origins]
    assert result.hops_mean == pytest.approx(np.average(total, weights=lengths))


@settings(max_examples=25, deadline=None)
@given(graphs, st.booleans())
def test_the_compiled_tree_is_the_one_that_peers_compute(graph: nx.Graph, hub: bool) -> None:
    if hub:
        # More leaves than a peer may have children, beside others that could serve some of them.
        size = len(graph)
        graph = nx.compose(graph, nx.complete_graph(min(size, 12)))
        graph.add_edges_from((0, leaf) for leaf in range(size, size + 20))
    neighbours = {peer: sorted(graph[peer]) for peer in sorted(graph)}
    trees = Trees(neighbours, Roster((1,) * len(graph), 1.0, 0))
    links = as_links(graph)
    for origin in neighbours:
        expected = nx.DiGraph()
        expected.add_nodes_from(neighbours)
        for peer in neighbours:
            expected.add_edges_from((peer, c) for c in trees.children(origin, 0, peer))
        assert loads(links, "tree", {origin: (1,)}) == Counter(list(expected.edges))
        hops = nx.single_source_shortest_path_length(expected, origin)
        result = spread_volume(links, "tree", np.array([origin]), np.array([7]))
        assert result.payload_bytes == 7 * (len(graph) - 1)
        assert result.last_hops_max == max(hops.values())
        assert result.hops_mean == pytest.approx(sum(hops.values()) / (len(graph) - 1))


# By hand


def test_a_line_of_three() -> None:
    """Peer 0 sends 10 bytes, peer 1 20: 0 -> 1 -> 2, and 0 <- 1 -> 2; nothing comes back."""
    for gossip in MODES:
        result = spread_volume(build_links("line", 3), gossip, np.array([0, 1]), np.array([10, 20]))
        assert (result.sends_per_entry, result.sends, result.payload_bytes) == (2, 4, 60)
        assert (result.redundancy, result.exact, result.walked) == (1.0, True, 2)
        # 0 -> 1: 10; 1 -> 0: 20; 1 -> 2: 30; 2 -> 1: 0.
        assert (result.link_bytes.most, result.link_bytes.median) == (30, 15)
        assert (result.link_bytes.mean, result.link_bytes_mean) == (15, 15)
        # 10 + 20, 10 + 20 + 30, 30.
        assert (result.peer_bytes.most, result.peer_bytes_mean) == (60, 40)
        assert (result.last_hops_max, result.last_hops_mean) == (2, (10 * 2 + 20 * 1) / 30)
        assert result.hops_mean == (10 * 1.5 + 20 * 1) / 30


def test_a_ring_of_four_meets_itself() -> None:
    """0 sends to 1 and 3, which both send to 2; 2 has it from 1 first, and sends it to 3."""
    links = build_links("ring", 4)
    expected = {(0, 1): 1, (0, 3): 1, (1, 2): 1, (3, 2): 1, (2, 3): 1}
    assert loads(links, "flood", {0: (1,)}) == expected
    result = spread_volume(links, "flood", np.array([0]), np.array([1]))
    assert (result.sends, result.redundancy) == (5, 5 / 3)
    assert result.peer_bytes.most == 3


def test_a_star_s_hub_sends_to_all_but_the_origin() -> None:
    links = build_links("star", 5)
    for gossip in MODES:
        result = spread_volume(links, gossip, np.arange(5), np.ones(5, dtype=np.int64))
        # The hub sends its own to 4 and the others' to 3 each, and gets 4.
        assert result.peer_bytes.most == 4 + 4 * 3 + 4
        assert result.last_hops_mean == (1 + 4 * 2) / 5


def test_a_peer_that_publishes_twice_counts_twice() -> None:
    links = build_links("barabasi-albert", 30)
    twice = spread_volume(links, "flood", np.array([3, 7, 3]), np.array([5, 6, 20]))
    once = spread_volume(links, "flood", np.array([3, 7]), np.array([25, 6]))
    assert (twice.entries, twice.origins, once.entries) == (3, 2, 2)
    for name in ("payload_bytes", "last_hops_mean", "hops_mean", "peer_bytes", "link_bytes"):
        assert getattr(twice, name) == getattr(once, name)


# From a sample


@pytest.mark.parametrize("gossip", MODES)
@pytest.mark.parametrize("family", ["random-regular", "barabasi-albert", "torus", "tree"])
def test_a_sample_is_as_far_off_as_it_says(family: str, gossip: str) -> None:
    links = build_links(family, 2000)
    source = np.random.default_rng(5)
    origins = source.choice(2000, 800, replace=False)
    lengths = source.integers(50, 900, size=800)
    # What is said of all loads from a sample has the error of one of them, more or less.
    exact = spread_volume(links, gossip, origins, lengths, sample=800)
    some = spread_volume(links, gossip, origins, lengths, sample=100)
    assert exact.exact
    assert not some.exact
    assert (some.walked, some.origins) == (100, 800)
    for name in ("sends", "payload_bytes", "peer_bytes_mean", "link_bytes_mean"):
        assert getattr(some, name) == getattr(exact, name)
    assert some.last_hops_max <= exact.last_hops_max
    assert abs(some.last_hops_mean - exact.last_hops_mean) <= 4 * some.last_hops_error + 1e-9
    assert abs(some.hops_mean - exact.hops_mean) <= 4 * some.hops_error + 1e-9
    for name in ("peer_bytes", "link_bytes"):
        told, true = getattr(some, name), getattr(exact, name)
        assert told.mean == pytest.approx(true.mean)
        assert true.error == 0.0 < told.error
        assert told.deviation == pytest.approx(true.deviation, abs=told.error)
        for part in ("low", "median", "high"):
            assert abs(getattr(told, part) - getattr(true, part)) < 3 * told.error, part
        assert abs(told.most - true.most) < 4 * told.most_error


@pytest.mark.parametrize("gossip", MODES)
def test_the_stated_error_is_that_of_many_samples(gossip: str) -> None:
    """Of one link's load, and of the hops: against 60 samples of a third of the origins."""
    links = build_links("watts-strogatz", 300)
    origins, lengths = np.arange(90), np.tile([300, 600, 900], 30)
    exact = spread_volume(links, gossip, origins, lengths)
    runs = [
        spread_volume(links, gossip, origins, lengths, sample=30, seed=seed) for seed in range(60)
    ]
    off = np.std([run.last_hops_mean for run in runs])
    assert np.mean([run.last_hops_mean for run in runs]) == pytest.approx(
        exact.last_hops_mean, abs=4 * off / 60**0.5
    )
    assert np.mean([run.last_hops_error for run in runs]) == pytest.approx(off, rel=0.4)
    above = [run.last_hops_above for run in runs]
    assert above == pytest.approx([1 - 0.05 ** (1 / 30)] * 60)
    deviations = [run.link_bytes.deviation for run in runs]
    assert np.mean(deviations) == pytest.approx(exact.link_bytes.deviation, rel=0.1)


def test_one_seed_gives_one_sample() -> None:
    links = build_links("torus", 400)
    origins, lengths = np.arange(400), np.full(400, 100)
    one, two, other = (
        spread_volume(links, "flood", origins, lengths, sample=20, seed=seed) for seed in (1, 1, 2)
    )
    assert one == two != other


def test_progress_is_told_on_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    links = build_links("ring", 8)
    with WalkProgress("walking over ring") as progress:
        assert not capsys.readouterr().err, "a mistake may still be told in place of all this"
        spread_volume(
            links, "flood", np.arange(8), np.ones(8, dtype=np.int64), walked=progress.walked
        )
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == "walking over ring\n"


# In words, and what cannot be


def test_an_extrapolation_says_that_it_is_one() -> None:
    volume = extrapolate("random-regular", 10**9, "flood", 1000, 834_000, degree=4)
    assert volume.extrapolated
    assert not volume.exact
    assert volume.sends == 1000 * (2 * 2 * 10**9 - 10**9 + 1)
    assert volume.payload_bytes == 834_000 * (3 * 10**9 + 1)
    assert volume.last_hops_max is None
    assert "An extrapolation: no graph of this size was made." in in_words(volume)
    complete = extrapolate("complete", 10**6, "tree", 10, 100)
    assert complete.sends == 10 * (10**6 - 1)


@settings(deadline=None)
@given(st.sampled_from(STATIC), st.integers(2, 64), st.sampled_from(MODES))
def test_an_extrapolation_is_what_the_graph_gives(family: str, peers: int, gossip: str) -> None:
    if family == "erdos-renyi":
        return
    try:
        links = build_links(family, peers)
    except TopologyError:
        return
    there = spread_volume(links, gossip, np.array([0, 1, 1]), np.array([5, 6, 7]))
    guess = extrapolate(family, peers, gossip, 3, 18)
    for name in ("links", "sends", "payload_bytes", "peer_bytes_mean", "link_bytes_mean"):
        assert getattr(guess, name) == getattr(there, name)


def test_words_say_what_is_exact() -> None:
    links = build_links("torus", 36)
    origins, lengths = np.arange(36), np.full(36, 834)
    whole = spread_volume(links, "flood", origins, lengths)
    said = in_words(whole).splitlines()
    assert said[:6] == [
        "36 entries flooded over torus, 36 peers, 72 links",
        "  sends      109 an entry, 3,924 in all, 3.11 times the fewest possible",
        "  payload    3.27 MB in all (3,272,616 bytes)",
        "  a peer     182 kB sent and received, on average",
        "  a link     22.7 kB each way, on average",
        "  last peer  after 6.00 hops, at most 6; any peer after 3.09",
    ]
    assert said[-1] == "All of this is exact, for links that are alike and lose nothing."
    assert "±" not in in_words(whole)
    some = in_words(spread_volume(links, "flood", origins, lengths, sample=10))
    assert "at most 6 for all but 26% of the entries (95% confidence)" in some
    assert "the rest is from 10 of 36 origins, with its standard error." in some
    assert "a single one is known to ± " in some
    assert json.loads(json.dumps(dataclasses.asdict(whole)))["link_bytes"]["error"] == 0.0


@pytest.mark.parametrize(
    ("gossip", "origins", "sample", "line"),
    [
        ("antientropy", [0], None, "gossip = 'antientropy' is not allowed here: flood and tree"),
        ("flood", [], None, "no peer publishes anything"),
        ("flood", [0], 1, "sample = 1 is not allowed: must be a whole number at least 2"),
    ],
)
def test_mistakes_are_told_in_one_line(
    gossip: str, origins: list[int], sample: int | None, line: str
) -> None:
    with pytest.raises(UserError, match=line):
        spread_volume(
            build_links("ring", 4),
            gossip,
            np.array(origins, dtype=np.int64),
            np.ones(len(origins), dtype=np.int64),
            sample=sample,
        )


@pytest.mark.slow
@pytest.mark.parametrize("gossip", MODES)
def test_a_million_peers(gossip: str) -> None:
    peers = 10**6
    links = build_links("random-regular", peers, degree=4)
    origins = np.array(Roster((1,) * peers, 0.05, 0).active(0))
    done = []
    volume = spread_volume(
        links,
        gossip,
        origins,
        np.full(len(origins), 834),
        sample=8,
        walked=lambda count, total: done.append((count, total)),
    )
    sends = 3 * peers + 1 if gossip == "flood" else peers - 1
    assert volume.payload_bytes == 50_000 * 834 * sends
    assert done == [(count, 8) for count in range(1, 9)]
    assert 14 <= volume.last_hops_max <= 16
    assert 0 < volume.link_bytes.error < 0.5 * 50_000 * 834
