"""Nothing that a neighbour sends can kill, poison or confuse a peer (C8)."""

from __future__ import annotations

import random
from typing import Any

import networkx as nx
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mesh import Mesh, agreement, history, met
from test_wire import damaged, nearly_messages

from peer.entry import Entry, make_end, pack_indices
from peer.errors import MalformedMessage
from peer.events import EntryAdded, Finished, Output, Rejected
from peer.gossip import Gossip
from peer.log import EntryLog
from peer.protocol import Protocol
from peer.units import SUM_LIMIT
from peer.wire import (
    BATCH_BYTES,
    Bye,
    Digest,
    Entries,
    Hello,
    Message,
    Versions,
    Want,
    decode,
    encode,
)

NAN = float("nan")


def state(gossip: Gossip) -> tuple[Any, ...]:
    return (
        gossip.log.digest(),
        gossip.log.versions(),
        gossip.rounds.current,
        gossip.rounds.accumulator.digest(),
        gossip.waiting_for,
        gossip.complete,
    )


def in_the_middle(**changes: Any) -> Gossip:
    """Peer 0 of five, met by its neighbours 1 and 2, in round 1, with an early entry of round 2."""
    protocol = agreement(5, rounds=4, **changes)
    gossip, _ = met(0, [1, 2], protocol)
    first = protocol.roster.active(0)
    for peer in first:
        entry = history(protocol, peer, 0, 0, fill=0.125 * peer)
        gossip.receive(encode(Entries((entry,))), 1, 1.0)
    early = history(protocol, 3, gossip.log.length(3), 2)
    gossip.receive(encode(Entries((early,))), 1, 1.0)
    assert gossip.rounds.current == 1
    assert not gossip.rejections
    return gossip


def refused(gossip: Gossip, frame: bytes, reason: str, sender: int = 1) -> Output:
    before, counted = state(gossip), gossip.rejections[sender]
    output = gossip.receive(frame, sender, 2.0)
    assert state(gossip) == before
    assert gossip.rejections[sender] == counted + 1
    (event,) = output.events
    assert isinstance(event, Rejected)
    assert event.neighbour == sender
    assert reason in event.reason
    assert "\n" not in event.reason
    return output


# Frames


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        (b"", "not msgpack"),
        (b"\xc1", "not msgpack"),
        (b"\x91\x63", "no such message"),
        (b"\xff" * 1000, "not msgpack"),
        (b"\x91" * 5000, "not msgpack"),
        (bytes(2**21 + 1), "at most"),
        (encode(Hello(2, {}, {}, False)), "greets on the link"),
        (encode(Hello(1, {}, {}, False)).replace(b"\x96\x01\x01", b"\x96\x01\x02"), "version 2"),
        (encode(Versions({5: 1})), "not on the roster"),
        (encode(Versions({2**32 - 1: 1})), "not on the roster"),
        (encode(Versions({2: 9})), "a log has 8 at most"),
    ],
)
def test_a_frame_that_makes_no_sense_is_rejected(frame: bytes, reason: str) -> None:
    assert refused(in_the_middle(), frame, reason).messages == []


def test_a_stranger_is_rejected() -> None:
    gossip = in_the_middle()
    entry = history(gossip.protocol, 4, 1, 1)
    for message in (Entries((entry,)), Bye(), Hello(4, gossip.protocol.fields, {}, False)):
        assert refused(gossip, encode(message), "no neighbour", sender=4).messages == []


def test_a_greeting_with_a_version_vector_from_elsewhere_opens_nothing() -> None:
    protocol = agreement(3)
    gossip = Gossip(0, [1], protocol)
    gossip.start(0.0)
    for versions in ({3: 1}, {1: 2 * protocol.rounds + 1}):
        refused(gossip, encode(Hello(1, protocol.fields, versions, False)), "")
    refused(gossip, encode(Bye()), "HELLO")


