"""Many peers: the simulator, its measurements, and the command line.

From a notebook:

    import sim
    summary = sim.run(topology="torus", peers=16, rounds=4)
    summary["eval_loss"], summary["digests"]["all_equal"]
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from peer.config import Experiment, experiment_from
from peer.errors import UserError

__all__ = ["Experiment", "run"]


def run(experiment: Experiment | None = None, **options: Any) -> dict[str, Any]:
    """Simulate an experiment, write its run folder, and return its summary (schema 1).

    Args:
        experiment: a whole one; or give the options that differ from the defaults by name.
        options: as in an experiment file.

    Raises:
        UserError, TopologyError: a mistake, told in one line; nothing has been written.
    """
    from sim.plots import draw_run
    from sim.runner import ENGINE, simulate
    from sim.tuning import tuned

    if experiment is not None and options:
        raise UserError("an experiment is given, or options by name, not both")
    wanted = experiment if experiment is not None else experiment_from(options)
    if wanted.tune:
        wanted = tuned(wanted, ENGINE).experiment
    summary = simulate(wanted)
    draw_run(Path(summary["folder"]))
    return summary
