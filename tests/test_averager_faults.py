"""Averaging when something goes wrong: whatever comes, whoever goes, the others come to an end."""

from __future__ import annotations

import dataclasses
import random
from collections import defaultdict
from collections.abc import Iterator

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from test_averager import PEERS, ROWS, averaging, beginning, initial, moved, run

from peer import inbound, outbound, quota, wire
from peer import weights as vectors
from peer.averager import Averager
from peer.events import Banned, Output, Rejected, RoundStarted
from peer.inbound import AHEAD
from peer.protocol import Protocol
from peer.scenario import Incident
from peer.trainer import LocalWeights
from peer.weights import Weights
from sim.world import World

FAR = 2**32 - 1


@pytest.fixture
def small_parts() -> Iterator[None]:
    """Weights of 50 numbers travel in 25 parts, 4 of them at a time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vectors, "PART_BYTES", 8)
        patch.setattr(inbound, "WINDOW", 4)
        for name, value in (("WINDOW", 4), ("PARTS_ASKED", 4), ("PARTS_ANSWERED", 16)):
            patch.setattr(outbound, name, value)
        patch.setattr("peer.averager.PARTS_ASKED", 4)
        yield


class Network:
    """Averagers on links that anything may happen to, and hostile ones that send anything."""

    def __init__(self, seed: int, graph: nx.Graph, protocol: Protocol, hostile: set[int]) -> None:
        self.random = random.Random(seed)
        self.graph, self.protocol, self.hostile = graph, protocol, hostile
        self.now = 0.0
        self.queues: defaultdict[tuple[int, int], list[bytes]] = defaultdict(list)
        self.pending: dict[int, list[RoundStarted]] = defaultdict(list)
        self.dead: set[int] = set()
        self.banned: set[tuple[int, int]] = set()
        self.lives = {
            peer: Averager(peer, sorted(graph[peer]), protocol)
            for peer in graph
            if peer not in hostile
        }
        for peer, averager in self.lives.items():
            self.follow(peer, averager.start(0.0))

    @property
    def alive(self) -> list[int]:
        return [p for p, a in self.lives.items() if p not in self.dead and a.finished is None]

    def follow(self, peer: int, output: Output) -> None:
        averager = self.lives[peer]
        assert len(output.messages) <= 100
        for neighbour, frame in output.messages:
            assert neighbour in self.graph[peer]
            self.queues[peer, neighbour].append(frame)
        for event in output.events:
            match event:
                case RoundStarted(indices=indices) if indices is not None:
                    self.pending[peer].append(event)
                case Rejected(neighbour, reason):
                    assert neighbour in self.hostile, f"{peer} rejects {neighbour}: {reason}"
                case Banned(neighbour, reason):
                    assert neighbour in self.hostile, f"{peer} bans {neighbour}: {reason}"
                    self.banned.add((neighbour, peer))
        coming = averager._inbound
        held = {*coming.whole, *coming._parts}
        assert len(held) <= AHEAD * len(self.graph[peer])
        assert set(coming._reach) <= held
        assert np.all(np.isfinite(averager.state.values(0, 100)))

    def deliver(self, link: tuple[int, int], place: int = 0) -> None:
        sender, receiver = link
        queue = self.queues[link]
        frame = queue.pop(place % len(queue))
        if receiver in self.alive and link not in self.banned:
            self.follow(receiver, self.lives[receiver].receive(frame, sender, self.now))

    def train(self, peer: int) -> None:
        if self.pending[peer] and peer in self.alive:
            start = self.pending[peer].pop(0)
            made = LocalWeights(moved(peer, start.round, start.cut), 0.0)
            self.follow(peer, self.lives[peer].trained(start, made, self.now))

    def wait(self) -> None:
        timers = [t for p in self.alive if (t := self.lives[p].timer) is not None]
        self.now = max([self.now, *sorted(timers)[:1]])
        for peer in self.alive:
            averager = self.lives[peer]
            if averager.timer is not None and averager.timer <= self.now:
                output = averager.advance(self.now)
                assert averager.timer is None or averager.timer > self.now, "a busy loop"
                self.follow(peer, output)

    def lie(self) -> None:
        """A hostile peer sends something to a neighbour."""
        source = self.random
        if not self.hostile:
            return
        peer = source.choice(sorted(self.hostile))
        number = source.choice([*range(self.protocol.rounds * 2), FAR])
        part = source.choice([*range(26), FAR])
        data = source.choice([bytes(8), source.randbytes(8), bytes(7), b"", bytes(2000)])
        agreement = source.choice([self.protocol.digest, bytes(8)])
        message: wire.Message = source.choice(
            [
                wire.Part(number, part, data),
                wire.Part(number, part, data),
                wire.Missing(number, (part,)),
                wire.Missing(number, tuple(range(source.randrange(2000)))),
                wire.Digest(source.randbytes(8), source.random() < 0.5),
                wire.Hello(source.choice([peer, 0, FAR]), agreement, bytes(8), True, 0.0),
                wire.Hello(peer, self.protocol.digest, source.randbytes(8), False, 0.0),
                wire.Versions({0: FAR}),
                wire.Behind(number),
                *([wire.Bye(), wire.Refusal({})] if source.random() < 0.1 else []),
            ]
        )
        frame = wire.encode(message)
        if source.random() < 0.1:
            frame = source.randbytes(source.randrange(60))
        target = source.choice(sorted(self.graph[peer]))
        self.queues[peer, target] += [frame] * source.choice([1, 1, 1, 20])

    def move(self, mishaps: bool) -> None:
        source, chance = self.random, self.random.random()
        busy = sorted(link for link, queue in self.queues.items() if queue)
        if busy and chance < 0.8:
            link = source.choice(busy)
            place = 0 if source.random() < 0.8 else source.randrange(100)
            if chance < 0.7:
                self.deliver(link, place)
            elif chance < 0.75:
                self.queues[link].append(self.queues[link][place % len(self.queues[link])])
            else:
                self.queues[link].pop(place % len(self.queues[link]))
        elif chance < 0.88:
            self.train(source.choice(sorted(self.lives)))
        elif chance < 0.94:
            self.lie()
        elif chance < 0.98 or not mishaps:
            self.wait()
        else:
            self.mishap()

    def mishap(self) -> None:
        source = self.random
        a, b = source.choice(sorted(self.graph.edges))
        if source.random() < 0.2:
            self.dead.add(source.choice(sorted(self.lives)))
            return
        comes = source.random() < 0.6
        for me, other in ((a, b), (b, a)):
            if me in self.alive:
                averager = self.lives[me]
                turn = averager.link_up if comes else averager.link_down
                self.follow(me, turn(other, self.now))
                if not comes:
                    self.queues[other, me].clear()

    def calm(self) -> None:
        """Let all that are left come to their ends."""
        for a, b in sorted(self.graph.edges):
            for me, other in ((a, b), (b, a)):
                if me in self.alive:
                    self.follow(me, self.lives[me].link_up(other, self.now))
        since = self.now
        for _ in range(20_000):
            if not self.alive:
                break
            busy = [link for link, queue in self.queues.items() if queue]
            for link in busy:
                self.deliver(link)
            training = [peer for peer in self.alive if self.pending[peer]]
            for peer in training:
                self.train(peer)
            if busy or training:
                self.now += 0.01
            else:
                self.wait()
        assert not self.alive, "a quiet network does not come to an end"
        # Whoever stays away costs one time-out, an idle peer's or another; then there is the end.
        rounds = self.protocol.rounds * len(self.graph)
        assert self.now - since < 100 * self.protocol.round_timeout * rounds


@pytest.mark.usefixtures("small_parts")
@settings(max_examples=6, deadline=None)
@given(
    st.integers(0, 2**32),
    st.sampled_from(["gossip", "server"]),
    st.sampled_from([1.0, 0.5]),
    st.sets(st.integers(0, PEERS - 1), max_size=2),
    st.integers(0, 200),
)
def test_whatever_happens_honest_peers_come_to_an_end(
    seed: int, mixing: str, participation: float, hostile: set[int], moves: int
) -> None:
    graph = nx.star_graph(PEERS - 1)
    if mixing == "gossip":
        graph = nx.random_labeled_tree(PEERS, seed=seed)
        graph.add_edges_from(nx.gnp_random_graph(PEERS, 0.2, seed=seed).edges)
    protocol = averaging(graph, mixing, participation=participation, round_timeout=6.0)
    network = Network(seed, graph, protocol, hostile)
    for _ in range(moves):
        network.move(mishaps=seed % 2 == 0)
    network.calm()


class Settling:
    """Local steps that move only in the first round."""

    def train(
        self, peer: int, round_: int, cut: Weights, indices: NDArray[np.int64]
    ) -> LocalWeights:
        del indices
        return LocalWeights(cut if round_ else moved(peer, 0, cut), 0.0)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 6), st.sampled_from(["float32", "float16"]))
def test_exchanges_keep_the_weighted_sum(seed: int, rounds: int, dtype: str) -> None:
    graph = nx.random_labeled_tree(PEERS, seed=seed)
    graph.add_edges_from(nx.gnp_random_graph(PEERS, 0.3, seed=seed).edges)
    neighbours = {peer: tuple(sorted(graph[peer])) for peer in graph}
    protocol = averaging(graph, dtype=dtype, rounds=rounds)
    world = World(neighbours, protocol, Settling(), step_seconds=0.1)
    world.run()
    rows = np.array(ROWS)
    start = [moved(peer, 0, initial(50, dtype)).values(0, 50) for peer in range(PEERS)]
    end = [one.state.values(0, 50) for one in world.peers]  # type: ignore[union-attr]
    # Each of the roundings is half a unit in the last place of numbers below 2.
    unit = 2.0**-23 if dtype == "float32" else 2.0**-10
    np.testing.assert_allclose(
        rows @ np.array(end), rows @ np.array(start), rtol=0, atol=rounds * unit * sum(ROWS)
    )
    spread = [np.ptp(np.array(states), axis=0).max() for states in (start, end)]
    assert spread[1] < spread[0]


# Who stays away


STAR = nx.star_graph(PEERS - 1)
HASTY = {"round_timeout": 5.0, "settle_timeout": 20.0, "tick": 0.5}


def test_the_share_of_a_leaf_that_crashed_falls_to_the_server() -> None:
    protocol = averaging(STAR, "server", rounds=4, **HASTY)
    world = run(STAR, protocol, scenario=[Incident("crash", (3,), 1, None)])
    state = protocol.averaging.initial  # type: ignore[union-attr]
    for round_ in range(4):
        made = [moved(peer, round_, state).values(0, 50) for peer in range(PEERS)]
        total = np.zeros(50)
        # It crashes as the first peer begins round 1, so its weights of round 0 have come.
        for peer in range(PEERS):
            share = ROWS[peer] + (ROWS[3] if round_ and peer == 0 else 0)
            if peer != 3 or not round_:
                total += (share / sum(ROWS)) * made[peer]
        state = Weights.of("float32", total)
    for peer in world.peers:
        if peer.me != 3:
            np.testing.assert_allclose(peer.state.values(0, 50), state.values(0, 50), atol=1e-6)  # type: ignore[union-attr]
            assert peer.timeouts == (peer.me == 0)


@pytest.mark.parametrize("participation", [1.0, 0.4])
def test_without_their_server_leaves_wait_once(participation: float) -> None:
    protocol = averaging(STAR, "server", rounds=6, participation=participation, **HASTY)
    world = run(STAR, protocol, scenario=[Incident("crash", (0,), 1, None)])
    assert all(peer.timeouts <= 1 for peer in world.peers)
    # An idle leaf waits ten time-outs at most, and then for the silence of the end.
    assert world.ended_at < 10 * 5.0 + 50 * 0.5 + 20.0 + 10.0


def test_two_peers_and_one_of_them_goes() -> None:
    graph = nx.path_graph(2)
    protocol = averaging(STAR, rounds=5, **HASTY)
    two = dataclasses.replace(protocol, roster=dataclasses.replace(protocol.roster, rows=(3, 1)))
    two = dataclasses.replace(two, averaging=averaging_of(two, graph))
    world = run(graph, two, scenario=[Incident("crash", (1,), 2, None)])
    assert world.peers[0].timeouts == 1
    assert run(graph, two).peers[0].timeouts == 0


def averaging_of(protocol: Protocol, graph: nx.Graph):  # type: ignore[no-untyped-def]
    from peer.mixing import MIXINGS, Averaging

    near = {peer: tuple(graph[peer]) for peer in graph}
    return Averaging(initial(50), MIXINGS["gossip"](near, protocol.roster, protocol.rounds))


@pytest.mark.parametrize("mixing", ["gossip", "server"])
@pytest.mark.parametrize(
    "scenario",
    [
        [Incident("hold", (2,), 1, None), Incident("release", (2,), None, 3.0)],
        [Incident("partition", (1, 2), 1, None), Incident("repair", (), None, 3.0)],
    ],
    ids=["hold", "partition"],
)
def test_a_pause_shorter_than_patience_changes_nothing(
    scenario: list[Incident], mixing: str
) -> None:
    protocol = averaging(STAR, mixing, rounds=4, participation=0.5)
    calm, rough = run(STAR, protocol), run(STAR, protocol, scenario=scenario)
    digests = [[peer.state.digest() for peer in world.peers] for world in (calm, rough)]
    assert digests[0] == digests[1]
    assert not any(peer.timeouts or peer.accused for peer in rough.peers)


@pytest.mark.parametrize("seconds", [20.0, 200.0])
@pytest.mark.parametrize("mixing", ["gossip", "server"])
def test_who_is_too_slow_is_no_liar(
    mixing: str, seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its weights come when nobody waits for them any more, a whole model in each exchange."""
    monkeypatch.setattr(quota, "MOST_BYTES", 64)
    monkeypatch.setattr(quota, "BYTES_PER_TICK", 0)
    protocol = averaging(STAR, mixing, rounds=8, **HASTY)
    slowness = [1.0] * PEERS
    slowness[1] = seconds
    world = run(STAR, protocol, slowness=slowness)
    assert not any(peer.accused or peer.rejections for peer in world.peers)


