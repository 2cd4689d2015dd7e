"""Nothing that a neighbour sends can kill, poison or confuse a peer (C8)."""

from __future__ import annotations

import random

import networkx as nx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mesh import Mesh, agreement, hello, history, in_the_middle, kinds, met, refused, seeding, state
from test_wire import damaged, nearly_messages

from peer.entry import make_end
from peer.errors import MalformedMessage
from peer.events import EntryAdded, Finished, Rejected
from peer.gossip import Gossip
from peer.log import EntryLog
from peer.wire import (
    BATCH_BYTES,
    Announce,
    Behind,
    Bye,
    Digest,
    Entries,
    Hello,
    Message,
    Prune,
    Versions,
    Want,
    decode,
    encode,
)

# Frames


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        (b"", "not msgpack"),
        (b"\xc1", "not msgpack"),
        (b"\x91\x63", "no such message"),
        (b"\xff" * 1000, "not msgpack"),
        (b"\x91" * 4000, "not msgpack"),
        (b"\x91" * 5000, "at most 4096 are read"),
        (bytes(2**21 + 1), "at most"),
        (encode(Hello(2, bytes(8), bytes(8), False, 0.0)), "greets on the link"),
        (
            encode(Hello(1, bytes(8), bytes(8), False, 0.0, version=1)),
            "version 1, this is version 3",
        ),
        (encode(Versions({5: 1})), "not on the roster"),
        (encode(Versions({2**32 - 1: 1})), "not on the roster"),
        (encode(Versions({2: 9})), "a log has 8 at most"),
        (encode(Announce({5: 1})), "not on the roster"),
        (encode(Announce({2: 9})), "a log has 8 at most"),
        (encode(Prune(tuple(range(1000)))), "not on the roster"),
        (encode(Want(tuple((origin, 0, 1) for origin in range(500)))), "not on the roster"),
        (encode(Want(((0, 0, 9),), graft=True)), "a log has 8 at most"),
    ],
)
def test_a_frame_that_makes_no_sense_is_rejected(frame: bytes, reason: str) -> None:
    assert refused(in_the_middle(), frame, reason).messages == []


def test_a_stranger_is_rejected() -> None:
    gossip = in_the_middle()
    entry = history(gossip.protocol, 4, 1, 1)
    for message in (Entries((entry,)), Bye(), hello(4, gossip.protocol)):
        assert refused(gossip, encode(message), "no neighbour", sender=4).messages == []


def test_nobody_is_served_before_the_greeting() -> None:
    protocol = agreement(3)
    mine = EntryLog([history(protocol, 0, 0, 0)])
    gossip = Gossip(0, [1, 2], protocol, mine)
    gossip.start(0.0)
    before = state(gossip)
    messages: tuple[Message, ...] = (
        Entries((history(protocol, 1, 0, 0),)),
        Digest(bytes(8), True),
        Versions({1: 1}),
        Want(((0, 0, 1),)),
        Announce({1: 1}),
        Prune((1,)),
        Behind(1),
        Bye(),
    )
    answers = [gossip.receive(encode(message), 1, 1.0) for message in messages]
    # It may know this peer from before a restart, so it is greeted, but once a tick.
    assert [kinds(answer) for answer in answers] == [[(1, Hello)], *[[]] * (len(messages) - 1)]
    assert not any(answer.events for answer in answers)
    assert state(gossip) == before


# What a neighbour can ask for and claim


def test_one_want_costs_at_most_the_log() -> None:
    gossip = in_the_middle()
    whole = Want(tuple((origin, 0, 8) for origin in range(5)))
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
    asked = gossip.receive(claim, 1, 3.0)
    assert [decode(frame) for _, frame in asked.messages] == [Want(((1, 0, 3),))]
    assert gossip.receive(claim, 2, 3.5).messages == []
    later = gossip.receive(claim, 2, 3.0 + 3 * protocol.tick)
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
    gossip = in_the_middle(gradient_bytes=width, seeding=seeding(seed % 2 == 0), disconnects=False)
    p, source = gossip.protocol, random.Random(seed)
    honest: list[Message] = [
        Entries((history(p, 1, 1, 1), make_end(2, 1, 4))),
        Entries((history(p, 3, 1, 2),)),
        hello(1, p),
        Announce({1: 2}),
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
@settings(max_examples=500, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(junk, max_size=10), st.integers(0, 2**32), st.sampled_from([1, 2, 4]))
def test_10_000_frames(frames: list[bytes], seed: int, width: int) -> None:
    gossip = in_the_middle(gradient_bytes=width, disconnects=False)
    source = random.Random(seed)
    entry = history(gossip.protocol, 1, 1, 1)
    for frame in frames:
        hold_against(gossip, frame)
    for number in range(20):
        message = Entries((entry,)) if number % 2 else Versions({1: 2, 3: 3})
        hold_against(gossip, damaged(encode(message), source))


def test_a_run_ends_well_under_a_storm_of_junk() -> None:
    protocol = agreement(5, disconnects=False)
    calm = Mesh(nx.cycle_graph(5), protocol)
    stormy = Mesh(nx.cycle_graph(5), protocol)
    source = random.Random(8)
    good = [encode(hello(1, protocol)), encode(Want(((0, 0, 9),)))]
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
