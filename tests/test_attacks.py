"""What attackers have tried, each as short as it can be told; what they tried holds no more."""

from __future__ import annotations

from collections import Counter

import networkx as nx
import pytest
from mesh import Mesh, agreement, entries_in, hello, history, met, receive

from peer.base import Base
from peer.entry import Entry, Kind, make_end
from peer.events import Finished, RoundStarted
from peer.folding import IDLE_ROUNDS
from peer.links import ALIVE_TICKS
from peer.log import EntryLog
from peer.protocol import Protocol
from peer.wire import Entries, Proof, Snapshot, Versions, Want, decode, encode

LIAR, LATE = 3, 4


def run_to(mesh: Mesh, round_: int) -> None:
    """Go on until shortly after the first peer has started a round."""
    while mesh.highest_round < round_:
        mesh.run(until=mesh.now + 0.1)


def proof(protocol: Protocol, entry: Entry) -> bytes:
    """The frame that shows what else an origin has signed in an entry's place."""
    other = history(protocol, entry.origin, entry.sequence, entry.round, fill=0.125)
    return encode(Proof(entry, other))


def lie(mesh: Mesh, entry: Entry, neighbour: int) -> None:
    """Have a peer's neighbour learn that it has signed two contents; it is heard no more."""
    liar = entry.origin
    mesh.crash(liar)
    mesh.deliver(liar, neighbour, proof(mesh.protocols[liar], entry))


def own(mesh: Mesh, peer: int) -> list[Entry]:
    return [entry for entry in mesh.disks[peer] if entry.origin == peer]


def assert_all_end_alike(mesh: Mesh) -> None:
    assert {life.gossip.finished for life in mesh.lives.values()} == {Finished(())}
    assert len(mesh.logs()) == 1
    assert len(mesh.accumulators()) == 1


# Bases


def orphan(mesh: Mesh) -> tuple[Base, tuple[Entry, ...]]:
    """A cut that all have started round 3 from, with an entry of the liar's that all then drop."""
    mesh.start()
    run_to(mesh, 3)
    cut = mesh.gossip(0).rounds.cut
    lie(mesh, own(mesh, LIAR)[2], 0)
    run_to(mesh, 8)
    base, protocol = mesh.gossip(0).base, mesh.protocols[0]
    assert base is not None
    assert base.round > 3
    assert mesh.gossip(0).log.convictions == {LIAR: 2}
    witnesses = (e for e in mesh.disks[0] if protocol.is_witness(e, 3, cut.digest))
    return Base.of(3, cut), tuple(witnesses)


def sponsor(mesh: Mesh, sender: int, peer: int, base: Base, witnesses: tuple[Entry, ...]) -> None:
    """Have a peer that has just started take a base from a neighbour of ill will."""
    versions = dict(base.versions) | {entry.origin: entry.sequence + 1 for entry in witnesses}
    greeting = hello(sender, mesh.protocols[sender])
    for message in (greeting, Versions(versions, base.round), Snapshot(base, witnesses)):
        mesh.deliver(sender, peer, encode(message))
    taken = mesh.gossip(peer).base
    assert taken is not None
    assert taken.round == base.round


def test_a_latecomer_gets_away_from_a_cut_that_all_others_have_dropped() -> None:
    graph = nx.complete_graph(4)
    graph.add_edges_from([(LATE, 0), (LATE, 1), (LATE, LIAR)])
    protocol = agreement(5, signed=True, rounds=12, first=(0, 0, 0, 0, 8), round_timeout=5.0)
    mesh = Mesh(graph, protocol, absent=[LATE])
    base, witnesses = orphan(mesh)
    mesh.start(LATE)
    sponsor(mesh, LIAR, LATE, base, witnesses)
    mesh.run()
    assert_all_end_alike(mesh)
    assert mesh.gossip(LATE).log.convictions == {LIAR: 2}


