"""What a running peer tells of itself, and whoever watches it reads."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Final

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
        phase: see `peer.participant.Phase`.
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
