"""The protocol of one peer: synchronous rounds, their cuts and time-outs, and the end."""

from __future__ import annotations

import dataclasses
import math

import networkx as nx
import pytest
from mesh import Mesh, agreement, hello, history, kinds, met, publish, receive, whole_run

from peer.entry import make_end
from peer.events import EntryAdded, Finished, Output, RoundStarted, RoundTimedOut
from peer.gossip import Gossip
from peer.links import ALIVE_TICKS, HEARTBEAT_TICKS
from peer.log import EntryLog
from peer.wire import Bye, Digest, Entries, Hello, Message, decode

RING = nx.cycle_graph(7)
STAR = nx.star_graph(6)
TORUS = nx.convert_node_labels_to_integers(nx.grid_2d_graph(3, 4, periodic=True))


def test_a_round_holds_everything_of_the_rounds_before_and_nothing_else() -> None:
    """C6: an entry that is early is stored and passed on, but is not in the next cut."""
    protocol = agreement(3, rounds=3)
    gossip, output = met(0, [1, 2], protocol)
    publish(gossip, 0, 0.5)
    for round_ in (0, 1, 2):
        early = history(protocol, 1, round_, round_, fill=0.25 * (round_ + 1))
        output = receive(gossip, Entries((early,)), 1, 0.6)
        assert (2, Entries) in kinds(output)
    assert gossip.log.length(1) == 3
    assert gossip.rounds.current == 0
    assert gossip.rounds.accumulator.digest() == protocol.empty_accumulator().digest()
    assert gossip.waiting_for == (2,)
    last = history(protocol, 2, 0, 0, fill=-0.5)
    output = receive(gossip, Entries((last,)), 2, 0.7)
    expected = protocol.empty_accumulator()
    for entry in (*gossip.log.entries(0), *gossip.log.entries(1, 0, 1), last):
        protocol.add(expected, entry)
    (started,) = [event for event in output.events if isinstance(event, RoundStarted)]
    assert started.round == 1
    assert started.cut.digest() == expected.digest()
    publish(gossip, 1, 1.0)
    output = receive(gossip, Entries((history(protocol, 2, 1, 1),)), 2, 1.1)
    for entry in (*gossip.log.entries(0, 1), *gossip.log.entries(1, 1, 2)):
        protocol.add(expected, entry)
    protocol.add(expected, history(protocol, 2, 1, 1))
    assert gossip.rounds.accumulator.digest() == expected.digest()
    assert started.cut.digest() != expected.digest()


def test_who_is_not_active_follows_without_training() -> None:
    mesh = whole_run(RING, participation=0.3, rounds=6)
    roster = mesh.protocols[0].roster
    for peer, life in mesh.lives.items():
        rounds = {event.round: event.indices is not None for event in life.of(RoundStarted)}
        assert rounds == {round_: peer in roster.active(round_) for round_ in range(6)}


def test_published_draws_follow_from_the_entry() -> None:
    mesh = whole_run(STAR, participation=0.5, rounds=5)
    protocol = mesh.protocols[0]
    cuts: set[tuple[int, bytes]] = set()
    for life in mesh.lives.values():
        me = life.gossip.me
        mine = [e for e in mesh.disks[me] if e.origin == me and not e.is_end]
        trained = [event for event in life.of(RoundStarted) if event.indices is not None]
        for entry, event in zip(mine, trained, strict=True):
            assert entry.round == event.round
            assert protocol.indices(entry).tolist() == event.indices.tolist()
            cuts.add((entry.round, entry.cut))
    # All have started each round from one cut, and each from another.
    assert len(cuts) == len({cut for _, cut in cuts}) == 5


def test_a_silent_peer_is_given_up_and_waited_for_again_once_heard() -> None:
    protocol = agreement(3, rounds=6, round_timeout=5.0)
    gossip, _ = met(0, [1, 2], protocol)

    def share(round_: int, now: float) -> Output:
        publish(gossip, round_, now)
        return receive(gossip, Entries((history(protocol, 1, round_, round_),)), 1, now)

    share(0, 1.0)
    assert gossip.waiting_for == (2,)
    for now in (2.0, 3.0, 4.0, 5.0):
        assert gossip.advance(now).events == []
    events = gossip.advance(6.0).events
    assert events[0] == RoundTimedOut(0, (2,))
    assert isinstance(events[1], RoundStarted)
    # Round 1 does not wait for peer 2 any more.
    assert share(1, 6.5).events[-1].round == 2
    assert gossip.timeouts == 1
    # Its entry of round 0 comes: it is in the accumulator at once, and round 2 waits for it.
    before = gossip.rounds.accumulator.copy()
    late = history(protocol, 2, 0, 0)
    receive(gossip, Entries((late,)), 2, 7.0)
    protocol.add(before, late)
    assert gossip.rounds.accumulator.digest() == before.digest()
    share(2, 7.5)
    assert gossip.waiting_for == (2,)
    assert gossip.rounds.current == 2
    events = receive(gossip, Entries((history(protocol, 2, 1, 2),)), 2, 8.0).events
    assert [event.round for event in events if isinstance(event, RoundStarted)] == [3]
    assert gossip.timeouts == 1


