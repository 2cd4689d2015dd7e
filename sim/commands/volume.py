"""`kseed volume`: what every system sends and computes in a setting, predicted and measured."""

from __future__ import annotations

import argparse
import json

from peer.errors import UserError
from sim.commands.parsing import Commands, add_experiment, experiment

_HELP = "what each system of the papers would send, receive and compute in a setting"


def add(commands: Commands) -> None:
    """Add the command."""
    volume = commands.add_parser(
        "volume",
        help=_HELP,
        description=f"Say {_HELP}: that of an experiment, whose model may also be a size, as 3B.",
    )
    add_experiment(volume)
    group = volume.add_argument_group("what is said")
    group.add_argument("--system", metavar="A,B", help="only these systems (default: all)")
    group.add_argument(
        "--paper", metavar="NAME", help="a paper's table instead, beside ours and the difference"
    )
    group.add_argument(
        "--measure",
        action="store_true",
        help="what our protocol sends instead, in each mode of gossip: predicted, and counted in a "
        "simulation of the setting with made-up gradients",
    )
    group.add_argument(
        "--sample",
        metavar="N",
        help="of how many origins the ways of their entries are followed, where there are more "
        "(default: as many as take some seconds)",
    )
    group.add_argument("--csv", action="store_true", help="print the rows as CSV")
    volume.set_defaults(run=_volume, engine="sim")


def _volume(parsed: argparse.Namespace) -> int:
    asked = [name for name in ("system", "paper", "measure") if getattr(parsed, name)]
    if len(asked) > 1:
        raise UserError(f"--{asked[0]} and --{asked[1]} cannot be had together")
    if parsed.csv and parsed.json:
        raise UserError("--csv and --json cannot be had together")
    if parsed.paper:
        return _paper(parsed)
    return _measure(parsed) if parsed.measure else _systems(parsed)


def _paper(parsed: argparse.Namespace) -> int:
    from sim.volume.papers import paper_table
    from sim.volume.table import paper_in_words, paper_json, rows_csv

    table = paper_table(parsed.paper)
    if parsed.csv:
        print(rows_csv(table.rows), end="")
    else:
        print(json.dumps(paper_json(table)) if parsed.json else paper_in_words(table))
    return 0


def _measure(parsed: argparse.Namespace) -> int:
    from peer.dissemination import MODES
    from sim.bench.progress import BenchProgress
    from sim.volume.comparison import compare
    from sim.volume.table import comparison_in_words, rows_csv

    wanted = experiment(parsed)
    rows = []
    with BenchProgress("what each mode of gossip sends", len(MODES)) as progress:
        for some in compare(wanted):
            rows += some
            progress.advance()
    if parsed.csv:
        print(rows_csv(rows), end="")
    else:
        print(json.dumps({"rows": rows}) if parsed.json else comparison_in_words(rows))
    return 0


def _systems(parsed: argparse.Namespace) -> int:
    from sim.volume.overview import overview, overview_in_words, overview_json
    from sim.volume.table import rows_csv
    from sim.volume.walk_progress import WalkProgress

    wanted = experiment(parsed)
    names = parsed.system.split(",") if parsed.system else []
    sample = None if parsed.sample is None else _sample(parsed.sample)
    with WalkProgress("following entries over the graph") as progress:
        found = overview(wanted, names, sample, progress.walked)
    if parsed.csv:
        print(rows_csv(found.rows), end="")
    else:
        print(json.dumps(overview_json(found)) if parsed.json else overview_in_words(found))
    return 0


def _sample(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) >= 2):
        raise UserError(f"sample = {text!r} is not allowed: must be a whole number at least 2")
    return int(text)
