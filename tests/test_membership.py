"""Peers that join, leave and are evicted at stated rounds; nobody waits for who is not there."""

from __future__ import annotations

from typing import Any

import networkx as nx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mesh import Faults, Mesh, agreement, bad_links

from peer.dissemination import MODES
from peer.entry import Kind
from peer.events import EntryAdded, Finished, RoundStarted, RoundTimedOut
from peer.roster import Roster

PEERS = 6
ROUNDS = 8
COMPLETE = nx.complete_graph(PEERS)
TORUS = nx.convert_node_labels_to_integers(nx.grid_2d_graph(3, 3, periodic=True))


def changing(
    graph: nx.Graph,
    *,
    joins: dict[int, int] | None = None,
    leaves: dict[int, int] | None = None,
    evictions: dict[int, int] | None = None,
    faults: Faults | None = None,
    **changes: Any,
) -> Mesh:
    """A run whose roster changes: peer -> round from which it is a member, or is none any more.

    Who joins starts a round before; who is evicted dies then.
    """
    joins, leaves, evictions = joins or {}, leaves or {}, evictions or {}
    last = leaves | evictions
    protocol = agreement(
        len(graph),
        first=tuple(joins.get(peer, 0) for peer in graph),
        last=tuple(last.get(peer) for peer in graph),
        evicted=frozenset(evictions),
        **({"rounds": ROUNDS, "round_timeout": 300.0} | changes),
    )
    mesh = Mesh(graph, protocol, absent=joins, faults=faults)
    for peer, round_ in joins.items():
        mesh.at_round(max(0, round_ - 1), lambda p=peer: mesh.start(p))
    for peer, round_ in evictions.items():
        mesh.at_round(max(0, round_ - 1), lambda p=peer: mesh.crash(p))
    mesh.start()
    mesh.run()
    return mesh


def assert_all_agree(mesh: Mesh, gone: frozenset[int] = frozenset()) -> None:
    """Those who stay hold the same, and all that the roster asks for."""
    protocol = mesh.protocols[0]
    roster = protocol.roster
    staying = [p for p in mesh.graph if roster.last_of(p, protocol.rounds) == protocol.rounds]
    assert len({mesh.gossip(peer).log.digest() for peer in staying}) == 1
    assert len({mesh.gossip(peer).rounds.accumulator.digest() for peer in staying}) == 1
    assert all(life.gossip.finished == Finished(()) for life in mesh.lives.values())
    entries = mesh.entries(staying[0])
    assert len(entries) == len(mesh.gossip(staying[0]).log)
    published = {(e.origin, e.round) for e in entries if e.kind is Kind.HISTORY}
    expected = {(p, r) for r in range(protocol.rounds) for p in roster.active(r)}
    assert published <= expected
    assert {p for p, _ in expected - published} <= gone
    ends = {e.origin: e.round for e in entries if e.is_end}
    assert ends == {
        p: roster.last_of(p, protocol.rounds) for p in mesh.graph if p not in roster.evicted
    }
    sums = protocol.empty_accumulator()
    for entry in entries:
        if entry.kind is Kind.HISTORY:
            protocol.add(sums, entry)
    assert mesh.gossip(staying[0]).rounds.accumulator.digest() == sums.digest()
    assert mesh.rejected() == []
    assert mesh.bans() == []


def timed_out(mesh: Mesh) -> list[RoundTimedOut]:
    return [event for life in mesh.lives.values() for event in life.of(RoundTimedOut)]


@pytest.mark.parametrize("gossip", sorted(MODES))
@pytest.mark.parametrize("graph", [COMPLETE, TORUS], ids=["complete", "torus"])
def test_a_peer_joins_at_a_round(graph: nx.Graph, gossip: str) -> None:
    mesh = changing(graph, joins={4: 5}, gossip=gossip)
    assert_all_agree(mesh)
    assert timed_out(mesh) == []
    assert {r for p, r in mesh.trained if p == 4} == set(range(5, ROUNDS))


@pytest.mark.parametrize("gossip", sorted(MODES))
@pytest.mark.parametrize("graph", [COMPLETE, TORUS], ids=["complete", "torus"])
def test_a_peer_leaves_at_a_round(graph: nx.Graph, gossip: str) -> None:
    mesh = changing(graph, leaves={2: 3}, gossip=gossip)
    assert_all_agree(mesh)
    assert timed_out(mesh) == []
    assert {r for p, r in mesh.trained if p == 2} == {0, 1, 2}
    left = mesh.lives[2].events[-1]
    assert left[1] == Finished(())
    if gossip != "antientropy":
        # It goes when its neighbours have had all that it had, not when the run ends. Where all
        # are a tick behind each other there is no such moment.
        assert left[0] < min(mesh.lives[p].events[-1][0] for p in graph if p != 2) - 1.0