def test_what_came_early_closes_the_rounds_after_a_time_out_too() -> None:
    """Peer 0 is idle in rounds 1 and 2, of which it holds everything when round 0 is given up."""
    roster = agreement(4, participation=0.5).roster
    idle = next(p for p in range(4) if not any(p in roster.active(r) for r in (1, 2)))
    protocol = agreement(4, participation=0.5, rounds=4, round_timeout=5.0)
    silent = next(p for p in roster.active(0) if p not in (*roster.active(1), *roster.active(2)))
    others = [p for p in range(4) if p != idle]
    gossip, _ = met(idle, others, protocol)
    for round_ in (0, 1, 2):
        for peer in protocol.roster.active(round_):
            if peer not in (idle, silent):
                early = history(protocol, peer, gossip.log.length(peer), round_)
                receive(gossip, Entries((early,)), peer, 0.5)
    assert gossip.rounds.current == 0
    gossip.advance(20.0)
    assert gossip.rounds.current == 3


def test_an_entry_of_a_later_round_sets_an_idle_peers_clock() -> None:
    """Others have gone on without whom it waits for, and will not stay for ten time-outs."""
    roster = agreement(4, participation=0.5).roster
    idle = next(p for p in range(4) if p not in roster.active(0))
    protocol = agreement(4, participation=0.5, rounds=4, round_timeout=5.0)
    gossip, _ = met(idle, [p for p in range(4) if p != idle], protocol)
    peer = next(p for p in roster.active(1) if p not in (idle, *roster.active(0)))
    assert gossip.advance(7.0).events == []
    receive(gossip, Entries((history(protocol, peer, 0, 1),)), peer, 7.0)
    assert gossip.advance(11.9).events == []
    assert RoundTimedOut(0, roster.active(0)) in gossip.advance(12.0).events


def test_the_clock_of_a_round_starts_when_the_own_entry_is_out() -> None:
    gossip, _ = met(0, [1], agreement(2, round_timeout=5.0))
    for now in range(1, 100):
        assert gossip.advance(float(now)).events == []
    publish(gossip, 0, 100.0)
    assert gossip.advance(104.9).events == []
    assert RoundTimedOut(0, (1,)) in gossip.advance(105.0).events


def test_a_round_is_published_once() -> None:
    gossip, _ = met(0, [1], agreement(2))
    assert kinds(publish(gossip, 0, 1.0)) == [(1, Entries)]
    with pytest.raises(KeyError):
        publish(gossip, 0, 2.0)
    assert gossip.log.length(0) == 1


def test_an_entry_that_is_brought_back_while_its_round_trains_starts_the_clock() -> None:
    """An earlier life had published it; without the clock a silent peer would stop this one."""
    protocol = agreement(3, round_timeout=5.0)
    gossip, _ = met(0, [1, 2], protocol)
    mine = history(protocol, 0, 0, 0, fill=0.75)
    receive(gossip, Entries((mine, history(protocol, 1, 0, 0))), 1, 0.5)
    publish(gossip, 0, 1.0)
    assert gossip.log.entries(0) == [mine]
    assert gossip.waiting_for == (2,)
    assert RoundTimedOut(0, (2,)) in gossip.advance(6.0).events


def test_a_run_goes_on_with_more_rounds_after_its_end() -> None:
    first = whole_run(RING, rounds=2)
    longer = dataclasses.replace(first.protocols[0], rounds=4)
    second = Mesh(RING, longer)
    for peer in first.graph:
        second.disks[peer] = list(first.disks[peer])
    second.start()
    second.run()
    assert {round_ for _, round_ in second.trained} == {2, 3}
    assert len(second.accumulators()) == 1
    assert second.rejected() == []
    assert all(life.gossip.finished == Finished(()) for life in second.lives.values())
    rounds = [e.round for e in second.entries(0) if e.origin == 3]
    assert rounds == [0, 1, 2, 2, 3, 4]


# The end