def test_nobody_is_served_before_the_greeting() -> None:
    protocol = agreement(3)
    mine = EntryLog([history(protocol, 0, 0, 0)])
    gossip = Gossip(0, [1, 2], protocol, mine)
    gossip.start(0.0)
    entry = history(protocol, 1, 0, 0)
    messages: tuple[Message, ...] = (
        Entries((entry,)),
        Digest(bytes(8), True),
        Versions({1: 1}),
        Want(((0, 0, 1),)),
        Bye(),
    )
    for message in messages:
        assert refused(gossip, encode(message), "has not said HELLO").messages == []


# Entries


def with_steps(protocol: Protocol, values: list[float], scale: int = 0, **changes: Any) -> Entry:
    kind = {4: "<f4", 2: "<f2"}.get(protocol.gradient_bytes)
    with np.errstate(over="ignore"):
        data = np.array(values).astype(kind).tobytes() if kind else bytes(map(int, values))
    return history(protocol, 1, 1, 1, gradients=data, scale=scale, **changes)


def weight_of(protocol: Protocol) -> float:
    return protocol.roster.weight(1, 1, protocol.step_size)


BAD_ENTRIES: dict[str, tuple[dict[str, Any], Any, str]] = {
    "origin": ({}, lambda _: make_end(5, 0, 4), "roster"),
    "far origin": ({}, lambda _: make_end(2**32 - 1, 0, 4), "roster"),
    "sequence": ({}, lambda p: history(p, 1, 8, 1), "a log has 8 at most"),
    "far sequence": ({}, lambda p: history(p, 1, 2**32 - 1, 1), "a log has 8 at most"),
    "round": ({}, lambda p: history(p, 1, 1, 4, weight=weight_of(p)), "round 4"),
    "far round": ({}, lambda p: history(p, 1, 1, 2**32 - 1, weight=weight_of(p)), "round"),
    "END of no round": ({}, lambda _: make_end(1, 1, 0), "END after 0"),
    "END of a longer run": ({}, lambda _: make_end(1, 1, 5), "END after 5"),
    "weight": ({}, lambda p: history(p, 1, 1, 1, weight=weight_of(p) * 1.0001), "weight"),
    "light": ({}, lambda p: history(p, 1, 1, 1, weight=0.0), "weight"),
    "negative": ({}, lambda p: history(p, 1, 1, 1, weight=-weight_of(p)), "weight"),
    "NaN weight": ({}, lambda p: history(p, 1, 1, 1, weight=NAN), "weight"),
    "infinite weight": ({}, lambda p: history(p, 1, 1, 1, weight=float("inf")), "weight"),
    "short": ({}, lambda p: with_steps(p, [0.5] * 4), "16 bytes"),
    "long": ({}, lambda p: with_steps(p, [0.5] * 6), "24 bytes"),
    "torn": ({}, lambda p: history(p, 1, 1, 1, gradients=bytes(19)), "19 bytes"),
    "empty": ({}, lambda p: with_steps(p, []), "0 bytes"),
    "oversized": ({}, lambda p: with_steps(p, [0.5] * 200_000), "800000 bytes"),
    "scale": ({}, lambda p: with_steps(p, [0.5] * 5, scale=1), "scale"),
    "past the bound": ({}, lambda p: with_steps(p, [0.5, 1.0000001, 0, 0, 0]), "bound"),
    "below the bound": ({}, lambda p: with_steps(p, [0.5, 0, 0, 0, -1.0000001]), "bound"),
    "infinite": ({}, lambda p: with_steps(p, [0.5, 0, np.inf, 0, 0]), "not finite"),
    "foreign NaN": (
        {},
        lambda p: history(p, 1, 1, 1, gradients=bytes(16) + b"\x01\x00\xc0\x7f"),
        "not finite",
    ),
    "indices": ({}, lambda p: history(p, 1, 1, 1, indices=bytes(10)), "FedKSeed-Pro"),
    "half, infinite": (
        {"gradient_bytes": 2},
        lambda p: with_steps(p, [0, 0, 0, 0, 1e9]),
        "not finite",
    ),
    "half, bound": ({"gradient_bytes": 2}, lambda p: with_steps(p, [0, 0, 0, 0, 1.001]), "bound"),
    "byte, NaN": ({"gradient_bytes": 1}, lambda p: with_steps(p, [0, 0, 0, 0, 0xFF]), "finite"),
    "byte, bound": ({"gradient_bytes": 1}, lambda p: with_steps(p, [0, 0, 0, 0, 0x39]), "bound"),
    "byte, scale": ({"gradient_bytes": 1}, lambda p: with_steps(p, [0] * 5, scale=65), "scale"),
    "byte, far scale": (
        {"gradient_bytes": 1},
        lambda p: with_steps(p, [0] * 5, scale=-(2**63)),
        "scale",
    ),
    "Pro without indices": (
        {"weighted_draws": True},
        lambda p: history(p, 1, 1, 1, indices=None),
        "FedKSeed-Pro",
    ),
    "Pro, few indices": (
        {"weighted_draws": True},
        lambda p: history(p, 1, 1, 1, indices=bytes(8)),
        "8 bytes",
    ),
    "Pro, torn indices": (
        {"weighted_draws": True},
        lambda p: history(p, 1, 1, 1, indices=bytes(9)),
        "9 bytes",
    ),
    "Pro, index past K": (
        {"weighted_draws": True},
        lambda p: history(p, 1, 1, 1, indices=pack_indices(np.array([0, 1, 2, 3, 16]), 16)),
        "past the 16",
    ),
    "a second content": ({}, lambda p: history(p, 1, 0, 0, fill=0.75), "second content"),
    "a round again": ({}, lambda p: history(p, 1, 1, 0), "round 0 after round 0"),
    "a round before": ({}, lambda p: history(p, 3, 2, 1), "round 1 after round 2"),
    "an END too early": ({}, lambda _: make_end(3, 2, 2), "round 2 after round 2"),
}


