"""A study's folder: what is finished stays, and is found again.

study.toml           the study, defaults too; `kseed study --out FOLDER` goes on with it
settings/ID.json     the result of a finished setting, by the digest of what it follows from
settings/ID/         its topology.json and links.csv; of a whole run, the run folder
table.csv            a row for each setting, in the order of the grid
table.parquet        the same, where asked for
figures/*.svg        what the study has for pictures
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import topology
from peer.errors import UserError
from peer.experiment_file import read_toml
from peer.records import finite
from peer.traffic import Traffic
from peer.whole_file import SUFFIX, write_whole
from sim.study.definition import Study, define
from sim.study.held_folder import LOCK, held_folder
from sim.study.measuring import Row
from sim.study.setting import Setting, digest_of
from sim.study.whole_run import read_links
from topology import TopologyError

LOG = logging.getLogger("kseed")

STUDIES: Final = Path("studies")
STUDY: Final = "study.toml"
SETTINGS: Final = "settings"


class StudyFolder:
    """One study's folder. Nothing is written before `held`."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def for_study(cls, study: Study, out: str, *, resume: bool = False) -> StudyFolder:
        """Return the folder of a study, without touching it.

        Args:
            study: what is to be done in it.
            out: empty: one below studies/ by the study's name.
            resume: go on with the newest of that name; else a new one is taken.

        Raises:
            UserError: it holds something else, or there is nothing to go on with.
        """
        if not out:
            return cls._by_name(study, resume=resume)
        folder = cls(Path(out))
        if folder.path.exists() and not folder.path.is_dir():
            raise UserError(f"out = {out!r} is a file, a folder is wanted")
        folder._check(study)
        return folder

    @classmethod
    def _by_name(cls, study: Study, *, resume: bool) -> StudyFolder:
        newest, path, number = None, STUDIES / study.name, 1
        while path.exists():
            number += 1
            newest, path = path, STUDIES / f"{study.name}-{number}"
        if not resume:
            return cls(path)
        if newest is None:
            raise UserError(f"there is no {STUDIES / study.name} to resume")
        folder = cls(newest)
        folder._check(study)
        return folder

    def read_study(self) -> Study:
        """Return the study that the folder holds.

        Raises:
            UserError: it holds none.
        """
        return define(read_toml(self.path / STUDY))

    def _check(self, study: Study) -> None:
        """Refuse a folder whose study has settings that this one does not have."""
        there = {path.name for path in self.path.iterdir()} if self.path.exists() else set()
        if STUDY not in there:
            if there - {LOCK, STUDY + SUFFIX}:
                raise UserError(f"out = {str(self.path)!r} is not empty and holds no study")
            return
        if not any(self._results()):
            return
        before = self.read_study()
        mine = {setting.digest for setting in study.settings}
        if not all(setting.digest in mine for setting in before.settings):
            raise UserError(f"{self.path} holds another study: {_difference(study, before)}")

    def _results(self) -> Iterator[Path]:
        return (self.path / SETTINGS).glob("*.json")

    @contextmanager
    def held(self, study: Study) -> Iterator[None]:
        """Make the folder and write study.toml; meanwhile nobody else can do a study in it.

        If the study turns out to be a mistake, what was made for it is removed.

        Raises:
            UserError: somebody does, or it cannot be made.
        """
        with held_folder(self.path, "study", lambda: any(self._results())):
            (self.path / SETTINGS).mkdir(exist_ok=True)
            write_whole(self.path / STUDY, study.toml())
            yield

    def of_setting(self, setting: Setting) -> Path:
        """Return the folder of one setting."""
        return self.folder_of(setting.digest)

    def folder_of(self, digest: str) -> Path:
        """Return the folder of the setting with a digest."""
        return self.path / SETTINGS / digest

    def count(self, study: Study) -> int:
        """Return how many settings of a study have a result."""
        return sum(self._result(setting).exists() for setting in study.settings)

    def write_result(self, setting: Setting, row: Row) -> None:
        """Write a setting's result, whole or not at all."""
        content = {"identity": setting.identity, "row": finite(row)}
        text = json.dumps(content | {"check": digest_of(content)}, indent=1) + "\n"
        write_whole(self._result(setting), text)

    def read_result(self, setting: Setting) -> Row | None:
        """Return the result of a setting, None if there is none that can be believed."""
        path = self._result(setting)
        try:
            found = json.loads(path.read_bytes())
            check = found.pop("check")
            if check != digest_of(found) or found["identity"] != setting.identity:
                raise ValueError
            row: Row = found["row"]
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            LOG.warning("%s is damaged: %s is computed again", path, setting.name)
            return None
        try:
            self.links_of(setting.digest, row["wire_bytes"])
        except (UserError, TopologyError) as error:
            LOG.warning("%s: %s is computed again", error, setting.name)
            return None
        return row

    def links_of(self, digest: str, wire_bytes: int) -> tuple[topology.Topology, Traffic]:
        """Return the graph of a finished setting, and what went over its links.

        Args:
            digest: the setting's.
            wire_bytes: see `read_links`.

        Raises:
            UserError, TopologyError: the files that hold it are damaged or gone.
        """
        return read_links(self.folder_of(digest), wire_bytes)

    def _result(self, setting: Setting) -> Path:
        return self.path / SETTINGS / f"{setting.digest}.json"


def leaves_of(digest: str) -> tuple[str, ...]:
    """Return what the setting with a digest leaves in a study's folder; the result comes last."""
    place = f"{SETTINGS}/{digest}"
    return place, f"{place}.log", f"{place}.json"


def _difference(mine: Study, theirs: Study) -> str:
    """Say in what another study has settings that mine has not."""
    if mine.measure != theirs.measure:
        return f"measure is {theirs.measure!r} there and {mine.measure!r} here"
    for key in theirs.settings[0].options:
        here, there = _taken(mine.settings, key), _taken(theirs.settings, key)
        if any(value not in here for value in there):
            return f"{key} is {_listed(there)} there and {_listed(here)} here"
    return "combinations of its values are missing here, or files have changed"


def _taken(settings: Sequence[Setting], key: str) -> list[Any]:
    values: list[Any] = []
    for setting in settings:
        if setting.options.get(key) not in values:
            values.append(setting.options.get(key))
    return values


def _listed(values: list[Any]) -> str:
    return ", ".join(map(repr, values))
