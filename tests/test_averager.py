"""Gossip averaging of weights against loops of arrays, through the simulator and by hand."""

from __future__ import annotations

import dataclasses
from typing import Any

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mesh import agreement
from numpy.typing import NDArray

from peer import wire
from peer.averager import Averager
from peer.events import Rejected
from peer.mixing import MIXINGS, Averaging
from peer.protocol import Protocol
from peer.scenario import Incident
from peer.seeds import Domain, random_words
from peer.trainer import LocalWeights
from peer.weights import PART_BYTES, Weights
from peer.weights_volume import weights_volume
from sim.link_model import LinkModel
from sim.world import World

PEERS = 8
ROWS = (3, 1, 4, 1, 5, 9, 2, 6)
GRAPHS = {
    "ring": nx.cycle_graph(PEERS),
    "star": nx.star_graph(PEERS - 1),
    "complete": nx.complete_graph(PEERS),
    "small-world": nx.connected_watts_strogatz_graph(PEERS, 4, 0.3, seed=1),
    "tree": nx.random_labeled_tree(PEERS, seed=4),
}


def initial(count: int, dtype: str = "float32") -> Weights:
    words = random_words(5, Domain.SYNTHETIC, 0, 0, count)
    return Weights.of(dtype, (words >> np.uint64(11)) / 2.0**53)


def averaging(
    graph: nx.Graph, mixing: str = "gossip", count: int = 50, dtype: str = "float32", **changes: Any
) -> Protocol:
    protocol = agreement(PEERS, rows=ROWS, **changes)
    neighbours = {peer: tuple(sorted(graph[peer])) for peer in graph}
    made = MIXINGS[mixing](neighbours, protocol.roster, protocol.rounds)
    return dataclasses.replace(protocol, averaging=Averaging(initial(count, dtype), made))


def moved(peer: int, round_: int, weights: Weights) -> Weights:
    """What local steps make of weights: something that hangs on peer, round and weights."""
    words = random_words(9, Domain.SYNTHETIC, peer, round_, len(weights))
    shift = (words >> np.uint64(11)) / 2.0**53 - 0.5
    return Weights.of(weights.dtype, 0.9 * weights.values(0, len(weights)) + shift)


class Moving:
    """A trainer without a model."""

    def train(
        self, peer: int, round_: int, cut: Weights, indices: NDArray[np.int64]
    ) -> LocalWeights:
        assert len(indices) == 0
        return LocalWeights(moved(peer, round_, cut), 0.0)


def run(graph: nx.Graph, protocol: Protocol, **options: Any) -> World:
    neighbours = {peer: tuple(sorted(graph[peer])) for peer in graph}
    world = World(neighbours, protocol, Moving(), step_seconds=0.1, **options)
    world.run()
    assert all(peer.finished or peer.me in world.absent for peer in world.peers)
    return world


def d_psgd(graph: nx.Graph, protocol: Protocol) -> list[NDArray[np.float32]]:
    """D-PSGD with a matrix of coefficients, on plain arrays."""
    assert protocol.averaging is not None
    matrix = np.zeros((PEERS, PEERS))
    for i, j in [*graph.edges, *((b, a) for a, b in graph.edges)]:
        matrix[i, j] = min(
            1 / (1 + graph.degree[i]), ROWS[j] / ROWS[i] * (1 / (1 + graph.degree[j]))
        )
    states = [protocol.averaging.initial for _ in range(PEERS)]
    for round_ in range(protocol.rounds):
        for peer in protocol.roster.active(round_):
            states[peer] = moved(peer, round_, states[peer])
        values = [state.values(0, 1000) for state in states]
        mixed = []
        for i in range(PEERS):
            near = sorted(graph[i])
            own = 1.0 - sum(matrix[i, j] for j in near)
            total = np.zeros(len(values[i]))
            for j in sorted([i, *near]):
                total += (own if j == i else matrix[i, j]) * values[j]
            mixed.append(Weights.of(states[i].dtype, total))
        states = mixed
    return [state.raw for state in states]


