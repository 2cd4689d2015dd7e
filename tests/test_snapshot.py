"""Snapshots: whoever lacks what others have folded gets their base, with witnesses (C3)."""

from __future__ import annotations

import dataclasses

import networkx as nx
import pytest
from mesh import Mesh, agreement, hello, history, met, publish, receive, refused, seeding, state

from peer.base import Base
from peer.entry import Entry
from peer.events import EntryAdded, Finished, RoundStarted, SnapshotTaken
from peer.gossip import Gossip
from peer.protocol import Protocol
from peer.wire import Behind, Entries, Snapshot, Versions, Want, decode, encode

COMPLETE = nx.complete_graph(5)


def advanced(protocol: Protocol, rounds: int, me: int = 0) -> Gossip:
    """A peer that has gone through some rounds with all others."""
    others = [peer for peer in range(len(protocol.roster.rows)) if peer != me]
    gossip, _ = met(me, others, protocol)
    for round_ in range(rounds):
        cut = gossip.rounds.cut.digest
        entries = tuple(
            history(protocol, peer, round_, round_, cut=cut)
            for peer in others
            if protocol.roster.is_active(peer, round_)
        )
        publish(gossip, round_, 1.0 + round_)
        receive(gossip, Entries(entries), others[0], 1.0 + round_)
    assert gossip.rounds.current == rounds
    return gossip


def answer_of(sponsor: Gossip, latecomer: int, now: float = 20.0) -> Snapshot:
    output = receive(sponsor, hello(latecomer, sponsor.protocol, answer=False), latecomer, now)
    assert any(isinstance(decode(frame), Versions) for _, frame in output.messages)
    output = receive(sponsor, Behind(1), latecomer, now)
    (snapshot,) = [m for _, f in output.messages if isinstance(m := decode(f), Snapshot)]
    return snapshot


def latecomer(sponsor: Gossip, me: int) -> Gossip:
    """A peer without anything that has asked peer 0 for its base."""
    gossip = Gossip(me, [0], sponsor.protocol)
    gossip.start(20.0)
    receive(gossip, hello(0, sponsor.protocol, sponsor.log), 0, 20.0)
    assert sponsor.base is not None
    versions = Versions(sponsor.log.versions(), sponsor.base.round)
    output = receive(gossip, versions, 0, 20.1)
    assert [decode(f) for _, f in output.messages if isinstance(decode(f), Behind)]
    return gossip


@pytest.fixture(params=[False, True], ids=["unsigned", "signed"])
def protocol(request: pytest.FixtureRequest) -> Protocol:
    return agreement(
        5,
        rounds=12,
        signed=request.param,
        first=(0, 0, 0, 0, 8),
        seeding=seeding(request.param),
    )


@pytest.fixture
def sponsor(protocol: Protocol) -> Gossip:
    return advanced(protocol, 6)


def test_a_latecomer_takes_the_base_and_asks_for_the_rest(sponsor: Gossip) -> None:
    gossip = latecomer(sponsor, 4)
    output = receive(gossip, answer_of(sponsor, 4), 0, 20.2)
    (taken,) = [event.base for event in output.events if isinstance(event, SnapshotTaken)]
    assert taken.round == 5
    # Its witnesses are entries of round 5, enough to bear it out, and the latecomer trains later.
    assert [event.round for event in output.events if isinstance(event, RoundStarted)] == [5]
    rest = [decode(frame) for _, frame in output.messages]
    wants = [message for message in rest if isinstance(message, Want)]
    for want in wants:
        for _, frame in receive(sponsor, want, 4, 20.3).messages:
            gossip.receive(frame, 0, 20.4)
    assert gossip.log.digest() == sponsor.log.digest()
    assert gossip.log.versions() == sponsor.log.versions()
    assert gossip.rounds.current == sponsor.rounds.current
    assert gossip.rounds.accumulator.digest() == sponsor.rounds.accumulator.digest()
    assert gossip.rounds.cut.digest == sponsor.rounds.cut.digest
    assert gossip.rejections == {}


def test_witnesses_are_more_than_half_of_those_who_trained(sponsor: Gossip) -> None:
    snapshot = answer_of(sponsor, 4)
    assert len(snapshot.witnesses) == 3
    for kept, accepted in ((3, True), (2, False), (0, False)):
        gossip = latecomer(sponsor, 4)
        fewer = Snapshot(snapshot.base, snapshot.witnesses[:kept])
        output = receive(gossip, fewer, 0, 20.2)
        assert any(isinstance(event, SnapshotTaken) for event in output.events) == accepted
        assert (gossip.rejections[0] == 0) == accepted


