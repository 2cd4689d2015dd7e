"""What the reader of a report should know first: what went wrong, and what is not as it looks."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from peer.records import SUMMARY
from sim.called import called, promises_equal_bits
from sim.report.folder import Run
from sim.troubles import Trouble, troubles_of
from sim.words import count, ranges, which


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


def compared(run: Run) -> list[tuple[str, str]]:
    """Return what digests there are of peers, and what each is called."""
    names = called(run.experiment.method)
    # A model's weights are all that its peer holds where weights are averaged.
    models = [] if run.experiment.averages else [("model", "model")]
    return [("accumulator", names.state), *models]


def troubles(run: Run) -> list[Trouble]:
    """Return what was not as it should be, grave things first."""
    found = [*_whole(run), *_losses(run)]
    if run.summary is not None:
        found += [*_divergence(run), *troubles_of(run.summary, run.called)]
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
    elif run.summary_broken:
        yield Trouble(True, "How it ended is not known", f"{SUMMARY} cannot be used; see below.")
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
    if not promises_equal_bits(run.summary):
        return
    for what, name in compared(run):
        most, *others = camps(run, what) or [Camp("", ())]
        if others:
            peers = [peer for camp in others for peer in camp.peers]
            yield Trouble(
                True,
                f"Peers ended with different {name}{'s' * (name[-1] != 's')}",
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
            f"{SUMMARY} says that digests differ, and they do not.",
        )
