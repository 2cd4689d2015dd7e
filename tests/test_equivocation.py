"""Two signed contents under one number: proved, spread, and dropped by all alike (C3)."""

from __future__ import annotations

from collections import Counter
from typing import Any

import networkx as nx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mesh import (
    Faults,
    Mesh,
    agreement,
    bad_links,
    hello,
    history,
    met,
    publish,
    receive,
    refused,
    seeding,
    state,
)

from peer.dissemination import MODES
from peer.entry import Entry, make_end
from peer.events import Banned, Convicted, EntryAdded, Finished, Rejected, RoundTimedOut
from peer.gossip import Gossip
from peer.protocol import Protocol
from peer.wire import Entries, Proof, decode, encode

RING = nx.cycle_graph(6)
GRAPHS = {
    "ring": RING,
    "complete": nx.complete_graph(6),
    "wheel": nx.wheel_graph(6),
    "torus": nx.convert_node_labels_to_integers(nx.grid_2d_graph(3, 3, periodic=True)),
}


def contents(protocol: Protocol, liar: int, sequence: int = 0) -> tuple[Entry, Entry]:
    return (
        history(protocol, liar, sequence, sequence, fill=0.5),
        history(protocol, liar, sequence, sequence, fill=-0.75),
    )


def two_faced(graph: nx.Graph, liar: int, honest_entries: int = 0, **changes: Any) -> Mesh:
    """A run in which a peer tells its neighbours, by turns, one of two stories.

    It takes part by hand: greets, publishes some entries in order, then the two, and is not heard
    again.
    """
    faults = changes.pop("faults", None)
    changes = {"signed": True, "rounds": 4, "round_timeout": 500.0} | changes
    protocol = agreement(len(graph), **changes)
    mesh = Mesh(graph, protocol, absent=[liar], faults=faults)
    mesh.start()
    neighbours = sorted(graph[liar])

    def tell(place: int, neighbour: int) -> None:
        greeting = hello(liar, protocol, mesh.gossip(neighbour).log, answer=False)
        mesh.deliver(liar, neighbour, encode(greeting))
        good = [history(protocol, liar, number, number) for number in range(honest_entries)]
        bad = contents(protocol, liar, honest_entries)[place % 2]
        mesh.deliver(liar, neighbour, encode(Entries((*good, bad))))

    for place, neighbour in enumerate(neighbours):
        mesh.at(0.2, lambda p=place, n=neighbour: tell(p, n))
    mesh.run()
    return mesh


def assert_convicted(mesh: Mesh, liar: int, kept: int) -> None:
    """All honest peers agree, hold none of the lies, and have shut the liar out."""
    assert len(mesh.logs()) == 1
    assert len(mesh.accumulators()) == 1
    protocol = mesh.protocols[0]
    for peer, life in mesh.lives.items():
        gossip = life.gossip
        assert gossip.finished == Finished(())
        assert gossip.log.length(liar) == kept
        assert gossip.log.convictions == {liar: kept}
        assert [type(event) for event in life.of(Convicted)] == [Convicted]
        expected = protocol.empty_accumulator()
        dropped = {e for e in mesh.disks[peer] if e.origin == liar and e.sequence >= kept}
        for entry in mesh.entries(peer):
            if not entry.is_end and entry not in dropped:
                protocol.add(expected, entry)
        assert gossip.rounds.accumulator.digest() == expected.digest()
        banned = {event.neighbour for event in life.of(Banned)}
        assert banned == ({liar} if peer in mesh.graph[liar] else set())


@pytest.mark.parametrize("gossip", sorted(MODES))
@pytest.mark.parametrize("name", GRAPHS)
def test_the_honest_agree_on_an_equivocator(name: str, gossip: str) -> None:
    mesh = two_faced(GRAPHS[name], 0, gossip=gossip)
    assert_convicted(mesh, 0, 0)
    assert not any(life.of(RoundTimedOut) for life in mesh.lives.values())


@pytest.mark.parametrize("pro", [False, True])
@pytest.mark.parametrize("honest", [1, 2])
def test_what_was_published_before_the_lie_stays(honest: int, pro: bool) -> None:
    mesh = two_faced(RING, 2, honest, seeding=seeding(pro))
    assert_convicted(mesh, 2, honest)
    assert not any(life.of(RoundTimedOut) for life in mesh.lives.values())


@settings(max_examples=30, deadline=None)
@given(
    st.sampled_from(sorted(GRAPHS)),
    st.integers(0, 5),
    st.integers(0, 2),
    st.sampled_from(sorted(MODES)),
    bad_links(until=15.0),
)
def test_the_honest_agree_on_bad_links_too(
    name: str, liar: int, honest: int, gossip: str, faults: Faults
) -> None:
    mesh = two_faced(GRAPHS[name], liar, honest, gossip=gossip, faults=faults)
    assert_convicted(mesh, liar, honest)