def fedavg(protocol: Protocol) -> NDArray[np.float32]:
    """FedAvg with a server, on plain arrays."""
    assert protocol.averaging is not None
    state = protocol.averaging.initial
    for round_ in range(protocol.rounds):
        active = protocol.roster.active(round_)
        rows = sum(ROWS[peer] for peer in active)
        total = np.zeros(len(state))
        for peer in active:
            total += ROWS[peer] / rows * moved(peer, round_, state).values(0, len(state))
        state = Weights.of(state.dtype, total)
    return state.raw


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("participation", [1.0, 0.4])
@pytest.mark.parametrize("name", GRAPHS)
def test_gossip_is_d_psgd(name: str, participation: float, dtype: str) -> None:
    graph = GRAPHS[name]
    protocol = averaging(graph, dtype=dtype, participation=participation, rounds=4)
    world = run(graph, protocol)
    expected = d_psgd(graph, protocol)
    for peer, raw in zip(world.peers, expected, strict=True):
        assert isinstance(peer.state, Weights)
        np.testing.assert_array_equal(peer.state.raw, raw)
        assert peer.timeouts == 0
        assert not peer.rejections


@pytest.mark.parametrize("participation", [1.0, 0.4])
def test_a_server_is_fedavg(participation: float) -> None:
    graph = GRAPHS["star"]
    protocol = averaging(graph, "server", participation=participation, rounds=5)
    expected = fedavg(protocol)
    for peer in run(graph, protocol).peers:
        assert isinstance(peer.state, Weights)
        np.testing.assert_array_equal(peer.state.raw, expected)


@pytest.mark.parametrize(("name", "mixing"), [("small-world", "gossip"), ("star", "server")])
def test_payload_is_what_the_exchanges_name(name: str, mixing: str) -> None:
    """Weights of several parts, the last one short."""
    count = PART_BYTES // 4 * 2 + 7
    protocol = averaging(GRAPHS[name], mixing, count, participation=0.5, rounds=3)
    world, volume = run(GRAPHS[name], protocol), weights_volume(protocol)
    total = world.traffic.total()
    assert volume.frames == 3 * volume.copies
    assert (total.payload_messages, total.payload_bytes) == (volume.frames, volume.bytes)
    assert sum(peer.received for peer in world.peers) == volume.copies


@settings(deadline=None, max_examples=15)
@given(
    st.sampled_from([("ring", "gossip"), ("small-world", "gossip"), ("star", "server")]),
    st.floats(0, 0.3),
    st.floats(0, 0.3),
    st.floats(0, 0.5),
    st.integers(0, 1000),
)
def test_lossy_links_change_nothing(
    case: tuple[str, str], loss: float, duplication: float, reordering: float, seed: int
) -> None:
    name, mixing = case
    protocol = averaging(
        GRAPHS[name], mixing, participation=0.5, round_timeout=1e5, settle_timeout=1e5
    )
    calm = run(GRAPHS[name], protocol)
    links = LinkModel(loss=loss, duplication=duplication, reordering=reordering, seed=seed)
    rough = run(GRAPHS[name], protocol, links=links)
    assert [peer.state.digest() for peer in rough.peers] == [
        peer.state.digest() for peer in calm.peers
    ]
    assert not any(peer.rejections or peer.accused for peer in rough.peers)


def test_gossip_keeps_the_mean_and_comes_near_it() -> None:
    graph = GRAPHS["ring"]
    protocol = averaging(graph, rounds=60, participation=0.01)
    world = run(graph, protocol)
    states = np.stack([peer.state.values(0, 50) for peer in world.peers])  # type: ignore[union-attr]
    protocol = averaging(graph, rounds=61, participation=0.01)
    later = run(graph, protocol)
    again = np.stack([peer.state.values(0, 50) for peer in later.peers])  # type: ignore[union-attr]
    assert np.abs(states - states.mean(0)).max() < 1.5
    # One more exchange after one peer's steps: all others' mean has moved by no more than that.
    shares = np.array(ROWS) / sum(ROWS)
    (active,) = protocol.roster.active(60)
    assert isinstance(world.peers[active].state, Weights)
    step = moved(active, 60, world.peers[active].state).values(0, 50) - states[active]
    np.testing.assert_allclose(shares @ again, shares @ states + shares[active] * step, atol=1e-6)