@pytest.mark.parametrize("name", BAD_ENTRIES)
def test_an_entry_that_no_honest_peer_publishes_is_refused(name: str) -> None:
    changes, make, reason = BAD_ENTRIES[name]
    gossip = in_the_middle(**changes)
    assert refused(gossip, encode(Entries((make(gossip.protocol),))), reason).messages == []
    # What is in order is still taken, from the same neighbour.
    good = history(gossip.protocol, 1, 1, 1)
    output = gossip.receive(encode(Entries((good,))), 1, 3.0)
    assert output.events == [EntryAdded(good)]


def test_an_entry_of_a_peer_that_is_not_active_is_refused() -> None:
    protocol = agreement(5, rounds=4, participation=0.4)
    gossip, _ = met(0, [1, 2], protocol)
    idle = next(p for p in range(1, 5) if p not in protocol.roster.active(0))
    entry = history(protocol, idle, 0, 0)
    refused(gossip, encode(Entries((entry,))), "not active in round 0")


def test_an_entry_may_have_any_weight_within_the_tolerance() -> None:
    """Another machine may compute the last bits of c_i * eta differently; its entry counts."""
    gossip = in_the_middle()
    near = float(np.nextafter(np.float32(weight_of(gossip.protocol)), np.float32(2)))
    entry = history(gossip.protocol, 1, 1, 1, weight=near)
    assert gossip.receive(encode(Entries((entry,))), 1, 2.0).events == [EntryAdded(entry)]
    assert gossip.log.entries(1)[1].weight == near


def test_a_log_goes_on_after_its_end_only_with_later_rounds() -> None:
    gossip = in_the_middle()
    p = gossip.protocol
    gossip.receive(encode(Entries((make_end(1, 1, 2),))), 1, 2.0)
    assert gossip.log.length(1) == 2
    for entry in (history(p, 1, 2, 1), make_end(1, 2, 1), make_end(1, 2, 2)):
        refused(gossip, encode(Entries((entry,))), "after round 2")
    for entry in (history(p, 1, 2, 2), make_end(1, 3, 3), make_end(1, 4, 4)):
        assert gossip.receive(encode(Entries((entry,))), 1, 2.0).events[0] == EntryAdded(entry)
    refused(gossip, encode(Entries((history(p, 1, 5, 3),))), "after round 4")


