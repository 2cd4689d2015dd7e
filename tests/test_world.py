"""Simulated runs against Algorithm 1 with a server: the same accumulator, bit for bit (C6)."""

from __future__ import annotations

import dataclasses
from collections import Counter
from typing import Any

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mesh import Mesh, agreement, counts_of, over, seeding
from numpy.typing import NDArray

from peer.accumulator import Accumulator
from peer.block_draw import draw_blocks
from peer.dissemination import MODES
from peer.entry import Entry
from peer.events import EntryAdded, Event, Finished, RoundStarted, RoundTimedOut
from peer.gradients import decode, encode
from peer.importance import sampling_weights
from peer.protocol import Protocol
from peer.seeding import SEEDINGS
from peer.seeds import active_peers, draw_uniform, draw_weighted
from peer.trainer import LocalRound, SyntheticTrainer
from peer.wire import decode as decode_frame
from peer.wire import is_payload
from sim.link_model import LinkModel
from sim.network import Network
from sim.schedule import Schedule
from sim.world import World

PEERS = 12
GRAPHS = {
    "ring": nx.cycle_graph(PEERS),
    "star": nx.star_graph(PEERS - 1),
    "line": nx.path_graph(PEERS),
    "complete": nx.complete_graph(PEERS),
    "torus": nx.convert_node_labels_to_integers(nx.grid_2d_graph(3, 4, periodic=True)),
    "regular": nx.random_regular_graph(3, PEERS, seed=1),
    "small-world": nx.connected_watts_strogatz_graph(PEERS, 4, 0.3, seed=1),
    "tree": nx.random_labeled_tree(PEERS, seed=4),
    "scale-free": nx.barabasi_albert_graph(PEERS, 2, seed=3),
}
STEP_SECONDS = 0.1
LATENCY = LinkModel().law.mean


class Uneven(SyntheticTrainer):
    """Made-up numbers of very different sizes; some steps are skipped, some clipped.

    With an agreement, each block gets the coordinates that `counts_of` gives it.
    """

    def __init__(self, root_seed: int, protocol: Protocol | None = None) -> None:
        super().__init__(root_seed)
        self.protocol = protocol

    def train(
        self, peer: int, round_: int, cut: Accumulator, indices: NDArray[np.int64]
    ) -> LocalRound:
        self._counts = counts_of(self.protocol, peer, round_) if self.protocol else None
        made = super().train(peer, round_, cut, indices).gradients
        sizes = made * 2.0 ** (40 * (made - 0.5))
        # So that a cut that is not the server's shows.
        pool = self.protocol is None or self.protocol.seeding in ("uniform", "weighted")
        sizes += (cut.sums[indices] if pool else cut.sums.sum()) * 2.0**-26
        sizes[made < -0.8] = np.nan
        return LocalRound(np.clip(sizes, -1.0, 1.0), 0.0, self._counts)


def uneven(protocol: Protocol) -> Uneven:
    """What trains in a run with this agreement."""
    return Uneven(3, protocol)


def server(protocol: Protocol, trainer: SyntheticTrainer) -> dict[str, NDArray[np.int64]]:
    """Algorithm 1 (Ferret's, too) with a server and clients in one loop, on plain integer arrays.

    Without a pool of seeds its columns get longer with each step.
    """
    roster, units, k = protocol.roster, protocol.units, protocol.candidate_seeds
    kind = protocol.seeding
    length = {"endless": 0, "blocks": k * protocol.blocks}.get(kind, k)
    sums, magnitudes, counts = (np.zeros(length, dtype=np.int64) for _ in range(3))
    for round_ in range(protocol.rounds):
        cut = Accumulator(units, sums.copy(), magnitudes.copy(), counts.copy())
        active = active_peers(roster.root_seed, len(roster.rows), roster.participation, round_)
        rows = sum(roster.rows[peer] for peer in active)
        for peer in active:
            place = (roster.root_seed, peer, round_, protocol.local_steps)
            indices = np.empty(0, dtype=np.int64)
            if kind == "weighted":
                indices = draw_weighted(*place, sampling_weights(cut))
            elif kind == "uniform":
                indices = draw_uniform(*place, k)
            elif kind == "endless":
                indices = np.arange(len(sums), len(sums) + protocol.local_steps)
                sums, magnitudes, counts = (
                    np.pad(column, (0, protocol.local_steps))
                    for column in (sums, magnitudes, counts)
                )
            local = trainer.train(peer, round_, cut, indices)
            made = local.gradients
            if local.counts is not None:
                indices = draw_blocks(roster.root_seed, peer, round_, local.counts, k)
            sent, scale = encode(made, protocol.gradient_bytes)
            got = decode(sent, protocol.gradient_bytes, scale, protocol.gradient_bound)
            step_size = protocol.learning_rate / 2.0**units.exponent
            weight = float(np.float32(roster.rows[peer] / rows * step_size))
            for index, gradient in zip(indices.tolist(), got.tolist(), strict=True):
                if gradient == gradient:
                    sums[index] += round(weight * gradient * 2**units.fraction_bits)
                if gradient == gradient and protocol.seeds.importance:
                    magnitudes[index] += round(abs(gradient) * 2**units.magnitude_bits)
                    counts[index] += 1
    return {"sums": sums, "magnitudes": magnitudes, "counts": counts}


