"""What the reader of a report should know first: what went wrong, and what is not as it looks."""

from __future__ import annotations

import math
import signal
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sim.report.folder import Run
from sim.words import count, ranges, which


@dataclass(frozen=True)
class Trouble:
    """One warning.

    Attributes:
        grave: whether the result is in doubt, or only the way to it was not smooth.
        title: what it is, in a few words.
        text: whom it concerns, and what it means.
    """

    grave: bool
    title: str
    text: str


@dataclass(frozen=True)
class Camp:
    """Peers that have ended with the same digest."""

    digest: str
    peers: tuple[int, ...]


def camps(run: Run, what: str) -> list[Camp]:
    """Return the digests of what peers have ended with, that of most peers first.

    Args:
        run: one that has ended.
        what: accumulator or model.
    """
    assert run.summary is not None
    digests: Sequence[str] = run.summary["digests"][what] or ()
    found: dict[str, list[int]] = {}
    for peer, digest in zip(run.there, digests, strict=bool(digests)):
        found.setdefault(digest, []).append(peer)
    by_size = sorted(found.items(), key=lambda item: (-len(item[1]), item[1]))
    return [Camp(digest, tuple(peers)) for digest, peers in by_size]


def troubles(run: Run) -> list[Trouble]:
    """Return what was not as it should be, grave things first."""
    found = [*_whole(run), *_losses(run)]
    if run.summary is not None:
        found += [*_divergence(run), *_absence(run.summary), *_liars(run)]
        found += _mishaps(run.summary)
    return sorted(found, key=lambda trouble: not trouble.grave)


def _whole(run: Run) -> Iterator[Trouble]:
    """Tell what of the run, or of its folder, is not there."""
    done, rounds = run.rounds_done, run.experiment.rounds
    ended = run.summary is not None
    if run.engine == "peer":
        yield Trouble(
            False,
            "One peer's folder",
            "It was made by `kseed peer`, so it knows of this peer alone: what it has sent, and "
            "not how the run has ended.",
        )
    elif not ended and any(sentence.startswith("summary.json") for sentence in run.damage):
        yield Trouble(True, "How it ended is not known", "summary.json cannot be used; see below.")
    elif not ended and run.engine == "launch":
        yield Trouble(
            True,
            "The run has not ended",
            f"It wants {count(rounds, 'round')} and is under way, or was interrupted. The rounds "
            "of processes are summed up when they have ended; bytes are those that each peer had "
            "counted when its last round began.",
        )
    elif not ended:
        yield Trouble(
            True,
            "The run has not ended",
            f"Rounds done: {done:,} of {rounds:,}. It is under way, was interrupted or rolled "
            "back, so digests, entries and times are not known.",
        )
    for sentence in run.damage:
        yield Trouble(True, "The folder is not whole", sentence)
    for sentence in run.notes:
        yield Trouble(False, "How to read this", sentence)


def _losses(run: Run) -> Iterator[Trouble]:
    if run.experiment.is_synthetic:
        return
    lost = [record["round"] for record in run.rounds if not _is_finite(record["eval_loss"])]
    if lost:
        rounds = f"round{'s' * (len(lost) > 1)} {ranges(lost)}"
        yield Trouble(
            True,
            "Loss not finite",
            f"After {rounds} the held-out loss was not a finite number, and is left out of the "
            "curve. A smaller learning rate or another dtype may help.",
        )


def _is_finite(loss: float | None) -> bool:
    return loss is not None and math.isfinite(loss)


def _divergence(run: Run) -> Iterator[Trouble]:
    assert run.summary is not None
    for what in ("accumulator", "model"):
        most, *others = camps(run, what) or [Camp("", ())]
        if others:
            peers = [peer for camp in others for peer in camp.peers]
            yield Trouble(
                True,
                f"Peers ended with different {what}s",
                f"{len(others) + 1:,} different digests: {which(peers)} "
                f"differ{'s' * (len(peers) == 1)} from the other "
                f"{len(most.peers):,}.",
            )
    if not run.summary["digests"]["all_equal"] and not any(
        len(camps(run, what)) > 1 for what in ("accumulator", "model")
    ):
        yield Trouble(
            True,
            "The folder is not whole",
            "summary.json says that digests differ, and they do not.",
        )


def _absence(summary: Mapping[str, Any]) -> Iterator[Trouble]:
    if summary["missing_peers"]:
        yield Trouble(
            True,
            "Missing peers",
            f"The end of the log of {which(summary['missing_peers'])} did not come to all others, "
            "so later entries may be missing.",
        )
    if summary["absent_peers"]:
        yield Trouble(
            False,
            "Absent peers",
            f"At the end {which(summary['absent_peers'])} "
            f"{'were' if len(summary['absent_peers']) > 1 else 'was'} not there: crashed, frozen, "
            "gone, evicted or never come.",
        )


def _liars(run: Run) -> Iterator[Trouble]:
    assert run.summary is not None
    for liar in run.summary["liars"]:
        yield Trouble(
            True,
            f"Peer {run.called(liar['peer'])} was found guilty",
            f"Named by {which(liar['named_by'])}: {'; '.join(liar['reasons'])}.",
        )


def _mishaps(summary: Mapping[str, Any]) -> Iterator[Trouble]:
    if rejected := summary["rejected_messages"]:
        yield Trouble(
            True,
            "Messages rejected",
            f"{count(rejected, 'message')} broke the protocol. They have changed nothing but the "
            "count.",
        )
    if timeouts := summary["timeouts_fired"]:
        yield Trouble(
            False,
            "Time-outs",
            f"{count(timeouts, 'time')} a peer closed a round without somebody's entry, so the "
            "peers may have trained from different models then. Entries that came later were added "
            "all the same.",
        )
    if skipped := summary["skipped_steps"]:
        yield Trouble(
            False,
            "Steps skipped",
            f"{count(skipped, 'local step')} had a loss that was not finite, and added nothing.",
        )
    if signals := Counter(summary["faults"]["exit_signals"]):
        told = ", ".join(
            f"{_signal(number)} {times:,}" for number, times in sorted(signals.items())
        )
        yield Trouble(
            False,
            "Processes ended by a signal",
            f"How often, by signal: {told}. A crash of the scenario is a SIGKILL.",
        )
    if unusable := summary["data"] and summary["data"]["unusable_rows"]:
        yield Trouble(
            False,
            "Rows left out",
            f"{count(unusable, 'row')} of the data had no response, or none within max_length.",
        )


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
