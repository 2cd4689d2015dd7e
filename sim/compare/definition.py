"""A comparison: the setting common to all, the methods, what each has of its own, and the seeds.

Its file is an experiment's with keys more: `compared`, a list of methods; `seeds`, their number;
`twin`; `tune`; and tables `[methods.NAME]` with options of one method alone.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

from peer.config import SCENARIO, experiment_from, no_such_option
from peer.declarations import options
from peer.errors import UserError
from peer.experiment_file import write_toml
from peer.methods import METHODS
from peer.options import refuse
from peer.setup import check_peers, resolve_topology
from sim.study.setting import NO_SETTING, SIM, Setting, contents_of, digest_of, options_of

COMPARED: Final = "compared"
SEEDS: Final = "seeds"
TWIN: Final = "twin"
TUNE: Final = "tune"
OWN: Final = "methods"
RUNS: Final = "runs"
"""A table that a comparison's folder has beside: what each run follows from, as a digest."""

HEAD: Final = (COMPARED, SEEDS, TWIN, TUNE)

MOST_SEEDS: Final = 1_000

SERVER: Final[Mapping[str, Any]] = {"topology": "star", "aggregation": "server"}
"""What makes a method its centralised twin."""

Options = Mapping[str, Any]


@dataclass(frozen=True)
class Contender:
    """A method, with or without a server.

    Attributes:
        method: its name.
        with_server: whether it is the centralised twin.
    """

    method: str
    with_server: bool = False

    @property
    def key(self) -> str:
        """Its name in folders and files."""
        return f"{self.method}-server" if self.with_server else self.method

    @property
    def title(self) -> str:
        """Its name in tables."""
        title = METHODS[self.method].title
        return f"{title}, server" if self.with_server else title


@dataclass(frozen=True)
class Run:
    """One contender with one seed."""

    contender: Contender
    seed: int
    setting: Setting

    @property
    def name(self) -> str:
        """Of its folder."""
        return f"{self.contender.key}-seed-{self.seed}"


@dataclass(frozen=True)
class Comparison:
    """A whole comparison.

    Attributes:
        methods: what is compared, in order.
        seeds: how many runs each method has; the first has the experiment's seed.
        twin: whether each method is run with a server, too.
        tune: whether each method is tuned before its runs.
        common: options that were given for all; the others have their defaults.
        own: options of one method, which win over the common ones.
        runs: contender by contender, seed by seed.
    """

    methods: tuple[str, ...]
    seeds: int
    twin: bool
    tune: bool
    common: Options
    own: Mapping[str, Options]
    runs: tuple[Run, ...]

    @property
    def contenders(self) -> tuple[Contender, ...]:
        """Each once, in order."""
        return tuple(dict.fromkeys(run.contender for run in self.runs))

    @cached_property
    def digests(self) -> dict[str, str]:
        """What each run follows from, as 16 hexadecimal digits, by name."""
        return {run.name: run.setting.digest for run in self.runs}

    @property
    def digest(self) -> str:
        """16 hexadecimal digits over all that its results follow from."""
        return digest_of([self.digests, self.tune])

    def toml(self) -> str:
        """Return the file that `define` makes the same comparison of."""
        head = {COMPARED: self.methods, SEEDS: self.seeds, TWIN: self.twin, TUNE: self.tune}
        parts = [write_toml(head | dict(self.common))]
        for method, own in self.own.items():
            parts.append(f"[{OWN}.{method}]\n{write_toml(own)}")
        parts.append(f"[{RUNS}]\n{write_toml(self.digests)}")
        return "\n".join(parts)