class Observed(World):
    """A world that keeps every event, and every frame with its time."""

    def __init__(self, graph: nx.Graph, protocol: Protocol, **changes: Any) -> None:
        self.events: list[tuple[float, int, Event]] = []
        self.frames: list[tuple[float, int, int, bytes]] = []
        super().__init__(
            {peer: sorted(graph[peer]) for peer in graph},
            over(graph, protocol) if protocol.gossip == "tree" else protocol,
            changes.pop("trainer", None) or uneven(protocol),
            step_seconds=STEP_SECONDS,
            observe=self._keep,
            **changes,
        )
        send = self.network.send

        def keep_frame(sender: int, receiver: int, frame: bytes) -> None:
            self.frames.append((self.schedule.now, sender, receiver, frame))
            send(sender, receiver, frame)

        self.network.send = keep_frame  # type: ignore[method-assign]
        self.run()

    def _keep(self, peer: int, event: Event) -> None:
        self.events.append((self.schedule.now, peer, event))

    def of(self, kind: type) -> list[tuple[int, Any]]:
        return [(peer, event) for _, peer, event in self.events if isinstance(event, kind)]

    def entries(self) -> list[Entry]:
        """What peer 0 has taken, folded or not, as a store gives it."""
        taken = [event.entry for peer, event in self.of(EntryAdded) if peer == 0]
        return sorted(taken, key=lambda entry: (entry.origin, entry.sequence))

    def payload(self) -> list[bytes]:
        return [frame for *_, frame in self.frames if is_payload(frame)]

    def accumulators(self) -> set[str]:
        return {gossip.rounds.accumulator.digest() for gossip in self.peers}


def assert_equals_the_server(world: Observed, protocol: Protocol) -> None:
    expected = server(protocol, uneven(protocol))
    for gossip in world.peers:
        for name, numbers in expected.items():
            assert getattr(gossip.rounds.accumulator, name).tolist() == numbers.tolist()
    assert len(world.accumulators()) == 1
    assert np.any(expected["sums"])
    assert np.any(expected["counts"]) == (protocol.seeding == "weighted")


def assert_undisturbed(world: Observed, protocol: Protocol) -> None:
    assert world.of(RoundTimedOut) == []
    assert sorted(world.of(Finished), key=lambda pair: pair[0]) == [
        (peer, Finished(())) for peer in range(len(protocol.roster.rows))
    ]
    assert not any(gossip.rejections or gossip.timeouts for gossip in world.peers)


@pytest.mark.parametrize("gossip", MODES)
@pytest.mark.parametrize(
    ("seeding", "participation"),
    [("uniform", 1.0), ("weighted", 0.4), ("blocks", 0.4), ("endless", 0.4)],
    ids=["FedKSeed", "FedKSeed-Pro", "Ferret", "FedKSeed-infinite"],
)
@pytest.mark.parametrize("name", GRAPHS)
def test_every_topology_equals_a_server(
    name: str, seeding: str, participation: float, gossip: str
) -> None:
    protocol = agreement(
        PEERS,
        seeding=seeding,
        participation=participation,
        rounds=4,
        gossip=gossip,
    )
    world = Observed(GRAPHS[name], protocol)
    assert_undisturbed(world, protocol)
    assert_equals_the_server(world, protocol)


