"""Folding: a base where everybody has acknowledged a cut, and nothing is lost by it (C3)."""

from __future__ import annotations

import random
from itertools import pairwise

import networkx as nx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mesh import Faults, Mesh, agreement, history, met, publish, receive, seeding

from peer.dissemination import MODES
from peer.entry import Entry, Kind
from peer.events import EntryAdded, Finished
from peer.folding import IDLE_ROUNDS
from peer.gossip import Gossip
from peer.log import EntryLog
from peer.protocol import Protocol
from peer.wire import Entries

RING = nx.cycle_graph(5)


def run(graph: nx.Graph, protocol: Protocol, **changes: object) -> Mesh:
    mesh = Mesh(graph, protocol, **changes)  # type: ignore[arg-type]
    mesh.start()
    mesh.run()
    assert all(life.gossip.finished == Finished(()) for life in mesh.lives.values())
    return mesh


def assert_base_and_rest_are_the_whole(mesh: Mesh, peer: int) -> None:
    """The digest, the lengths and the sums are those of a log that was never folded."""
    gossip = mesh.gossip(peer)
    protocol = gossip.protocol
    entries = sorted(mesh.entries(peer), key=lambda e: (e.origin, e.sequence))
    whole = EntryLog(entries)
    assert gossip.log.digest() == whole.digest()
    assert gossip.log.versions() == whole.versions()
    assert len(gossip.log) == len(whole) == len(entries)
    expected = protocol.empty_accumulator()
    for entry in entries:
        if entry.kind is Kind.HISTORY:
            protocol.add(expected, entry)
    assert gossip.rounds.accumulator.digest() == expected.digest()
    base = gossip.base
    if base is None:
        return
    below = [e for e in entries if e.sequence < base.versions.get(e.origin, 0)]
    assert base.sum == sum(e.hash for e in below) % 2**128
    histories = [e for e in below if e.kind is Kind.HISTORY]
    # Walked in order, so that the last one of an origin stays.
    assert base.ends == {e.origin: (e.sequence + 1, e.round) for e in histories}
    assert {e.content for e in gossip.log} == {e.content for e in entries} - {
        e.content for e in below
    }
    # A base is the cut of its round: all histories before it, and no other.
    assert all(e.round < base.round for e in histories)
    assert all(e.round >= base.round for e in gossip.log if e.kind is Kind.HISTORY)
    sums = protocol.empty_accumulator()
    for entry in histories:
        protocol.add(sums, entry)
    assert base.cut(protocol.units).accumulator.digest() == sums.digest()


@pytest.mark.parametrize("pro", [False, True])
@pytest.mark.parametrize("gossip", sorted(MODES))
def test_a_run_folds_all_but_its_last_rounds(gossip: str, pro: bool) -> None:
    mesh = run(RING, agreement(5, rounds=12, gossip=gossip, seeding=seeding(pro)))
    for peer in mesh.graph:
        assert_base_and_rest_are_the_whole(mesh, peer)
        base = mesh.gossip(peer).base
        assert base is not None
        assert base.round >= 9


@settings(max_examples=20, deadline=None)
@given(
    st.integers(0, 2**32),
    st.sampled_from(sorted(MODES)),
    st.sampled_from([1.0, 0.5]),
    st.floats(0.6, 30.0),
    st.booleans(),
)
def test_base_and_rest_are_the_whole_log_on_bad_links(
    seed: int, gossip: str, participation: float, timeout: float, pro: bool
) -> None:
    """Time-outs too: what is late stays above the base, or keeps a cut from being folded."""
    protocol = agreement(
        5,
        rounds=8,
        gossip=gossip,
        participation=participation,
        seeding=seeding(pro),
        round_timeout=timeout,
        settle_timeout=10_000.0,
    )
    faults = Faults(0.2, 0.2, 0.6, until=20.0, seed=seed)
    mesh = run(nx.complete_graph(5), protocol, faults=faults)
    for peer in mesh.graph:
        assert_base_and_rest_are_the_whole(mesh, peer)
    assert len(mesh.logs()) == 1


