"""Conduct and quotas: honest traffic never bans anybody, liars and floods do."""

from __future__ import annotations

import networkx as nx
import pytest
from mesh import Faults, Mesh, agreement, history, met, receive

from peer.dissemination import MODES
from peer.entry import NUMBER_LIMIT
from peer.events import Banned, EntryAdded, Finished, Rejected
from peer.gossip import Gossip
from peer.quota import BYTES_PER_TICK, MESSAGES_PER_TICK, MOST_MESSAGES, OFFENCE, Quota
from peer.wire import Bye, Digest, Entries, Hello, Prune, Versions, Want, encode

# The allowance


def test_what_is_new_is_paid_for_by_being_new() -> None:
    protocol = agreement(4)
    quota = Quota(protocol, 0.0)
    assert all(quota.pay(0.0, entries, 1000, 4) for entries in range(10_000))


def test_the_allowance_grows_with_time_up_to_a_limit() -> None:
    protocol = agreement(4)
    quota = Quota(protocol, 0.0)
    assert quota.pay(0.0, 0, 0, MOST_MESSAGES)
    for tick in range(1, 200):
        assert quota.pay(float(tick), 0, BYTES_PER_TICK // 2, MESSAGES_PER_TICK)
    spent = Quota(protocol, 0.0)
    messages = 0
    while spent.pay(0.0, 0, 0, 1):
        messages += 1
    assert MOST_MESSAGES <= messages <= MOST_MESSAGES + 100
    # Silence of any length earns no more than that.
    messages = 0
    while spent.pay(1e9, 0, 0, 1):
        messages += 1
    assert MOST_MESSAGES <= messages <= MOST_MESSAGES + 100


def test_bytes_are_bounded_too() -> None:
    quota = Quota(agreement(4), 0.0)
    sent = 0
    while quota.pay(0.0, 0, 2**20, 1):
        sent += 1
    assert 4 <= sent <= 16


# Honest peers


@pytest.mark.parametrize("gossip", sorted(MODES))
@pytest.mark.parametrize(
    ("graph", "faults"),
    [
        (nx.complete_graph(14), Faults()),
        (nx.complete_graph(8), Faults(0.2, 0.3, 1.0, until=30.0, seed=2)),
        (nx.star_graph(12), Faults(0.1, 0.1, 0.5, until=30.0, seed=3)),
        (nx.random_regular_graph(4, 16, seed=1), Faults(0.05, 0.0, 0.3, until=30.0, seed=4)),
    ],
    ids=["complete", "lossy complete", "star", "regular"],
)
def test_nobody_honest_is_banned_or_rejected(graph: nx.Graph, faults: Faults, gossip: str) -> None:
    protocol = agreement(
        len(graph), gossip=gossip, rounds=4, round_timeout=500.0, settle_timeout=500.0
    )
    mesh = Mesh(graph, protocol, faults=faults)
    mesh.start()
    mesh.run()
    assert mesh.bans() == []
    assert mesh.rejected() == []
    assert all(life.gossip.finished == Finished(()) for life in mesh.lives.values())


@pytest.mark.parametrize("schedule", ["sync", "async"])
def test_nobody_is_banned_where_steps_take_hardly_any_time(schedule: str) -> None:
    """Thirty rounds within a tick: what is sent hangs on what is new, not on time."""
    protocol = agreement(8, rounds=30, local_steps=1, schedule=schedule, tick=5.0)
    mesh = Mesh(nx.complete_graph(8), protocol, step_seconds=0.001)
    mesh.start()
    mesh.run()
    assert mesh.bans() == []
    assert len(mesh.accumulators()) == 1


def test_nobody_is_banned_while_all_wait_for_a_long_time() -> None:
    protocol = agreement(4, rounds=2, round_timeout=1e5)
    mesh = Mesh(nx.complete_graph(4), protocol, step_seconds={0: 0.1, 1: 0.1, 2: 4000.0, 3: 0.1})
    mesh.start()
    mesh.run()
    assert mesh.bans() == []
    assert all(life.gossip.finished == Finished(()) for life in mesh.lives.values())
    # And it costs little: a sign of life in 16 ticks.
    seconds = mesh.now
    assert len(mesh.sent) < 12 * (seconds / 16) * 1.5 + 500


# Others


def flooded(gossip: Gossip, frame: bytes, rate: float, seconds: float) -> int | None:
    """Send one frame again and again; return how many it took until the ban."""
    for number in range(int(rate * seconds)):
        output = gossip.receive(frame, 1, 1.0 + number / rate)
        if any(isinstance(event, Banned) for event in output.events):
            return number + 1
    return None


def test_whatever_is_sent_for_ever_leads_to_a_ban() -> None:
    protocol = agreement(4, rounds=6)
    entry = history(protocol, 2, 0, 0)
    for message in (
        Digest(bytes(8), False),
        Versions({0: 1}),
        Hello(1, protocol.digest, bytes(8), False, 0.0),
        Want(((2, 0, 1),)),
        Prune((2,)),
        Entries((entry,)),
        Bye(),
    ):
        gossip, _ = met(0, [1, 2], protocol)
        receive(gossip, Entries((entry,)), 2, 0.5)
        taken = flooded(gossip, encode(message), 1000.0, 10.0)
        assert taken is not None, message
        assert MOST_MESSAGES / 2 < taken < 4 * MOST_MESSAGES
        assert receive(gossip, Entries((history(protocol, 1, 0, 0),)), 1, 20.0).events == []
        # Only the one that has sent it.
        assert receive(gossip, Entries((history(protocol, 3, 0, 0),)), 2, 20.0).events != []


@pytest.mark.parametrize(
    "frame",
    [b"rubbish", encode(Versions({9: 1})), encode(Hello(3, bytes(8), bytes(8), False, 0.0))],
)
def test_offences_lead_to_a_ban_sooner(frame: bytes) -> None:
    gossip, _ = met(0, [1, 2], agreement(4))
    taken = flooded(gossip, frame, 1000.0, 10.0)
    assert taken is not None
    assert taken <= MOST_MESSAGES / OFFENCE + 2


def test_a_few_offences_in_a_long_time_are_forgiven() -> None:
    gossip, _ = met(0, [1, 2], agreement(4))
    assert flooded(gossip, b"rubbish", 0.1, 2000.0) is None
    assert gossip.rejections[1] == 200


def test_without_disconnection_everything_is_borne() -> None:
    protocol = agreement(4, disconnects=False)
    gossip, _ = met(0, [1, 2], protocol)
    assert flooded(gossip, b"rubbish", 1000.0, 5.0) is None
    assert gossip.rejections[1] == 5000
    entry = history(protocol, 1, 0, 0)
    assert receive(gossip, Entries((entry,)), 1, 9.0).events == [EntryAdded(entry)]


def test_a_stranger_is_counted_and_nobody_is_charged() -> None:
    gossip, _ = met(0, [1, 2], agreement(4))
    for number in range(5000):
        output = gossip.receive(encode(Bye()), 3, 1.0 + number / 1000)
        assert [type(event) for event in output.events] == [Rejected]
    assert gossip.rejections == {3: 5000}


def test_made_up_origins_fill_no_memory() -> None:
    gossip, _ = met(0, [1, 2], agreement(4, disconnects=False))
    wide = tuple(range(NUMBER_LIMIT - 1000, NUMBER_LIMIT))
    receive(gossip, Prune(wide), 1, 1.0)
    receive(gossip, Want(tuple((o, 0, 1) for o in wide), graft=True), 1, 1.0)
    assert gossip.rejections[1] == 2


def test_a_run_goes_on_when_a_neighbour_turns_bad() -> None:
    """Peer 0 floods its neighbours in the middle of the run; they shut it out and end alike."""
    protocol = agreement(6, rounds=6, round_timeout=2.0, settle_timeout=20.0)
    mesh = Mesh(nx.complete_graph(6), protocol)
    mesh.start()
    for number in range(2000):
        for peer in range(1, 6):
            mesh.at(0.7 + number / 1000, lambda p=peer: mesh.deliver(0, p, b"\x91\x63"))
    mesh.run()
    others = [mesh.gossip(peer) for peer in range(1, 6)]
    assert {event.neighbour for p in range(1, 6) for event in mesh.lives[p].of(Banned)} == {0}
    assert len({gossip.log.digest() for gossip in others}) == 1
    assert len({gossip.rounds.accumulator.digest() for gossip in others}) == 1
    assert all(gossip.rounds.over for gossip in others)
