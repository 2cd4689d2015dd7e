"""What a summary tells of trouble, in short for closing words and at length for a report."""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from peer.methods import METHODS
from sim.words import count, which

_PEERS_LISTED: Final = 8


@dataclass(frozen=True)
class Trouble:
    """One thing that was not as it should be.

    Attributes:
        grave: whether the result is in doubt, or only the way to it was not smooth.
        title: what it is, in a few words.
        text: whom it concerns, and what it means.
        label: what it is, in a word or two; empty: only a report tells it.
        short: whom it concerns, in less than a line.
    """

    grave: bool
    title: str
    text: str
    label: str = ""
    short: str = ""


def troubles_of(
    summary: Mapping[str, Any], called: Callable[[int], str] = str
) -> Iterator[Trouble]:
    """Tell what went wrong, but for digests that differ.

    Args:
        summary: as `peer.summary.summarise` makes it.
        called: returns what a peer is called.
    """
    yield from _absence(summary)
    yield from _mishaps(summary)
    yield from _liars(summary, called)
    yield from _lost(summary)


def _absence(summary: Mapping[str, Any]) -> Iterator[Trouble]:
    if missing := summary["missing_peers"]:
        averages = METHODS[summary["method"]].averages
        yield Trouble(
            grave=True,
            title="Missing peers",
            text=f"Of {which(missing)} some neighbours have not heard that all rounds were done."
            if averages
            else f"The end of the log of {which(missing)} did not come to all others, so later "
            "entries may be missing.",
            label="missing peers",
            short=f"{_listed(missing)}: no word of their end came"
            if averages
            else f"{_listed(missing)}: no end of their logs came",
        )
    if absent := summary["absent_peers"]:
        yield Trouble(
            grave=False,
            title="Absent peers",
            text=f"At the end {which(absent)} {'were' if len(absent) > 1 else 'was'} not there: "
            "crashed, frozen, gone, evicted or never come.",
            label="absent peers",
            short=f"{_listed(absent)}: not there at the end",
        )


def _mishaps(summary: Mapping[str, Any]) -> Iterator[Trouble]:
    if timeouts := summary["timeouts_fired"]:
        # Summed over the peers, so not a number of rounds.
        averages = METHODS[summary["method"]].averages
        what = "weights" if averages else "entry"
        closed = f"{count(timeouts, 'time')} a peer closed a round without somebody's {what}"
        yield Trouble(
            grave=False,
            title="Time-outs",
            text=f"{closed}, and took its own in their place."
            if averages
            else f"{closed}, so the peers may have trained from different models then. Entries "
            "that came later were added all the same.",
            label="time-outs",
            short=closed,
        )
    if skipped := summary["skipped_steps"]:
        yield Trouble(
            grave=False,
            title="Steps skipped",
            text=f"{count(skipped, 'local step')} had a loss that was not finite, and added "
            "nothing.",
            label="skipped steps",
            short=f"{skipped:,}, whose loss was not finite",
        )
    if rejected := summary["rejected_messages"]:
        yield Trouble(
            grave=True,
            title="Messages rejected",
            text=f"{count(rejected, 'message')} broke the protocol. They have changed nothing but "
            "the count.",
            label="rejected",
            short=f"{count(rejected, 'message')} that broke the protocol",
        )


def _liars(summary: Mapping[str, Any], called: Callable[[int], str]) -> Iterator[Trouble]:
    for liar in summary["liars"]:
        reasons = "; ".join(liar["reasons"])
        yield Trouble(
            grave=True,
            title=f"Peer {called(liar['peer'])} was found guilty",
            text=f"Named by {which(liar['named_by'])}: {reasons}.",
            label="liar",
            short=f"peer {called(liar['peer'])}, named by {_listed(liar['named_by'])}: {reasons}",
        )


def _lost(summary: Mapping[str, Any]) -> Iterator[Trouble]:
    if signals := Counter(summary["faults"]["exit_signals"]):
        told = ", ".join(
            f"{_signal(number)} {times:,}" for number, times in sorted(signals.items())
        )
        yield Trouble(
            grave=False,
            title="Processes ended by a signal",
            text=f"How often, by signal: {told}. A crash of the scenario is a SIGKILL.",
        )
    if unusable := summary["data"] and summary["data"]["unusable_rows"]:
        yield Trouble(
            grave=False,
            title="Rows left out",
            text=f"{count(unusable, 'row')} of the data had no response, or were too long "
            "for max_length.",
            label="unusable rows",
            short=f"{unusable:,}, with no response or too long for max_length",
        )


def _listed(peers: Sequence[int]) -> str:
    text = ", ".join(str(peer) for peer in peers[:_PEERS_LISTED])
    rest = len(peers) - _PEERS_LISTED
    return f"{text} and {rest:,} more" if rest > 0 else text


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