def test_a_restarted_member_gets_away_from_a_cut_that_all_others_have_dropped() -> None:
    """Its own bases are not on its disk, so any that convinces is more than it has."""
    mesh = Mesh(nx.complete_graph(5), agreement(5, signed=True, rounds=12, round_timeout=5.0))
    base, witnesses = orphan(mesh)
    colluder = 4
    mesh.crash(0)
    mesh.start(0)
    sponsor(mesh, colluder, 0, base, witnesses)
    mesh.run()
    assert_all_end_alike(mesh)
    assert mesh.gossip(0).log.convictions == {LIAR: 2}


def test_a_base_convinces_though_most_of_its_witnesses_are_convicted_later() -> None:
    """What they have signed stays true, and without them nobody could come late any more."""
    late = 5
    graph = nx.complete_graph(5)
    graph.add_edges_from([(late, 0), (late, 1)])
    protocol = agreement(6, signed=True, rounds=10, first=(0, 0, 0, 0, 0, 9), round_timeout=5.0)
    mesh = Mesh(graph, protocol, absent=[late])
    mesh.start()
    run_to(mesh, 8)
    base = mesh.gossip(0).base
    assert base is not None
    for liar in (1, 2, 3):
        (witness,) = (entry for entry in own(mesh, liar) if entry.round == base.round)
        lie(mesh, witness, 0)
    mesh.run(until=mesh.now + 0.1)
    mesh.start(late)
    mesh.run()
    assert mesh.rejected() == []
    assert_all_end_alike(mesh)
    taken = mesh.gossip(late).base
    assert taken is not None
    assert taken.pack() == base.pack()


# Proofs


def test_ever_earlier_proofs_do_not_make_the_honest_ban_each_other() -> None:
    """A liar may sign all it likes twice, and each proof cuts deeper than the one before."""
    rounds, accomplice = 300, 4
    graph = nx.Graph([(0, 1), (1, 2), (0, accomplice), (1, accomplice), (LIAR, accomplice)])
    protocol = agreement(5, signed=True, rounds=rounds, round_timeout=2.0)
    mesh = Mesh(graph, protocol, absent=[LIAR, accomplice])
    mesh.start()
    for neighbour in (0, 1):
        mesh.deliver(accomplice, neighbour, encode(hello(accomplice, protocol)))
    for number in range(2 * rounds - 1, -1, -1):
        # What one of them would be sent alone would be past its quota.
        neighbour = 0 if number >= rounds else 1
        entry = history(protocol, LIAR, number, min(number, rounds - 1))
        mesh.deliver(accomplice, neighbour, proof(protocol, entry))
        mesh.run(until=mesh.now + 0.001)
    mesh.run(until=10.0)
    assert mesh.bans() == []
    proofs = Counter((s, r) for _, s, r, frame in mesh.sent if type(decode(frame)) is Proof)
    assert max(proofs.values()) < 5, "the first one and the last one would do"
    assert all(life.gossip.log.convictions == {LIAR: 0} for life in mesh.lives.values())


# Logs and their ENDs


def test_who_has_ended_its_log_says_nothing_more_after_a_restart() -> None:
    """It may lack what others have written since, and go through old rounds again."""
    protocol = agreement(3, rounds=4)
    gossip, output = met(0, [1], protocol, EntryLog([make_end(0, 0, 4)]))
    starts = [event for event in output.events if isinstance(event, RoundStarted)]
    assert all(start.indices is None for start in starts)
    assert gossip.log.length(0) == 1


def test_an_idle_peer_acknowledges_nothing_after_its_end() -> None:
    """As it would when its disk has lost another's entry of an old round."""
    protocol = agreement(20, rounds=60, participation=0.05)
    active = [protocol.roster.active(round_)[0] for round_ in range(IDLE_ROUNDS + 1)]
    idle = min({*range(20)} - {*active})
    log = EntryLog([make_end(idle, 0, 60)])
    for round_, origin in enumerate(active[:-1]):
        log.add(history(protocol, origin, log.length(origin), round_))
    gossip, _ = met(idle, [active[-1]], protocol, log)
    assert gossip.rounds.current == IDLE_ROUNDS
    assert gossip.log.length(idle) == 1


