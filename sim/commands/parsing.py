"""What commands share: flags from declared options, and experiments from files and flags."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NoReturn, TypeAlias

from peer.choices import LOCAL
from peer.config import WHERE, Experiment, experiment_from
from peer.declarations import groups, options
from peer.errors import UserError
from peer.experiment_file import read_toml
from peer.options import allowed, kind, refuse
from peer.presets import PRESETS
from peer.unused_options import deliberate, unused_options

LOG = logging.getLogger("kseed")

Commands: TypeAlias = "argparse._SubParsersAction[Parser]"
"""What a command adds its parser to."""


class Parser(argparse.ArgumentParser):
    """Takes no abbreviated flags, and tells a mistake by raising UserError."""

    def __init__(self, **options: Any) -> None:
        super().__init__(allow_abbrev=False, **options)

    def error(self, message: str) -> NoReturn:
        """Raise UserError."""
        raise UserError(message)


def log_to_stderr() -> None:
    """Show what is logged, a line each."""
    logging.basicConfig(format="kseed: %(message)s", stream=sys.stderr, force=True)


def add_experiment(parser: argparse.ArgumentParser) -> None:
    """Let a command take an experiment: a file, a preset, and a flag for each option."""
    # Dozens of flags in a row would say nothing.
    parser.usage = f"{parser.prog} [-h] [file] [--preset PRESET] [--OPTION VALUE ...]"
    parser.add_argument("file", type=Path, nargs="?", help="an experiment in TOML")
    parser.add_argument(
        "--preset", help=f"options to start from, under the file's: {', '.join(PRESETS)}"
    )
    for title, items in groups().items():
        add_flags(parser.add_argument_group(title), items)


def add_flags(parser: argparse._ActionsContainer, items: Iterable[Any]) -> None:
    """Add a flag for each declared option."""
    for item in items:
        flag = "--" + item.name.replace("_", "-")
        default = "none" if item.default == "" else item.default
        about = f"{item.metadata['help']} (default: {default})".replace("%", "%%")
        if kind(item) is bool:
            action: Any = argparse.BooleanOptionalAction
            parser.add_argument(flag, action=action, default=None, help=about)
        else:
            parser.add_argument(
                flag, dest=item.name, metavar=kind(item).__name__.upper(), help=about
            )


def experiment(parsed: argparse.Namespace) -> Experiment:
    """Return the experiment of a file and of the flags, which win."""
    values = read_toml(parsed.file) if parsed.file else {}
    if parsed.preset is not None:
        values["preset"] = parsed.preset
    flags = given(parsed, options())
    meant = dict.fromkeys([*deliberate(values), *flags])
    values |= flags
    wanted = experiment_from(values)
    log_to_stderr()
    LOG.setLevel(wanted.log_level.upper())
    idle = unused_options(wanted, meant, parsed.door)
    if idle:
        LOG.warning("without effect in this experiment, and ignored: %s", ", ".join(idle))
    return wanted


def given(parsed: argparse.Namespace, items: Iterable[Any]) -> dict[str, Any]:
    """Return the values of the flags that were given."""
    values = {}
    for item in items:
        text = getattr(parsed, item.name)
        if text is not None:
            values[item.name] = text if kind(item) in (bool, str) else number(item, text)
    return values


def add_where(parser: Parser) -> None:
    """Let a command that does many runs take the options that say where."""
    add_flags(parser.add_argument_group("a cluster"), map(option, WHERE))


def take_where(parsed: argparse.Namespace, values: dict[str, Any]) -> Experiment:
    """Return the options that say where runs are done, of flags, which win, and of a file.

    Args:
        parsed: the flags.
        values: of the file; what is of these options is taken out.
    """
    taken: dict[str, Any] = {name: values.pop(name) for name in WHERE if name in values}
    flags = given(parsed, map(option, WHERE))
    where = experiment_from(taken | flags)
    idle = unused_options(where, dict.fromkeys([*deliberate(taken), *flags]))
    if idle:
        LOG.warning("without effect, and ignored: %s", ", ".join(idle))
    return where


def where_words(where: Experiment) -> str:
    """Return the flags that say where runs are done, with a blank before each; none for here."""
    if where.engine == LOCAL:
        return ""
    values = {name: getattr(where, name) for name in WHERE}
    return "".join(
        f" --{name.replace('_', '-')} {value}"
        for name, value in values.items()
        if value != option(name).default
    )


def option(name: str) -> Any:
    """Return the declaration of an option of experiments."""
    return next(item for item in options() if item.name == name)


def whole_number(name: str, text: str, least: int, most: int | None = None) -> int:
    """Return the whole number that the text of a flag is.

    Raises:
        UserError: it is none, or out of bounds.
    """
    value = int(text) if text.isascii() and text.isdigit() and len(text) < 20 else -1
    if value < least or (most is not None and value > most):
        upwards = "" if most is None else f" and at most {most}"
        refuse(name, text, f"must be a whole number at least {least}{upwards}")
    return value


def number(item: Any, text: str) -> int | float:
    """Return the number that an option's text is.

    Raises:
        UserError: it is none of the option's type.
    """
    try:
        # Python would also read 1_0 and the digits of other scripts.
        value: int | float = kind(item)(text if text.isascii() and "_" not in text else "")
    except ValueError:
        raise UserError(f"{item.name} = {text!r} is not allowed: must be {allowed(item)}") from None
    return value


def value_of(key: str, text: str) -> Any:
    """Return the value that a text gives an option; of what is no option, the text.

    Raises:
        UserError: it is none of the option's type.
    """
    for item in options():
        if item.name == key:
            if kind(item) is bool:
                return {"true": True, "false": False}.get(text, text)
            return text if kind(item) is str else number(item, text)
    return text