def test_a_proof_survives_a_restart() -> None:
    """Both contents are on the disk, and what they prove is known in the next life."""
    protocol = agreement(6, signed=True, rounds=4, round_timeout=500.0)
    mesh = Mesh(RING, protocol, absent=[0])
    mesh.start()
    first, second = contents(protocol, 0)
    for peer, entry in ((1, first), (5, second)):
        mesh.at(0.2, lambda p=peer: mesh.deliver(0, p, encode(hello(0, protocol))))
        mesh.at(0.21, lambda p=peer, e=entry: mesh.deliver(0, p, encode(Entries((e,)))))
    mesh.run(until=1.2)
    assert mesh.gossip(3).log.convictions == {0: 0}
    mesh.crash(3)
    mesh.run(until=1.5)
    mesh.start(3)
    assert mesh.gossip(3).log.convictions == {0: 0}
    assert mesh.gossip(3).log.length(0) == 0
    mesh.run()
    assert len(mesh.logs()) == 1
    assert len(mesh.accumulators()) == 1
    assert all(life.gossip.finished == Finished(()) for life in mesh.lives.values())
    assert mesh.lives[3].of(Convicted) == []


def test_a_peer_that_was_away_learns_of_the_proof_from_its_neighbours() -> None:
    protocol = agreement(6, signed=True, rounds=5, round_timeout=500.0)
    mesh = Mesh(RING, protocol, absent=[0])
    mesh.start()
    first, second = contents(protocol, 0)
    for peer in (1, 5):
        mesh.at(0.1, lambda p=peer: mesh.deliver(0, p, encode(hello(0, protocol))))
        mesh.at(0.2, lambda p=peer: mesh.deliver(0, p, encode(Entries((first,)))))
    mesh.run(until=0.4)
    assert mesh.gossip(3).log.length(0) == 1
    mesh.crash(3)
    mesh.deliver(0, 1, encode(Entries((second,))))
    mesh.run(until=3.0)
    mesh.start(3)
    assert mesh.gossip(3).log.convictions == {}
    mesh.run()
    assert len(mesh.logs()) == 1
    assert len(mesh.accumulators()) == 1
    assert mesh.gossip(3).log.convictions == {0: 0}


# One peer alone


def signed_pair() -> tuple[Gossip, Protocol]:
    protocol = agreement(4, signed=True, rounds=4)
    return met(0, [1, 2], protocol)[0], protocol


def test_a_proof_is_passed_on_once_and_lies_are_taken_no_more() -> None:
    gossip, protocol = signed_pair()
    first, second = contents(protocol, 3)
    receive(gossip, Entries((first,)), 1, 0.5)
    output = receive(gossip, Proof(second, first), 1, 1.0)
    assert output.messages == [(2, encode(Proof(second, first)))]
    assert [type(event) for event in output.events] == [Convicted]
    assert gossip.log.length(3) == 0
    for message in (Proof(first, second), Entries((first,)), Entries((second,))):
        output = receive(gossip, message, 2, 1.5)
        assert (output.messages, output.events) == ([], [])
    later = history(protocol, 3, 1, 1)
    assert not any(
        isinstance(e, EntryAdded) for e in receive(gossip, Entries((later,)), 2, 2.0).events
    )


def test_an_earlier_lie_cuts_deeper_and_a_later_one_changes_nothing() -> None:
    gossip, protocol = signed_pair()
    good = tuple(history(protocol, 3, number, number) for number in range(3))
    receive(gossip, Entries(good), 1, 0.5)
    receive(gossip, Proof(*contents(protocol, 3, 2)), 1, 1.0)
    assert gossip.log.length(3) == 2
    before = gossip.log.digest()
    other = Proof(good[2], history(protocol, 3, 2, 2, fill=0.125))
    assert receive(gossip, other, 1, 1.1).messages == []
    assert gossip.log.digest() == before
    receive(gossip, Proof(*contents(protocol, 3, 1)), 1, 1.2)
    assert gossip.log.length(3) == 1


def test_an_origin_that_is_convicted_is_not_waited_for() -> None:
    """Neither in the round nor at the end; also when what it wrote before comes late."""
    protocol = agreement(3, signed=True, rounds=3, round_timeout=5.0)
    gossip, _ = met(0, [1], protocol)
    publish(gossip, 0, 0.5)
    receive(gossip, Entries((history(protocol, 1, 0, 0),)), 1, 0.6)
    assert gossip.waiting_for == (2,)
    receive(gossip, Proof(*contents(protocol, 2, 1)), 1, 0.7)
    assert gossip.rounds.current == 1, "the round is closed upon the proof"
    receive(gossip, Entries((history(protocol, 2, 0, 0),)), 1, 0.8)
    assert gossip.log.length(2) == 1
    publish(gossip, 1, 1.0)
    receive(gossip, Entries((history(protocol, 1, 1, 1),)), 1, 1.1)
    assert gossip.rounds.current == 2, "what it wrote before the lie is no sign of life"
    publish(gossip, 2, 1.2)
    receive(gossip, Entries((history(protocol, 1, 2, 2),)), 1, 1.3)
    assert gossip.waiting_for == (1,)
    assert gossip.timeouts == 0


