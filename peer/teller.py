"""Looks at a running peer: what is in its status is taken in its event loop's thread.

The protocol, the transport and the counts of traffic change in that thread alone, so a look is
consistent, and cheap. What takes long, the digest of a state, is left to whoever the look is for:
states are never changed, only replaced.
"""

from __future__ import annotations

import math
import time
from collections.abc import Set
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

from peer.accumulator import Accumulator
from peer.clock import clock
from peer.participant import Participant, Phase
from peer.reporting import RoundReport
from peer.status import SCHEMA, Accusation, NeighbourStatus, PeerStatus
from peer.summary import peak_memory
from peer.traffic import LinkCount, Traffic
from peer.weights import Weights

if TYPE_CHECKING:
    from peer.zeromq import Transport


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
