"""What happens to a peer, in the words of a log."""

from __future__ import annotations

import logging

from peer.events import (
    Banned,
    ClockAhead,
    Convicted,
    EntryAdded,
    Event,
    LinkRefused,
    Rejected,
    RoundStarted,
    RoundTimedOut,
    SnapshotTaken,
)

LOG = logging.getLogger("kseed")


def log_event(me: int, event: Event) -> None:
    """Tell the reader of a log what has happened."""
    match event:
        case EntryAdded(entry):
            what = "END" if entry.is_end else f"round {entry.round}"
            LOG.debug("peer %d has %s of peer %d", me, what, entry.origin)
        case RoundStarted(round_, _, indices):
            how = "trains in" if indices is not None else "waits for"
            LOG.info("peer %d %s round %d", me, how, round_)
        case RoundTimedOut(round_, missing):
            LOG.warning("peer %d closed round %d without %s", me, round_, missing)
        case Rejected(neighbour, reason):
            if event.notable:
                LOG.warning("peer %d refused a message of peer %d: %s", me, neighbour, reason)
        case LinkRefused(neighbour, names):
            LOG.warning("peers %d and %d differ in: %s", me, neighbour, ", ".join(names))
        case ClockAhead(neighbour, seconds):
            what = "the clock of peer %d is %.1f hours ahead of that of peer %d: only logs go by it"
            LOG.warning(what, neighbour, seconds / 3600, me)
        case Banned(neighbour, reason):
            LOG.warning("peer %d bans peer %d: %s", me, neighbour, reason)
        case Convicted(first, _):
            what = "peer %d knows that peer %d has written entry %d twice"
            LOG.warning(what, me, first.origin, first.sequence)
        case SnapshotTaken(base):
            LOG.info("peer %d begins with the sums of the rounds before %d", me, base.round)