def test_a_neighbour_of_another_experiment_is_not_waited_for() -> None:
    graph = nx.path_graph(PEERS)
    averager = Averager(1, [0, 2], averaging(graph))
    averager.start(0.0)
    stranger = wire.Hello(0, b"elsewise", bytes(8), False, 0.0)
    output = averager.receive(wire.encode(stranger), 0, 0.1)
    assert [type(wire.decode(frame)) for _, frame in output.messages] == [wire.Refusal]
    same = wire.Hello(2, averager.protocol.digest, bytes(8), True, 0.0)
    output = averager.receive(wire.encode(same), 2, 0.2)
    assert [type(event) for event in output.events] == [RoundStarted]
    made = LocalWeights(initial(50), 0.0)
    output = averager.trained(output.events[0], made, 0.3)  # type: ignore[arg-type]
    assert [neighbour for neighbour, _ in output.messages] == [2]
    assert averager.waiting_for == (0, 2)
    averager.receive(wire.encode(wire.Part(0, 0, initial(50).part(0))), 2, 0.4)
    assert averager.waiting_for == ()
    assert averager.timeouts == 0


# Large weights


def large() -> tuple[Averager, Weights, int]:
    count = 400
    protocol = averaging(STAR, count=count, rounds=2)
    averager = beginning(protocol, STAR)
    return averager, Weights("float32", np.zeros(count, dtype=np.float32)), 200


