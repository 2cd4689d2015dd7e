"""What the protocol tells its driver."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from peer.base import Base
from peer.entry import Entry


@dataclass(slots=True)
class EntryAdded:
    """A new entry is in the log; it must be on disk before this output's messages are sent."""

    entry: Entry


@dataclass(frozen=True)
class RoundStarted:
    """A round has begun; if `indices` is not None, train and call `Participant.trained`.

    Attributes:
        round: its number, from 0.
        cut: the accumulator of all rounds before, or this peer's weights; not changed afterwards.
        indices: the sum that each number of the history will belong to, shape (numbers,); empty
            where the local steps decide that, or weights are averaged; None: not active.
    """

    round: int
    cut: Any
    indices: NDArray[np.int64] | None


@dataclass(frozen=True)
class RoundTimedOut:
    """A round was closed without these peers' entries; when they come they are added later."""

    round: int
    missing: tuple[int, ...]


@dataclass(frozen=True)
class Rejected:
    """A neighbour sent something that cannot be taken; nothing has changed.

    Attributes:
        neighbour: who sent it.
        reason: what is wrong with it.
        count: how many such messages of this neighbour there have been.
    """

    neighbour: int
    reason: str
    count: int

    @property
    def notable(self) -> bool:
        """Whether to tell of it: a neighbour gone bad would fill a disk with its rubbish."""
        return self.count <= 8 or self.count.bit_count() == 1


@dataclass(frozen=True)
class LinkRefused:
    """A neighbour runs another experiment: the names of what differs."""

    neighbour: int
    names: tuple[str, ...]


@dataclass(frozen=True)
class ClockAhead:
    """A neighbour's clock is this many seconds ahead of this peer's, or more."""

    neighbour: int
    seconds: float


@dataclass(frozen=True)
class Banned:
    """A neighbour has lied or has cost too much: it must be disconnected for good."""

    neighbour: int
    reason: str


@dataclass(frozen=True)
class Convicted:
    """An origin has signed two contents under one number; both must be on disk like an entry."""

    first: Entry
    second: Entry


@dataclass(frozen=True)
class SnapshotTaken:
    """A neighbour's base has taken the place of what was held; it must be on disk like an entry."""

    base: Base


@dataclass(frozen=True)
class Finished:
    """The end.

    Attributes:
        missing: the peers whose logs did not come to their END.
        differing: the other neighbours that were there to the last and did not report the same log.
    """

    missing: tuple[int, ...]
    differing: tuple[int, ...] = ()


Event: TypeAlias = (
    EntryAdded
    | RoundStarted
    | RoundTimedOut
    | Rejected
    | LinkRefused
    | ClockAhead
    | Banned
    | Convicted
    | SnapshotTaken
    | Finished
)


@dataclass(slots=True)
class Output:
    """What a call of `Gossip` wants done, in this order: store entries, send, look at the rest.

    Attributes:
        messages: (neighbour, frame), to be sent in this order.
        events: in the order in which they happened.
    """

    messages: list[tuple[int, bytes]]
    events: list[Event]