def test_everybody_leaves_when_all_have_said_the_same() -> None:
    mesh = whole_run(TORUS)
    last_entry = max(
        t for life in mesh.lives.values() for t, e in life.events if type(e) is EntryAdded
    )
    for life in mesh.lives.values():
        (time, finished) = life.events[-1]
        assert finished == Finished(())
        # The first to know says so at once; nobody has to wait for a tick.
        assert last_entry < time < last_entry + mesh.protocols[0].linger + 0.1
        assert life.gossip.timer is None
    byes = [(s, r) for _, s, r, frame in mesh.sent if decode(frame) == Bye()]
    assert all((s, r) in byes or (r, s) in byes for s, r in mesh.graph.edges)


def test_the_missing_are_named_when_the_end_does_not_come() -> None:
    protocol = agreement(4, round_timeout=3.0, settle_timeout=7.0)
    mesh = Mesh(nx.complete_graph(4), protocol)
    mesh.start()
    mesh.run(until=0.8)
    mesh.crash(2)
    mesh.run()
    for life in mesh.lives.values():
        assert life.gossip.finished is not None
        assert life.gossip.finished.missing == (2,)
        assert life.of(RoundTimedOut) == [RoundTimedOut(1, (2,))]
        ended = [t for t, e in life.events if type(e) is EntryAdded and e.entry.is_end]
        assert life.events[-1][0] == pytest.approx(7.0 + ended[0], abs=0.1)
    assert len(mesh.accumulators()) == 1


def test_the_end_waits_as_long_as_anything_new_comes() -> None:
    protocol = agreement(3, rounds=1, round_timeout=3.0, settle_timeout=7.0)
    gossip, _ = met(0, [1], protocol)
    publish(gossip, 0, 1.0)
    receive(gossip, Entries((history(protocol, 1, 0, 0),)), 1, 1.0)
    ended = 0.0
    for news, now in ((make_end(1, 1, 1), 10.0), (history(protocol, 2, 0, 0), 16.0)):
        while gossip.timer is not None and gossip.timer < now:
            gossip.advance(gossip.timer)
        assert gossip.finished is None
        receive(gossip, Entries((news,)), 1, now)
        ended = now + protocol.settle_timeout
    while gossip.timer is not None:
        last = gossip.timer
        gossip.advance(last)
    assert gossip.finished is not None
    assert gossip.finished.missing == (2,)
    assert last == pytest.approx(ended)


def test_only_silence_counts_against_the_settle_time_out() -> None:
    """A peer that is still on its way through the rounds is heard of, and waited for."""
    protocol = agreement(2, rounds=3, round_timeout=5.0, settle_timeout=10.0)
    gossip, _ = met(0, [1], protocol)
    publish(gossip, 0, 1.0)
    gossip.advance(6.0)
    for round_ in (1, 2):
        publish(gossip, round_, 7.0)
    assert gossip.rounds.over
    for round_, now in ((0, 15.0), (1, 24.0)):
        gossip.advance(now)
        receive(gossip, Entries((history(protocol, 1, round_, round_),)), 1, now)
    gossip.advance(33.9)
    assert gossip.finished is None
    gossip.advance(34.0)
    assert gossip.finished is not None
    assert gossip.finished.missing == (1,)


def complete_pair() -> Gossip:
    """Peer 0 of a run of two, with all entries of both; round 0 was the only one."""
    protocol = agreement(2, rounds=1)
    gossip, _ = met(0, [1], protocol)
    publish(gossip, 0, 1.0)
    receive(gossip, Entries((history(protocol, 1, 0, 0), make_end(1, 1, 1))), 1, 1.0)
    assert gossip.complete
    return gossip


def test_a_neighbour_that_comes_back_at_the_end_is_waited_for_once() -> None:
    protocol = agreement(3, rounds=1, settle_timeout=5.0, round_timeout=100.0)
    gossip, _ = met(0, [1, 2], protocol)
    publish(gossip, 0, 1.0)
    for peer in (1, 2):
        receive(gossip, Entries((history(protocol, peer, 0, 0),)), peer, 1.0)
    assert gossip.rounds.over
    # One of the two has died, and comes back as long after the last entry as may be.
    back = hello(1, protocol, answer=False)
    receive(gossip, back, 1, 5.9)
    gossip.advance(10.8)
    assert gossip.finished is None
    receive(gossip, back, 1, 10.8)
    gossip.advance(10.9)
    assert gossip.finished == Finished((1, 2))


