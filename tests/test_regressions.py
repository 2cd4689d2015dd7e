"""What the state machine has found, each as short as it can be told."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from gossip_machine import Network
from gossip_plan import TICK, Plan
from hypothesis import given
from hypothesis import strategies as st

from peer.base import Base
from peer.entry import Entry, Kind, make_end, make_history
from peer.folding import Folding
from peer.gossip import Gossip
from peer.gradients import encode as encode_gradients
from peer.log import EntryLog
from peer.protocol import Protocol
from peer.roster import Roster
from peer.trees import Trees
from peer.wire import Behind, Digest, Hello, Snapshot, decode, encode

SYNC = Plan(
    seed=1,
    peers=5,
    gossip="flood",
    schedule="sync",
    seeding="uniform",
    signed=False,
    rounds=12,
    first=(0, 0, 0, 0, 10),
)
LATE = 4


def history(protocol: Protocol, origin: int, round_: int, cut: bytes) -> Entry:
    """An entry of an origin that has published in every round."""
    data, scale = encode_gradients(np.array([0.5, -0.25]), protocol.gradient_bytes)
    weight = protocol.roster.weight(origin, round_, protocol.step_size)
    return make_history(
        origin,
        round_,
        round_,
        weight=weight,
        cut=cut,
        scale=scale,
        gradients=data,
        indices=None,
    )


@given(odd=st.lists(st.sets(st.integers(0, 3)), min_size=8, max_size=8))
def test_a_base_convinces_whoever_comes_late(odd: list[set[int]]) -> None:
    """Peers that went on without somebody's entry start a round from cuts of their own.

    They acknowledge a later cut, so a base could be folded with too few witnesses of its own round,
    and no honest peer would take it from another.
    """
    protocol = SYNC.protocol
    folding, log, cut = Folding(protocol, 1), EntryLog(), protocol.cuts.empty()
    for round_, others in enumerate(odd):
        base = folding.entered(round_, cut)
        if base is not None:
            log.rebase(base.versions, base.sum)
        if base is not None and base.round:
            witnesses = [e for e in log if (e.kind, e.round) == (Kind.HISTORY, base.round)]
            protocol.check_base(base, witnesses)
        started = {peer: bytes(8) if peer in others else cut.digest for peer in range(4)}
        histories = [history(protocol, peer, round_, started[peer]) for peer in started]
        for entry in histories:
            log.add(entry)
            folding.heard(entry)
        cut = protocol.cuts.extended(cut, [log.run(entry.origin) for entry in histories])


def in_round_nine() -> Network:
    """A run in which all but the late peer have come so far, and have folded."""
    network = Network(SYNC)
    for peer in range(LATE):
        network.start(peer)
    for _ in range(200):
        network.sweep()
        if all(gossip.rounds.current == 9 for gossip in network.lives.values()):
            break
    assert {gossip.rounds.current for gossip in network.lives.values()} == {9}
    for sender in SYNC.graph[LATE]:
        network.queues[sender, LATE].clear()
    return network


def test_who_is_told_versions_gets_the_base_that_it_asks_for_then() -> None:
    """The question comes within the tick, in which it was not answered as VERSIONS had been."""
    network = in_round_nine()
    sender = min(SYNC.graph[LATE])
    gossip, now = network.lives[sender], network.now
    assert gossip.base is not None
    assert gossip.base.round
    hello = Hello(LATE, SYNC.protocol.digest, gossip.log.digest(), answer=True, clock=0.0)
    gossip.receive(encode(hello), LATE, now)
    gossip.advance(now + TICK)
    answer = gossip.receive(encode(Digest(bytes(8), False)), LATE, now + 2 * TICK)
    assert [neighbour for neighbour, _ in answer.messages] == [LATE]
    output = gossip.receive(encode(Behind(gossip.base.round)), LATE, now + 2.1 * TICK)
    assert [type(decode(frame)) for _, frame in output.messages] == [Snapshot]


def test_a_second_copy_of_a_base_is_no_fault_of_the_neighbour() -> None:
    """Nor is one that an earlier life had asked for."""
    network = in_round_nine()
    network.start(LATE)
    bases: list[tuple[int, bytes]] = []
    for _ in range(20):
        network.sweep()
        for sender in SYNC.graph[LATE]:
            frames = network.queues[sender, LATE]
            bases += [(sender, frame) for frame in frames if isinstance(decode(frame), Snapshot)]
    assert network.figures["snapshots"] == 1
    sender, frame = bases[0]
    late = Gossip(LATE, SYNC.graph[LATE], SYNC.protocol)
    late.start(0.0)
    hello = Hello(sender, SYNC.protocol.digest, bytes(8), answer=True, clock=0.0)
    late.receive(encode(hello), sender, 0.0)
    assert late.receive(frame, sender, 0.0).events == []
    assert late.rejections[sender] == 0


@pytest.mark.timeout(20)
@pytest.mark.parametrize("peers", [3, 30])
def test_a_tree_ends_where_those_who_are_there_are_not_connected(peers: int) -> None:
    """The search went on for ever when somebody between them was to join later."""
    line = {peer: [p for p in (peer - 1, peer + 1) if 0 <= p < peers] for peer in range(peers)}
    first = (0, 5, *[0] * (peers - 2))
    trees = Trees(line, Roster((1,) * peers, 1.0, 7, first))
    assert [trees.children(0, 0, peer) for peer in (0, 1)] == [[], []]
    assert [trees.children(0, 5, peer) for peer in (0, 1)] == [[1], [2]]


def test_equal_bases_are_equal_bytes() -> None:
    """A base named those, too, who had been heard of and of whom nothing was in it."""
    protocol, packed = SYNC.protocol, []
    for heard in ([], [make_end(LATE, 0, SYNC.rounds)]):
        folding, log, cut = Folding(protocol, 1), EntryLog(heard), protocol.cuts.empty()
        for round_ in range(6):
            base = folding.entered(round_, cut)
            if base is not None:
                log.rebase(base.versions, base.sum)
            histories = [history(protocol, peer, round_, cut.digest) for peer in range(LATE)]
            for entry in histories:
                log.add(entry)
                folding.heard(entry)
            cut = protocol.cuts.extended(cut, [log.run(entry.origin) for entry in histories])
        assert folding.base is not None
        assert folding.base.round
        packed.append(folding.base.pack())
    assert packed[0] == packed[1]
    base = Base.unpack(packed[0])
    other = replace(base, ends=dict(reversed(base.ends.items())))
    assert other.pack() == packed[0]
