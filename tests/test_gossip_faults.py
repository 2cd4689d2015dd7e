"""Lost, doubled and overtaking frames, crashes and partitions: all end with the same entries."""

from __future__ import annotations

import random
from itertools import count
from typing import Any

import networkx as nx
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mesh import Faults, Life, Mesh, agreement, bad_links, entries_in, seeding
from numpy.typing import NDArray

from peer.accumulator import Accumulator
from peer.dissemination import MODES
from peer.entry import Entry, Kind
from peer.events import EntryAdded, Finished, RoundStarted, RoundTimedOut, SnapshotTaken
from peer.trainer import LocalRound
from peer.wire import decode

KINDS = ["path", "ring", "star", "complete", "tree", "random"]


def graph_of(kind: str, peers: int, seed: int) -> nx.Graph:
    if kind == "random":
        return nx.connected_watts_strogatz_graph(peers, 2, 0.4, seed=seed)
    made = {
        "path": nx.path_graph,
        "ring": nx.cycle_graph,
        "star": lambda n: nx.star_graph(n - 1),
        "complete": nx.complete_graph,
        "tree": lambda n: nx.random_labeled_tree(n, seed=seed),
    }
    return made[kind](peers)


class Forgetful:
    """A trainer that never makes the same history twice, so training a round again would show."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._calls = count()

    def train(
        self, peer: int, round_: int, cut: Accumulator, indices: NDArray[np.int64]
    ) -> LocalRound:
        del cut
        source = random.Random(f"{self._seed}/{peer}/{round_}/{next(self._calls)}")
        return LocalRound(np.array([source.uniform(-1, 1) for _ in indices]), 0.0)


def assert_all_hold_the_same(mesh: Mesh) -> None:
    """The same entries, the same sums, and the sums are those of the entries."""
    assert {life.gossip.finished for life in mesh.lives.values()} == {Finished(())}
    assert len(mesh.logs()) == 1
    assert len(mesh.accumulators()) == 1
    gossip = mesh.gossip(0)
    protocol = gossip.protocol
    expected = protocol.empty_accumulator()
    entries = mesh.entries(0)
    assert len(entries) == len(gossip.log)
    random.Random(1).shuffle(entries)
    for entry in entries:
        if entry.kind is Kind.HISTORY:
            protocol.add(expected, entry)
    assert gossip.rounds.accumulator.digest() == expected.digest()
    published = {(e.origin, e.round) for e in entries if e.kind is Kind.HISTORY}
    roster = protocol.roster
    assert published == {(p, r) for r in range(protocol.rounds) for p in roster.active(r)}
    assert len(entries) == len(published) + len(mesh.lives)
    assert mesh.equivocations() == []


# Faults of links

# Who leaves must have been heard by those who stay, so losses end, if later than most runs.
faults = bad_links(until=20.0, loss=0.35, duplication=0.5, jitter=1.5)
runs = st.fixed_dictionaries(
    {
        "kind": st.sampled_from(KINDS),
        "peers": st.integers(3, 7),
        "faults": faults,
        "pro": st.booleans(),
        "participation": st.sampled_from([1.0, 0.5]),
        "width": st.sampled_from([1, 2, 4]),
        "gossip": st.sampled_from(sorted(MODES)),
    }
)


def bad_run(run: dict[str, Any]) -> Mesh:
    graph = graph_of(run["kind"], run["peers"], run["faults"].seed % 1000)
    protocol = agreement(
        len(graph),
        seeding=seeding(run["pro"]),
        participation=run["participation"],
        gradient_bytes=run["width"],
        gossip=run["gossip"],
        # Long, so that nobody is given up and every loss has to be repaired.
        round_timeout=10_000.0,
        settle_timeout=10_000.0,
    )
    mesh = Mesh(graph, protocol, faults=run["faults"], trainer=Forgetful(run["faults"].seed))
    mesh.start()
    mesh.run()
    return mesh


@settings(max_examples=60, deadline=None)
@given(runs)
def test_every_loss_is_repaired(run: dict[str, Any]) -> None:
    mesh = bad_run(run)
    assert_all_hold_the_same(mesh)
    assert not any(life.gossip.timeouts for life in mesh.lives.values())
    cuts = {
        (event.round, event.cut.digest())
        for life in mesh.lives.values()
        for event in life.of(RoundStarted)
    }
    assert len(cuts) == len({round_ for round_, _ in cuts}), "every cut was the same for all (C6)"


@pytest.mark.slow
@settings(max_examples=500, deadline=None, suppress_health_check=list(HealthCheck))
@given(runs)
def test_every_loss_is_repaired_in_500_runs(run: dict[str, Any]) -> None:
    assert_all_hold_the_same(bad_run(run))


@settings(max_examples=40, deadline=None)
@given(runs, st.floats(0.6, 3.0))
def test_time_outs_change_the_cuts_but_not_the_set(run: dict[str, Any], timeout: float) -> None:
    """C7: impatient peers go on without what is late; it is added when it comes, everywhere."""
    graph = graph_of(run["kind"], run["peers"], run["faults"].seed % 1000)
    protocol = agreement(
        len(graph), gossip=run["gossip"], round_timeout=timeout, settle_timeout=10_000.0
    )
    mesh = Mesh(graph, protocol, faults=run["faults"])
    mesh.start()
    mesh.run()
    assert_all_hold_the_same(mesh)


def test_losses_cost_no_more_than_they_must() -> None:
    """One lost push on a path comes once more, as does what came after it from its origin."""
    graph = nx.path_graph(4)
    lost: list[bytes] = []

    def blocked(sender: int, receiver: int, now: float) -> bool:
        # The first entry on its way from 1 to 2 after the round has begun.
        frame = mesh.sent[-1][3]
        if (sender, receiver) == (1, 2) and now > 0.4 and not lost and list(entries_in(frame)):
            lost.append(frame)
            return True
        return False

    mesh = Mesh(graph, agreement(4, rounds=2), blocked=blocked)
    mesh.start()
    mesh.run()
    assert_all_hold_the_same(mesh)
    assert len(lost) == 1
    (entry,) = entries_in(lost[0])
    pushes = mesh.pushes()
    assert pushes[entry.content] == 4
    for other in mesh.entries(0):
        assert pushes[other.content] <= (4 if other.origin == entry.origin else 3)


# Partitions and late entries


def test_two_halves_that_were_parted_end_alike() -> None:
    halves = {0: 0, 1: 0, 2: 0, 3: 1, 4: 1, 5: 1}
    graph = nx.cycle_graph(6)
    protocol = agreement(6, rounds=8, round_timeout=2.0)
    mesh = Mesh(
        graph,
        protocol,
        blocked=lambda s, r, now: halves[s] != halves[r] and 0.3 < now < 6.0,
    )
    mesh.start()
    mesh.run()
    assert_all_hold_the_same(mesh)
    for peer, life in mesh.lives.items():
        others = tuple(p for p in halves if halves[p] != halves[peer])
        assert life.of(RoundTimedOut) == [RoundTimedOut(0, others)]


def test_a_late_entry_is_added_late_everywhere_alike() -> None:
    """Peer 2 is cut off for three rounds; what it published meanwhile counts in the end."""
    protocol = agreement(4, rounds=10, round_timeout=1.0)
    calm = Mesh(nx.complete_graph(4), protocol)
    mesh = Mesh(
        nx.complete_graph(4), protocol, blocked=lambda s, r, now: 2 in (s, r) and 0.3 < now < 3.2
    )
    for each in (calm, mesh):
        each.start()
        each.run()
    assert_all_hold_the_same(mesh)
    assert mesh.accumulators() == calm.accumulators()
    for peer in (0, 1, 3):
        assert mesh.lives[peer].of(RoundTimedOut) == [RoundTimedOut(0, (2,))]
        when = {
            e.entry.round: time
            for time, e in mesh.lives[peer].events
            if type(e) is EntryAdded and e.entry.origin == 2
        }
        assert when[0] > 3.2
        started = {e.round: time for time, e in mesh.lives[peer].events if type(e) is RoundStarted}
        assert started[3] < when[0]
        # Heard again, it is waited for again.
        assert when[9] < mesh.lives[peer].events[-1][0]
        assert started[9] >= when[8]


# Crashes


def published_by(peer: int, life: Life) -> list[Entry]:
    """A peer's own entries in one of its lives."""
    return [event.entry for event in life.of(EntryAdded) if event.entry.origin == peer]


