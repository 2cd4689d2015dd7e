"""The protocol of one peer: meeting, and entries that spread undisturbed."""

from __future__ import annotations

import dataclasses
from typing import Any

import networkx as nx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mesh import (
    LATENCY,
    Mesh,
    agreement,
    entries_in,
    hello,
    history,
    kinds,
    met,
    publish,
    receive,
    whole_run,
)

from peer.events import (
    ClockAhead,
    EntryAdded,
    Finished,
    LinkRefused,
    RoundStarted,
)
from peer.gossip import Gossip
from peer.meeting import CLOCK_TOLERANCE
from peer.wire import Bye, Digest, Entries, Hello, Refusal, Versions, Want, decode

PAIR = nx.path_graph(2)

GRAPHS = {
    "pair": PAIR,
    "path": nx.path_graph(6),
    "ring": nx.cycle_graph(7),
    "star": nx.star_graph(6),
    "complete": nx.complete_graph(6),
    "tree": nx.balanced_tree(2, 3),
    "torus": nx.convert_node_labels_to_integers(nx.grid_2d_graph(3, 4, periodic=True)),
    "lollipop": nx.lollipop_graph(4, 3),
    "regular": nx.random_regular_graph(3, 10, seed=2),
    "small-world": nx.connected_watts_strogatz_graph(12, 4, 0.3, seed=1),
}


# Meeting


def test_neighbours_greet_answer_and_begin() -> None:
    mesh = Mesh(PAIR, agreement(2))
    mesh.start()
    assert [mesh.gossip(peer).waiting_for for peer in (0, 1)] == [(1,), (0,)]
    assert not mesh.trained
    mesh.run(until=3 * LATENCY)
    greetings = [(s, r, decode(frame)) for _, s, r, frame in mesh.sent]
    assert [(s, r, m.answer) for s, r, m in greetings if isinstance(m, Hello)] == [
        (0, 1, False),
        (1, 0, False),
        (1, 0, True),
        (0, 1, True),
    ]
    assert len(greetings) == 4
    assert sorted(mesh.trained) == [(0, 0), (1, 0)]


def test_a_peer_waits_for_all_its_neighbours() -> None:
    gossip = Gossip(0, [1, 2], agreement(3))
    assert kinds(gossip.start(0.0)) == [(1, Hello), (2, Hello)]
    answer = hello(1, gossip.protocol)
    assert receive(gossip, answer, 1, 0.1).events == []
    assert gossip.waiting_for == (2,)
    started = receive(gossip, dataclasses.replace(answer, sender=2), 2, 0.2).events
    assert [type(event) for event in started] == [RoundStarted]


@pytest.mark.parametrize(
    ("other", "names"),
    [
        ({"eta": b"87654321", "k": b"01234567"}, ("eta",)),
        ({"eta": b"01234567"}, ("k",)),
        ({"eta": b"01234567", "k": b"01234567", "a": b"01234567"}, ("a",)),
        ({"k": b"xxxxxxxx", "z": b"01234567"}, ("eta", "k", "z")),
        ({}, ("eta", "k")),
    ],
)
def test_another_experiment_is_refused_by_the_names_of_what_differs(
    other: dict[str, bytes], names: tuple[str, ...]
) -> None:
    mine = {"eta": b"01234567", "k": b"01234567"}
    protocols = {0: agreement(2, fields=mine, rounds=2), 1: agreement(2, fields=other, rounds=2)}
    mesh = Mesh(PAIR, protocols)
    mesh.start()
    mesh.run()
    for peer in (0, 1):
        refused = mesh.lives[peer].of(LinkRefused)
        assert set(refused) == {LinkRefused(1 - peer, names)}
        assert mesh.gossip(peer).finished == Finished((1 - peer,))
    frames = [decode(frame) for _, _, _, frame in mesh.sent]
    assert {type(message) for message in frames} == {Hello, Refusal}
    told = [dict(m.fields) for m in frames if isinstance(m, Refusal)]
    assert all(fields in (mine, other) for fields in told)
    assert mine in told
    assert other in told


