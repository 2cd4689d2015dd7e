"""To whom a new entry is pushed: everybody, the children in a tree, or nobody."""

from __future__ import annotations

import networkx as nx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mesh import Faults, Mesh, agreement, entries_in, history, met, over, receive, whole_run

from peer.dissemination import MODES, Tree
from peer.events import EntryAdded, Finished, RoundStarted
from peer.gossip import Gossip
from peer.links import HEARTBEAT_TICKS
from peer.protocol import Protocol
from peer.trees import EAGER_CAP
from peer.wire import Announce, Entries, Prune, Want, decode

GRAPHS = {
    "ring": nx.cycle_graph(7),
    "star": nx.star_graph(6),
    "complete": nx.complete_graph(7),
    "torus": nx.convert_node_labels_to_integers(nx.grid_2d_graph(4, 4, periodic=True)),
    "regular": nx.random_regular_graph(4, 16, seed=2),
    "small-world": nx.connected_watts_strogatz_graph(16, 4, 0.3, seed=1),
}


@pytest.mark.parametrize("participation", [1.0, 0.3])
@pytest.mark.parametrize("name", GRAPHS)
def test_a_cold_tree_sends_each_entry_to_each_peer_once(name: str, participation: float) -> None:
    """Also the first of an origin, which nobody has heard of before."""
    mesh = whole_run(GRAPHS[name], gossip="tree", participation=participation, rounds=4)
    assert set(mesh.pushes().values()) == {len(mesh.graph) - 1}
    assert not any(life.gossip.duplicates for life in mesh.lives.values())
    assert not [f for *_, f in mesh.sent if isinstance(decode(f), Prune | Want)]
    assert len(mesh.accumulators()) == 1


@pytest.mark.parametrize("name", GRAPHS)
def test_a_tree_is_as_fast_as_a_flood(name: str) -> None:
    """On links that all take the same time, to the last peer of every entry."""
    ways = {}
    for mode in ("flood", "tree"):
        mesh = whole_run(GRAPHS[name], gossip=mode)
        first: dict[tuple[bytes, int], float] = {}
        for peer, life in mesh.lives.items():
            for time, event in life.events:
                if isinstance(event, EntryAdded):
                    first[event.entry.content, peer] = time
        ways[mode] = first
    assert ways["tree"].keys() == ways["flood"].keys()
    assert all(ways["tree"][key] == pytest.approx(ways["flood"][key]) for key in ways["flood"])


@settings(max_examples=5, deadline=None)
@given(st.sampled_from(sorted(GRAPHS)), st.integers(0, 2**32), st.floats(0.01, 0.1))
def test_a_tree_repairs_what_is_lost_at_less_than_flooding_costs(
    name: str, seed: int, loss: float
) -> None:
    graph = GRAPHS[name]
    cost = {}
    for mode in ("flood", "tree"):
        protocol = agreement(
            len(graph), gossip=mode, rounds=5, round_timeout=500.0, settle_timeout=500.0
        )
        mesh = Mesh(graph, protocol, faults=Faults(loss, until=100.0, seed=seed))
        mesh.start()
        mesh.run()
        assert len(mesh.accumulators()) == 1
        assert all(life.gossip.finished == Finished(()) for life in mesh.lives.values())
        assert not any(life.gossip.timeouts for life in mesh.lives.values())
        cost[mode] = sum(mesh.pushes().values())
    least = (len(graph) - 1) * len(graph) * 6
    assert cost["tree"] < 1.5 * least
    if graph.number_of_edges() > 1.5 * len(graph):
        assert cost["tree"] < cost["flood"]


def test_trees_settle_after_a_disturbance() -> None:
    """A link that was dead for three rounds: later rounds are without duplicates again."""
    graph = GRAPHS["torus"]
    protocol = agreement(len(graph), gossip="tree", rounds=16, round_timeout=500.0)
    mesh = Mesh(graph, protocol, blocked=lambda s, r, now: {s, r} == {0, 1} and 0.3 < now < 4.0)
    mesh.start()
    mesh.run()
    assert len(mesh.accumulators()) == 1
    pushes = mesh.pushes()
    late = [pushes[e.content] for e in mesh.entries(0) if 13 <= e.round < 16]
    assert len(late) == 3 * len(graph)
    assert set(late) == {len(graph) - 1}


# One peer


