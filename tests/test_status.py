"""What a peer tells of itself: its phases, its links, its digest, and the same through JSON."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import threading
import time
from collections import Counter
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from mesh import agreement
from statuses import EMPTY, status, statuses, telling

from peer import status_source
from peer.accumulator import Accumulator
from peer.averager import Averager
from peer.clock import clock
from peer.events import Output, RoundStarted
from peer.gossip import Gossip
from peer.mixing import MIXINGS, Averaging
from peer.participant import Participant, Phase
from peer.protocol import Protocol
from peer.reporting import RoundReport
from peer.status_source import NoStatus, StatusSource
from peer.teller import Look, Teller
from peer.traffic import Traffic
from peer.trainer import LocalRound, LocalWeights
from peer.weights import Weights
from sim.watch.reading import NotAStatus, read_status

SILENT: Any = SimpleNamespace(banned={}, garbage=0, dropped=Counter())
"""A transport of which nothing is to be told."""


class Pair:
    """Two participants joined by a wire, and the rounds that they have begun."""

    def __init__(self, *both: Participant) -> None:
        self.both = both
        self.begun: dict[int, RoundStarted] = {}
        self.now = clock()
        self._wire: list[tuple[int, int, bytes]] = []

    def follow(self, me: int, output: Output) -> None:
        self._wire += [(me, to, frame) for to, frame in output.messages]
        for event in output.events:
            if isinstance(event, RoundStarted):
                self.begun[me] = event

    def deliver(self) -> None:
        while self._wire:
            sender, receiver, frame = self._wire.pop(0)
            self.follow(receiver, self.both[receiver].receive(frame, sender, self.now))

    def advance_until_ended(self) -> None:
        for _ in range(100):
            for me, one in enumerate(self.both):
                if one.timer is not None:
                    self.now = max(self.now, one.timer)
                    self.follow(me, one.advance(self.now))
            self.deliver()


def averaging(mixing: str) -> Protocol:
    """A run of two peers and a round, with weights of 50 numbers."""
    protocol = agreement(2, rounds=1)
    made = MIXINGS[mixing]({0: (1,), 1: (0,)}, protocol.roster, 1)
    initial = Weights.repeated("float32", 0.0, 50)
    return dataclasses.replace(protocol, averaging=Averaging(initial, made))


def phases(pair: Pair) -> list[Phase]:
    return [one.phase for one in pair.both]


def walk(pair: Pair, made: LocalRound | LocalWeights, sums: bool) -> None:
    """Go through a run of one round with both peers, the second being slower."""
    first, second = pair.both
    assert phases(pair) == [Phase.GREETING] * 2
    pair.follow(0, first.start(pair.now))
    assert first.waiting_for == (1,)
    pair.follow(1, second.start(pair.now))
    pair.deliver()
    assert phases(pair) == [Phase.TRAINING] * 2
    assert [one.round for one in pair.both] == [0, 0]
    assert [one.cut_round for one in pair.both] == ([0, 0] if sums else [None, None])
    pair.follow(0, first.trained(pair.begun[0], made, pair.now))
    pair.deliver()
    assert phases(pair) == [Phase.WAITING, Phase.TRAINING]
    assert first.waiting_for == (1,)
    pair.follow(1, second.trained(pair.begun[1], made, pair.now))
    pair.deliver()
    assert phases(pair) == [Phase.ENDING] * 2
    assert [one.round for one in pair.both] == [1, 1]
    assert [one.cut_round for one in pair.both] == ([1, 1] if sums else [None, None])
    pair.advance_until_ended()
    assert phases(pair) == [Phase.ENDED] * 2


def test_the_phases_of_sums() -> None:
    protocol = agreement(2, rounds=1)
    pair = Pair(Gossip(0, [1], protocol), Gossip(1, [0], protocol))
    walk(pair, LocalRound(np.zeros(5), 4.0, 0), sums=True)
    # A history and an END of each.
    assert [(one.held, one.received) for one in pair.both] == [(4, 2), (4, 2)]


def test_the_phases_of_averages() -> None:
    protocol = averaging("gossip")
    pair = Pair(Averager(0, [1], protocol), Averager(1, [0], protocol))
    walk(pair, LocalWeights(Weights.repeated("float32", 1.0, 50), 4.0, 0), sums=False)
    assert [one.received for one in pair.both] == [1, 1]


def test_with_a_server_all_weights_are_equal_at_the_end() -> None:
    protocol = averaging("server")
    pair = Pair(Averager(0, [1], protocol), Averager(1, [0], protocol))
    for me, one in enumerate(pair.both):
        pair.follow(me, one.start(pair.now))
    pair.deliver()
    assert [one.cut_round for one in pair.both] == [None, None]
    made = LocalWeights(Weights.repeated("float32", 1.0, 50), 4.0, 0)
    for me, one in enumerate(pair.both):
        pair.follow(me, one.trained(pair.begun[me], made, pair.now))
    pair.deliver()
    assert [one.cut_round for one in pair.both] == [1, 1]


def test_without_common_rounds_digests_are_comparable_at_the_end_only() -> None:
    protocol = agreement(2, rounds=1, schedule="async")
    pair = Pair(Gossip(0, [1], protocol), Gossip(1, [0], protocol))
    for me, one in enumerate(pair.both):
        pair.follow(me, one.start(pair.now))
    pair.deliver()
    assert [one.cut_round for one in pair.both] == [None, None]
    for me, one in enumerate(pair.both):
        pair.follow(me, one.trained(pair.begun[me], LocalRound(np.zeros(5), 4.0, 0), pair.now))
    pair.deliver()
    assert [one.cut_round for one in pair.both] == [1, 1]


def test_a_look_tells_of_links_and_losses_and_changes_nothing() -> None:
    protocol = agreement(3)
    gossip, traffic = Gossip(0, [1, 2], protocol), Traffic()
    pair = Pair(gossip, Gossip(1, [0], protocol))
    pair.follow(1, pair.both[1].start(pair.now))
    pair.deliver()
    traffic.count(0, 1, b"\1frame")
    traffic.count(2, 1, b"\1another's")
    traffic.count_handshake(0, 1, dialled=True)
    teller = Teller("fedkseed", "ring")
    assert teller.look(gossip, SILENT, traffic).status.loss is None
    teller.trained(RoundReport(0, 0, float("nan"), 0, 1.0))
    assert teller.look(gossip, SILENT, traffic).status.loss is None
    teller.trained(RoundReport(0, 0, 4.5, 0, 1.0))
    transport: Any = SimpleNamespace(banned={2: "lied"}, garbage=3, dropped=Counter({1: 4}))
    teller.reached(1)
    told = teller.look(gossip, transport, traffic).digested()
    assert (told.loss, told.garbage, told.dropped) == (4.5, 3, 4)
    assert [(one.peer, one.reason) for one in told.accused] == [(2, "lied")]
    assert told.digest == gossip.state.digest()
    assert told.agreement == protocol.digest.hex()
    near, far = told.neighbours
    assert (near.peer, near.reached, near.open, near.banned) == (1, True, True, False)
    assert near.silent_seconds is not None
    assert 0 <= near.silent_seconds < 60
    sent = traffic.link(0, 1)
    assert {name: getattr(near, name) for name in dataclasses.asdict(sent)} == vars_of(sent)
    assert (far.peer, far.reached, far.open, far.banned) == (2, False, False, True)
    assert far.silent_seconds is None
    assert far.sent_bytes == 0
    assert [pair for *pair, _ in traffic.links()] == [[0, 1], [2, 1]]


def vars_of(count: Any) -> dict[str, int]:
    return dataclasses.asdict(count)


@given(statuses())
def test_a_status_goes_through_json(told: Any) -> None:
    assert read_status(told.to_json()) == told


def test_the_format_of_schema_1() -> None:
    assert json.loads(status(neighbours=[1]).to_json()) == {
        "schema": 1,
        "peer": 0,
        "peers": 3,
        "method": "fedkseed",
        "topology": "ring",
        "agreement": "0000000000000000",
        "phase": "training",
        "round": 2,
        "rounds": 8,
        "digest": "abababababababababababababababab",
        "cut_round": 2,
        "loss": 4.25,
        "held": 9,
        "received": 6,
        "timeouts": 0,
        "rejected": 0,
        "garbage": 0,
        "dropped": 0,
        "accused": [],
        "waiting_for": [],
        "started_at": 1e9,
        "now": 1000000060.0,
        "peak_memory_bytes": 100000000,
        "neighbours": [
            {
                "peer": 1,
                "reached": True,
                "open": True,
                "banned": False,
                "silent_seconds": 0.5,
                "payload_messages": 3,
                "payload_bytes": 300,
                "control_messages": 2,
                "control_bytes": 20,
                "framing_bytes": 10,
                "handshake_bytes": 64,
            }
        ],
    }


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "a negative number": ({"round": -1}, "round is out of range"),
    "a huge number": ({"held": 10**400}, "held is out of range"),
    "an endless number": ({"now": float("inf")}, "now is out of range"),
    "no number": ({"loss": float("nan")}, "loss is out of range"),
    "a long text": ({"method": "m" * 201}, "method is too long"),
    "another phase": ({"phase": "dreaming"}, "phase is none"),
    "no digest": ({"digest": "xy"}, "not hexadecimal"),
    "another type": ({"round": "2"}, "no status: round is missing or misshapen"),
    "a truth for a number": ({"round": True}, "no status: round is missing or misshapen"),
    "another schema": ({"schema": 2}, "no status of schema 1"),
    "a huge schema": ({"schema": 10**400}, "no status of schema 1"),
    "a list of other things": ({"waiting_for": [[]]}, "waiting_for"),
    "neighbours of another shape": ({"neighbours": [{}]}, "neighbours is missing"),
    "a neighbour twice": (
        {"neighbours": json.loads(status(neighbours=[1, 1]).to_json())["neighbours"]},
        "neighbours are not in order",
    ),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_what_no_peer_tells_is_refused(wrong: str) -> None:
    changes, why = WRONG[wrong]
    data = json.dumps(json.loads(status().to_json()) | changes).encode()
    with pytest.raises(NotAStatus, match=why):
        read_status(data)


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"7", b"[" * 10**6, b"\xff\xfe", b"1" * 5000])
def test_what_is_no_json_object_is_refused(data: bytes) -> None:
    with pytest.raises(NotAStatus):
        read_status(data)


def test_the_loop_is_asked_once_in_a_while_however_many_ask() -> None:
    looks = []
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    source = StatusSource()

    def look() -> Look:
        looks.append(threading.current_thread())
        return Look(status(), EMPTY)

    with pytest.raises(NoStatus, match="the peer is starting"):
        source.status()
    source.end(look())
    source.begin(loop, look)
    looks.clear()
    began = time.monotonic()
    told = {source.status() for _ in range(2000)}
    most = (time.monotonic() - began) / status_source.KEPT + 1
    assert told == {status(digest=EMPTY.digest())}
    assert 1 <= len(looks) <= most
    assert set(looks) == {thread}
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


def test_a_busy_loop_costs_those_who_ask_no_more_than_patience(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(status_source, "PATIENCE", 0.05)
    source, loop = StatusSource(), asyncio.new_event_loop()
    source.begin(loop, lambda: pytest.fail("nobody runs the loop"))
    for _ in range(3):
        with pytest.raises(NoStatus, match="the peer is busy"):
            source.status()
    loop.close()
    monkeypatch.setattr(status_source, "KEPT", 0.0)
    with pytest.raises(NoStatus, match="the peer is ending"):
        source.status()
    source.end(Look(status(phase="ended"), EMPTY))
    assert source.status().phase == "ended"


def test_a_digest_is_taken_once_for_a_state_and_no_state_is_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    taken = Counter[int]()
    digest = Accumulator.digest
    monkeypatch.setattr(status_source, "KEPT", 0.0)
    monkeypatch.setattr(Accumulator, "digest", lambda one: taken.update([id(one)]) or digest(one))
    with telling(status()) as source:
        assert len({source.status() for _ in range(5)}) == 1
    assert taken == {id(EMPTY): 1}
