"""`kseed study`: a grid over any options of an experiment, as one table with pictures."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from peer.choices import LOCAL
from peer.config import Experiment
from peer.declarations import groups, options
from peer.errors import UserError
from peer.experiment_file import read_toml
from peer.methods import METHODS
from peer.unused_options import unused_options
from sim.commands.parsing import (
    LOG,
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
    from sim.study.definition import Study

FORMATS = ("csv", "parquet")
MOST_WORKERS = 1024


def add(commands: Commands) -> None:
    """Add the command."""
    from sim.study.setting import MEASURES, NO_SETTING

    parser = commands.add_parser(
        "study",
        help="run a grid of experiments: one table, and pictures",
        description="Run a grid over any options of an experiment, several settings at a time. "
        "Finished settings stay: the same command with the same --out, or with --resume, goes on, "
        "and so does `kseed study --out DIR` alone. Values may be added to a study at any time.",
        epilog="Exit status 1: a setting failed. 3: peers of a setting did not end alike.",
    )
    parser.usage = (
        f"{parser.prog} [-h] [file] [--sweep KEY=V1,V2 ...] [--out DIR] [--resume] [--workers N] "
        "[--format FORMAT] [--OPTION VALUE ...]"
    )
    parser.add_argument("file", type=Path, nargs="?", help="a study in TOML")
    parser.add_argument(
        "--sweep",
        action="append",
        default=[],
        metavar="KEY=V1,V2",
        help="values of an option; the first one given varies the slowest",
    )
    parser.add_argument("--name", help="of its folder and pictures (default: study)")
    parser.add_argument(
        "--measure",
        help="protocol: the real protocol, made-up scalar gradients, no model; sim: whole runs "
        f"(one of {', '.join(MEASURES)}; default: protocol)",
    )
    parser.add_argument("--out", default="", help="its folder (default: a new one below studies/)")
    parser.add_argument(
        "--resume", action="store_true", help="go on with the newest of its name below studies/"
    )
    parser.add_argument(
        "--workers", metavar="N", help="settings at a time (default: one a processor)"
    )
    parser.add_argument(
        "--format", choices=FORMATS, default="csv", help="parquet: table.parquet, beside table.csv"
    )
    parser.add_argument("--preset", help="options to start from, as of `kseed sim`")
    for title, items in groups().items():
        kept = [item for item in items if item.name not in NO_SETTING]
        if kept:
            add_flags(parser.add_argument_group(title), kept)
    add_where(parser)
    parser.set_defaults(run=_study)


def _study(parsed: argparse.Namespace) -> int:
    from sim.processors import processors
    from sim.study.away import engine_for
    from sim.study.closing import closing_words
    from sim.study.conduct import conduct
    from sim.study.errands import Workers
    from sim.study.folder import StudyFolder
    from sim.study.table import rows, write_table

    began = time.perf_counter()
    log_to_stderr()
    study, where = _wanted(parsed)
    workers = processors()
    if parsed.workers is not None:
        workers = whole_number("workers", parsed.workers, 1, MOST_WORKERS)
        if where.engine != LOCAL:
            LOG.warning("without effect on a cluster, and ignored: workers (see ray_workers)")
    folder = StudyFolder.for_study(study, parsed.out, resume=parsed.resume)
    with engine_for(where, Workers(workers), alone=False) as engine, folder.held(study):
        try:
            conducted = conduct(study, folder, engine)
        except KeyboardInterrupt:
            kept = folder.count(study)
            print(
                f"kseed: {kept} of {len(study.settings)} settings are kept; "
                f"to go on: kseed study --out {folder.path}{where_words(where)}",
                file=sys.stderr,
            )
            raise
        table = rows(conducted)
        tables = write_table(table, folder.path, parquet=parsed.format == "parquet")
        from sim.study.figures import draw_study

        figures = draw_study(conducted, table)
    seconds = time.perf_counter() - began
    print(closing_words(conducted, table, tables, figures, seconds))
    return _status(table)


def _wanted(parsed: argparse.Namespace) -> tuple[Study, Experiment]:
    """Return the study, and the options that say where it is done."""
    from sim.study.definition import MEASURE, NAME, define
    from sim.study.folder import STUDY
    from sim.study.setting import setting_options

    flags = given(parsed, setting_options())
    head = {NAME: parsed.name, MEASURE: parsed.measure, "preset": parsed.preset}
    flags |= {key: value for key, value in head.items() if value is not None}
    sweep = _sweep(parsed.sweep)
    file = parsed.file
    if file is None and not flags and not sweep and parsed.out:
        file = Path(parsed.out) / STUDY
    values = read_toml(file) if file else {}
    where = take_where(parsed, values)
    study = define(values, flags, sweep)
    _tell_idle(study, [*values, *values.get("sweep", ()), *flags, *sweep])
    return study, where


def _sweep(texts: Sequence[str]) -> dict[str, tuple[Any, ...]]:
    """Return the values of the flags --sweep."""
    sweep: dict[str, tuple[Any, ...]] = {}
    for text in texts:
        key, equals, values = text.partition("=")
        key = key.strip().replace("-", "_")
        if not equals or not key:
            raise UserError(f"--sweep {text!r} is not allowed: must be KEY=V1,V2")
        if key in sweep:
            raise UserError(f"{key} is varied twice: give all its values to one --sweep")
        parts = [part.strip() for part in values.split(",")] if values.strip() else []
        if "" in parts:
            raise UserError(f"--sweep {text!r} has an empty value")
        sweep[key] = tuple(value_of(key, part) for part in parts)
    return sweep


def _tell_idle(study: Study, given_: Sequence[str]) -> None:
    """Warn of options that differ from their defaults and have an effect in no setting."""
    declared = {item.name: item.default for item in options()}
    idle: set[str] | None = None
    for setting in study.settings:
        if not setting.refusal:
            here = set(unused_options(setting.experiment(), given_))
            here = {k for k in here if k in study.sweep or setting.options[k] != declared[k]}
            idle = here if idle is None else idle & here
    if idle:
        names = ", ".join(sorted(idle))
        LOG.warning("without effect in this study, and ignored: %s", names)


def _status(table: Sequence[dict[str, Any]]) -> int:
    if any(row["status"] == "failed" for row in table):
        return FAILED
    # Among those that average for themselves, the method promises no equal bits.
    whole = all(
        (row["digests_equal"] or METHODS[row["method"]].averages) and not row["missing_peers"]
        for row in table
        if row["edges"]
    )
    return 0 if whole else INCOMPLETE