@pytest.mark.usefixtures("small_parts")
def test_large_weights_are_sent_by_the_window() -> None:
    averager, weights, count = large()
    output = averager.trained(None, LocalWeights(weights, 0.0), 0.2)  # type: ignore[arg-type]
    assert len(output.messages) == inbound.WINDOW * (PEERS - 1)
    # Neighbours share the frames.
    assert len({id(frame) for _, frame in output.messages}) == inbound.WINDOW
    receiver = beginning(averager.protocol, STAR, 1)
    frames = [frame for neighbour, frame in output.messages if neighbour == 1]
    most, asked, now = 0, 0, 0.3
    while frames:
        now += averager.protocol.tick / 4
        most = max(most, len(frames))
        for _, answer in receiver.receive(frames.pop(0), 0, now).messages:
            asked += 1
            frames += [frame for _, frame in averager.receive(answer, 1, now).messages]
    assert receiver.received == 1
    assert most <= inbound.WINDOW
    assert asked == -(-(count - inbound.WINDOW) // (inbound.WINDOW // 2))


@pytest.mark.usefixtures("small_parts")
def test_a_short_question_has_no_endless_answer() -> None:
    averager, weights, count = large()
    averager.trained(None, LocalWeights(weights, 0.0), 0.2)  # type: ignore[arg-type]
    whole = wire.encode(wire.Missing(0, tuple(range(count))))
    output = averager.receive(whole, 1, 0.3)
    assert [type(event) for event in output.events] == [Rejected]
    assert output.messages == []
    question = wire.encode(wire.Missing(0, tuple(range(outbound.PARTS_ASKED))))
    # Within a tick the first parts are still on their way.
    assert averager.receive(question, 1, 0.4).messages == []
    sent = [len(averager.receive(question, 1, 1.3).messages) for _ in range(20)]
    assert sum(sent) == outbound.PARTS_ANSWERED
    # The next tick brings the next.
    assert averager.receive(question, 1, 2.5).messages
