"""`kseed init`: a commented experiment file to start from."""

from __future__ import annotations

import argparse
from pathlib import Path

from peer.errors import UserError
from peer.experiment_file import commented_toml
from sim.commands.parsing import Commands


def add(commands: Commands) -> None:
    """Add the command."""
    init = commands.add_parser("init", help="write a commented experiment.toml")
    init.add_argument("file", type=Path, nargs="?", default=Path("experiment.toml"))
    init.set_defaults(run=_init)


def _init(parsed: argparse.Namespace) -> int:
    try:
        with parsed.file.open("x", encoding="utf-8") as file:
            file.write(commented_toml())
    except OSError as error:
        raise UserError(f"cannot write {parsed.file}: {error.strerror}") from None
    print(f"wrote {parsed.file}; run it with: kseed sim {parsed.file}")
    return 0
