"""Experiments in TOML: read, written, and the commented file that `kseed init` makes."""

from __future__ import annotations

import textwrap
import tomllib
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from peer.config import SCENARIO
from peer.declarations import groups
from peer.errors import UserError
from peer.methods import METHODS, Method
from peer.options import allowed, kind
from peer.scenario import EXAMPLE, Incident


def read_toml(path: Path) -> dict[str, Any]:
    """Return the keys of an experiment file.

    Raises:
        UserError: the file cannot be read, or is no TOML.
    """
    try:
        with path.open("rb") as file:
            return tomllib.load(file)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from None
    # Numbers of thousands of digits, and arrays as deep, are refused by Python itself.
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is no TOML file: {error}") from None


def write_toml(values: Mapping[str, Any]) -> str:
    """Return the keys of an experiment as TOML text."""
    flat = {key: value for key, value in values.items() if key != SCENARIO}
    text = "".join(f"{key} = {_toml(value)}\n" for key, value in flat.items())
    for incident in values.get(SCENARIO, ()):
        table = asdict(incident) if isinstance(incident, Incident) else incident
        given = {key: value for key, value in table.items() if value is not None}
        text += "\n[[scenario]]\n" + write_toml(given)
    return text


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        escaped = value.replace("\\", "\\\\").replace('"', '\\"')
        return '"' + "".join(c if c.isprintable() else f"\\U{ord(c):08x}" for c in escaped) + '"'
    if isinstance(value, tuple | list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return repr(value)


def _with_default(name: str) -> list[Method]:
    """Return the methods that have a default of their own for an option."""
    return [method for method in METHODS.values() if name in method.defaults]


def commented_toml() -> str:
    """Return a file with every option at its default, each explained.

    Options that some method has a default of its own for are comments, so that naming another
    method in the file is enough to have its values.
    """
    lines = [
        "# An experiment: `kseed sim` and `kseed launch` take this file; flags win over it.",
        "",
    ]
    for title, items in groups().items():
        lines += [f"# {title.capitalize()}", ""]
        for item in items:
            about = item.metadata["help"]
            if item.metadata["choices"] or kind(item) in (int, float):
                about += f" ({allowed(item)})"
            own = {m.title: m.defaults[item.name] for m in _with_default(item.name)}
            if own:
                values = ", ".join(f"{_toml(value)} for {title}" for title, value in own.items())
                about += f"; unless given, {values}"
            comment = textwrap.wrap(about, initial_indent="# ", subsequent_indent="# ", width=100)
            lines += [*comment, "# " * bool(own) + write_toml({item.name: item.default})]
    return "\n".join([*lines, EXAMPLE])
