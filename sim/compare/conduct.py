"""A comparison is done: what has ended is read, the rest is run, each in a process of its own.

One run goes on at a time, for their times are compared; and a process each, for so are their
memories.
"""

from __future__ import annotations

import logging
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from shutil import rmtree
from typing import Any, Final

from peer.errors import UserError
from sim.compare.definition import Comparison, Contender, Run
from sim.compare.folder import ComparisonFolder
from sim.study.attempt import DONE, IMPOSSIBLE, Outcome, attempt, outcome_of
from sim.study.progress import StudyProgress
from sim.study.whole_run import finished_run, whole_run
from sim.study.workers import WorkerDied, each_in_its_own
from sim.tuning import tune
from sim.tuning.records import read_chosen, verdict, write
from sim.tuning.search import with_values

LOG = logging.getLogger("kseed")

_SCRATCH: Final = "short-runs"


@dataclass(frozen=True)
class Conducted:
    """A comparison that has come to its end.

    Attributes:
        comparison: what was compared.
        folder: where it is.
        outcomes: for each run, in order; of one that is done the row is its summary.
        before: how many runs were finished before.
    """

    comparison: Comparison
    folder: ComparisonFolder
    outcomes: Sequence[Outcome]
    before: int

    def of(self, contender: Contender) -> list[tuple[Run, Outcome]]:
        """Return the runs of a contender, seed by seed."""
        pairs = zip(self.comparison.runs, self.outcomes, strict=True)
        return [(run, outcome) for run, outcome in pairs if run.contender == contender]


def conduct(comparison: Comparison, folder: ComparisonFolder) -> Conducted:
    """Do what of a comparison is not finished yet; what is finished stays, whatever happens.

    Args:
        comparison: what to do.
        folder: of this comparison; held.

    Raises:
        UserError: the first run cannot be, and none has been before.
    """
    outcomes = {
        run.name: Outcome(DONE, row=summary)
        for run in comparison.runs
        if (summary := finished_run(folder.of_run(run)))
    }
    before = len(outcomes)
    with StudyProgress(len(comparison.runs), before, "comparing", "runs") as progress:
        for method in comparison.methods:
            runs = [run for run in comparison.runs if run.contender.method == method]
            todo = [run for run in runs if run.name not in outcomes]
            with closing(_outcomes(runs[0], todo, comparison.tune, folder, progress)) as results:
                for run, found in results:
                    outcomes[run.name] = outcome = outcome_of(found)
                    if outcome.status == IMPOSSIBLE and len(outcomes) == 1:
                        raise UserError(f"{run.name}: {outcome.reason}")
                    if outcome.row is None:
                        LOG.error("%s: %s: %s", run.name, outcome.status, outcome.reason)
                    else:
                        progress.say(f"{run.name}: {_in_short(outcome.row)}")
                    progress.advance()
    return Conducted(comparison, folder, [outcomes[run.name] for run in comparison.runs], before)


def _outcomes(
    first: Run, todo: Sequence[Run], tuned: bool, folder: ComparisonFolder, progress: StudyProgress
) -> Generator[tuple[Run, Outcome | WorkerDied], None, None]:
    """Run what there is to do of a method, after tuning it with its first run where that is due."""
    method = first.contender.method
    untuned = todo and tuned and read_chosen(folder.of_tuning(method)) is None
    failure = _failure_to_tune(first, folder, progress) if untuned else None
    if failure is not None:
        yield from ((run, failure) for run in todo)
    else:
        yield from each_in_its_own(partial(_compute, folder=folder, tuned=tuned), todo)


def count_finished(comparison: Comparison, folder: ComparisonFolder) -> int:
    """Return how many runs of a comparison have ended."""
    return sum(finished_run(folder.of_run(run)) is not None for run in comparison.runs)


def _failure_to_tune(
    first: Run, folder: ComparisonFolder, progress: StudyProgress
) -> Outcome | None:
    """Tune a method with its first run; return None, or what has gone wrong."""
    place = folder.of_tuning(first.contender.method)
    progress.say(f"tuning {first.contender.method}")
    try:
        with closing(each_in_its_own(partial(_tune, place=place), [first])) as results:
            [(_, found)] = results
    finally:
        # A process that is ended from outside leaves what it was at.
        rmtree(place / _SCRATCH, ignore_errors=True)
    outcome = outcome_of(found)
    if outcome.status != DONE:
        return Outcome(outcome.status, f"tuning it: {outcome.reason}")
    assert outcome.row is not None
    for line in outcome.row["verdict"]:
        progress.say(f"{first.contender.method}: {line}")
    return None


def _tune(first: Run, place: Path) -> Outcome:
    def found() -> dict[str, Any]:
        search = tune(first.setting.experiment(), place / _SCRATCH)
        write(search, place)
        return {"verdict": verdict(search, [*search.chosen])}

    place.mkdir(parents=True, exist_ok=True)
    return attempt(found, place / "tune.log")


def _compute(run: Run, folder: ComparisonFolder, tuned: bool) -> Outcome:
    """Run to the end in this process and return what came of it."""

    def summary() -> dict[str, Any]:
        experiment = run.setting.experiment()
        chosen = read_chosen(folder.of_tuning(run.contender.method)) if tuned else None
        return whole_run(with_values(experiment, chosen or {}), path)

    path = folder.of_run(run)
    path.parent.mkdir(parents=True, exist_ok=True)
    return attempt(summary, path.with_suffix(".log"))


def _in_short(summary: dict[str, Any]) -> str:
    loss = summary["eval_loss"]
    if loss is None:
        return DONE
    ends = (loss["initial"], loss["final"])
    before, after = ("not finite" if end is None else f"{end:.4f}" for end in ends)
    return f"held-out loss {before} -> {after}"
