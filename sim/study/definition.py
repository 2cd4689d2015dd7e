"""A study: what is kept, what is varied, and the grid of settings that this makes.

Its file is an experiment's with three keys more: `name`, `measure`, and a table `sweep` with a list
of values for each option that is varied. The grid has the first of these vary the slowest.

A combination that cannot be is no mistake as long as others can: it is a setting with a refusal.
Where it is the graph that cannot be (a torus of 7 peers), this shows when it is computed. A value
that no combination can have is a mistake.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import product
from math import prod
from typing import Any, Final

import topology
from peer.config import SCENARIO, experiment_from, no_such_option
from peer.declarations import options
from peer.errors import UserError
from peer.experiment_file import write_toml
from peer.latency import parse_latency
from peer.options import kind, refuse
from sim.study.setting import (
    MEASURES,
    NO_SETTING,
    PROTOCOL,
    Setting,
    contents_of,
    defaults,
    options_of,
)

NAME: Final = "name"
MEASURE: Final = "measure"
SWEEP: Final = "sweep"

MOST_SETTINGS: Final = 10_000
"""More are refused: a table that nobody asked for in earnest."""

_LONGEST_NAME: Final = 60


@dataclass(frozen=True)
class Study:
    """A whole study.

    Attributes:
        name: of its folder and its pictures.
        measure: one of `MEASURES`.
        sweep: the options that are varied, with their values.
        settings: the grid, in order.
    """

    name: str
    measure: str
    sweep: Mapping[str, tuple[Any, ...]]
    settings: tuple[Setting, ...]

    def toml(self) -> str:
        """Return the study file that says it all, defaults too."""
        some = next(setting for setting in self.settings if not setting.refusal)
        fixed = {key: value for key, value in some.options.items() if key not in self.sweep}
        head = {NAME: self.name, MEASURE: self.measure}
        # Options come before the tables of the scenario, and so does nothing after them.
        return f"{write_toml(head | fixed)}\n[{SWEEP}]\n{write_toml(self.sweep)}"


def define(
    values: Mapping[str, Any],
    flags: Mapping[str, Any] | None = None,
    sweep_flags: Mapping[str, Iterable[Any]] | None = None,
) -> Study:
    """Return the study that these keys describe.

    Args:
        values: as in a study file.
        flags: keys that win over these, whether they are kept or varied there.
        sweep_flags: values of options to vary, which win in the same way.

    Raises:
        UserError, TopologyError: a mistake, told in one line.
    """
    flags, added = dict(flags or {}), _lists(sweep_flags or {})
    values = dict(values)
    sweep = _lists(values.pop(SWEEP, {}))
    for fixed, varied in ((values, sweep), (flags, added)):
        for key in varied:
            if key in fixed:
                raise UserError(f"{key} is both varied and set to {fixed[key]!r}: leave one out")
    sweep = {key: added for key, added in sweep.items() if key not in flags} | added
    values = {key: value for key, value in values.items() if key not in added} | flags
    name, measure = _head(values)
    if not sweep:
        raise UserError("a study varies something: give --sweep KEY=V1,V2 or a table [sweep]")
    _check_keys(values, sweep)
    _check_measure(measure, values, sweep)
    sweep = {key: _values(key, given) for key, given in sweep.items()}
    count = prod(map(len, sweep.values()))
    if count > MOST_SETTINGS:
        raise UserError(
            f"a grid of {count:,} settings is too large: a study has at most {MOST_SETTINGS:,}"
        )
    for graph in sweep.get("topology", (values.get("topology", "ring"),)):
        if graph not in topology.FAMILIES:
            topology.resolve(str(graph))
    settings = tuple(_setting(measure, values, sweep, point) for point in product(*sweep.values()))
    _check_values(sweep, settings)
    return Study(name, measure, sweep, settings)


def _lists(sweep: Any) -> dict[str, tuple[Any, ...]]:
    if not isinstance(sweep, Mapping):
        raise UserError(f"{SWEEP} = {sweep!r} is not allowed: must be a table of lists")
    lists = {}
    for key, values in sweep.items():
        if isinstance(values, str | bytes | Mapping) or not isinstance(values, Iterable):
            raise UserError(f"{SWEEP}.{key} = {values!r} is not allowed: must be a list of values")
        lists[key] = tuple(values)
    return lists


def _head(values: dict[str, Any]) -> tuple[str, str]:
    """Take name and measure out of the values."""
    name, measure = values.pop(NAME, "study"), values.pop(MEASURE, PROTOCOL)
    fine = isinstance(name, str) and name.isprintable() and 0 < len(name) <= _LONGEST_NAME
    if not fine or "/" in name or name.startswith("."):
        refuse(NAME, name, f"must be a file's name of at most {_LONGEST_NAME} characters")
    if measure not in MEASURES:
        refuse(MEASURE, measure, f"must be one of {', '.join(MEASURES)}")
    return name, measure


def _check_keys(values: Mapping[str, Any], sweep: Mapping[str, tuple[Any, ...]]) -> None:
    names = [item.name for item in options()]
    for key, value in {**values, **{key: list(given) for key, given in sweep.items()}}.items():
        if key in NO_SETTING:
            raise UserError(f"{key} = {value!r} is not allowed: it is of one run, not of a study")
        if key in sweep and key in (NAME, MEASURE, SWEEP, "preset", SCENARIO):
            raise UserError(f"{SWEEP}.{key} is not allowed: {key} cannot be varied")
        if key not in names and key not in ("preset", SCENARIO):
            raise no_such_option(key, value, [NAME, MEASURE, SWEEP, *names, SCENARIO])


def _check_measure(
    measure: str, values: dict[str, Any], sweep: Mapping[str, tuple[Any, ...]]
) -> None:
    if measure == PROTOCOL:
        for trainer in sweep.get("trainer", (values.get("trainer", "synthetic"),)):
            if trainer != "synthetic":
                why = f"{MEASURE} = {PROTOCOL!r} takes no model, measure = 'sim' does"
                refuse("trainer", trainer, why)
        values["trainer"] = "synthetic"


def _values(key: str, given: tuple[Any, ...]) -> tuple[Any, ...]:
    if not given:
        raise UserError(f"{SWEEP}.{key} is empty, so there is nothing to study")
    declared = next(item for item in options() if item.name == key)
    if kind(declared) is float:
        given = tuple(float(value) if type(value) is int else value for value in given)
    seen: list[Any] = []
    for place, value in enumerate(given):
        if value in given[:place]:
            raise UserError(f"{SWEEP}.{key} has {value!r} twice")
        meant = _meant(key, value)
        if meant in seen:
            same = given[seen.index(meant)]
            raise UserError(f"{SWEEP}.{key} has {same!r} and {value!r}, which are the same")
        seen.append(meant)
    return given


def _meant(key: str, value: Any) -> Any:
    """Return what a value stands for, where the same can be written in several ways."""
    law = parse_latency(value) if key == "latency" and isinstance(value, str) else None
    return value if law is None else law


def _setting(
    measure: str,
    fixed: Mapping[str, Any],
    sweep: Mapping[str, tuple[Any, ...]],
    point: tuple[Any, ...],
) -> Setting:
    swept = dict(zip(sweep, point, strict=True))
    try:
        options_, refusal = options_of(experiment_from({**fixed, **swept})), ""
    except UserError as error:
        options_, refusal = {**defaults(), **fixed, **swept}, str(error)
    return Setting(measure, swept, options_, refusal, contents_of(options_))


def _check_values(sweep: Mapping[str, tuple[Any, ...]], settings: tuple[Setting, ...]) -> None:
    """Refuse a value with which no setting is an experiment."""
    for key, values in sweep.items():
        for value in values:
            # By how they are written, for NaN equals nothing.
            refusals = [s.refusal for s in settings if repr(s.swept[key]) == repr(value)]
            if all(refusals):
                raise UserError(refusals[0])