def test_a_refused_link_stays_shut() -> None:
    """Also one that was open before: the neighbour has come back with another experiment."""
    protocol = agreement(3)
    gossip, _ = met(0, [1, 2], protocol)
    stranger = dataclasses.replace(protocol, fields={"rounds": bytes(8)})
    output = receive(gossip, hello(1, stranger, answer=False), 1, 1.0)
    assert kinds(output) == [(1, Refusal)]
    before = gossip.log.digest()
    entry = history(protocol, 1, 0, 0)
    for message in (
        Entries((entry,)),
        Digest(bytes(8), True),
        Versions({2: 1}),
        Want(((0, 0, 1),)),
    ):
        output = receive(gossip, message, 1, 2.0)
        assert (output.messages, output.events) == ([], [])
    assert gossip.log.digest() == before
    assert 1 not in [neighbour for neighbour, _ in publish(gossip, 0, 3.0).messages]
    assert 1 not in [neighbour for neighbour, _ in gossip.advance(gossip.timer or 0.0).messages]


def test_a_link_that_the_neighbour_refuses_is_shut_too() -> None:
    protocol = agreement(3)
    gossip, _ = met(0, [1, 2], protocol)
    output = receive(gossip, Refusal(protocol.fields | {"rounds": bytes(8)}), 1, 1.0)
    assert output.events == [LinkRefused(1, ("rounds",))]
    assert kinds(output) == [(1, Refusal)]
    again = receive(gossip, Refusal(protocol.fields | {"rounds": bytes(8)}), 1, 1.0)
    assert again.messages == []
    assert receive(gossip, Entries((history(protocol, 1, 0, 0),)), 1, 1.0).messages == []
    assert gossip.log.length(1) == 0


def test_a_refused_neighbour_may_come_back_with_the_same_experiment() -> None:
    protocol = agreement(2)
    gossip = Gossip(0, [1], protocol)
    gossip.start(0.0)
    receive(gossip, Hello(1, bytes(8), bytes(8), answer=False, clock=0.0), 1, 0.1)
    output = receive(gossip, hello(1, protocol, answer=False), 1, 0.2)
    assert (1, Hello) in kinds(output)
    assert receive(gossip, Entries((history(protocol, 1, 0, 0),)), 1, 0.3).events != []
    assert gossip.log.length(1) == 1


def test_a_refusal_of_what_is_equal_was_meant_for_an_earlier_life() -> None:
    gossip, _ = met(0, [1, 2], agreement(3, fields={"rounds": bytes(8)}))
    output = receive(gossip, Refusal(gossip.protocol.fields), 1, 1.0)
    assert (output.messages, output.events) == ([], [])
    assert gossip.links[1].open


def test_a_neighbour_that_left_hears_nothing_until_it_comes_back() -> None:
    gossip, _ = met(0, [1, 2], agreement(3))
    receive(gossip, Bye(), 1, 0.5)
    assert kinds(publish(gossip, 0, 0.6)) == [(2, Entries)]
    assert kinds(gossip.advance(1.0)) == [(2, Digest)]
    back = receive(gossip, hello(1, gossip.protocol, answer=False), 1, 1.5)
    assert kinds(back) == [(1, Hello), (1, Versions)]
    receive(gossip, Versions({}), 1, 1.6)
    # Neither has what peer 0 has, as far as it knows.
    assert kinds(gossip.advance(gossip.timer or 0.0)) == [(1, Digest), (2, Digest)]


def test_a_lost_greeting_is_repeated() -> None:
    mesh = Mesh(nx.cycle_graph(3), agreement(3), blocked=lambda _s, _r, now: now < 2.5)
    mesh.start()
    mesh.run()
    assert all(life.gossip.finished == Finished(()) for life in mesh.lives.values())
    assert all(life.gossip.timeouts == 0 for life in mesh.lives.values())
    assert len(mesh.accumulators()) == 1
    assert min(t for t, event in mesh.lives[0].events if isinstance(event, RoundStarted)) < 4.5


def test_greetings_to_nobody_become_ever_rarer() -> None:
    gossip = Gossip(0, [1], agreement(2, round_timeout=1000.0))
    gossip.start(0.0)
    ticks = range(1, 100)
    greeted = [tick for tick in ticks if (1, Hello) in kinds(gossip.advance(float(tick)))]
    assert greeted == [1, 3, 7, 15, 31, 63]


