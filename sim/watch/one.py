"""One peer's status as a short table."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from typing import Any

from peer.errors import RunFailed
from peer.metrics_address import MetricsAddress
from peer.status import NeighbourStatus
from sim.tables import aligned, labelled
from sim.watch.answers import Heard, Silence
from sim.watch.asking import ask
from sim.watch.network import at_round, sent_by
from sim.watch.words import (
    clock_in_words,
    loss_in_words,
    silence_in_words,
    waiting_in_words,
)
from sim.words import bytes_in_words, count, printable, seconds_in_words


def heard_of(address: MetricsAddress) -> Heard:
    """Ask a peer.

    Raises:
        RunFailed: it does not answer, or what answers is no peer.
    """
    answer = asyncio.run(ask(address))
    if isinstance(answer, Silence):
        raise RunFailed(f"{address}: {answer.why}")
    return answer


def as_json(heard: Heard) -> dict[str, Any]:
    """Return what was heard, and how far the peer's clock is ahead of this host's."""
    return asdict(heard.status) | {"clock_ahead_seconds": heard.clock_ahead}


def in_words(heard: Heard) -> str:
    """Return what was heard as a table, with a line for what is wrong."""
    status = heard.status
    doing = f"{status.phase}, round {at_round(status)} of {status.rounds}"
    rows = [
        ("peer", f"{status.peer} of {status.peers}, {status.method} on {status.topology}"),
        ("does", doing),
        ("digest", f"{status.digest}{_closed(status.cut_round)}"),
        ("last loss", loss_in_words(status.loss)),
        ("entries", f"{status.held:,} held, {status.received:,} received"),
        ("waits for", waiting_in_words(status) or "nobody"),
        ("sent", bytes_in_words(sent_by(status))),
        ("runs for", seconds_in_words(max(0.0, status.now - status.started_at))),
        ("memory", f"{bytes_in_words(status.peak_memory_bytes)} at most"),
    ]
    faults = {
        "time-out": status.timeouts,
        "message refused": status.rejected,
        "message of garbage": status.garbage,
        "frame dropped": status.dropped,
    }
    told = [_times(number, noun) for noun, number in faults.items() if number]
    if told:
        rows.append(("faults", ", ".join(told)))
    rows += [("accuses", f"peer {one.peer}: {one.reason}") for one in status.accused]
    clock = clock_in_words(heard.clock_ahead)
    if clock:
        rows.append(("clock", clock))
    words = labelled([(label, printable(text)) for label, text in rows])
    return "\n".join([words, "", *_neighbours(status.neighbours)])


def _closed(cut_round: int | None) -> str:
    return "" if cut_round is None else f" after {count(cut_round, 'round')}"


def _times(number: int, noun: str) -> str:
    first, _, rest = noun.partition(" ")
    return f"{count(number, first)} {rest}".rstrip()


def _neighbours(neighbours: tuple[NeighbourStatus, ...]) -> list[str]:
    rows = [("neighbour", "link", "heard", "sent", "payload", "messages")]
    for one in neighbours:
        ago = "" if one.silent_seconds is None else " ago"
        messages = one.payload_messages + one.control_messages
        rows.append(
            (
                str(one.peer),
                _link(one),
                silence_in_words(one.silent_seconds).removesuffix(" heard") + ago,
                bytes_in_words(one.sent_bytes),
                bytes_in_words(one.payload_bytes),
                f"{messages:,}",
            )
        )
    return aligned(rows, (True, False, True, True, True, True))


def _link(one: NeighbourStatus) -> str:
    """Return in words whether both ways of a link are open."""
    if one.banned:
        return "banned"
    if one.open:
        return "open"
    if one.silent_seconds is not None:
        return "closed"
    return "not heard" if one.reached else "not reached"