@pytest.mark.parametrize("kind", ["unsigned", "forged", "mixed", "of a stranger", "of another run"])
def test_what_proves_nothing_is_refused(kind: str) -> None:
    gossip, protocol = signed_pair()
    first, second = contents(protocol, 3)
    plain = agreement(4, rounds=4)
    other = agreement(4, signed=True, rounds=4, context=b"another run")
    proof = {
        "unsigned": Proof(*contents(plain, 3)),
        "forged": Proof(first, history(protocol, 3, 0, 0, 0.25, sign=lambda _: bytes(64))),
        "mixed": Proof(first, contents(plain, 3)[1]),
        "of a stranger": Proof(make_end(9, 0, 4), make_end(9, 0, 3)),
        "of another run": Proof(*contents(other, 3)),
    }[kind]
    before = state(gossip)
    output = receive(gossip, proof, 1, 1.0)
    assert isinstance(output.events[0], Rejected)
    assert not any(isinstance(event, Convicted) for event in output.events)
    assert state(gossip) == before
    assert output.messages == []
    # A forger is a liar, whoever the forgery was to harm.
    bans = [event.neighbour for event in output.events if isinstance(event, Banned)]
    assert bans == ([] if kind == "of a stranger" else [1])
    assert second.signature is not None


def test_without_signatures_a_second_content_is_only_refused() -> None:
    """Anybody could have made it, so nobody is convicted; who came first is kept."""
    protocol = agreement(4, rounds=4)
    gossip, _ = met(0, [1, 2], protocol)
    first, second = contents(protocol, 3)
    receive(gossip, Entries((first,)), 1, 0.5)
    assert refused(gossip, encode(Entries((second,))), "second content", sender=2).messages == []
    assert refused(gossip, encode(Proof(first, second)), "not signed", sender=2).messages == []
    assert gossip.log.entries(3) == [first]


# Above a base


def folded(peers: int, rounds: int, me: int = 0) -> tuple[Gossip, Protocol]:
    """A peer that has folded some rounds; all others' entries are made by hand."""
    protocol = agreement(peers, signed=True, rounds=rounds + 4)
    others = [peer for peer in range(peers) if peer != me]
    gossip, _ = met(me, others, protocol)
    for round_ in range(rounds):
        cut = gossip.rounds.cut.digest
        entries = tuple(history(protocol, p, round_, round_, cut=cut) for p in others)
        publish(gossip, round_, 1.0 + round_)
        receive(gossip, Entries(entries), others[0], 1.0 + round_)
    assert gossip.base is not None
    return gossip, protocol


def test_a_proof_of_what_lies_in_the_base_leaves_the_base_alone() -> None:
    gossip, protocol = folded(4, 4)
    assert gossip.base is not None
    length = gossip.base.versions[3]
    before = gossip.base.sum
    assert length > 0
    receive(gossip, Proof(*contents(protocol, 3)), 1, 9.0)
    assert gossip.log.convictions == {3: length}
    assert gossip.log.length(3) == length
    assert gossip.base.sum == before


def test_a_proof_is_sent_over_each_link_a_few_times_at_most() -> None:
    """Also where it is older than the bases of those who pass it on."""
    protocol = agreement(5, signed=True, rounds=8, round_timeout=500.0)
    mesh = Mesh(nx.complete_graph(5), protocol)
    mesh.start()
    mesh.run(until=2.7)
    assert all(life.gossip.log.base_length(3) > 0 for life in mesh.lives.values())
    mesh.deliver(2, 4, encode(Proof(*contents(protocol, 3))))
    mesh.run()
    proofs = Counter((s, r) for _, s, r, frame in mesh.sent if type(decode(frame)) is Proof)
    assert max(proofs.values()) <= 2
    honest = [life for peer, life in mesh.lives.items() if peer != 3]
    assert all({event.neighbour for event in life.of(Banned)} == {3} for life in honest)


@pytest.mark.parametrize("deaf_from", [1.02, 1.52, 2.02, 2.52])
def test_peers_with_different_bases_agree_on_what_is_left(deaf_from: float) -> None:
    """Whoever has folded the least drops the most at first, and takes the greater base."""
    protocol = agreement(5, signed=True, rounds=12, round_timeout=500.0)
    mesh = Mesh(
        nx.complete_graph(5),
        protocol,
        blocked=lambda _s, receiver, now: receiver == 4 and deaf_from < now < deaf_from + 1.0,
    )
    mesh.start()
    mesh.run(until=deaf_from + 0.7)
    lengths = {peer: life.gossip.log.base_length(3) for peer, life in mesh.lives.items()}
    assert lengths[4] < lengths[0], "peer 4 is behind"
    lie = encode(Proof(*contents(protocol, 3)))
    mesh.deliver(2, 4, lie)
    assert mesh.gossip(4).log.length(3) == lengths[4]
    mesh.run()
    honest = [life for peer, life in mesh.lives.items() if peer != 3]
    assert len({life.gossip.log.digest() for life in honest}) == 1
    assert len({life.gossip.rounds.accumulator.digest() for life in honest}) == 1
    assert all(life.gossip.log.convictions == {3: lengths[0]} for life in honest)
    assert all(life.gossip.finished == Finished(()) for life in honest)
    assert all({event.neighbour for event in life.of(Banned)} == {3} for life in honest)
