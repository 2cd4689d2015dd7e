"""Scenarios in the simulator: who is there, what is lost, what waits, and that all agree again."""

from __future__ import annotations

from collections import Counter, defaultdict
from math import inf
from typing import Any

import networkx as nx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mesh import agreement
from test_scenario import script

from peer.entry import Entry
from peer.events import EntryAdded, Event, Finished, RoundStarted, RoundTimedOut
from peer.links import HEARTBEAT_TICKS
from peer.log import EntryLog
from peer.protocol import Protocol
from peer.scenario import Incident, check_scenario
from peer.stored import Stored
from peer.traffic import Traffic
from peer.trainer import SyntheticTrainer
from sim.link_model import LinkModel
from sim.network import Network
from sim.schedule import Schedule
from sim.world import World

PEERS = 8
LATENCY = LinkModel().law.mean
STEP_SECONDS = 0.1
TRAINING = 0.5
"""Five steps of a tenth of a second."""

TORUS = nx.convert_node_labels_to_integers(nx.grid_2d_graph(2, 4, periodic=True))
RING = nx.cycle_graph(PEERS)


class Played(World):
    """A world that keeps what happens in it, with its time."""

    def __init__(self, graph: nx.Graph, protocol: Protocol, *lines: str, **changes: Any) -> None:
        self.events: list[tuple[float, int, Event]] = []
        self.frames: list[tuple[float, str, int, int, bytes]] = []
        self.incidents: list[tuple[float, str, tuple[int, ...]]] = []
        self.lives: defaultdict[int, list[list[Entry]]] = defaultdict(list)
        scenario = changes.pop("scenario", script(*lines))
        super().__init__(
            {peer: sorted(graph[peer]) for peer in graph},
            protocol,
            SyntheticTrainer(3),
            step_seconds=STEP_SECONDS,
            observe=lambda peer, event: self.events.append((self.schedule.now, peer, event)),
            scenario=scenario,
            observe_incident=lambda incident, befallen: self.incidents.append(
                (self.schedule.now, incident.verb, befallen)
            ),
            observe_frame=lambda *what: self.frames.append((self.schedule.now, *what)),
            **changes,
        )
        self.run()

    def _begin_life(self, peer: int, stored: Stored) -> None:
        self.lives[peer].append(list(stored.entries))
        super()._begin_life(peer, stored)

    def of(self, kind: type, *peers: int) -> list[tuple[float, int, Any]]:
        return [
            (time, peer, event)
            for time, peer, event in self.events
            if isinstance(event, kind) and (not peers or peer in peers)
        ]

    def lost(self) -> list[tuple[float, int, int]]:
        """When, from whom and to whom frames were lost, but for those to a peer that had left."""
        ends = {peer: time for time, peer, _ in self.of(Finished)}
        return [
            (time, sender, receiver)
            for time, what, sender, receiver, _ in self.frames
            if what == "lost" and time < ends.get(receiver, inf)
        ]

    def happened(self, verb: str) -> float:
        """When the first incident of a verb was carried out."""
        return next(time for time, known, _ in self.incidents if known == verb)

    def began(self, round_: int) -> float:
        """When the first peer started a round."""
        return min(time for time, _, event in self.of(RoundStarted) if event.round == round_)

    def published(self, peer: int) -> dict[int, float]:
        """When a peer's histories were in its own log, by round."""
        return {
            event.entry.round: time
            for time, _, event in self.of(EntryAdded, peer)
            if event.entry.origin == peer and not event.entry.is_end
        }

    def assert_agreed(self, *without: int) -> None:
        """All but some peers are there, have the same state, and ended."""
        there = [gossip for gossip in self.peers if gossip.me not in without]
        assert self.absent == without
        assert len(there) == len(self.seats) - len(without)
        assert len({gossip.rounds.accumulator.digest() for gossip in there}) == 1
        assert len({gossip.log.digest() for gossip in there}) == 1
        assert all(gossip.finished is not None for gossip in there)

    def assert_whole(self, protocol: Protocol) -> None:
        """Nothing is missing anywhere: every peer's history of every round, and its END."""
        self.assert_agreed()
        assert [gossip.finished for gossip in self.peers] == [Finished(())] * len(self.seats)
        for gossip in self.peers:
            assert gossip.log.versions() == dict.fromkeys(
                range(len(self.seats)), protocol.rounds + 1
            )