def test_folding_changes_no_sum_and_no_digest() -> None:
    folded, whole = (
        run(RING, agreement(5, rounds=10, participation=0.6, folding=fold))
        for fold in (True, False)
    )
    assert folded.accumulators() == whole.accumulators()
    assert folded.logs() == whole.logs()
    assert whole.gossip(0).base is None
    assert folded.sent == whole.sent


def test_what_a_peer_keeps_does_not_grow_with_the_run() -> None:
    sizes = []
    for rounds in (10, 40):
        mesh = run(RING, agreement(5, rounds=rounds))
        sizes.append(max(len(list(life.gossip.log)) for life in mesh.lives.values()))
    assert sizes[1] == sizes[0] <= 5 * 4


# One peer, the others' words by hand


def word(protocol: Protocol, gossip: Gossip, peer: int, round_: int, cut: bytes | None) -> Entry:
    known = gossip.rounds.cut.digest if cut is None else cut
    return history(protocol, peer, gossip.log.length(peer), round_, cut=known)


def go(gossip: Gossip, protocol: Protocol, silent: int | None, odd: int | None = None) -> None:
    """One round: all but the silent one publish; the odd one has started from another cut."""
    round_ = gossip.rounds.current
    words = []
    for peer in range(1, len(protocol.roster.rows)):
        cut = b"elsewher" if peer == odd else None
        if peer != silent:
            words.append(word(protocol, gossip, peer, round_, cut))
    publish(gossip, round_, float(round_))
    receive(gossip, Entries(tuple(words)), 1, float(round_))


def test_nothing_is_folded_until_the_last_has_acknowledged() -> None:
    protocol = agreement(4, rounds=12)
    gossip, _ = met(0, [1], protocol)
    for _ in range(4):
        go(gossip, protocol, None, odd=3)
    assert gossip.rounds.current == 4
    assert gossip.base is None, "peer 3 says that it holds something else"
    go(gossip, protocol, None)
    go(gossip, protocol, None)
    assert gossip.base is not None


def test_a_later_word_acknowledges_an_earlier_cut() -> None:
    """Who had another cut in round 1 and the same in round 3 holds what was before 1, too."""
    protocol = agreement(3, rounds=12)
    gossip, _ = met(0, [1], protocol)
    go(gossip, protocol, None)
    go(gossip, protocol, None, odd=2)
    before = gossip.base
    assert before is None or before.round == 0
    go(gossip, protocol, None)
    assert gossip.base is not None
    assert gossip.base.round == 1


def test_a_late_entry_stays_above_the_base() -> None:
    """Peer 3 has left the roster in round 2; its entry of round 1 comes when 1 is long folded."""
    protocol = agreement(4, rounds=12, last=(None, None, None, 2), round_timeout=5.0)
    gossip, _ = met(0, [1], protocol)

    def share(round_: int, *peers: int) -> None:
        cut = gossip.rounds.cut.digest
        words = tuple(
            history(protocol, peer, gossip.log.length(peer), round_, cut=cut) for peer in peers
        )
        publish(gossip, round_, float(round_))
        receive(gossip, Entries(words), 1, float(round_))

    share(0, 1, 2, 3)
    share(1, 1, 2)
    gossip.advance(7.0)
    assert gossip.rounds.current == 2
    for round_ in range(2, 7):
        share(round_, 1, 2)
    assert gossip.base is not None
    assert gossip.base.round > 2
    before = gossip.rounds.accumulator.copy()
    assert gossip.base.round > 1
    late = history(protocol, 3, 1, 1)
    output = receive(gossip, Entries((late,)), 1, 8.0)
    assert output.events[0] == EntryAdded(late)
    protocol.add(before, late)
    assert gossip.rounds.accumulator.digest() == before.digest()
    assert list(gossip.log.entries(3)) == [late]
    assert gossip.base.round > late.round
    # It goes into the next base like any other.
    for round_ in range(7, 11):
        share(round_, 1, 2)
    assert gossip.log.base_length(3) == 2