@pytest.mark.parametrize("rounds", [22, 40])
def test_a_leaver_ends_its_log_after_the_steps_under_way(rounds: int) -> None:
    """Also where it is cut off meanwhile, and the others' base takes it past its last round.

    And whether the others are done before its steps are, and wait for its END, or go on.
    """
    leaver, last = 3, 4
    protocol = agreement(
        4, rounds=rounds, last=(None, None, None, last), round_timeout=2.0, settle_timeout=3.0
    )
    seconds = dict.fromkeys(range(4), 0.1)
    mesh = Mesh(
        nx.complete_graph(4),
        protocol,
        step_seconds=seconds,
        blocked=lambda one, other, now: leaver in (one, other) and 0.6 < now < 10.0,
    )
    mesh.start()
    run_to(mesh, 1)
    seconds[leaver] = 2.5
    mesh.run(until=15.5)
    gossip = mesh.gossip(leaver)
    assert gossip.base is not None
    assert gossip.base.round > last
    assert [entry.round for entry in own(mesh, leaver)] == [0, 1]
    assert gossip.finished is None
    mesh.run()
    *histories, end = own(mesh, leaver)
    assert [entry.round for entry in histories] == [0, 1, 2]
    assert (end.kind, end.round) == (Kind.END, last)
    assert mesh.rejected() == []
    assert {life.gossip.finished for life in mesh.lives.values()} == {Finished(())}
    del mesh.lives[leaver]
    assert_all_end_alike(mesh)
    assert mesh.gossip(0).log.length(leaver) == len(own(mesh, leaver))


def test_what_a_liar_wrote_before_its_lie_gets_from_one_to_all() -> None:
    """Complete logs differ by it, so who is not heard just now is waited for all the same."""
    protocol = agreement(4, signed=True, schedule="async", round_timeout=2.0, settle_timeout=500.0)
    silent = 10.0
    lied = silent + (ALIVE_TICKS + 1) * protocol.tick
    mended = lied + protocol.tick
    mesh = Mesh(
        nx.cycle_graph(4),
        protocol,
        absent=[LIAR],
        blocked=lambda one, other, now: {one, other} == {1, 2} and silent < now < mended,
    )
    mesh.start()
    mesh.run(until=silent + 0.5)
    before, twice = (history(protocol, LIAR, number, number) for number in range(2))
    for neighbour in (0, 2):
        mesh.deliver(LIAR, neighbour, encode(hello(LIAR, protocol)))
    mesh.deliver(LIAR, 2, encode(Entries((before,))))
    mesh.run(until=lied)
    assert [mesh.gossip(peer).waiting_for for peer in range(3)] == [(LIAR,)] * 3
    assert [mesh.gossip(peer).log.length(LIAR) for peer in range(3)] == [0, 0, 1]
    mesh.deliver(LIAR, 0, proof(protocol, twice))
    mesh.run()
    assert_all_end_alike(mesh)
    assert mesh.gossip(0).log.length(LIAR) == 1


# Answers


def test_the_same_entries_are_answered_once_a_tick_on_each_link() -> None:
    """Or a neighbour could have a whole log sent for every few bytes of a question."""
    protocol = agreement(4, folding=False)
    gossip, _ = met(0, [1, 2], protocol)
    receive(gossip, Entries(tuple(history(protocol, 3, n, n) for n in range(3))), 1, 1.0)

    def answered(neighbour: int, stop: int, now: float) -> list[int]:
        output = receive(gossip, Want(((3, 0, stop),)), neighbour, now)
        assert all(to == neighbour for to, _ in output.messages)
        return [e.sequence for _, frame in output.messages for e in entries_in(frame)]

    assert answered(1, 2, 5.0) == [0, 1]
    assert answered(1, 2, 5.1) == []
    assert answered(1, 3, 5.2) == [2]
    assert answered(2, 3, 5.3) == [0, 1, 2]
    assert answered(1, 3, 5.0 + protocol.tick) == [0, 1, 2]