def test_a_world_without_a_scenario_has_no_incidents() -> None:
    world = Played(RING, agreement(PEERS))
    assert world.incidents == []
    assert world.befallen == Counter()
    assert world.lost() == []
    world.assert_whole(agreement(PEERS))


# Crash and restart


@pytest.mark.parametrize("graph", [RING, TORUS], ids=["ring", "torus"])
def test_a_peer_that_restarts_goes_on_from_its_disk(graph: nx.Graph) -> None:
    protocol = agreement(PEERS, rounds=5)
    world = Played(graph, protocol, "crash 3 @2", "restart 3 +5")
    world.assert_whole(protocol)
    crashed, first, *_ = world.happened("crash"), *world.lives[3]
    assert first == []
    stored = [e.entry for time, _, e in world.of(EntryAdded, 3) if time <= crashed]
    assert world.lives[3][1] == stored
    assert {entry.round for entry in stored} == {0, 1}
    assert not [time for time, peer, _ in world.events if peer == 3 and crashed < time < 5.0]
    # The local steps that the crash has ended are taken again.
    assert world.published(3)[2] == pytest.approx(5.0 + TRAINING, abs=6 * LATENCY)
    assert world.befallen == {"crash": 1, "restart": 1}


def test_an_incident_by_round_comes_when_the_first_peer_starts_it() -> None:
    world = Played(
        RING, agreement(PEERS), "crash 3 @1", "restart 3 @2", "hold 1 @0", "release 1 +1"
    )
    assert world.happened("crash") == world.began(1)
    assert world.happened("restart") == world.began(2)
    assert world.happened("hold") == world.began(0)
    assert world.happened("release") == 1.0


def test_frames_to_a_peer_that_is_down_are_lost_and_those_on_their_way_from_it_arrive() -> None:
    world = Played(RING, agreement(PEERS), "crash 3 +0.3", "restart 3 +30")
    lost = world.lost()
    assert {receiver for *_, receiver in lost} == {3}
    assert all(0.3 <= time <= 30 for time, *_ in lost)
    # A neighbour that has nothing new to tell still shows that it lives.
    assert any(time > 30 - HEARTBEAT_TICKS - 1 for time, *_ in lost)
    sent_by_3 = [time for time, _, sender, *_ in world.frames if sender == 3]
    assert not [time for time in sent_by_3 if 0.3 + LATENCY < time < 30]


def test_without_a_restart_the_others_end_after_time_outs_and_name_who_is_missing() -> None:
    protocol = agreement(PEERS, rounds=4, round_timeout=7.0, settle_timeout=9.0)
    world = Played(TORUS, protocol, "crash 3 @2")
    world.assert_agreed(3)
    others = [gossip for gossip in world.peers if gossip.me != 3]
    assert {gossip.finished for gossip in others} == {Finished((3,))}
    # A peer that stayed silent is waited for once, and once more at the end.
    assert [event.round for *_, event in world.of(RoundTimedOut)] == [2] * (PEERS - 1)
    assert sum(seat.timeouts for seat in world.seats) == PEERS - 1
    assert world.began(3) == pytest.approx(world.began(2) + TRAINING + 7.0, abs=5 * LATENCY)
    assert world.ended_at == pytest.approx(world.began(3) + TRAINING + 9.0, abs=10 * LATENCY)
    assert not [entry for entry in others[0].log if entry.origin == 3 and entry.round >= 2]


def test_time_outs_of_an_earlier_life_count() -> None:
    protocol = agreement(4, rounds=4, round_timeout=5.0)
    world = Played(
        nx.cycle_graph(4), protocol, "crash 3 @1", "crash 0 @3", "restart 0 +30", "restart 3 +30"
    )
    world.assert_agreed()
    fired = Counter(peer for _, peer, _ in world.of(RoundTimedOut))
    assert fired[0]
    assert [seat.timeouts for seat in world.seats] == [fired[peer] for peer in range(4)]