@pytest.mark.parametrize("gossip", sorted(MODES))
def test_a_dead_peer_is_waited_for_until_its_eviction_at_most(gossip: str) -> None:
    mesh = changing(COMPLETE, evictions={3: 4}, gossip=gossip, round_timeout=2.0)
    assert_all_agree(mesh, gone=frozenset({3}))
    assert all(event.missing == (3,) and event.round == 3 for event in timed_out(mesh))
    assert all(Finished(()) == life.gossip.finished for life in mesh.lives.values())


def test_roster_changes_come_together() -> None:
    mesh = changing(
        TORUS, joins={1: 2, 8: 6}, leaves={0: 4, 5: 4}, evictions={7: 5}, round_timeout=3.0
    )
    assert_all_agree(mesh, gone=frozenset({7}))
    assert {event.missing for event in timed_out(mesh)} <= {(7,)}


def test_weights_follow_the_members() -> None:
    mesh = changing(COMPLETE, joins={5: 3}, leaves={0: 6})
    protocol = mesh.protocols[0]
    for round_ in range(ROUNDS):
        weights = [e.weight for e in mesh.entries(1) if not e.is_end and e.round == round_]
        assert sum(weights) == pytest.approx(protocol.step_size, rel=1e-6)
        assert len(weights) == len(protocol.roster.members(round_))


def test_a_latecomer_starts_from_its_neighbours_base() -> None:
    """What was folded before it came does not come entry by entry."""
    mesh = changing(COMPLETE, joins={4: 14}, rounds=16)
    assert_all_agree(mesh)
    assert mesh.bases[4].round > 8
    own = [event.entry for event in mesh.lives[4].of(EntryAdded)]
    assert min(entry.round for entry in own) >= mesh.bases[4].round
    assert min(event.round for event in mesh.lives[4].of(RoundStarted)) < 14


def test_a_latecomer_that_loses_its_disk_comes_again() -> None:
    protocol = agreement(PEERS, rounds=16, round_timeout=300.0, first=(0, 0, 0, 0, 10, 0))
    mesh = Mesh(COMPLETE, protocol, absent=[4])
    mesh.at_round(9, lambda: mesh.start(4))
    mesh.start()
    mesh.run(until=6.8)
    assert mesh.gossip(4).rounds.current >= 12
    mesh.crash(4)
    mesh.disks[4].clear()
    mesh.bases.pop(4, None)
    mesh.run(until=7.0)
    mesh.start(4)
    mesh.run()
    assert_all_agree(mesh)
    assert mesh.equivocations() == []


@settings(max_examples=25, deadline=None)
@given(
    st.integers(0, PEERS - 1),
    st.integers(1, ROUNDS - 1),
    st.integers(1, PEERS - 1),
    st.integers(1, ROUNDS - 1),
    st.sampled_from(sorted(MODES)),
    bad_links(until=30.0, loss=0.25, jitter=0.8),
    st.booleans(),
)
def test_any_join_and_leave_on_bad_links(
    one: int, first: int, step: int, last: int, gossip: str, faults: Faults, signed: bool
) -> None:
    other = (one + step) % PEERS
    mesh = changing(
        COMPLETE,
        joins={one: first},
        leaves={other: last},
        gossip=gossip,
        faults=faults,
        signed=signed,
        round_timeout=10_000.0,
        settle_timeout=10_000.0,
    )
    assert_all_agree(mesh)


# The roster by itself


rosters = st.integers(1, 12).flatmap(
    lambda n: st.builds(
        Roster,
        rows=st.just((1,) * n),
        participation=st.sampled_from([1.0, 0.5]),
        root_seed=st.integers(0, 9),
        first=st.just(()) | st.lists(st.integers(0, 5), min_size=n, max_size=n).map(tuple),
        last=st.just(())
        | st.lists(st.none() | st.integers(1, 9), min_size=n, max_size=n).map(tuple),
    )
)


@given(rosters, st.integers(0, 10), st.integers(0, 10))
def test_members_are_those_between_their_first_and_last_round(
    roster: Roster, round_: int, later: int
) -> None:
    def present(peer: int, when: int) -> bool:
        first = roster.first[peer] if roster.first else 0
        last = roster.last[peer] if roster.last else None
        return first <= when and (last is None or when < last)

    everybody = range(len(roster.rows))
    assert list(roster.members(round_)) == [p for p in everybody if present(p, round_)]
    until = max(round_, later)
    assert list(roster.staying(round_, until)) == [
        p for p in everybody if present(p, round_) and present(p, until)
    ]
    assert set(roster.active(round_)) <= set(roster.members(round_))
    before = roster.members(round_ - 1) if round_ else roster.members(0)
    changed = list(before) != list(roster.members(round_))
    assert not changed or round_ in roster.changes()
