"""What a peer knows of the link to one neighbour."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from peer.entry import Entry

HEARTBEAT_TICKS = 16
"""So many ticks may pass in which a neighbour has nothing new to be told."""

ALIVE_TICKS = 50
"""A neighbour that was silent for this many ticks is not waited for at the end.

Three of its signs of life have been lost then, if it lives.
"""


@dataclass(slots=True)
class Link:
    """One neighbour. Times are in seconds.

    Attributes:
        open: it has greeted, and runs the same experiment.
        refused: one of the two runs another experiment.
        left: it has said BYE.
        returned: it has greeted since this peer's rounds are over, and was given time for it.
        banned: it has lied, and is disconnected.
        up: there is a connection; false while the graph of a time slot leaves the link out.
        last_heard: when its last readable message came.
        opened_at: when it has last greeted, and so opened the link.
        greeted_at: when it was last greeted.
        retry: after so long without an answer it is greeted again.
        digest: of its log, as it has last told; empty if it has not.
        complete: whether it held every log to its end then.
        shared: its digest was once ours, since our own log has been closed.
        behind: it has greeted with a digest unlike ours, and has not told its versions yet.
        told: (digest, complete) as it was last told.
        told_at: when.
        wait: how long until it is told again, as long as the digests differ.
        answered_at: when it was last answered with ANNOUNCE or VERSIONS.
        base_sent_at: when it was last sent a base.
        versions_at: when it was last sent VERSIONS.
        heads_at: when it was last sent HEADS.
        answers: how far each origin's log has been sent, as it asked, since `answers_at`.
        answers_at: when its questions of a tick began to be counted.
        announced: our digest when it was last sent ANNOUNCE.
        asked: it has been asked for entries, which may lie in its base, or for the base.
        versions: what it has last said to hold, until the digests are equal.
    """

    open: bool = False
    refused: bool = False
    left: bool = False
    returned: bool = False
    banned: bool = False
    up: bool = True
    last_heard: float = -math.inf
    opened_at: float = -math.inf
    greeted_at: float = -math.inf
    retry: float = 0.0
    digest: bytes = b""
    complete: bool = False
    shared: bool = False
    behind: bool = False
    told: tuple[bytes, bool] | None = None
    told_at: float = -math.inf
    wait: float = 0.0
    answered_at: float = -math.inf
    base_sent_at: float = -math.inf
    versions_at: float = -math.inf
    heads_at: float = -math.inf
    answers: dict[int, int] | None = None
    answers_at: float = -math.inf
    announced: bytes = b""
    asked: bool = False
    versions: Mapping[int, int] = field(default_factory=dict)

    @property
    def met(self) -> bool:
        """Whether the neighbour has answered, one way or the other, and told what it holds."""
        return self.refused or self.banned or (self.open and not self.behind)

    @property
    def deaf(self) -> bool:
        """Whether it is of no use to send anything."""
        return self.refused or self.left or self.banned or not self.up

    def holds(self, entry: Entry) -> bool:
        """Tell whether the neighbour has said that it holds an entry."""
        return entry.sequence < self.versions.get(entry.origin, 0)

    def alive(self, since: float) -> bool:
        """Tell whether the neighbour has been heard since a time and has not left."""
        return self.last_heard > since and not (self.refused or self.left or self.banned)

    def agrees(self, digest: bytes) -> bool:
        """Tell whether the neighbour has reported this log, and that it is complete."""
        return self.open and self.complete and self.digest == digest

    def digest_is_due(self, digest: bytes, complete: bool, now: float, tick: float) -> bool:
        """Tell whether the neighbour is to be told a digest now, and if so take note of it.

        At once what is new; what it seems not to share, ever more seldom; else a sign of life.
        """
        since = now - self.told_at
        if self.told != (digest, complete):
            self.wait = tick
        elif self.digest != digest and since >= self.wait:
            self.wait = min(2 * self.wait, HEARTBEAT_TICKS * tick)
        elif since < HEARTBEAT_TICKS * tick:
            return False
        self.told = (digest, complete)
        self.told_at = now
        return True


def differing(mine: Mapping[str, bytes], theirs: Mapping[str, bytes]) -> tuple[str, ...]:
    """Return the names of the handshake fields that are not equal on both sides, sorted."""
    names = {*mine, *theirs}
    return tuple(sorted(name for name in names if mine.get(name) != theirs.get(name)))