def second_life(lose: str, crash_at: float, down: float, **changes: Any) -> Mesh:
    mesh = Mesh(nx.cycle_graph(5), agreement(5, rounds=4, **changes), trainer=Forgetful(3))
    mesh.start()
    mesh.run(until=crash_at)
    mesh.crash(1)
    disk = mesh.disks[1]
    if lose == "others":
        mesh.disks[1] = [entry for entry in disk if entry.origin == 1]
    elif lose == "half":
        kept = len(disk) // 2
        mesh.disks[1] = [e for place, e in enumerate(disk) if place < kept or e.origin == 1]
    elif lose == "everything":
        mesh.disks[1] = []
    mesh.run(until=crash_at + down)
    mesh.start(1)
    mesh.run()
    return mesh


@pytest.mark.parametrize("participation", [1.0, 0.6])
@pytest.mark.parametrize("lose", ["nothing", "others", "half", "everything"])
@pytest.mark.parametrize("crash_at", [0.005, 0.3, 0.523, 0.535, 1.2, 2.0])
def test_a_peer_that_comes_back_goes_on(lose: str, crash_at: float, participation: float) -> None:
    """C9: no logged round is trained again, no sequence number gets a second content."""
    mesh = second_life(lose, crash_at, 0.7, participation=participation)
    assert_all_hold_the_same(mesh)
    (first,) = mesh.past_lives
    logged = {e.round for e in published_by(1, first) if not e.is_end}
    trained = {e.round for e in mesh.lives[1].of(RoundStarted) if e.indices is not None}
    if lose != "everything":
        assert not trained & logged
    assert mesh.rejected() == []
    # Nobody waits in vain, neither for its neighbours nor for its own log.
    assert not any(life.gossip.timeouts for life in mesh.lives.values())


