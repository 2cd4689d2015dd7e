"""What a running peer tells of itself: one look at it, in its event loop's thread.

The protocol, the transport and the counts of traffic change in that thread alone, so a look is
consistent, and cheap. What takes long, the digest of a state, is left to whoever the look is for:
states are never changed, only replaced.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Set
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Final

from peer.accumulator import Accumulator
from peer.clock import clock
from peer.participant import Participant, Phase
from peer.reporting import RoundReport
from peer.summary import peak_memory
from peer.traffic import LinkCount, Traffic
from peer.weights import Weights

if TYPE_CHECKING:
    from peer.zeromq import Transport

SCHEMA: Final = 1
"""Of the JSON object; other programs read it: add fields, do not rename any."""


@dataclass(frozen=True)
class NeighbourStatus:
    """One neighbour, and what was sent to it in all lives that the run folder knows of.

    Attributes:
        peer: its place in the roster.
        reached: a connection that was dialled to it has been made, in this life.
        open: it has greeted in the same experiment, and has neither left nor been cut off.
        banned: it is disconnected for good.
        silent_seconds: since its last readable message; None: there was none.
        payload_messages: as in links.csv, like all the rest.
    """

    peer: int
    reached: bool
    open: bool
    banned: bool
    silent_seconds: float | None
    payload_messages: int
    payload_bytes: int
    control_messages: int
    control_bytes: int
    framing_bytes: int
    handshake_bytes: int

    @property
    def sent_bytes(self) -> int:
        """Everything that was sent to it."""
        return self.payload_bytes + self.control_bytes + self.framing_bytes + self.handshake_bytes


@dataclass(frozen=True)
class Accusation:
    """A peer that has lied or cost too much, and how."""

    peer: int
    reason: str


@dataclass(frozen=True)
class PeerStatus:
    """One peer at one moment.

    Attributes:
        schema: see `SCHEMA`.
        peer: its place in the roster.
        peers: how many there are.
        method: how the model is tuned.
        topology: the graph's name.
        agreement: hexadecimal; equal ones mean equal experiments.
        phase: see `Phase`.
        round: the round that it is in, from 0; `rounds` after the last.
        rounds: R.
        digest: of its accumulator, or its weights; 32 hexadecimal digits.
        cut_round: after how many rounds every peer has to have this digest; None: none has to.
        loss: the mean that its last local steps met, in nats per token; None: none yet.
        held: entries in its log; whole weights that it keeps.
        received: entries, or whole weights, that have come from others.
        timeouts: how often it has gone on without somebody.
        rejected: messages of neighbours that could not be taken.
        garbage: messages that were not one frame from a neighbour.
        dropped: frames that found no room in the queue to a neighbour.
        accused: whom it has convicted or banned.
        waiting_for: the other peers that hold it up; while it trains nobody does.
        started_at: when it began to take part in this life; seconds since 1970, UTC.
        now: its clock at this moment; the same.
        peak_memory_bytes: the greatest resident size of its process so far.
        neighbours: in ascending order.
    """

    schema: int
    peer: int
    peers: int
    method: str
    topology: str
    agreement: str
    phase: str
    round: int
    rounds: int
    digest: str
    cut_round: int | None
    loss: float | None
    held: int
    received: int
    timeouts: int
    rejected: int
    garbage: int
    dropped: int
    accused: tuple[Accusation, ...]
    waiting_for: tuple[int, ...]
    started_at: float
    now: float
    peak_memory_bytes: int
    neighbours: tuple[NeighbourStatus, ...]

    def to_json(self) -> bytes:
        """Return it as a JSON object in one line."""
        return json.dumps(asdict(self), allow_nan=False).encode() + b"\n"


@dataclass(frozen=True)
class Look:
    """A status but for the digest of this state."""

    status: PeerStatus
    state: Accumulator | Weights

    def digested(self, known: str = "") -> PeerStatus:
        """Return the whole status, from any thread; `known` is the digest, if it is known."""
        return replace(self.status, digest=known or self.state.digest())


class Teller:
    """Looks at one peer.

    Args:
        method: of its run.
        topology: the name of the graph.
    """

    def __init__(self, method: str, topology: str) -> None:
        self._method = method
        self._topology = topology
        self._started_at = time.time()
        self._loss: float | None = None
        self._reached: set[int] = set()

    def trained(self, report: RoundReport) -> None:
        """Take note of a local round, in the training thread."""
        self._loss = report.loss if math.isfinite(report.loss) else None

    def reached(self, neighbour: int) -> None:
        """Take note that a connection dialled to a neighbour has been made."""
        self._reached.add(neighbour)

    def look(self, participant: Participant, transport: Transport, traffic: Traffic) -> Look:
        """Return how a peer is now, in the thread of its event loop."""
        protocol, state = participant.protocol, participant.state
        accused = {**transport.banned, **participant.accused}
        status = PeerStatus(
            schema=SCHEMA,
            peer=participant.me,
            peers=len(protocol.roster.rows),
            method=self._method,
            topology=self._topology,
            agreement=protocol.digest.hex(),
            phase=participant.phase.value,
            round=participant.round,
            rounds=protocol.rounds,
            digest="",
            cut_round=participant.cut_round,
            loss=self._loss,
            held=participant.held,
            received=participant.received,
            timeouts=participant.timeouts,
            rejected=sum(participant.rejections.values()),
            garbage=transport.garbage,
            dropped=sum(transport.dropped.values()),
            accused=tuple(Accusation(peer, accused[peer]) for peer in sorted(accused)),
            waiting_for=_awaited(participant),
            started_at=self._started_at,
            now=time.time(),
            peak_memory_bytes=peak_memory(),
            neighbours=_neighbours(participant, self._reached, transport.banned.keys(), traffic),
        )
        return Look(status, state)


def _awaited(participant: Participant) -> tuple[int, ...]:
    """Return the others who hold a peer up."""
    if participant.phase in (Phase.TRAINING, Phase.ENDED):
        return ()
    return tuple(peer for peer in participant.waiting_for if peer != participant.me)


def _neighbours(
    participant: Participant, reached: Set[int], banned: Set[int], traffic: Traffic
) -> tuple[NeighbourStatus, ...]:
    me, now = participant.me, clock()
    sent = {receiver: count for sender, receiver, count in traffic.links() if sender == me}
    return tuple(
        NeighbourStatus(
            peer=peer,
            reached=peer in reached,
            open=link.open and peer not in banned and not link.deaf,
            banned=peer in banned or link.banned,
            silent_seconds=now - link.last_heard if math.isfinite(link.last_heard) else None,
            **asdict(sent.get(peer, LinkCount())),
        )
        for peer, link in sorted(participant.links.items())
    )