def test_all_peers_may_crash_at_once_and_come_back() -> None:
    protocol = agreement(4)
    world = Played(nx.path_graph(4), protocol, "crash 0,1,2,3 @1", "restart 0,1,2,3 +100")
    world.assert_whole(protocol)
    assert [len(world.lives[peer]) for peer in range(4)] == [2] * 4


# Hold and release


def test_a_frozen_peer_does_nothing_and_goes_on_where_it_was() -> None:
    protocol = agreement(PEERS, rounds=4)
    world = Played(RING, protocol, "hold 3 @1", "release 3 +20")
    world.assert_whole(protocol)
    assert world.of(RoundTimedOut) == []
    frozen = world.happened("hold")
    assert not [event for time, peer, event in world.events if peer == 3 and frozen < time < 20]
    held = [frame for _, what, *frame in world.frames if what == "held"]
    brought = [frame for time, what, *frame in world.frames if what == "delivered" and time == 20]
    assert held
    assert {receiver for _, receiver, _ in held} == {3}
    assert [frame for frame in brought if frame[1] == 3][: len(held)] == held
    # It was not in the round yet; its local steps lasted as long as the others'.
    assert world.published(3)[1] == pytest.approx(20 + TRAINING, abs=LATENCY)


def test_local_steps_under_way_take_as_much_longer_as_the_peer_was_frozen() -> None:
    free = Played(RING, agreement(PEERS))
    world = Played(RING, agreement(PEERS), "hold 3 +0.3", "release 3 +10.3")
    world.assert_whole(agreement(PEERS))
    assert free.began(0) < 0.3 < free.published(3)[0]
    assert world.published(3)[0] == pytest.approx(free.published(3)[0] + 10.0)


def test_who_is_frozen_for_longer_than_the_time_out_comes_late_and_is_not_lost() -> None:
    protocol = agreement(PEERS, rounds=4, round_timeout=6.0)
    world = Played(RING, protocol, "hold 3 @1", "release 3 +30")
    world.assert_whole(protocol)
    assert world.of(RoundTimedOut)
    assert set(world.published(3)) == {0, 1, 2, 3}


def test_who_is_never_released_is_absent_and_missing() -> None:
    world = Played(RING, agreement(PEERS, round_timeout=5.0, settle_timeout=5.0), "hold 3 @1")
    world.assert_agreed(3)
    assert {g.finished for g in world.peers if g.me != 3} == {Finished((3,))}
    assert world.peers[3].finished is None


def test_a_frozen_peer_may_die_and_what_waited_for_it_is_lost() -> None:
    protocol = agreement(PEERS)
    world = Played(RING, protocol, "hold 3 @1", "crash 3 +10", "restart 3 +12")
    world.assert_whole(protocol)
    held = Counter(tuple(frame) for _, what, *frame in world.frames if what == "held")
    lost_then = Counter(
        tuple(frame) for time, what, *frame in world.frames if what == "lost" and time == 10.0
    )
    assert held
    assert held <= lost_then


# Partition and repair


@pytest.mark.parametrize("repair", [20.0, 100.0], ids=["within", "past"])
def test_a_partition_that_is_repaired_ends_in_agreement(repair: float) -> None:
    protocol = agreement(PEERS, rounds=5)
    world = Played(TORUS, protocol, "partition 0,1,2 @2", f"repair +{repair}")
    world.assert_whole(protocol)
    assert bool(world.of(RoundTimedOut)) == (repair > 60)
    begun = world.happened("partition")
    group = {0, 1, 2}
    crossing = [
        (time, what)
        for time, what, sender, receiver, _ in world.frames
        if (sender in group) != (receiver in group)
    ]
    # What is on its way when the cut comes still arrives.
    between = {what for time, what in crossing if begun + LATENCY < time < repair}
    assert between == {"lost"}
    assert all(begun <= time < repair for time, *_ in world.lost())
    assert world.befallen == {"partition": 1, "repair": 1}