def test_a_bad_entry_does_not_take_the_good_ones_of_its_message_along() -> None:
    gossip = in_the_middle()
    p = gossip.protocol
    good = [history(p, 1, 1, 1), history(p, 2, 1, 1)]
    bad = history(p, 4, 1, 1, weight=NAN)
    output = gossip.receive(encode(Entries((good[0], bad, good[1]))), 1, 2.0)
    assert [e.entry for e in output.events if isinstance(e, EntryAdded)] == good
    assert [type(e) for e in output.events] == [EntryAdded, Rejected, EntryAdded]


def test_a_damaged_entry_spoils_its_message() -> None:
    """Bytes that are not well-formed to their end are no message, so nothing in them is taken."""
    gossip = in_the_middle()
    entries = history(gossip.protocol, 1, 1, 1), make_end(2, 1, 4)
    frame = encode(Entries(entries))
    refused(gossip, frame[:-1] + b"\xc3", "numbers")


def test_no_sum_overflows_however_often_a_peer_publishes() -> None:
    """Without one entry per round the choice of units would bound nothing (C2)."""
    protocol = agreement(2, rounds=2, local_steps=4, candidate_seeds=1, gradient_bound=2.0**15)
    gossip, _ = met(0, [1], protocol)
    largest = protocol.gradient_bound
    for sequence in range(50):
        for round_ in range(protocol.rounds):
            entry = history(protocol, 1, sequence, round_, fill=largest)
            gossip.receive(encode(Entries((entry,))), 1, 1.0)
    assert [e.round for e in gossip.log.entries(1)] == [0, 1]
    steps = np.full(4, largest)
    for round_ in (0, 1):
        indices = np.zeros(4, dtype=np.int64)
        gossip.publish(round_, indices, steps, "00" * 16, 2.0)
    assert gossip.rounds.over
    total = int(gossip.rounds.accumulator.sums[0])
    both = 8 * largest * protocol.step_size * 2**protocol.units.fraction_bits
    assert total == pytest.approx(both, rel=1e-6)
    assert total < SUM_LIMIT


# What a neighbour can ask for and claim


def test_one_want_costs_at_most_the_log() -> None:
    gossip = in_the_middle()
    whole = Want(tuple((origin, 0, 2**32 - 1) for origin in range(2000)))
    output = gossip.receive(encode(whole), 1, 2.0)
    sent = [decode(frame) for _, frame in output.messages]
    contents = [e.content for m in sent if isinstance(m, Entries) for e in m.entries]
    assert contents == [e.content for e in gossip.log]
    with pytest.raises(MalformedMessage):
        decode(encode(Want(((0, 0, 1),) * 1000)))


def test_answers_come_in_frames_of_moderate_size() -> None:
    protocol = agreement(3, rounds=60, local_steps=2000, rows=(1, 1, 1))
    log = EntryLog(history(protocol, 2, number, number) for number in range(60))
    gossip, _ = met(0, [1], protocol, log)
    output = gossip.receive(encode(Want(((2, 0, 60),))), 1, 1.0)
    sent = [frame for _, frame in output.messages]
    assert sum(len(m.entries) for frame in sent if isinstance(m := decode(frame), Entries)) == 60
    assert 7 <= len(sent) <= 9
    assert max(map(len, sent)) < BATCH_BYTES + 1000


def test_what_is_claimed_and_never_comes_is_asked_of_others_later() -> None:
    protocol = agreement(3, rounds=4)
    gossip, _ = met(0, [1, 2], protocol)
    claim = encode(Versions({1: 3}))
    asked = gossip.receive(claim, 1, 1.0)
    assert [decode(frame) for _, frame in asked.messages] == [Want(((1, 0, 3),))]
    assert gossip.receive(claim, 2, 1.5).messages == []
    later = gossip.receive(claim, 2, 1.0 + 3 * protocol.tick)
    assert [(n, decode(f)) for n, f in later.messages] == [(2, Want(((1, 0, 3),)))]


