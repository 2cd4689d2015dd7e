"""A comparison is done: what has ended is read, the rest is run, each in a process of its own.

Here one run goes on at a time, for their times are compared; and a process each, for so are their
memories. On a cluster all go on side by side.
"""

from __future__ import annotations

import logging
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from shutil import rmtree
from typing import Any, Final

from peer.errors import UserError
from sim.compare.definition import Comparison, Contender, Run
from sim.compare.folder import TUNING, ComparisonFolder, leaves_of_run
from sim.study.attempt import DONE, IMPOSSIBLE, Outcome, attempt
from sim.study.errands import Engine, Errand
from sim.study.progress import StudyProgress
from sim.study.whole_run import finished_run, whole_run
from sim.tuning import tune
from sim.tuning.records import read_chosen, verdict, write
from sim.tuning.search import Values, with_values

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


@dataclass(frozen=True)
class _Item:
    """A run, and the values that tuning has found for it."""

    run: Run
    chosen: Values

    @property
    def name(self) -> str:
        """The run's."""
        return self.run.name


def conduct(comparison: Comparison, folder: ComparisonFolder, engine: Engine) -> Conducted:
    """Do what of a comparison is not finished yet; what is finished stays, whatever happens.

    Args:
        comparison: what to do.
        folder: of this comparison; held.
        engine: does the runs; if it does not do all at once, it is given one method after another.

    Raises:
        UserError: the first run cannot be, and none has been before.
    """
    outcomes = {
        run.name: Outcome(DONE, row=summary)
        for run in comparison.runs
        if (summary := finished_run(folder.of_run(run)))
    }
    before = len(outcomes)
    each = [(method,) for method in comparison.methods]
    with StudyProgress(len(comparison.runs), before, "comparing", "runs") as progress:
        for methods in [comparison.methods] if engine.all_at_once else each:
            runs = [run for run in comparison.runs if run.contender.method in methods]
            todo = [run for run in runs if run.name not in outcomes]
            with closing(_outcomes(runs, todo, comparison, folder, engine, progress)) as results:
                for run, outcome in results:
                    outcomes[run.name] = outcome
                    if outcome.status == IMPOSSIBLE and len(outcomes) == 1:
                        raise UserError(f"{run.name}: {outcome.reason}")
                    if outcome.row is None:
                        LOG.error("%s: %s: %s", run.name, outcome.status, outcome.reason)
                    else:
                        progress.say(f"{run.name}: {_in_short(outcome.row)}")
                    progress.advance()
    return Conducted(comparison, folder, [outcomes[run.name] for run in comparison.runs], before)


def _outcomes(
    runs: Sequence[Run],
    todo: Sequence[Run],
    comparison: Comparison,
    folder: ComparisonFolder,
    engine: Engine,
    progress: StudyProgress,
) -> Generator[tuple[Run, Outcome], None, None]:
    """Run what there is to do of methods, after tuning each with its first run where it is due."""
    failures: dict[str, Outcome] = {}
    if comparison.tune:
        methods = dict.fromkeys(run.contender.method for run in todo)
        untuned = [name for name in methods if read_chosen(folder.of_tuning(name)) is None]
        firsts = [next(run for run in runs if run.contender.method == name) for name in untuned]
        failures = _failures_to_tune(firsts, folder, engine, progress)
    items = []
    for run in todo:
        method = run.contender.method
        if method in failures:
            yield run, failures[method]
        else:
            chosen = read_chosen(folder.of_tuning(method)) if comparison.tune else None
            items.append(_Item(run, chosen or {}))
    with closing(engine.do(RUN, items, folder.path)) as results:
        for item, outcome in results:
            yield item.run, outcome


def count_finished(comparison: Comparison, folder: ComparisonFolder) -> int:
    """Return how many runs of a comparison have ended."""
    return sum(finished_run(folder.of_run(run)) is not None for run in comparison.runs)


def _failures_to_tune(
    firsts: Sequence[Run], folder: ComparisonFolder, engine: Engine, progress: StudyProgress
) -> dict[str, Outcome]:
    """Tune methods with their first runs; return what has gone wrong, by method."""
    failures = {}
    if firsts:
        progress.say(f"tuning {', '.join(first.contender.method for first in firsts)}")
    try:
        with closing(engine.do(TUNE, firsts, folder.path)) as results:
            for first, outcome in results:
                method = first.contender.method
                if outcome.row is None:
                    failures[method] = Outcome(outcome.status, f"tuning it: {outcome.reason}")
                    continue
                for line in outcome.row["verdict"]:
                    progress.say(f"{method}: {line}")
    finally:
        # A process that is ended from outside leaves what it was at.
        for first in firsts:
            place = folder.of_tuning(first.contender.method)
            rmtree(place / _SCRATCH, ignore_errors=True)
    return failures


def tune_in(first: Run, folder: Path) -> Outcome:
    """Tune a method with its first run in this process, and return what came of it."""
    place = ComparisonFolder(folder).of_tuning(first.contender.method)

    def found() -> dict[str, Any]:
        search = tune(first.setting.experiment(), place / _SCRATCH)
        write(search, place)
        return {"verdict": verdict(search, [*search.chosen])}

    place.mkdir(parents=True, exist_ok=True)
    return attempt(found, place / "tune.log")


def compute(item: _Item, folder: Path) -> Outcome:
    """Run to the end in this process and return what came of it."""
    path = ComparisonFolder(folder).of_run(item.run)

    def summary() -> dict[str, Any]:
        return whole_run(with_values(item.run.setting.experiment(), item.chosen), path)

    path.parent.mkdir(parents=True, exist_ok=True)
    return attempt(summary, path.with_suffix(".log"))


RUN: Final = Errand(
    compute,
    leaves=lambda item: leaves_of_run(item.run.name),
    options=lambda item: item.run.setting.options,
)
"""A run, in the folder of its comparison."""

TUNE: Final = Errand(
    tune_in,
    leaves=lambda first: (f"{TUNING}/{first.contender.method}",),
    options=lambda first: first.setting.options,
)
"""The tuning of a method, in the same folder."""


def _in_short(summary: dict[str, Any]) -> str:
    loss = summary["eval_loss"]
    if loss is None:
        return DONE
    ends = (loss["initial"], loss["final"])
    before, after = ("not finite" if end is None else f"{end:.4f}" for end in ends)
    return f"held-out loss {before} -> {after}"
