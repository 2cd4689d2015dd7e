"""`kseed sim` and `kseed launch`: an experiment, run in one process or with one a peer."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import sim
from peer.config import Experiment
from sim.commands.parsing import Commands, add_experiment, experiment
from sim.exit_status import INCOMPLETE


def add(commands: Commands) -> None:
    """Add both commands."""
    simulate = commands.add_parser("sim", help="run an experiment in one process, in virtual time")
    add_experiment(simulate)
    simulate.set_defaults(run=_sim, door="sim")
    launch = commands.add_parser("launch", help="run an experiment with one process a peer")
    add_experiment(launch)
    launch.set_defaults(run=_launch, door="launch")


def _sim(parsed: argparse.Namespace) -> int:
    wanted = experiment(parsed)
    if wanted.dry_run:
        return _dry_run(wanted, parsed.door)
    return _conclude(wanted, sim.run(_tuned(wanted, parsed.door)))


def _launch(parsed: argparse.Namespace) -> int:
    from peer.launcher import launch
    from sim.plots import draw_run

    wanted = experiment(parsed)
    if wanted.dry_run:
        return _dry_run(wanted, parsed.door)
    summary = launch(_tuned(wanted, parsed.door))
    draw_run(Path(summary["folder"]))
    return _conclude(wanted, summary)


def _tuned(wanted: Experiment, engine: str) -> Experiment:
    """Return the experiment with the values that a search has found, if one is wanted."""
    if not wanted.tune:
        return wanted
    from sim.tuning import tuned

    found = tuned(wanted, engine)
    if found.words and not wanted.json:
        print(found.words, flush=True)
    return found.experiment


def _conclude(wanted: Experiment, summary: dict[str, Any]) -> int:
    from sim.called import promises_equal_bits
    from sim.closing import closing_words

    if wanted.json:
        print(json.dumps(summary))
    else:
        print(closing_words(summary))
    alike = summary["digests"]["all_equal"] or not promises_equal_bits(summary)
    whole = alike and not summary["missing_peers"]
    return 0 if whole else INCOMPLETE


def _dry_run(wanted: Experiment, engine: str) -> int:
    from sim.estimate import estimate, in_words

    cost = estimate(wanted, engine)
    words = in_words(cost)
    if wanted.tune:
        from sim.tuning.cost import cost_in_words, tuning_cost

        cost["tuning"] = tuning_cost(wanted)
        words += "\n" + cost_in_words(cost["tuning"])
    print(json.dumps(cost) if wanted.json else words)
    return 0