def test_a_liar_at_the_end_holds_nobody_longer_than_the_settle_time_out() -> None:
    protocol = agreement(3, rounds=1, settle_timeout=5.0)
    mesh = Mesh(nx.complete_graph(3), protocol)
    mesh.start()
    for number in range(200):
        # Peer 2's link says all the time that it lacks something.
        lie = encode(Digest(bytes(8), False))
        mesh.at(0.1 + number / 10, lambda lie=lie: mesh.deliver(2, 0, lie) and None)
    mesh.run()
    assert mesh.gossip(0).finished == Finished(())
    assert len(mesh.accumulators()) == 1


# Anything at all


junk = st.one_of(st.binary(max_size=80), nearly_messages)


def hold_against(gossip: Gossip, frame: bytes) -> None:
    """Nothing is raised; what is no message changes nothing; only entries change the log."""
    before, counted = state(gossip), sum(gossip.rejections.values())
    try:
        message = decode(frame)
    except MalformedMessage:
        message = None
    output = gossip.receive(frame, 1, 2.0)
    added = [event for event in output.events if isinstance(event, EntryAdded)]
    if message is None:
        assert [type(event) for event in output.events] == [Rejected]
        assert sum(gossip.rejections.values()) == counted + 1
        assert output.messages == []
    if not added:
        assert state(gossip) == before
    for event in added:
        gossip.protocol.check(event.entry)
        assert isinstance(message, Entries)
        assert event.entry in message.entries
    timer = gossip.timer
    assert timer is not None


@settings(max_examples=150, deadline=None)
@given(st.lists(junk, max_size=6), st.integers(0, 2**32), st.sampled_from([1, 2, 4]))
def test_any_frames(frames: list[bytes], seed: int, width: int) -> None:
    gossip = in_the_middle(gradient_bytes=width, weighted_draws=seed % 2 == 0)
    p, source = gossip.protocol, random.Random(seed)
    honest: list[Message] = [
        Entries((history(p, 1, 1, 1), make_end(2, 1, 4))),
        Entries((history(p, 3, 1, 2),)),
        Hello(1, p.fields, {1: 2}, False),
        Versions({1: 2, 2: 1}),
        Digest(bytes(8), True),
        Want(((0, 0, 1), (1, 0, 1))),
    ]
    for frame in frames:
        hold_against(gossip, frame)
    for message in honest:
        hold_against(gossip, damaged(encode(message), source))
    hold_against(gossip, encode(honest[0]))


@pytest.mark.slow
@settings(max_examples=1000, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(junk, max_size=10), st.integers(0, 2**32), st.sampled_from([1, 2, 4]))
def test_20_000_frames(frames: list[bytes], seed: int, width: int) -> None:
    gossip = in_the_middle(gradient_bytes=width)
    source = random.Random(seed)
    entry = history(gossip.protocol, 1, 1, 1)
    for frame in frames:
        hold_against(gossip, frame)
    for number in range(20):
        message = Entries((entry,)) if number % 2 else Versions({1: 2, 3: 3})
        hold_against(gossip, damaged(encode(message), source))


def test_a_run_ends_well_under_a_storm_of_junk() -> None:
    protocol = agreement(5)
    calm = Mesh(nx.cycle_graph(5), protocol)
    stormy = Mesh(nx.cycle_graph(5), protocol)
    source = random.Random(8)
    good = [encode(Hello(1, protocol.fields, {1: 2}, False)), encode(Want(((0, 0, 9),)))]
    for each in (calm, stormy):
        each.start()
    for number in range(600):
        receiver = source.randrange(5)
        sender = (receiver + source.choice([1, 4])) % 5
        frame = source.choice(
            [source.randbytes(source.randrange(60)), damaged(source.choice(good), source)]
        )
        # A BYE or REFUSAL would be believed, as the neighbour's own.
        if frame[1:2] not in (b"\x06", b"\x07"):
            stormy.at(
                number / 200,
                lambda s=sender, r=receiver, f=frame: stormy.deliver(s, r, f) and None,
            )
    for each in (calm, stormy):
        each.run()
    assert stormy.accumulators() == calm.accumulators()
    assert stormy.logs() == calm.logs()
    assert len(stormy.rejected()) > 300
    assert all(life.gossip.finished == Finished(()) for life in stormy.lives.values())