def test_own_entries_that_the_disk_has_lost_are_adopted_from_neighbours() -> None:
    mesh = second_life("everything", 1.7, 0.3)
    assert_all_hold_the_same(mesh)
    (first,) = mesh.past_lives
    published = published_by(1, first)
    assert len(published) == 3
    adopted = published_by(1, mesh.lives[1])
    (base,) = [event.base for event in mesh.lives[1].of(SnapshotTaken)]
    assert adopted[: 3 - base.versions[1]] == published[base.versions[1] :]
    assert mesh.equivocations() == []


def test_an_entry_that_was_stored_but_never_sent_is_pulled() -> None:
    mesh = Mesh(
        nx.path_graph(3),
        agreement(3, rounds=2),
        trainer=Forgetful(1),
        blocked=lambda s, _r, now: s == 0 and 0.4 < now < 1.0,
    )
    mesh.start()
    mesh.run(until=0.6)
    (entry,) = [e for e in mesh.disks[0] if e.origin == 0]
    mesh.crash(0)
    mesh.run(until=1.0)
    assert mesh.gossip(1).log.length(0) == 0
    mesh.start(0)
    mesh.run()
    assert_all_hold_the_same(mesh)
    assert next(e for e in mesh.disks[2] if e.origin == 0) == entry
    assert (0, 0) not in mesh.trained[3:]


crashes = st.lists(
    st.tuples(st.floats(0.01, 1.5), st.integers(0, 4), st.floats(0.0, 2.0), st.integers(0, 40)),
    min_size=1,
    max_size=3,
)


@settings(max_examples=50, deadline=None)
@given(
    crashes,
    faults,
    st.booleans(),
    st.sampled_from(["ring", "complete", "star"]),
    st.sampled_from(sorted(MODES)),
)
def test_crashes_on_bad_links(
    crashes: list[tuple[float, int, float, int]], faults: Faults, pro: bool, kind: str, mode: str
) -> None:
    """A crash may lose the end of what came from others, never an own entry (C9)."""
    protocol = agreement(
        5,
        seeding=seeding(pro),
        gossip=mode,
        round_timeout=10_000.0,
        settle_timeout=10_000.0,
        rounds=4,
    )
    graph = graph_of(kind, 5, 0)
    mesh = Mesh(graph, protocol, faults=faults, trainer=Forgetful(faults.seed), step_seconds=0.3)
    mesh.start()
    for wait, peer, down, kept in crashes:
        mesh.run(until=mesh.now + wait)
        # Who comes back after the others have left finds nobody.
        if any(len(life.gossip.log) > 8 for life in mesh.lives.values()):
            break
        mesh.crash(peer)
        disk = mesh.disks[peer]
        mesh.disks[peer] = [e for at, e in enumerate(disk) if at < kept or e.origin == peer]
        mesh.run(until=mesh.now + down)
        mesh.start(peer)
    mesh.run()
    assert_all_hold_the_same(mesh)


def test_frames_of_every_kind_were_lost_somewhere() -> None:
    """The faults above reach all kinds of messages, or they would prove little."""
    mesh = bad_run(
        {
            "kind": "complete",
            "peers": 6,
            "faults": Faults(0.3, 0.3, 0.5, seed=4),
            "pro": True,
            "participation": 1.0,
            "width": 4,
            "gossip": "tree",
        }
    )
    kinds = {type(decode(frame)).__name__ for *_, frame in mesh.sent}
    assert kinds == {
        "Hello",
        "Entries",
        "Digest",
        "Versions",
        "Want",
        "Announce",
        "Prune",
        "Bye",
    }
    assert sum(life.gossip.duplicates for life in mesh.lives.values()) > 0