def test_several_groups_can_be_cut_off_one_after_the_other() -> None:
    protocol = agreement(PEERS, round_timeout=3.0)
    world = Played(RING, protocol, "partition 0,1 @1", "partition 4,5 @1", "repair +20")
    world.assert_whole(protocol)
    missing = {event.missing for _, peer, event in world.of(RoundTimedOut, 2, 3)}
    assert (0, 1, 4, 5, 6, 7) in missing


def test_a_partition_that_lasts_leaves_two_halves_that_each_agree() -> None:
    protocol = agreement(PEERS, round_timeout=3.0, settle_timeout=3.0)
    world = Played(RING, protocol, "partition 0,1,2,3 @1")
    halves = [world.peers[:4], world.peers[4:]]
    digests = [{gossip.rounds.accumulator.digest() for gossip in half} for half in halves]
    assert [len(each) for each in digests] == [1, 1]
    assert digests[0] != digests[1]
    assert {gossip.finished for gossip in halves[0]} == {Finished((4, 5, 6, 7))}


def test_a_cut_loses_what_crosses_it_until_it_is_mended() -> None:
    schedule, brought, lost = Schedule(), [], []
    network = Network(
        schedule,
        lambda *frame: brought.append(frame),
        Traffic(),
        lose=lambda *frame: lost.append(frame),
    )
    network.cut(frozenset({0, 1}))
    network.cut(frozenset({1, 2}))
    pairs = [(0, 1), (1, 0), (0, 2), (2, 3), (3, 4), (1, 3)]
    for pair in pairs:
        network.send(*pair, b"a")
    network.mend()
    for pair in pairs:
        network.send(*pair, b"b")
    schedule.run()
    # The first cut parts 0 and 1 from the others, the second 1 and 2.
    assert lost == [(*pair, b"a") for pair in pairs if pair != (3, 4)]
    assert brought == [(3, 4, b"a"), *((*pair, b"b") for pair in pairs)]
    assert network.traffic.total().control_messages == 2 * len(pairs)


# Joins, leaves and what comes too late


def test_who_joins_is_not_there_before() -> None:
    protocol = agreement(PEERS, rounds=5, round_timeout=4.0)
    world = Played(TORUS, protocol, "join 3 @2")
    world.assert_agreed()
    joined = world.happened("join")
    assert joined == world.began(2)
    assert world.lives[3] == [[]]
    assert min(time for time, peer, _ in world.events if peer == 3) >= joined
    assert {
        what for time, what, _, receiver, _ in world.frames if receiver == 3 and time < joined
    } == {"lost"}
    assert world.befallen == {"join": 1}


def test_who_never_joins_is_absent() -> None:
    protocol = agreement(4, rounds=2, round_timeout=2.0, settle_timeout=2.0)
    scenario = (Incident("join", (3,), 9, None),)
    world = Played(nx.complete_graph(4), protocol, scenario=scenario)
    world.assert_agreed(3)
    assert len(world.peers) == 3


def test_what_comes_after_a_peer_s_end_does_not_befall_it() -> None:
    protocol = agreement(4)
    world = Played(nx.cycle_graph(4), protocol, "crash 1 +500", "hold 2 +500", "leave 3 @2")
    assert [(verb, peers) for time, verb, peers in world.incidents if time == 500] == [
        ("crash", ()),
        ("hold", ()),
    ]
    assert world.befallen["crash"] == world.befallen["hold"] == 0
    assert world.ended_at < 100
    assert 1 not in world.absent


def test_who_leaves_or_is_evicted_is_absent_at_the_end() -> None:
    protocol = agreement(PEERS, round_timeout=3.0, settle_timeout=3.0)
    world = Played(TORUS, protocol, "leave 1 @2", "crash 2 @1", "evict 2 @2")
    assert world.absent == (1, 2)
    assert world.befallen == {"crash": 1, "leave": 1, "evict": 1}


