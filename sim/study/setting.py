"""One setting of a study: an experiment, and the digest that its results are kept under."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from peer.config import SCENARIO, Experiment, experiment_from
from peer.declarations import options
from peer.records import NEVER_SAVED

PROTOCOL: Final = "protocol"
SIM: Final = "sim"
MEASURES: Final = (PROTOCOL, SIM)
"""protocol: the real protocol and its bytes, with made-up scalar gradients and no model. sim: whole
runs, as `kseed sim` does them."""

NO_SETTING: Final = (*NEVER_SAVED, "log_level", "trace")
"""Options of one call of `kseed sim`, which no setting of a study has."""

SCHEMA: Final = 1
"""Of results; those of another schema are computed again."""

_FILES: Final = ("topology", "latency", "data")
"""Options that may name a file, which counts by what is in it."""


@dataclass(frozen=True)
class Setting:
    """One point of a grid.

    Attributes:
        measure: one of `MEASURES`.
        swept: the options that the study varies, with their values here.
        options: all options and the scenario, with the values that JSON has; where there is no such
            experiment, as given, over the defaults.
        refusal: why there is no such experiment; empty: there is one.
        contents: digests of the files that options name, by option.
    """

    measure: str
    swept: Mapping[str, Any]
    options: Mapping[str, Any]
    refusal: str
    contents: Mapping[str, str]

    @cached_property
    def identity(self) -> dict[str, Any]:
        """All that its result follows from, but for the program."""
        return {
            "schema": SCHEMA,
            "measure": self.measure,
            "options": dict(self.options),
            "contents": dict(self.contents),
        }

    @cached_property
    def digest(self) -> str:
        """16 hexadecimal digits over its identity."""
        return digest_of(self.identity)

    def experiment(self) -> Experiment:
        """Return the experiment, without a run folder."""
        return experiment_from(self.options)

    @property
    def name(self) -> str:
        """Its swept options, for people to read."""
        return ", ".join(f"{key} = {value}" for key, value in self.swept.items())


def setting_options() -> list[Any]:
    """Return the declarations of the options that a setting can have."""
    return [item for item in options() if item.name not in NO_SETTING]


def options_of(experiment: Experiment) -> dict[str, Any]:
    """Return all options of a setting that is this experiment, and its scenario."""
    scenario = [
        {key: _listed(value) for key, value in asdict(incident).items() if value is not None}
        for incident in experiment.scenario
    ]
    return {item.name: getattr(experiment, item.name) for item in setting_options()} | {
        SCENARIO: scenario
    }


def defaults() -> dict[str, Any]:
    """Return the default of each option of a setting."""
    kept = {item.name for item in setting_options()}
    return {item.name: item.default for item in fields(Experiment) if item.name in kept}


def contents_of(given: Mapping[str, Any]) -> dict[str, str]:
    """Return digests of the files that options name."""
    named = {key: Path(str(given[key])) for key in _FILES}
    return {
        key: hashlib.blake2b(path.read_bytes(), digest_size=16).hexdigest()
        for key, path in named.items()
        if path.is_file()
    }


def digest_of(value: Any) -> str:
    """Return 16 hexadecimal digits over a value that JSON has."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def _listed(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