# Idle peers


@pytest.mark.parametrize("participation", [0.08])
def test_idle_peers_acknowledge_so_that_folding_goes_on(participation: float) -> None:
    """With 5% active peers some are not drawn for long, and say by ACKs that they follow."""
    graph = nx.random_regular_graph(4, 14, seed=3)
    rounds = 3 * IDLE_ROUNDS
    protocol = agreement(14, rounds=rounds, participation=participation, local_steps=1)
    mesh = run(graph, protocol)
    acks = [e for e in mesh.entries(0) if e.kind is Kind.ACK]
    assert acks
    assert all(not protocol.roster.is_active(ack.origin, ack.round) for ack in acks)
    spoke: dict[int, list[int]] = {peer: [-1] for peer in graph}
    for entry in sorted(mesh.entries(0), key=lambda e: e.round):
        if not entry.is_end:
            spoke[entry.origin].append(entry.round)
    for rounds_ in spoke.values():
        gaps = [later - earlier for earlier, later in pairwise(rounds_)]
        assert max(gaps) <= IDLE_ROUNDS
    for peer in graph:
        base = mesh.gossip(peer).base
        assert base is not None
        assert base.round > rounds - 2 * IDLE_ROUNDS - 8
        assert_base_and_rest_are_the_whole(mesh, peer)


def test_nobody_acknowledges_in_a_run_that_does_not_fold() -> None:
    graph = nx.cycle_graph(8)
    mesh = run(
        graph, agreement(8, rounds=3 * IDLE_ROUNDS, participation=0.1, local_steps=1, folding=False)
    )
    assert not [e for e in mesh.entries(0) if e.kind is Kind.ACK]


def test_who_has_been_evicted_need_not_acknowledge() -> None:
    """Or the base would stay where the dead peer has last been heard."""
    protocol = agreement(4, rounds=10, last=(None, None, None, 3), evicted=frozenset({3}))
    mesh = Mesh(nx.complete_graph(4), protocol)
    mesh.start()
    mesh.at_round(2, lambda: mesh.crash(3))
    mesh.run()
    for peer in range(3):
        base = mesh.gossip(peer).base
        assert base is not None
        assert base.round >= 7
        assert mesh.gossip(peer).finished == Finished(())


# When there is none


def test_asynchronous_peers_do_not_fold() -> None:
    mesh = run(RING, agreement(5, rounds=10, schedule="async"))
    assert all(life.gossip.base is None for life in mesh.lives.values())


def test_what_no_frame_could_carry_is_not_folded() -> None:
    small, large = agreement(3, candidate_seeds=4096), agreement(3, candidate_seeds=2**17)
    assert small.sizes.base_fits
    assert not large.sizes.base_fits
    mesh = run(nx.path_graph(3), agreement(3, candidate_seeds=2**17, rounds=6))
    assert all(life.gossip.base is None for life in mesh.lives.values())
    assert len(mesh.accumulators()) == 1


# From the disk


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 2**32), st.floats(0.6, 4.0))
def test_a_replica_from_the_disk_is_the_one_that_was_lost(seed: int, when: float) -> None:
    """What was folded before a crash is on the disk entry by entry, and is folded again."""
    source = random.Random(seed)
    protocol = agreement(5, rounds=10, round_timeout=500.0)
    mesh = Mesh(RING, protocol)
    mesh.start()
    mesh.run(until=when)
    victim = source.randrange(5)
    before = mesh.gossip(victim).log
    mesh.crash(victim)
    mesh.start(victim)
    assert mesh.gossip(victim).log.digest() == before.digest()
    assert mesh.gossip(victim).log.versions() == before.versions()
    mesh.run()
    assert len(mesh.logs()) == 1
    assert len(mesh.accumulators()) == 1
    for peer in mesh.graph:
        assert_base_and_rest_are_the_whole(mesh, peer)
