"""What the simulator keeps of each peer beside its `Gossip`: whether it is there, and its disk."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum, auto

from peer.events import RoundStarted
from peer.participant import Participant
from peer.stored import Stored


class Presence(Enum):
    """Whether a peer's process is there."""

    ABSENT = auto()
    UP = auto()
    HELD = auto()
    DOWN = auto()


@dataclass(eq=False, slots=True)
class Training:
    """Local steps under way, and when they will be done."""

    start: RoundStarted
    end: float


@dataclass(eq=False, slots=True)
class Seat:
    """One peer's place.

    Attributes:
        presence: whether its process is there.
        participant: its present life, or the last one; None before the first.
        stored: what is on its disk; None where nobody will look.
        trainings: under way or waiting, in the order of their ends.
        held_since: when it was frozen.
        waiting: frames (sender, frame) that have come since.
        removed: whether it has left, or been evicted.
        earlier_timeouts: of its lives before the present one.
    """

    presence: Presence = Presence.UP
    participant: Participant | None = None
    stored: Stored | None = None
    trainings: list[Training] = field(default_factory=list)
    held_since: float = 0.0
    waiting: list[tuple[int, bytes]] = field(default_factory=list)
    removed: bool = False
    earlier_timeouts: int = 0

    @property
    def running(self) -> bool:
        """Whether its process is there and has not come to its end."""
        there = self.presence in (Presence.UP, Presence.HELD)
        return there and (self.participant is None or self.participant.finished is None)

    @property
    def timeouts(self) -> int:
        """Rounds that were closed without somebody's entry, over all lives."""
        return self.earlier_timeouts + (self.participant.timeouts if self.participant else 0)
