"""The schedule `async`: everybody trains at its own pace from what it holds, and all end alike."""

from __future__ import annotations

from itertools import pairwise

import networkx as nx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mesh import Faults, Mesh, agreement, bad_links, history, met, publish, receive, seeding

from peer.dissemination import MODES
from peer.entry import Kind
from peer.events import EntryAdded, Finished, RoundStarted, RoundTimedOut
from peer.wire import Entries

RING = nx.cycle_graph(5)
PACES = {0: 0.1, 1: 0.1, 2: 0.9, 3: 0.05, 4: 0.2}


def assert_all_hold_the_same(mesh: Mesh) -> None:
    assert all(life.gossip.finished == Finished(()) for life in mesh.lives.values())
    assert len(mesh.logs()) == 1
    assert len(mesh.accumulators()) == 1
    protocol = mesh.protocols[0]
    sums = protocol.empty_accumulator()
    for entry in mesh.entries(0):
        if entry.kind is Kind.HISTORY:
            protocol.add(sums, entry)
    assert mesh.accumulators() == {sums.digest()}
    published = {(e.origin, e.round) for e in mesh.entries(0) if e.kind is Kind.HISTORY}
    active = protocol.roster.active
    assert published == {(p, r) for r in range(protocol.rounds) for p in active(r)}
    assert mesh.equivocations() == []


@pytest.mark.parametrize("pro", [False, True])
@pytest.mark.parametrize("gossip", sorted(MODES))
def test_nobody_waits_for_a_straggler(gossip: str, pro: bool) -> None:
    protocol = agreement(5, rounds=5, schedule="async", gossip=gossip, seeding=seeding(pro))
    mesh = Mesh(RING, protocol, step_seconds=PACES)
    mesh.start()
    mesh.run()
    assert_all_hold_the_same(mesh)
    for peer, life in mesh.lives.items():
        starts = [time for time, event in life.events if isinstance(event, RoundStarted)]
        gaps = [later - earlier for earlier, later in pairwise(starts)]
        # A round takes its own steps, and not a moment longer.
        assert gaps == pytest.approx([5 * PACES[peer]] * 4)
        assert life.of(RoundTimedOut) == []
        assert life.gossip.timeouts == 0


def test_a_peer_trains_from_what_it_holds_just_then() -> None:
    protocol = agreement(3, rounds=4, schedule="async")
    gossip, output = met(0, [1], protocol)
    assert [event.round for event in output.events if isinstance(event, RoundStarted)] == [0]
    theirs = [history(protocol, 1, number, number) for number in range(3)]
    assert receive(gossip, Entries(tuple(theirs)), 1, 0.1).events == [
        EntryAdded(entry) for entry in theirs
    ]
    expected = protocol.empty_accumulator()
    for entry in theirs:
        protocol.add(expected, entry)
    assert gossip.rounds.accumulator.digest() == expected.digest()
    output = publish(gossip, 0, 0.5)
    protocol.add(expected, gossip.log.entries(0)[0])
    (started,) = [event for event in output.events if isinstance(event, RoundStarted)]
    assert started.round == 1
    assert started.cut.digest() == expected.digest()


def test_who_is_idle_goes_straight_to_its_next_round() -> None:
    protocol = agreement(8, rounds=10, participation=0.3, schedule="async")
    mesh = Mesh(nx.cycle_graph(8), protocol)
    mesh.start()
    mesh.run()
    assert_all_hold_the_same(mesh)
    for peer, life in mesh.lives.items():
        rounds = [event.round for event in life.of(RoundStarted)]
        assert rounds == [r for r in range(10) if peer in protocol.roster.active(r)]


def test_the_end_waits_for_the_last_straggler() -> None:
    protocol = agreement(5, rounds=4, schedule="async", settle_timeout=60.0)
    mesh = Mesh(RING, protocol, step_seconds={**PACES, 2: 3.0})
    mesh.start()
    mesh.run()
    assert_all_hold_the_same(mesh)
    assert min(life.events[-1][0] for life in mesh.lives.values()) > 60.0


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.floats(0.02, 1.0), min_size=5, max_size=5),
    st.sampled_from(sorted(MODES)),
    bad_links(until=20.0),
    st.floats(0.1, 4.0),
)
def test_any_paces_crashes_and_losses(
    paces: list[float], gossip: str, faults: Faults, crash_at: float
) -> None:
    protocol = agreement(
        5,
        rounds=4,
        schedule="async",
        gossip=gossip,
        settle_timeout=10_000.0,
        round_timeout=10_000.0,
    )
    mesh = Mesh(RING, protocol, step_seconds=dict(enumerate(paces)), faults=faults)
    mesh.start()
    mesh.run(until=crash_at)
    if mesh.gossip(1).finished is None:
        mesh.crash(1)
        mesh.run(until=crash_at + 0.5)
        mesh.start(1)
    mesh.run()
    assert_all_hold_the_same(mesh)
    trained = [pair for pair in mesh.trained if pair[0] != 1]
    assert len(trained) == len(set(trained))