def test_a_half_open_link_is_repaired() -> None:
    """The answer is lost: 0 has met 1, but 1 not 0."""
    mesh = Mesh(PAIR, agreement(2), blocked=lambda s, _r, now: s == 0 and now < 1.5)
    mesh.start()
    mesh.run()
    assert all(life.gossip.finished == Finished(()) for life in mesh.lives.values())
    assert len(mesh.accumulators()) == 1


def test_without_an_answer_a_peer_begins_after_the_round_time_out() -> None:
    gossip = Gossip(0, [1], agreement(2, round_timeout=5.0))
    gossip.start(10.0)
    started: list[Any] = []
    while not started:
        now = gossip.timer
        assert now is not None
        started = gossip.advance(now).events
    assert now == 15.0
    assert [type(event) for event in started] == [RoundStarted]
    assert gossip.timeouts == 1


def test_a_message_before_the_greeting_is_answered_with_one_a_tick() -> None:
    """The neighbour takes this peer for an acquaintance: it has been started anew."""
    protocol = agreement(3, tick=2.0)
    gossip = Gossip(0, [1, 2], protocol)
    gossip.start(0.0)
    entry = Entries((history(protocol, 1, 0, 0),))
    answers = [kinds(receive(gossip, entry, 1, now)) for now in (0.5, 1.9, 2.0, 2.1, 3.9, 4.0)]
    assert answers == [[], [], [(1, Hello)], [], [], [(1, Hello)]]
    assert gossip.log.length(1) == 0
    assert not gossip.rejections


# Flooding


@pytest.mark.parametrize("name", GRAPHS)
def test_flooding_sends_each_entry_2e_minus_n_plus_1_times(name: str) -> None:
    graph = GRAPHS[name]
    mesh = whole_run(graph)
    sends = 2 * graph.number_of_edges() - len(graph) + 1
    pushes = mesh.pushes()
    assert len(pushes) == len(graph) * (mesh.protocols[0].rounds + 1)
    assert set(pushes.values()) == {sends}
    duplicates = sum(life.gossip.duplicates for life in mesh.lives.values())
    assert duplicates == len(pushes) * (sends - (len(graph) - 1))


@pytest.mark.parametrize("name", GRAPHS)
def test_an_undisturbed_run(name: str) -> None:
    mesh = whole_run(GRAPHS[name], participation=0.5)
    assert len(mesh.accumulators()) == 1
    assert len(mesh.logs()) == 1
    assert mesh.rejected() == []
    assert not any(life.gossip.timeouts for life in mesh.lives.values())
    assert all(life.gossip.finished == Finished(()) for life in mesh.lives.values())
    wants = [frame for *_, frame in mesh.sent if isinstance(decode(frame), Want | Versions)]
    assert wants == []


def test_the_same_run_twice_sends_the_same_bytes() -> None:
    one, other = (whole_run(GRAPHS["small-world"], seeding="weighted") for _ in range(2))
    assert one.sent == other.sent


def test_a_new_entry_goes_to_all_but_its_sender() -> None:
    protocol = agreement(4)
    gossip, _ = met(0, [1, 2, 3], protocol)
    entry = history(protocol, 2, 0, 0)
    output = receive(gossip, Entries((entry,)), 2, 1.0)
    assert [n for n, frame in output.messages if entry in entries_in(frame)] == [1, 3]
    assert output.events == [EntryAdded(entry)]
    again = receive(gossip, Entries((entry,)), 1, 1.1)
    assert (again.messages, again.events) == ([], [])
    assert gossip.duplicates == 1


@pytest.mark.parametrize("answer", [False, True])
@given(ahead=st.floats(-1e9, 1e9))
def test_a_clock_that_is_ahead_is_told_and_changes_nothing(answer: bool, ahead: float) -> None:
    gossip, now = Gossip(0, [1, 2], agreement(3)), 1e9
    gossip.start(now)
    greeting = dataclasses.replace(hello(1, gossip.protocol, answer=answer), clock=now + ahead)
    output = receive(gossip, greeting, 1, now)
    # One that is behind may have waited in a queue for as long.
    told = [ClockAhead(1, greeting.clock - now)] if ahead > CLOCK_TOLERANCE else []
    assert output.events == told
    assert gossip.waiting_for == (2,)
    assert receive(gossip, greeting, 1, now).events == []