def alone(peers: int = 6) -> tuple[Gossip, Protocol]:
    graph = nx.complete_graph(peers)
    protocol = over(graph, agreement(peers, gossip="tree", rounds=9))
    gossip, _ = met(0, list(range(1, peers)), protocol)
    return gossip, protocol


def receivers(gossip: Gossip, entry_: object, sender: int, now: float) -> list[int]:
    output = receive(gossip, Entries((entry_,)), sender, now)  # type: ignore[arg-type]
    return [n for n, frame in output.messages if entry_ in list(entries_in(frame))]


def test_who_asks_is_pushed_to_from_then_on_and_who_prunes_is_not() -> None:
    gossip, protocol = alone()
    assert receivers(gossip, history(protocol, 1, 0, 0), 1, 0.1) == []
    receive(gossip, Want(((1, 0, 1),), graft=True), 4, 0.2)
    assert receivers(gossip, history(protocol, 1, 1, 1), 1, 0.3) == [4]
    receive(gossip, Prune((1,)), 4, 0.4)
    assert receivers(gossip, history(protocol, 1, 2, 2), 1, 0.5) == []
    # A plain request is no graft.
    receive(gossip, Want(((1, 0, 1),), graft=False), 4, 0.6)
    assert receivers(gossip, history(protocol, 1, 3, 3), 1, 0.7) == []


def test_a_second_copy_is_answered_with_prune_and_the_first_sender_stays() -> None:
    gossip, protocol = alone()
    entry = history(protocol, 1, 0, 0)
    receive(gossip, Entries((entry,)), 1, 0.1)
    output = receive(gossip, Entries((entry,)), 3, 0.2)
    assert [(n, decode(f)) for n, f in output.messages] == [(3, Prune((1,)))]


def test_what_was_asked_for_may_come_twice_without_a_prune_but_later_pushes_may_not() -> None:
    """An answer says nothing of the tree. What is pushed afterwards does."""
    gossip, protocol = alone()
    first, second = history(protocol, 1, 0, 0), history(protocol, 1, 1, 1)
    receive(gossip, Announce({1: 1}), 3, 0.1)
    asked: list[object] = []
    while not asked:
        output = gossip.advance(gossip.timer or 0.0)
        asked = [m for _, f in output.messages if isinstance(m := decode(f), Want)]
    assert asked == [Want(((1, 0, 1),), graft=True)]
    receive(gossip, Entries((first,)), 1, 5.0)
    assert receive(gossip, Entries((first,)), 3, 5.1).messages == []
    receive(gossip, Entries((second,)), 1, 5.2)
    output = receive(gossip, Entries((second,)), 3, 5.3)
    assert [(n, decode(f)) for n, f in output.messages] == [(3, Prune((1,)))]


def test_grafts_are_bounded() -> None:
    """Or every neighbour of a hub could make it upload everything."""
    peers = 3 * EAGER_CAP
    protocol = over(nx.complete_graph(peers), agreement(peers, gossip="tree"))
    tree = Tree(0, range(1, peers), protocol)
    for neighbour in range(1, peers):
        tree.graft(1, neighbour)
    entry = history(protocol, 1, 0, 0)
    assert len(list(tree.push_to(entry, 1))) <= 2 * EAGER_CAP


@pytest.mark.parametrize("mode", sorted(MODES))
def test_where_nothing_is_new_hardly_anything_is_sent(mode: str) -> None:
    graph = GRAPHS["torus"]
    protocol = agreement(len(graph), gossip=mode, rounds=2, round_timeout=1e5)
    mesh = Mesh(graph, protocol, step_seconds=200.0)
    mesh.start()
    mesh.run(until=990.0)
    quiet = [frame for time, *_, frame in mesh.sent if time > 10.0]
    beats = 2 * graph.number_of_edges() * 980 / HEARTBEAT_TICKS
    assert 0.8 * beats <= len(quiet) <= 1.1 * beats
    mesh.run()
    assert len(mesh.accumulators()) == 1


def test_all_modes_end_alike() -> None:
    ends = [whole_run(GRAPHS["torus"], gossip=mode, seeding="weighted") for mode in MODES]
    assert len({frozenset(mesh.accumulators()) for mesh in ends}) == 1
    assert len({frozenset(mesh.logs()) for mesh in ends}) == 1
    rounds = [{e.round for e in mesh.lives[0].of(RoundStarted)} for mesh in ends]
    assert rounds == [{0, 1, 2}] * 3