# All at once


def test_several_incidents_at_once_by_time_and_by_round() -> None:
    protocol = agreement(PEERS, rounds=6, round_timeout=5.0)
    world = Played(
        TORUS,
        protocol,
        "crash 0,5 @1",
        "hold 2 @1",
        "partition 3,4 +1.0",
        "restart 0 +2.5",
        "release 2 +3",
        "repair @3",
        "restart 5 @3",
        "crash 2 @4",
        "restart 2 @4",
    )
    world.assert_whole(protocol)
    assert world.befallen == {
        "crash": 3,
        "hold": 1,
        "partition": 1,
        "restart": 3,
        "release": 1,
        "repair": 1,
    }


def trace(world: Played) -> list[Any]:
    return [world.frames, world.incidents, [(t, p, repr(e)) for t, p, e in world.events]]


@pytest.mark.parametrize(
    "lines",
    [
        ["crash 3 @1", "restart 3 +9"],
        ["hold 0,4 @1", "partition 1,2 +2", "repair +20", "release 0,4 +70"],
    ],
)
def test_the_same_scenario_twice_leaves_the_same_trace(lines: list[str]) -> None:
    protocol = agreement(PEERS, participation=0.5)
    one, other = (Played(TORUS, protocol, *lines, slowness=[1, 2] * 4) for _ in range(2))
    assert trace(one) == trace(other)


@st.composite
def passing_troubles(draw: st.DrawFn) -> tuple[Incident, ...]:
    """Incidents of the first 20 s, of which each is undone after at most 100 s."""
    found = []
    for peer in draw(st.sets(st.integers(0, PEERS - 1), max_size=3)):
        begin = draw(st.floats(0, 20))
        end = begin + draw(st.floats(0, 100))
        verbs = draw(st.sampled_from([("crash", "restart"), ("hold", "release")]))
        for verb, time in zip(verbs, (begin, end), strict=True):
            found.append(Incident(verb, (peer,), None, time))
    groups = draw(st.lists(st.sets(st.integers(0, 7), min_size=1, max_size=7), max_size=2))
    found += [Incident("partition", tuple(sorted(g)), None, draw(st.floats(0, 20))) for g in groups]
    if any(incident.verb == "partition" for incident in found):
        found.append(Incident("repair", (), None, 20 + draw(st.floats(0, 100))))
    return tuple(found)


@settings(max_examples=25, deadline=None)
@given(passing_troubles(), st.sampled_from([RING, TORUS]), st.integers(2, 10))
def test_whatever_passes_leaves_no_trace_in_the_model(
    scenario: tuple[Incident, ...], graph: nx.Graph, rounds: int
) -> None:
    """All end alike, and nothing is lost that was published."""
    protocol = agreement(PEERS, rounds=rounds, settle_timeout=200.0)
    check_scenario(scenario, PEERS, rounds)
    world = Played(graph, protocol, scenario=scenario)
    world.assert_agreed()
    published = {
        event.entry for _, peer, event in world.of(EntryAdded) if event.entry.origin == peer
    }
    in_order = sorted(published, key=lambda entry: (entry.origin, entry.sequence))
    assert world.peers[0].log.digest() == EntryLog(in_order).digest()
    counted = Counter(what for _, what, *_ in world.frames)
    total = world.traffic.total()
    # A held frame is delivered or lost in the end, so each frame meets one of these two fates.
    assert counted["delivered"] + counted["lost"] == total.payload_messages + total.control_messages


# Speeds


def test_who_is_slower_takes_longer_for_its_local_steps() -> None:
    world = Played(RING, agreement(PEERS), slowness=[1, 1, 4.0, *[1] * 5])
    world.assert_whole(agreement(PEERS))
    began = {peer: time for time, peer, e in world.of(RoundStarted) if e.round == 0}
    for peer in range(PEERS):
        taken = world.published(peer)[0] - began[peer]
        assert taken == pytest.approx(TRAINING * (4.0 if peer == 2 else 1.0))
    assert world.of(RoundTimedOut) == []
