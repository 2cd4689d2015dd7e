"""`kseed volume`: what every system sends and computes in a setting, predicted and measured."""

from __future__ import annotations

import argparse
import json

from peer.declarations import options
from peer.errors import UserError
from sim.commands.parsing import LOG, Commands, add_experiment, experiment, given, whole_number

_HELP = "what each system of the papers would send, receive and compute in a setting"


_APART = (
    ("csv", "json"),
    ("paper", "measure"),
    *((one, other) for one in ("paper", "measure") for other in ("system", "sample")),
)
"""Flags of which one leaves nothing for the other to do."""


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
    volume.set_defaults(run=_volume, door="volume")


def _volume(parsed: argparse.Namespace) -> int:
    for one, other in _APART:
        if all(getattr(parsed, name) not in (None, False) for name in (one, other)):
            raise UserError(f"--{one} and --{other} cannot be had together")
    if parsed.paper is not None:
        if parsed.file or given(parsed, (item for item in options() if item.name != "json")):
            LOG.warning("a paper's table is of its own setting: all other options are ignored")
        return _paper(parsed)
    return _measure(parsed) if parsed.measure else _systems(parsed)


def _paper(parsed: argparse.Namespace) -> int:
    from sim.tables import rows_csv
    from sim.volume.papers import paper_table
    from sim.volume.table import paper_in_words, paper_json

    table = paper_table(parsed.paper)
    if parsed.csv:
        print(rows_csv(table.rows), end="")
    else:
        print(json.dumps(paper_json(table)) if parsed.json else paper_in_words(table))
    return 0


def _measure(parsed: argparse.Namespace) -> int:
    from peer.live_line import LiveLine
    from sim.tables import rows_csv
    from sim.volume.comparison import compare, ways
    from sim.volume.table import comparison_in_words

    wanted = experiment(parsed)
    rows, title, modes = [], "measuring what each mode of gossip sends", len(ways(wanted))
    with LiveLine(title, "modes", modes, plainly=title) as progress:
        for some in compare(wanted):
            rows += some
            progress.advance()
    if parsed.csv:
        print(rows_csv(rows), end="")
    else:
        print(json.dumps({"rows": rows}) if parsed.json else comparison_in_words(rows))
    return 0


def _systems(parsed: argparse.Namespace) -> int:
    from sim.tables import rows_csv
    from sim.volume.overview import overview, overview_in_words, overview_json
    from sim.volume.walk_progress import WalkProgress

    wanted = experiment(parsed)
    names = [] if parsed.system is None else list(dict.fromkeys(parsed.system.split(",")))
    sample = None if parsed.sample is None else whole_number("sample", parsed.sample, 2)
    with WalkProgress("following entries over the graph") as progress:
        found = overview(wanted, names, sample, progress.walked)
    if parsed.csv:
        print(rows_csv(found.rows), end="")
    else:
        print(json.dumps(overview_json(found)) if parsed.json else overview_in_words(found))
    return 0
