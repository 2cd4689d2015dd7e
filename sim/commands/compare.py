"""`kseed compare`: several methods on one setting, several seeds, one table and one figure."""

from __future__ import annotations

import argparse
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from peer.config import Experiment
from peer.declarations import groups
from peer.errors import UserError
from peer.experiment_file import read_toml
from peer.methods import METHODS
from sim.commands.parsing import (
    Commands,
    add_flags,
    add_where,
    given,
    log_to_stderr,
    take_where,
    value_of,
    where_words,
    whole_number,
)
from sim.exit_status import FAILED, INCOMPLETE

if TYPE_CHECKING:
    from sim.compare.conduct import Conducted
    from sim.compare.definition import Comparison


def add(commands: Commands) -> None:
    """Add the command."""
    from sim.study.setting import NO_SETTING

    parser = commands.add_parser(
        "compare",
        help="run several methods on one setting: one table, and one figure",
        description="Run several methods on one setting, each with several seeds. Every run is one "
        "of `kseed sim`, in a folder and a process of its own, one after the other. Finished runs "
        "stay: the same command goes on, and so does `kseed compare --out DIR` alone. Methods and "
        "seeds may be added to a folder at any time.",
        epilog="Exit status 1: a run failed. 3: peers of a run did not end alike.",
    )
    parser.usage = (
        f"{parser.prog} [-h] [file] [--methods M1,M2] [--seeds N] [--set METHOD.KEY=VALUE ...] "
        "[--twin] [--tune] [--out DIR] [--OPTION VALUE ...]"
    )
    parser.add_argument("file", type=Path, nargs="?", help="an experiment or a comparison in TOML")
    parser.add_argument(
        "--methods", metavar="M1,M2", help=f"of {', '.join(METHODS)} (default: all)"
    )
    parser.add_argument(
        "--seeds", metavar="N", help="runs of each method, from --seed upwards (default: 1)"
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="METHOD.KEY=VALUE",
        help="an option of one method; in a file, tables [methods.METHOD]",
    )
    parser.add_argument(
        "--twin",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="run each method with a server, too",
    )
    parser.add_argument(
        "--tune",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="tune each method once, with the first seed, before its runs; as of `kseed sim`",
    )
    parser.add_argument(
        "--out", default="", help="its folder (default: one below runs/ for this very comparison)"
    )
    parser.add_argument("--preset", help="options to start from, as of `kseed sim`")
    for title, items in groups().items():
        kept = [item for item in items if item.name not in (*NO_SETTING, "method")]
        if kept:
            add_flags(parser.add_argument_group(title), kept)
    add_where(parser)
    parser.set_defaults(run=_compare)


def _compare(parsed: argparse.Namespace) -> int:
    from sim.compare.conduct import conduct, count_finished
    from sim.compare.folder import ComparisonFolder
    from sim.compare.table import rows, write_table
    from sim.compare.words import closing_words
    from sim.study.away import engine_for
    from sim.study.errands import OneByOne

    began = time.perf_counter()
    log_to_stderr()
    comparison, where = _wanted(parsed)
    folder = ComparisonFolder.for_comparison(comparison, parsed.out)
    with engine_for(where, OneByOne(), alone=True) as engine, folder.held(comparison):
        try:
            conducted = conduct(comparison, folder, engine)
        except KeyboardInterrupt:
            kept = count_finished(comparison, folder)
            print(
                f"kseed: {kept} of {len(comparison.runs)} runs are finished; "
                f"to go on: kseed compare --out {folder.path}{where_words(where)}",
                file=sys.stderr,
            )
            raise
        table = rows(conducted)
        written = write_table(conducted, table)
        from sim.compare.figure import draw

        figure = draw(conducted)
        written += [] if figure is None else [figure]
    print(closing_words(conducted, table, written, time.perf_counter() - began))
    return _status(conducted)


def _wanted(parsed: argparse.Namespace) -> tuple[Comparison, Experiment]:
    """Return the comparison, and the options that say where it is done."""
    from sim.compare.definition import COMPARED, SEEDS, TUNE, TWIN, define
    from sim.compare.folder import COMPARISON
    from sim.study.setting import setting_options

    flags = given(parsed, [item for item in setting_options() if item.name != "method"])
    if parsed.methods is not None:
        names = parsed.methods.split(",") if parsed.methods.strip() else []
        flags[COMPARED] = [name.strip() for name in names]
    if parsed.seeds is not None:
        flags[SEEDS] = whole_number("seeds", parsed.seeds, 1)
    head = {TWIN: parsed.twin, TUNE: parsed.tune, "preset": parsed.preset}
    flags |= {key: value for key, value in head.items() if value is not None}
    own = _own(parsed.set)
    file = parsed.file
    if file is None and not flags and not own and (Path(parsed.out) / COMPARISON).exists():
        file = Path(parsed.out) / COMPARISON
    values = read_toml(file) if file else {}
    where = take_where(parsed, values)
    return define(values, flags, own), where


def _own(texts: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return the values of the flags --set, by method and option."""
    own: defaultdict[str, dict[str, Any]] = defaultdict(dict)
    for text in texts:
        name, equals, value = text.partition("=")
        method, dot, key = name.strip().partition(".")
        key = key.replace("-", "_")
        if not (equals and dot and method and key):
            raise UserError(f"--set {text!r} is not allowed: must be METHOD.KEY=VALUE")
        if key in own[method]:
            raise UserError(f"--set {method}.{key} is given twice")
        own[method][key] = value_of(key, value.strip())
    return own


def _status(conducted: Conducted) -> int:
    from sim.called import promises_equal_bits
    from sim.study.attempt import DONE

    if any(outcome.status != DONE for outcome in conducted.outcomes):
        return FAILED
    summaries = [outcome.row for outcome in conducted.outcomes if outcome.row is not None]
    whole = all(
        not summary["missing_peers"]
        and (summary["digests"]["all_equal"] or not promises_equal_bits(summary))
        for summary in summaries
    )
    return 0 if whole else INCOMPLETE