def define(
    values: Options,
    flags: Options | None = None,
    own_flags: Mapping[str, Options] | None = None,
) -> Comparison:
    """Return the comparison that these keys describe.

    Args:
        values: as in a file.
        flags: keys that win over the file's.
        own_flags: options of one method, which win over the file's tables.

    Raises:
        UserError, TopologyError: a mistake, told in one line.
    """
    values = {key: value for key, value in values.items() if key != RUNS}
    own_flags = own_flags or {}
    tables = _tables(values.pop(OWN, {}))
    values |= flags or {}
    head = {key: values.pop(key) for key in HEAD if key in values}
    methods = _methods(head.get(COMPARED, tuple(METHODS)))
    for method in own_flags:
        _check_method(method)
        if method not in methods:
            raise UserError(f"--set {method}: {method} is not among the methods compared")
    own = {m: {**tables.get(m, {}), **own_flags.get(m, {})} for m in methods}
    own = {method: given for method, given in own.items() if given}
    for method, given in own.items():
        _check_own(method, given)
    seeds = _seeds(head.get(SEEDS, 1))
    twin, tune = (_truth(key, head.get(key, False)) for key in (TWIN, TUNE))
    common = _common(values)
    kinds = (False, True) if twin else (False,)
    runs = tuple(
        run
        for method in methods
        for with_server in kinds
        for run in _runs(Contender(method, with_server), common, own.get(method, {}), seeds, tune)
    )
    return Comparison(methods, seeds, twin, tune, common, own, runs)


def _tables(tables: Any) -> dict[str, dict[str, Any]]:
    if not isinstance(tables, Mapping) or not all(isinstance(t, Mapping) for t in tables.values()):
        raise UserError(f"{OWN} = {tables!r} is not allowed: must be tables of options")
    for method in tables:
        _check_method(method)
    return {method: dict(table) for method, table in tables.items()}


def _methods(given: Any) -> tuple[str, ...]:
    if isinstance(given, str) or not isinstance(given, Sequence):
        refuse(COMPARED, given, "must be a list of methods")
    if not given:
        raise UserError("methods is empty, so there is nothing to compare")
    for place, method in enumerate(given):
        _check_method(method)
        if method in given[:place]:
            raise UserError(f"methods has {method} twice")
    return tuple(given)


def _check_method(method: Any) -> None:
    if not isinstance(method, str) or method not in METHODS:
        near = difflib.get_close_matches(str(method), METHODS, n=1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(METHODS)}"
        raise UserError(f"{method!r} is no method; {hint}")


def _check_own(method: str, given: Options) -> None:
    names = [item.name for item in options() if item.name not in (*NO_SETTING, "method", "seed")]
    for key, value in given.items():
        if key in ("method", "seed", *NO_SETTING):
            raise UserError(f"{OWN}.{method}.{key} is not allowed: it is no option of one method")
        if key not in names:
            raise UserError(f"{method}: {no_such_option(key, value, names)}")


def _seeds(given: Any) -> int:
    if type(given) is not int or not 1 <= given <= MOST_SEEDS:
        refuse(SEEDS, given, f"must be a whole number at least 1 and at most {MOST_SEEDS}")
    seeds: int = given
    return seeds


def _truth(key: str, given: Any) -> bool:
    if type(given) is not bool:
        refuse(key, given, "must be true or false")
    truth: bool = given
    return truth


def _common(values: Options) -> dict[str, Any]:
    """Return the options that all share; an experiment's file may say that the others are unset."""
    declared = {item.name: item for item in options()}
    kept = {}
    for key, value in values.items():
        if key in (*NO_SETTING, "method"):
            if value != declared[key].default:
                what = "--methods says what is compared" if key == "method" else "it is of one run"
                refuse(key, value, what)
        elif key in declared or key in ("preset", SCENARIO):
            kept[key] = value
        else:
            raise no_such_option(key, value, [*HEAD, OWN, *declared, SCENARIO])
    return kept


def _runs(contender: Contender, common: Options, own: Options, seeds: int, tune: bool) -> list[Run]:
    given = {**common, **own, "method": contender.method}
    try:
        experiment = experiment_from(given | {TUNE: tune})
        check_peers(experiment.peers)
        resolved, _ = resolve_topology(experiment)
    except UserError as error:
        raise UserError(f"{contender.method}: {error}") from None
    if contender.with_server:
        # A topology file sets the number of peers, and a star does not.
        given |= {**SERVER, "peers": resolved.peers}
    found = []
    for seed in range(resolved.seed, resolved.seed + seeds):
        taken = options_of(experiment_from(given | {"seed": seed}))
        swept = {"method": contender.key, "seed": seed}
        found.append(Run(contender, seed, Setting(SIM, swept, taken, "", contents_of(taken))))
    return found
