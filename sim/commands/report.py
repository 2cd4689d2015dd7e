"""`kseed report`: a run folder as one HTML file."""

from __future__ import annotations

import argparse
from pathlib import Path

from sim.commands.parsing import Commands


def add(commands: Commands) -> None:
    """Add the command."""
    report = commands.add_parser(
        "report", help="write what a run did and came to as one HTML file, for any browser"
    )
    report.add_argument("folder", type=Path, help="a run folder")
    report.add_argument(
        "--to", type=Path, metavar="FILE", help="where to write it (default: report.html in it)"
    )
    report.set_defaults(run=_report)


def _report(parsed: argparse.Namespace) -> int:
    from sim.report import write_report

    print(f"the report is in {write_report(parsed.folder, parsed.to)}")
    return 0