@pytest.mark.parametrize("width", [1, 2, 4])
@pytest.mark.parametrize("seeding", SEEDINGS)
def test_every_width_equals_a_server(width: int, seeding: str) -> None:
    protocol = agreement(
        PEERS,
        gradient_bytes=width,
        seeding=seeding,
        local_steps=20,
        learning_rate=3e-7,
    )
    world = Observed(GRAPHS["small-world"], protocol)
    assert_undisturbed(world, protocol)
    assert_equals_the_server(world, protocol)


@settings(max_examples=35, deadline=None)
@given(
    st.integers(2, 9),
    st.integers(0, 2**32),
    st.sampled_from([1.0, 0.5, 0.1]),
    st.integers(1, 4),
    st.integers(1, 30),
    st.sampled_from(list(SEEDINGS)),
    st.floats(1e-7, 10.0),
    st.sampled_from(list(MODES)),
    st.sampled_from([4, 2, 1]),
)
def test_any_run_equals_a_server(
    peers: int,
    seed: int,
    participation: float,
    rounds: int,
    local_steps: int,
    seeding: str,
    rate: float,
    gossip: str,
    width: int,
) -> None:
    candidates = 1 + seed % 40
    blocks = 1 + seed % 7
    graph = nx.random_labeled_tree(peers, seed=seed)
    graph.add_edges_from(nx.gnp_random_graph(peers, 0.3, seed=seed).edges)
    protocol = agreement(
        peers,
        rows=[1 + seed % (97 + peer) for peer in range(peers)],
        participation=participation,
        rounds=rounds,
        local_steps=local_steps,
        candidate_seeds=candidates,
        blocks=blocks,
        coordinates=min(local_steps, blocks * candidates),
        seeding=seeding,
        gradient_bytes=width,
        learning_rate=rate,
        gossip=gossip,
    )
    world = Observed(graph, protocol)
    assert_undisturbed(world, protocol)
    assert_equals_the_server(world, protocol)


def test_every_cut_is_the_server_s_after_that_round() -> None:
    protocol = agreement(PEERS, rounds=5, seeding="weighted")
    world = Observed(GRAPHS["line"], protocol)
    for round_ in range(1, 5):
        expected = server(dataclasses.replace(protocol, rounds=round_), Uneven(3))
        cuts = [event.cut for _, event in world.of(RoundStarted) if event.round == round_]
        assert len(cuts) == PEERS
        for cut in cuts:
            assert cut.sums.tolist() == expected["sums"].tolist()


def test_the_world_sends_what_the_machines_send() -> None:
    """The frames are those of machines joined in another way."""
    protocol = agreement(PEERS)
    mesh = Mesh(GRAPHS["torus"], protocol, trainer=Uneven(3), step_seconds=STEP_SECONDS)
    mesh.start()
    mesh.run()
    world = Observed(GRAPHS["torus"], protocol)
    assert mesh.accumulators() == world.accumulators()
    payload = Counter(frame for *_, frame in mesh.sent if is_payload(frame))
    assert Counter(world.payload()) == payload
    assert len(payload) > PEERS


@pytest.mark.parametrize("pro", [False, True])
def test_the_same_run_twice_leaves_the_same_trace(pro: bool) -> None:
    protocol = agreement(PEERS, participation=0.5, seeding=seeding(pro))
    one, other = (Observed(GRAPHS["regular"], protocol) for _ in range(2))
    assert one.frames == other.frames
    assert [(t, p, repr(e)) for t, p, e in one.events] == [
        (t, p, repr(e)) for t, p, e in other.events
    ]
    assert list(one.traffic.links()) == list(other.traffic.links())


def test_the_traffic_is_the_sum_of_the_frames() -> None:
    world = Observed(GRAPHS["ring"], agreement(PEERS))
    total = world.traffic.total()
    payload = world.payload()
    # Entries that come to a peer at once go on together.
    entries = sum(len(decode_frame(frame).entries) for frame in payload)
    assert entries == PEERS * 4 * (2 * PEERS - PEERS + 1)
    assert total.payload_messages == len(payload)
    assert total.payload_bytes == sum(map(len, payload))
    assert total.control_messages == len(world.frames) - len(payload)
    framing = sum(2 if len(frame) <= 255 else 9 for *_, frame in world.frames)
    # A link's share of the connections of both its ends: READY with a routing id and without.
    assert total.handshake_bytes == 2 * PEERS * (130 + 107)
    handled = framing + total.handshake_bytes
    assert total.wire_bytes == sum(len(frame) for *_, frame in world.frames) + handled


