"""Recipes that start a network where peers usually live, filled in for an experiment.

In the recipes' texts @@words stand for what is filled in.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Final

from peer.errors import UserError
from peer.roster_file import ROSTER

RECIPES: Final[Mapping[str, str]] = {
    "slurm": "slurm.sh",
    "kubernetes": "kubernetes.yaml",
    "container": "Containerfile",
    "ssh": "ssh.sh",
    "firewall": "firewall.md",
}
"""The file of each."""

LONGEST_NAME: Final = 40
"""Of a network: Kubernetes adds numbers and hashes to it, up to 63 characters."""


class _Text(Template):
    """Shells and YAML have other uses for a single sign."""

    delimiter = "@@"


def recipe(name: str, experiment: Path, peers: int) -> str:
    """Return a recipe's text for an experiment.

    Args:
        name: one of `RECIPES`.
        experiment: its file, as the recipe shall name it.
        peers: how many the experiment has.

    Raises:
        UserError: the file has a name that would break its line in the recipe.
    """
    if not str(experiment).isprintable():
        raise UserError(f"{str(experiment)!r} cannot be named in a recipe: it must be printable")
    text = files(__package__).joinpath(RECIPES[name]).read_text(encoding="utf-8")
    return _Text(text).substitute(
        name=network_name(experiment),
        experiment=shlex.quote(str(experiment)),
        folder=shlex.quote(str(experiment.parent)),
        roster=shlex.quote(str(experiment.parent / ROSTER)),
        peers=peers,
        last=peers - 1,
    )


def network_name(experiment: Path) -> str:
    """Return the name of an experiment's network: a label of DNS (RFC 1123)."""
    words = re.sub("[^a-z0-9]+", "-", experiment.stem.lower()).strip("-")
    return f"kseed-{words}"[:LONGEST_NAME].strip("-")