@pytest.mark.parametrize("way", ["reports", "leaves", "is silent", "differs", "is incomplete"])
def test_live_neighbours_must_report_the_same_before_a_peer_leaves(way: str) -> None:
    gossip = complete_pair()
    same = gossip.log.digest()
    message: Message | None = {
        "reports": Digest(same, True),
        "leaves": Bye(),
        "differs": Digest(bytes(8), True),
        "is incomplete": Digest(same, False),
    }.get(way)
    now = 1.5
    while gossip.finished is None:
        if message is not None:
            receive(gossip, message, 1, now)
        timer = gossip.timer
        if timer is not None:
            gossip.advance(timer)
            now = timer
    lived = now - 1.0
    protocol = gossip.protocol
    if way in ("reports", "leaves"):
        assert lived == pytest.approx(0.5 + protocol.linger)
    elif way == "is silent":
        assert ALIVE_TICKS <= lived < ALIVE_TICKS + 3 * protocol.tick
    else:
        assert lived == pytest.approx(protocol.settle_timeout)
    assert gossip.finished == Finished((), (1,) if way == "differs" else ())


def test_after_the_end_nothing_happens() -> None:
    mesh = whole_run(nx.path_graph(2))
    gossip = mesh.gossip(0)
    assert gossip.timer is None
    assert gossip.advance(1e9) == Output([], [])
    before = gossip.log.digest()
    hello = Hello(1, gossip.protocol.digest, bytes(8), True, 0.0)
    for message in (Digest(bytes(8), False), hello, Bye()):
        receive(gossip, message, 1, 1e9)
        assert gossip.timer is None
    assert gossip.log.digest() == before


# Timers


def test_a_peer_wakes_once_a_tick_and_hardly_more() -> None:
    """`Mesh.run` asserts besides that no timer is in the past after it was served.

    Where nothing is new it may sleep for some ticks, but never past a sign of life.
    """
    mesh = Mesh(nx.cycle_graph(4), agreement(4, rounds=5, round_timeout=4.0), step_seconds=2.5)
    mesh.start()
    mesh.run(until=20.0)
    mesh.crash(3)
    mesh.run()
    for life in mesh.lives.values():
        ticks = (life.events[-1][0]) / life.gossip.protocol.tick
        extra = life.gossip.timeouts + 3
        assert math.floor(ticks / HEARTBEAT_TICKS) <= life.wakes <= ticks + extra


def test_a_late_driver_is_not_made_to_catch_up() -> None:
    gossip, _ = met(0, [1], agreement(2, round_timeout=5.0))
    publish(gossip, 0, 0.0)
    output = gossip.advance(1000.0)
    assert len(output.messages) == 1
    assert [type(event) for event in output.events] == [RoundTimedOut, RoundStarted]
    assert gossip.timer == 1001.0


def test_a_log_from_before_is_replayed_before_the_first_round() -> None:
    first = whole_run(nx.path_graph(6))
    gossip, output = met(2, [1, 3], first.protocols[0], EntryLog(first.disks[2]))
    assert gossip.rounds.accumulator.digest() in first.accumulators()
    assert not [event for event in output.events if isinstance(event, RoundStarted | EntryAdded)]
    assert gossip.complete


@pytest.mark.parametrize("active", [True, False])
def test_the_first_round_waits_for_those_who_come_up_late(active: bool) -> None:
    roster = {"participation": 1.0 if active else 0.5}
    protocol = agreement(4, rounds=3, round_timeout=5.0, start_timeout=40.0, **roster)
    me = next(p for p in range(4) if protocol.roster.is_active(p, 0) is active)
    others = [peer for peer in range(4) if peer != me]
    gossip = Gossip(me, others, protocol)
    gossip.start(1.0)
    assert gossip.advance(40.9).events == []
    begun = gossip.advance(41.0).events
    assert [type(event) for event in begun] == [RoundStarted]
    if active:
        publish(gossip, 0, 42.0)
    first = next(peer for peer in protocol.roster.active(0) if peer != me)
    for neighbour in others:
        receive(gossip, hello(neighbour, protocol), neighbour, 42.0)
    receive(gossip, Entries((history(protocol, first, 0, 0),)), first, 43.0)
    waits_from = 42.0 if active else 43.0
    assert gossip.rounds.current == 0
    assert gossip.advance(waits_from + 39.9).events == []
    late = tuple(peer for peer in protocol.roster.active(0) if peer not in (me, first))
    assert gossip.advance(waits_from + 40.0).events[0] == RoundTimedOut(0, late)
    # From the next round on nobody is waited for who has been silent for so long.
    assert gossip.timeouts == 2


def test_who_comes_back_waits_no_longer_than_in_any_round() -> None:
    protocol = agreement(2, rounds=3, round_timeout=5.0, start_timeout=40.0)
    log = EntryLog()
    log.add(history(protocol, 0, 0, 0))
    gossip = Gossip(0, [1], protocol, log)
    gossip.start(1.0)
    assert not any(isinstance(e, RoundStarted) for e in gossip.advance(5.9).events)
    assert gossip.timeouts == 0
    gossip.advance(6.0)
    assert gossip.timeouts == 1