def test_virtual_time_is_that_of_the_steps_and_the_way() -> None:
    """A round lasts the local steps and the flood over the diameter; then come ticks and linger."""
    protocol = agreement(PEERS, rounds=3, local_steps=30)
    world = Observed(GRAPHS["line"], protocol)
    starts = {
        event.round: time for time, peer, event in world.events if type(event) is RoundStarted
    }
    steps = STEP_SECONDS * 30
    for round_ in (1, 2):
        assert starts[round_] - starts[round_ - 1] == pytest.approx(steps + LATENCY * (PEERS - 1))
    published = max(time for time, _, event in world.events if type(event) is EntryAdded)
    left = [time for time, _, event in world.events if type(event) is Finished]
    assert max(left) < published + protocol.linger + LATENCY * (PEERS + 3)


# What is known from before


def entries_below(world: Observed, round_: int) -> list[Entry]:
    return [e for e in world.entries() if not e.is_end and e.round < round_]


@pytest.mark.parametrize("pro", [False, True])
@pytest.mark.parametrize("done", [0, 1, 3, 5])
def test_a_resumed_run_ends_like_one_that_was_not_stopped(done: int, pro: bool) -> None:
    protocol = agreement(PEERS, rounds=5, participation=0.6, seeding=seeding(pro))
    whole = Observed(GRAPHS["small-world"], protocol)
    resumed = Observed(GRAPHS["small-world"], protocol, known=entries_below(whole, done))
    assert resumed.accumulators() == whole.accumulators()
    assert {gossip.log.digest() for gossip in resumed.peers} == {whole.peers[0].log.digest()}
    started = {event.round for _, event in resumed.of(RoundStarted)}
    assert started == set(range(done, 5))


def test_a_run_stopped_within_a_round_trains_what_is_missing() -> None:
    protocol = agreement(PEERS, rounds=3)
    whole = Observed(GRAPHS["torus"], protocol)
    known = entries_below(whole, 1)
    known += [e for e in whole.entries() if e.round == 1 and not e.is_end and e.origin % 3]
    resumed = Observed(GRAPHS["torus"], protocol, known=sorted(known, key=lambda e: e.sequence))
    assert resumed.accumulators() == whole.accumulators()
    trained = [(p, e.round) for p, e in resumed.of(RoundStarted) if e.indices is not None]
    assert sorted(p for p, round_ in trained if round_ == 1) == [0, 3, 6, 9]


def test_a_finished_run_that_is_resumed_only_says_good_bye() -> None:
    protocol = agreement(PEERS)
    whole = Observed(GRAPHS["star"], protocol)
    resumed = Observed(GRAPHS["star"], protocol, known=whole.entries())
    assert resumed.accumulators() == whole.accumulators()
    assert resumed.of(RoundStarted) == []
    assert resumed.traffic.total().payload_messages == 0


# Clock and links


def test_the_clock_runs_events_by_time_and_then_in_the_order_of_their_making() -> None:
    schedule, seen = Schedule(), []
    for time, name in [(2.0, "c"), (1.0, "a"), (2.0, "d"), (1.0, "b"), (0.0, "first")]:
        schedule.at(time, lambda name=name: seen.append((schedule.now, name)))
    schedule.at(1.5, lambda: schedule.at(0.2, lambda: seen.append((schedule.now, "not before"))))
    schedule.run()
    assert seen == [
        (0.0, "first"),
        (1.0, "a"),
        (1.0, "b"),
        (1.5, "not before"),
        (2.0, "c"),
        (2.0, "d"),
    ]


def test_a_link_delivers_in_order_after_its_latency() -> None:
    world = Observed(nx.path_graph(2), agreement(2))
    arrived: list[tuple[float, int, int, bytes]] = []
    schedule = Schedule()
    network = Network(
        schedule, lambda s, r, frame: arrived.append((schedule.now, s, r, frame)), world.traffic
    )
    for frame in (b"1", b"2", b"3"):
        network.send(0, 1, frame)
    schedule.run()
    assert arrived == [(LATENCY, 0, 1, frame) for frame in (b"1", b"2", b"3")]