def test_a_crash_is_waited_for_once() -> None:
    graph = GRAPHS["small-world"]
    protocol = averaging(graph, rounds=4, round_timeout=5.0, settle_timeout=5.0, tick=0.5)
    world = run(graph, protocol, scenario=[Incident("crash", (2,), 1, None)])
    near = sorted(graph[2])
    assert world.absent == (2,)
    for peer in world.peers:
        assert peer.timeouts == (1 if peer.me in near else 0) or peer.me == 2
        assert np.all(np.isfinite(peer.state.values(0, 50)))  # type: ignore[union-attr]


def beginning(protocol: Protocol, graph: nx.Graph, me: int = 0) -> Averager:
    """A peer whose neighbours have answered."""
    averager = Averager(me, sorted(graph[me]), protocol)
    averager.start(0.0)
    for neighbour in sorted(graph[me]):
        hello = wire.Hello(neighbour, protocol.digest, bytes(8), True, 0.0)
        averager.receive(wire.encode(hello), neighbour, 0.1)
    return averager


PART = initial(50).part(0)
BAD = {
    "no such part": wire.Part(0, 1, PART),
    "too short": wire.Part(0, 0, PART[:-4]),
    "too long": wire.Part(0, 0, PART + bytes(4)),
    "not finite": wire.Part(0, 0, np.full(50, np.nan, np.float32).tobytes()),
    "infinite": wire.Part(0, 0, np.full(50, np.inf, np.float32).tobytes()),
    "past the run": wire.Part(3, 0, PART),
    "asked past the run": wire.Missing(3, (0,)),
    "asked for no part": wire.Missing(0, (1,)),
    "of another method": wire.Versions({}),
    "a log": wire.Want(((0, 0, 1),), False),
}


@pytest.mark.parametrize("name", BAD)
def test_what_no_honest_peer_sends_is_counted_and_changes_nothing(name: str) -> None:
    graph, protocol = GRAPHS["ring"], averaging(GRAPHS["ring"])
    averager = beginning(protocol, graph)
    averager.trained(None, LocalWeights(initial(50), 0.0), 0.2)  # type: ignore[arg-type]
    before, waiting = averager.state.digest(), averager.waiting_for
    output = averager.receive(wire.encode(BAD[name]), 1, 0.3)
    assert [type(event) for event in output.events] == [Rejected]
    assert averager.rejections == {1: 1}
    assert not output.messages
    assert (averager.state.digest(), averager.waiting_for) == (before, waiting)
    # And the honest weights are taken after it.
    averager.receive(wire.encode(wire.Part(0, 0, PART)), 1, 0.4)
    assert 1 not in averager.waiting_for


@settings(max_examples=200)
@given(st.lists(st.tuples(st.integers(0, 9), st.binary(max_size=300)), max_size=20))
def test_any_bytes(frames: list[tuple[int, bytes]]) -> None:
    averager = beginning(averaging(GRAPHS["ring"], disconnects=False), GRAPHS["ring"])
    state = averager.state.digest()
    for sender, frame in frames:
        averager.receive(frame, sender, 1.0)
    assert averager.state.digest() == state


def test_who_sends_far_ahead_takes_no_memory() -> None:
    protocol = averaging(GRAPHS["ring"], rounds=1000)
    averager = beginning(protocol, GRAPHS["ring"])
    for number in range(900):
        averager.receive(wire.encode(wire.Part(number, 0, PART)), 1, 0.5)
    assert len(averager._inbound.whole) <= 2


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@given(st.lists(st.floats(-60000, 60000, width=32), min_size=1, max_size=40))
def test_weights_are_rounded_half_to_even(dtype: str, values: list[float]) -> None:
    import torch

    wide = np.array(values)
    mine = Weights.of(dtype, wide).values(0, len(values))
    theirs = torch.from_numpy(wide).float().to(getattr(torch, dtype)).double().numpy()
    np.testing.assert_array_equal(mine, theirs)
