"""What comes of asking a peer for its status."""

from __future__ import annotations

from dataclasses import dataclass

from peer.status import PeerStatus


@dataclass(frozen=True)
class Heard:
    """A status, and how far the peer's clock is ahead of this host's, in seconds."""

    status: PeerStatus
    clock_ahead: float


@dataclass(frozen=True)
class Silence:
    """No status.

    Attributes:
        why: in a few words, which may have come from anybody.
        gone: whether no process listens there.
    """

    why: str
    gone: bool = False
