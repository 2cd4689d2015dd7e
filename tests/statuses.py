"""Statuses of peers, for tests: made up by hand or by Hypothesis, and told by a server."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from http.client import HTTPConnection
from typing import Any

from hypothesis import strategies as st

from peer.accumulator import Accumulator
from peer.metrics_address import metrics_address
from peer.participant import Phase
from peer.status import SCHEMA, Accusation, NeighbourStatus, PeerStatus
from peer.status_source import StatusSource
from peer.teller import Look
from peer.units import Units

COUNTS = st.integers(0, 2**53)
TIMES = st.floats(0, 2**40)
EMPTY = Accumulator.empty(4, Units(exponent=-14, fraction_bits=24, magnitude_bits=24))


def neighbour(peer: int, **changes: Any) -> NeighbourStatus:
    usual = NeighbourStatus(
        peer=peer,
        reached=True,
        open=True,
        banned=False,
        silent_seconds=0.5,
        payload_messages=3,
        payload_bytes=300,
        control_messages=2,
        control_bytes=20,
        framing_bytes=10,
        handshake_bytes=64,
    )
    return replace(usual, **changes)


def status(peer: int = 0, neighbours: Sequence[int] = (1, 2), **changes: Any) -> PeerStatus:
    usual = PeerStatus(
        schema=SCHEMA,
        peer=peer,
        peers=3,
        method="fedkseed",
        topology="ring",
        agreement="00" * 8,
        phase="training",
        round=2,
        rounds=8,
        digest="ab" * 16,
        cut_round=2,
        loss=4.25,
        held=9,
        received=6,
        timeouts=0,
        rejected=0,
        garbage=0,
        dropped=0,
        accused=(),
        waiting_for=(),
        started_at=1e9,
        now=1e9 + 60,
        peak_memory_bytes=10**8,
        neighbours=tuple(map(neighbour, neighbours)),
    )
    return replace(usual, **changes)


def neighbours_at(peer: int) -> st.SearchStrategy[NeighbourStatus]:
    """Whatever may be told of a neighbour."""
    counts = ("payload_messages", "payload_bytes", "control_messages", "control_bytes")
    return st.builds(
        NeighbourStatus,
        peer=st.just(peer),
        reached=st.booleans(),
        open=st.booleans(),
        banned=st.booleans(),
        silent_seconds=st.none() | TIMES,
        **dict.fromkeys((*counts, "framing_bytes", "handshake_bytes"), COUNTS),
    )


@st.composite
def statuses(draw: st.DrawFn, peers: int = 6) -> PeerStatus:
    """Whatever a peer may tell."""
    number, text = st.integers(0, peers - 1), st.text(max_size=20)
    near = sorted(draw(st.sets(number, max_size=3)))
    told = status(
        peer=draw(number),
        peers=peers,
        method=draw(text),
        topology=draw(text),
        agreement=draw(st.sampled_from(["00" * 8, "11" * 8])),
        phase=draw(st.sampled_from([phase.value for phase in Phase])),
        round=draw(st.integers(0, 8)),
        digest=draw(st.sampled_from(["ab" * 16, "cd" * 16])),
        cut_round=draw(st.none() | st.integers(0, 8)),
        loss=draw(st.none() | st.floats(-1e6, 1e6)),
        held=draw(COUNTS),
        accused=tuple(Accusation(one, draw(text)) for one in draw(st.lists(number, max_size=2))),
        waiting_for=tuple(draw(st.lists(number))),
        now=draw(TIMES),
    )
    return replace(told, neighbours=tuple(draw(neighbours_at(one)) for one in near))


@contextmanager
def telling(told: PeerStatus) -> Iterator[StatusSource]:
    """A source whose event loop runs in a thread and tells this status."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    source = StatusSource()
    source.begin(loop, lambda: Look(told, EMPTY))
    try:
        yield source
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def get(address: str, path: str, method: str = "GET") -> tuple[int, str, bytes]:
    """Return status, content type and body of what a server answers."""
    place = metrics_address(address)
    connection = HTTPConnection(place.host, place.port, timeout=10.0)
    try:
        connection.request(method, path)
        answer = connection.getresponse()
        return answer.status, answer.headers["Content-Type"], answer.read()
    finally:
        connection.close()
