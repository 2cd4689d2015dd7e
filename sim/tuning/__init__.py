"""`--tune`: learning rate and perturbation scale from short runs, judged on the peers' own rows.

`search` says what is tried, `short_run` tries it, `records` keeps and tells what came of it, and
here a run is begun with what was found.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from peer.errors import UserError
from peer.records import CONFIG, RunFolder
from peer.setup import refuse_cluster, refuse_varying, resolve_topology
from sim.tuning.records import in_words, read_chosen, write
from sim.tuning.search import Found, Losses, Values, ladders, runs, search, with_values

if TYPE_CHECKING:
    from peer.config import Experiment


@dataclass(frozen=True)
class Tuned:
    """An experiment whose values have been searched.

    Attributes:
        experiment: to be run in its place, in a folder that has what was found.
        words: what was found, for people to read; empty: nothing was searched this time.
    """

    experiment: Experiment
    words: str


def tune(experiment: Experiment, scratch: Path | None = None) -> Found:
    """Search learning rate and, for zeroth-order methods, perturbation scale.

    Args:
        experiment: with the values to start from; it has a model.
        scratch: a folder to work in, made if it is not there; None: one of the system's.

    Raises:
        UserError, TopologyError: a mistake, told in one line.
    """
    from sim.cluster.session import session
    from sim.tuning.progress import TuningProgress
    from sim.tuning.short_run import rows_apart, shortened, try_values

    short, over = shortened(experiment), ladders(experiment.method)
    if scratch is not None:
        scratch.mkdir(parents=True, exist_ok=True)
    corpus = rows_apart(short)
    with (
        TuningProgress(runs(experiment.method)[0]) as progress,
        TemporaryDirectory(dir=scratch) as folder,
        # Workers take longer to begin than a short run does.
        session(short) if short.on_a_cluster else nullcontext() as there,
    ):

        def measure(values: Values) -> Losses:
            losses = try_values(short, corpus, values, Path(folder), there)
            progress.tried(values, losses)
            return losses

        return search(searched(experiment), over, measure)


def searched(experiment: Experiment) -> dict[str, float]:
    """Return the options that a search tries, with the values that an experiment has for them."""
    names = [ladder.option for ladder in ladders(experiment.method)]
    return {name: getattr(experiment, name) for name in names}


def tuned(experiment: Experiment, engine: str) -> Tuned:
    """Search, write what was found into the run's folder, and return what to run there.

    A run that is resumed keeps the values that were found before it was begun.

    Args:
        experiment: with `tune` set.
        engine: sim or launch.

    Raises:
        UserError, TopologyError: a mistake, told in one line; nothing has been written.
    """
    wanted, graph = resolve_topology(replace(experiment, tune=False))
    refuse_varying(graph, engine)
    refuse_cluster(wanted, engine)
    there = Path(experiment.out)
    if experiment.resume and (there / CONFIG).exists():
        chosen = read_chosen(there)
        if chosen is None:
            raise UserError(f"tune is not allowed: the run in {there} was begun without it")
        return Tuned(with_values(wanted, chosen), "")
    # A folder that cannot be used is told before it takes time.
    folder = RunFolder.for_experiment(wanted, engine)
    found = tune(wanted)
    try:
        folder.path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"out = {str(folder.path)!r} cannot be made: {error.strerror}") from None
    write(found, folder.path)
    begun = with_values(replace(wanted, out=str(folder.path)), found.chosen)
    return Tuned(begun, in_words(found, [*found.chosen]))
