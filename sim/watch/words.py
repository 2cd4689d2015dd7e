"""A picture of the network in words: what is said where nobody sees it drawn, and what is wrong."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Final

from peer.status import PeerStatus
from sim.watch.network import CLOCKS, Picture, Presence, Row, at_round
from sim.words import bytes_in_words, printable, ranges, seconds_in_words

DIGITS: Final = 8
"""Of a digest, where it is told in short."""


def rounds_in_words(picture: Picture) -> str:
    """Return which rounds the peers are in."""
    if picture.rounds is None:
        return "no round is known"
    first, last, rounds = picture.rounds
    return f"round {first if first == last else f'{first}–{last}'} of {rounds}"


def digests_in_words(picture: Picture) -> str:
    """Return whether digests agree, of peers that have closed as many rounds."""
    if picture.differing:
        return f"{len(picture.differing)} of {picture.compared} digests differ"
    if picture.compared:
        return f"digests equal ({picture.compared} peers)"
    return "no digests to compare"


def sent_in_words(picture: Picture) -> str:
    """Return what has been sent, and how fast."""
    rate = "" if picture.rate is None else f", {bytes_in_words(picture.rate)}/s"
    return f"{bytes_in_words(picture.sent)} sent{rate}"


def loss_in_words(loss: float | None) -> str:
    """Return a loss in nats per token."""
    return "–" if loss is None else f"{loss:.4f}"


def plain_line(picture: Picture) -> str:
    """Return the whole network in a line."""
    parts = [rounds_in_words(picture)]
    if picture.loss is not None:
        parts.append(f"mean loss {loss_in_words(picture.loss)}")
    parts += [digests_in_words(picture), sent_in_words(picture)]
    ended = sum(row.presence is Presence.ENDED for row in picture.rows)
    if ended:
        parts.append(f"{ended} of {len(picture.rows)} ended")
    if picture.silent:
        parts.append(f"silent: {_names(picture.silent)}")
    return "; ".join(parts)


def troubles(picture: Picture) -> list[str]:
    """Return a line for each thing that is wrong, the worst first."""
    lines = [_silence(row) for row in picture.silent if row.status is not None]
    unseen: defaultdict[str, list[Row]] = defaultdict(list)
    for row in picture.silent:
        if row.status is None:
            unseen[row.why].append(row)
    lines += [f"not seen yet: {_names(rows)}: {why}" for why, rows in unseen.items()]
    if picture.differing:
        lines.append(f"digests differ from most others': {_peers(picture.differing)}")
    if picture.strangers:
        lines.append(f"in another experiment than most: {_peers(picture.strangers)}")
    if picture.twins:
        where = ", ".join(f"{row.name} at {row.address}" for row in picture.twins)
        lines.append(f"several say to be the same peer: {where}")
    lines += [f"peer {r.name}: {clock_in_words(r.clock_ahead)}" for r in picture.wrong_clocks]
    for status in picture.known:
        for accusation in status.accused:
            lines.append(f"peer {status.peer} accuses peer {accusation.peer}: {accusation.reason}")
    return [printable(line) for line in lines]


def clock_in_words(ahead: float) -> str:
    """Return that a clock is wrong; empty: it is not."""
    if abs(ahead) <= CLOCKS:
        return ""
    how = "ahead of" if ahead > 0 else "behind"
    return f"its clock is {seconds_in_words(abs(ahead))} {how} this host's"


def waiting_in_words(status: PeerStatus) -> str:
    """Return whom a peer waits for; empty: nobody."""
    return ranges(status.waiting_for)


def oldest_silence(status: PeerStatus) -> tuple[int, float | None] | None:
    """Return the neighbour that was silent for longest, and how long; None: there is none.

    One that was never heard (None) counts as the longest.
    """
    if not status.neighbours:
        return None
    never = float("inf")
    oldest = max(
        status.neighbours,
        key=lambda one: never if one.silent_seconds is None else one.silent_seconds,
    )
    return oldest.peer, oldest.silent_seconds


def silence_in_words(seconds: float | None) -> str:
    """Return how long somebody has been silent, shortly."""
    if seconds is None:
        return "never heard"
    return f"{seconds:.0f} s" if seconds < 120 else seconds_in_words(seconds)


def _silence(row: Row) -> str:
    assert row.status is not None
    where = f"last in round {at_round(row.status)}"
    return (
        f"peer {row.name} is silent for {silence_in_words(row.silent_seconds)}, {where}: {row.why}"
    )


def _peers(rows: Sequence[Row]) -> str:
    return f"peer{'s' * (len(rows) > 1)} {_names(rows)}"


def _names(rows: Sequence[Row]) -> str:
    numbers = ranges(row.status.peer for row in rows if row.status is not None)
    unseen = [row.address for row in rows if row.status is None]
    more = f" and {len(unseen) - 3} more" if len(unseen) > 3 else ""
    return ", ".join([numbers] * bool(numbers) + unseen[:3]) + more