def lies(snapshot: Snapshot, protocol: Protocol) -> dict[str, Snapshot]:
    base = snapshot.base
    arrays = base.arrays.copy()
    arrays[0, 3] += 1
    other = b"elsewher"
    strangers = tuple(
        history(protocol, e.origin, e.sequence, e.round, cut=other) for e in snapshot.witnesses
    )
    one_voice = snapshot.witnesses[:1] * 4
    return {
        "sums": Snapshot(dataclasses.replace(base, arrays=arrays), snapshot.witnesses),
        "set": Snapshot(dataclasses.replace(base, sum=base.sum ^ 1), snapshot.witnesses),
        "a longer log": Snapshot(
            dataclasses.replace(base, ends={**base.ends, 2: (base.ends[2][0] + 3, 4)}),
            snapshot.witnesses,
        ),
        "an earlier round": Snapshot(
            dataclasses.replace(base, ends={**base.ends, 2: (base.ends[2][0], 3)}),
            snapshot.witnesses,
        ),
        "round": Snapshot(dataclasses.replace(base, round=4), snapshot.witnesses),
        "round past the run": Snapshot(dataclasses.replace(base, round=12), snapshot.witnesses),
        "round 0": Snapshot(dataclasses.replace(base, round=0), snapshot.witnesses),
        "another K": Snapshot(
            dataclasses.replace(base, arrays=base.arrays[:, :-1]), snapshot.witnesses
        ),
        "past the bounds": Snapshot(
            dataclasses.replace(base, arrays=base.arrays + 2**52), snapshot.witnesses
        ),
        "a stranger's log": Snapshot(
            dataclasses.replace(base, ends={**base.ends, 9: (1, 0)}), snapshot.witnesses
        ),
        "too long a log": Snapshot(
            dataclasses.replace(base, ends={**base.ends, 1: (1000, 4)}), snapshot.witnesses
        ),
        "witnesses of another cut": Snapshot(base, strangers),
        "one witness many times": Snapshot(base, one_voice),
    }


LIES = sorted(
    [
        "sums",
        "set",
        "a longer log",
        "an earlier round",
        "round",
        "round past the run",
        "round 0",
        "another K",
        "past the bounds",
        "a stranger's log",
        "too long a log",
        "witnesses of another cut",
        "one witness many times",
    ]
)


@pytest.mark.parametrize("lie", LIES)
def test_a_lying_sponsor_is_refused(lie: str, sponsor: Gossip) -> None:
    made = lies(answer_of(sponsor, 4), sponsor.protocol)
    assert sorted(made) == LIES
    gossip = latecomer(sponsor, 4)
    before = state(gossip)
    output = receive(gossip, made[lie], 0, 20.2)
    assert state(gossip) == before
    assert gossip.base is None
    assert gossip.rejections[0] == 1
    assert not any(isinstance(event, SnapshotTaken) for event in output.events)


def test_forged_witnesses_are_refused(sponsor: Gossip) -> None:
    if not sponsor.protocol.public_keys:
        pytest.skip("nobody signs")
    snapshot = answer_of(sponsor, 4)
    forged = tuple(
        history(
            sponsor.protocol, e.origin, e.sequence, e.round, cut=e.cut, sign=lambda _: bytes(64)
        )
        for e in snapshot.witnesses
    )
    gossip = latecomer(sponsor, 4)
    receive(gossip, Snapshot(snapshot.base, forged), 0, 20.2)
    assert gossip.base is None
    assert gossip.rejections[0] == 1


def test_a_base_that_was_not_asked_for_is_not_taken(sponsor: Gossip) -> None:
    snapshot = answer_of(sponsor, 4)
    gossip = Gossip(4, [0], sponsor.protocol)
    gossip.start(20.0)
    receive(gossip, hello(0, sponsor.protocol), 0, 20.0)
    before = state(gossip)
    output = receive(gossip, snapshot, 0, 20.2)
    assert state(gossip) == before
    assert not any(isinstance(event, SnapshotTaken | EntryAdded) for event in output.events)
    assert gossip.base is None


