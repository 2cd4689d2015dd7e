"""`kseed figure`: a figure of a paper, or of our design, made again from one command."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any, Final

from peer.errors import UserError
from sim.commands.parsing import LOG, Commands, Parser, add_flags, given, log_to_stderr
from sim.figures.options import BreakEvenOptions, LatestModelOptions, ReconstructionOptions


def _latest_model(options: LatestModelOptions) -> dict[str, Any]:
    from sim.figures.latest_model import measure_latest_model

    return measure_latest_model(options)


def _break_even(options: BreakEvenOptions) -> dict[str, Any]:
    from sim.figures.break_even import report_break_even

    return report_break_even(options)


def _reconstruction(options: ReconstructionOptions) -> dict[str, Any]:
    from sim.figures.reconstruction import measure_reconstruction

    return measure_reconstruction(options)


_FIGURES: Final[dict[str, tuple[type, Callable[[Any], dict[str, Any]], str]]] = {
    "latest-model": (
        LatestModelOptions,
        _latest_model,
        "FedKSeed's Figures 1(b) and 4, measured: time to obtain the latest model over the rounds, "
        "by replaying all steps and by rebuilding from K sums",
    ),
    "break-even": (
        BreakEvenOptions,
        _break_even,
        "bytes of a round's histories against sums up and down one tree, a cost model only",
    ),
    "reconstruction": (
        ReconstructionOptions,
        _reconstruction,
        "Ferret's Figures 3 and 4, measured: cosine of an update and its reconstruction over "
        "bases, local steps, dimensions and blocks, and the zeroth-order one beside it",
    ),
}


def add(commands: Commands) -> None:
    """Add the command."""
    figure = commands.add_parser("figure", help="make a figure of the papers, or of the design")
    names = figure.add_subparsers(required=True, parser_class=Parser)
    for name, (kind, make, about) in _FIGURES.items():
        parser = names.add_parser(name, help=about, description=about)
        add_flags(parser, fields(kind))
        parser.add_argument("--svg", type=Path, help=f"where to draw it (default: {name}.svg)")
        form = parser.add_mutually_exclusive_group()
        form.add_argument(
            "--json",
            action="store_true",
            help="print JSON on standard output and nothing else there; draw only with --svg",
        )
        form.add_argument("--csv", action="store_true", help="the same with CSV, a line a point")
        parser.set_defaults(run=_figure, name=name, kind=kind, make=make)


def _figure(parsed: argparse.Namespace) -> int:
    options = parsed.kind(**given(parsed, fields(parsed.kind)))
    plain = parsed.json or parsed.csv
    picture = parsed.svg if plain or parsed.svg else Path(f"{parsed.name}.svg")
    if picture is not None:
        _check_place(picture)
    log_to_stderr()
    report = parsed.make(options)
    from sim.figures.words import in_csv, in_words

    if report.get("quiet") is False:
        from sim.bench.load import warning

        LOG.warning("%s", warning(report))
    write = json.dumps if parsed.json else in_csv if parsed.csv else in_words
    # Printed before it is drawn: what was measured for minutes is not lost with a full disk.
    print(write(report), flush=True)
    if picture is not None:
        from sim.figures.drawing import draw

        draw(report, picture)
        if not plain:
            print(f"drawn to {picture}")
    return 0


def _check_place(path: Path) -> None:
    """Notice before anything is measured that a picture cannot be written there.

    Raises:
        UserError: no .svg file can be made there.
    """
    if path.suffix.lower() != ".svg":
        raise UserError(f"a picture is saved as .svg; {path} given")
    if path.is_dir() or not os.access(path.parent, os.W_OK):
        raise UserError(f"{path} cannot be written")
