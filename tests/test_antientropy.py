"""Anti-entropy: nothing is pushed; what neighbours announce is asked for, each entry once."""

from __future__ import annotations

import networkx as nx
import pytest
from mesh import agreement, entries_in, history, met, publish, receive, whole_run

from peer.events import Finished
from peer.wire import Announce, Digest, Entries, Want, decode

GRAPHS = {
    "path": nx.path_graph(6),
    "ring": nx.cycle_graph(7),
    "star": nx.star_graph(6),
    "complete": nx.complete_graph(6),
    "torus": nx.convert_node_labels_to_integers(nx.grid_2d_graph(3, 4, periodic=True)),
}


@pytest.mark.parametrize("participation", [1.0, 0.5])
@pytest.mark.parametrize("name", GRAPHS)
def test_everything_arrives_everywhere_and_once(name: str, participation: float) -> None:
    graph = GRAPHS[name]
    mesh = whole_run(graph, gossip="antientropy", participation=participation)
    assert len(mesh.logs()) == 1
    assert len(mesh.accumulators()) == 1
    assert all(life.gossip.finished == Finished(()) for life in mesh.lives.values())
    assert not any(life.gossip.timeouts for life in mesh.lives.values())
    assert set(mesh.pushes().values()) == {len(graph) - 1}
    assert not any(life.gossip.duplicates for life in mesh.lives.values())


def test_an_entry_goes_out_in_answer_to_a_request_only() -> None:
    mesh = whole_run(GRAPHS["torus"], gossip="antientropy")
    wanted: set[tuple[int, int, int, int]] = set()
    for _, sender, receiver, frame in mesh.sent:
        message = decode(frame)
        if isinstance(message, Want):
            for origin, start, stop in message.ranges:
                wanted |= {(sender, receiver, origin, number) for number in range(start, stop)}
        for entry in entries_in(frame):
            assert (receiver, sender, entry.origin, entry.sequence) in wanted


def test_an_announced_entry_is_asked_for_at_once() -> None:
    protocol = agreement(3, gossip="antientropy")
    gossip, _ = met(0, [1, 2], protocol)
    assert publish(gossip, 0, 0.1).messages == []
    output = receive(gossip, Announce({1: 1}), 1, 0.2)
    assert [(n, decode(f)) for n, f in output.messages] == [(1, Want(((1, 0, 1),), graft=True))]
    # The other announces it too, and is not asked as well.
    assert receive(gossip, Announce({1: 1}), 2, 0.3).messages == []
    entry = history(protocol, 1, 0, 0)
    assert receive(gossip, Entries((entry,)), 1, 0.4).messages == []
    assert receive(gossip, Announce({1: 1}), 2, 0.5).messages == []


def test_the_second_source_is_asked_when_the_first_is_silent() -> None:
    protocol = agreement(3, gossip="antientropy")
    gossip, _ = met(0, [1, 2], protocol)
    receive(gossip, Announce({1: 1}), 1, 0.0)
    receive(gossip, Announce({1: 1}), 2, 0.1)
    asked = []
    while gossip.timer is not None and gossip.timer < 10.0:
        output = gossip.advance(gossip.timer)
        asked += [n for n, f in output.messages if isinstance(decode(f), Want)]
    assert asked[0] == 2
    assert len(asked) <= 3, "a liar is not asked for ever"


def test_news_are_announced_when_a_digest_differs_and_not_before() -> None:
    protocol = agreement(3, gossip="antientropy")
    gossip, _ = met(0, [1, 2], protocol)
    publish(gossip, 0, 0.1)
    tick = gossip.advance(gossip.timer or 0.0)
    assert {type(decode(frame)) for _, frame in tick.messages} == {Digest}
    output = receive(gossip, Digest(bytes(8), False), 1, 1.2)
    assert [(n, decode(f)) for n, f in output.messages] == [(1, Announce({0: 1}))]