def test_a_run_that_does_not_fold_takes_no_base(sponsor: Gossip) -> None:
    if sponsor.protocol.public_keys or sponsor.protocol.seeds.importance:
        pytest.skip("once is enough")
    gossip, _ = met(0, [1], agreement(5, rounds=12, folding=False))
    refused(gossip, encode(answer_of(sponsor, 4)), "nothing is folded")


def test_a_smaller_base_does_not_replace_a_greater_one() -> None:
    protocol = agreement(4, rounds=12)
    behind, ahead = advanced(protocol, 4), advanced(protocol, 8)
    assert behind.base is not None
    assert ahead.base is not None
    assert behind.base.round < ahead.base.round
    witnesses: tuple[Entry, ...] = tuple(e for e in behind.log if e.round == behind.base.round)
    before = state(ahead)
    receive(ahead, Snapshot(behind.base, witnesses), 1, 30.0)
    assert state(ahead) == before
    assert ahead.base.round > behind.base.round


def test_a_base_is_sent_once_a_tick(sponsor: Gossip) -> None:
    receive(sponsor, hello(4, sponsor.protocol, answer=False), 4, 20.0)
    sent = [
        len([f for _, f in receive(sponsor, Behind(1), 4, now).messages])
        for now in (20.0, 20.1, 20.9, 21.0, 21.5, 22.0)
    ]
    assert sent == [1, 0, 0, 1, 0, 1]


# Whole runs


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("gossip", ["flood", "tree", "antientropy"])
def test_a_peer_that_has_lost_its_disk_goes_on_from_a_snapshot(gossip: str, signed: bool) -> None:
    protocol = agreement(5, rounds=14, gossip=gossip, signed=signed, round_timeout=300.0)
    mesh = Mesh(COMPLETE, protocol)
    mesh.at_round(9, lambda: mesh.at(mesh.now + 0.1, lose))
    mesh.at_round(9, lambda: mesh.at(mesh.now + 1.3, lambda: mesh.start(2)))

    def lose() -> None:
        mesh.crash(2)
        mesh.disks[2].clear()
        mesh.bases.pop(2, None)

    mesh.start()
    mesh.run()
    assert len(mesh.logs()) == 1
    assert len(mesh.accumulators()) == 1
    assert all(life.gossip.finished == Finished(()) for life in mesh.lives.values())
    assert len(mesh.lives[2].of(SnapshotTaken)) == 1
    assert mesh.equivocations() == []
    assert mesh.rejected() == []


def test_a_snapshot_survives_a_restart() -> None:
    protocol = agreement(5, rounds=16, round_timeout=300.0, first=(0, 0, 0, 0, 9))
    mesh = Mesh(COMPLETE, protocol, absent=[4])
    mesh.at_round(8, lambda: mesh.start(4))
    mesh.start()
    mesh.run(until=6.0)
    assert isinstance(mesh.bases[4], Base)
    before = mesh.gossip(4).log
    mesh.crash(4)
    mesh.start(4)
    assert mesh.gossip(4).log.digest() == before.digest()
    assert mesh.gossip(4).log.versions() == before.versions()
    assert mesh.lives[4].of(SnapshotTaken) == []
    mesh.run()
    assert len(mesh.logs()) == 1
    assert len(mesh.accumulators()) == 1
    assert all(life.gossip.finished == Finished(()) for life in mesh.lives.values())
    assert mesh.equivocations() == []


def test_a_round_that_lies_in_the_base_is_over(sponsor: Gossip) -> None:
    """Or who has folded would take a second history of a round, which others refuse."""
    protocol = sponsor.protocol
    gossip = latecomer(sponsor, 4)
    snapshot = answer_of(sponsor, 4)
    receive(gossip, snapshot, 0, 20.2)
    assert gossip.base is not None
    (origin,) = {1, 2, 3} - {entry.origin for entry in snapshot.witnesses}
    length = gossip.base.versions[origin]
    assert gossip.log.length(origin) == length
    for past in (0, gossip.base.round - 1):
        again = history(protocol, origin, length, past)
        refused(gossip, encode(Entries((again,))), f"round {past} after round {length - 1}", 0)
    (next_,) = sponsor.log.entries(origin, length, length + 1)
    receive(gossip, Entries((next_,)), 0, 20.4)
    assert gossip.log.length(origin) == length + 1
