"""A comparison's folder: finished runs stay, and are found again.

comparison.toml            the comparison; `kseed compare --out FOLDER` goes on with it
runs/METHOD-seed-N/        the folder of a whole run; METHOD-server-seed-N of a twin
runs/METHOD-seed-N.log     what it logged, if it did
tuning/METHOD/             tune.json and tune.csv, where methods are tuned
compare.csv, compare.json  the table
loss-against-bytes.svg     the figure
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from peer.errors import UserError
from peer.experiment_file import read_toml
from peer.records import CONFIG, TUNE
from peer.whole_file import SUFFIX, write_whole
from sim.compare.definition import RUNS, Comparison, Run, define
from sim.study.held_folder import LOCK, held_folder
from topology import TopologyError

BELOW: Final = Path("runs")
COMPARISON: Final = "comparison.toml"
TUNING: Final = "tuning"


class ComparisonFolder:
    """One comparison's folder. Nothing is written before `held`."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def for_comparison(cls, comparison: Comparison, out: str) -> ComparisonFolder:
        """Return the folder of a comparison, without touching it.

        Args:
            comparison: what is to be done in it.
            out: empty: the one below runs/ that belongs to this very comparison.

        Raises:
            UserError: it holds something else.
        """
        folder = cls(Path(out) if out else BELOW / f"compare-{comparison.digest[:8]}")
        if folder.path.exists() and not folder.path.is_dir():
            raise UserError(f"out = {out!r} is a file, a folder is wanted")
        folder._check(comparison)
        return folder

    def _check(self, mine: Comparison) -> None:
        """Refuse a folder that has runs which are not those of this comparison."""
        there = {path.name for path in self.path.iterdir()} if self.path.exists() else set()
        if COMPARISON not in there:
            if there - {LOCK, COMPARISON + SUFFIX}:
                raise UserError(f"out = {str(self.path)!r} is not empty and holds no comparison")
            return
        if not self._in_use():
            return
        values = read_toml(self.path / COMPARISON)
        theirs = values.get(RUNS, {})
        if values.get("tune", False) != mine.tune:
            raise UserError(
                f"{self.path} holds another comparison: tune is {not mine.tune} there "
                f"and {mine.tune} here"
            )
        for name, digest in theirs.items():
            begun = (self.path / RUNS / name / CONFIG).exists()
            if begun and mine.digests.get(name) != digest:
                raise UserError(
                    f"{self.path} holds another comparison: {_difference(name, values, mine)}"
                )

    def _in_use(self) -> bool:
        begun = (f"{RUNS}/*/{CONFIG}", f"{TUNING}/*/{TUNE}")
        return any(next(self.path.glob(each), None) for each in begun)

    @contextmanager
    def held(self, comparison: Comparison) -> Iterator[None]:
        """Make the folder and write comparison.toml; meanwhile nobody else can work in it.

        Raises:
            UserError: somebody does, or it cannot be made.
        """
        with held_folder(self.path, "compare", self._in_use):
            write_whole(self.path / COMPARISON, comparison.toml())
            yield

    def of_run(self, run: Run) -> Path:
        """Return the folder of a run."""
        return self.path / RUNS / run.name

    def of_tuning(self, method: str) -> Path:
        """Return the folder of what tuning a method has found."""
        return self.path / TUNING / method


def leaves_of_run(name: str) -> tuple[str, ...]:
    """Return what a run of this name leaves in a comparison's folder; its own folder comes last."""
    return f"{RUNS}/{name}.log", f"{RUNS}/{name}"


def _difference(name: str, values: dict[str, Any], mine: Comparison) -> str:
    """Say in what a run there is none of mine."""
    here = {run.name: run.setting.options for run in mine.runs}
    if name not in here:
        return f"{name} is there, and is none of the runs here"
    try:
        [there] = [run.setting.options for run in define(values).runs if run.name == name]
    except (UserError, TopologyError, ValueError):
        return f"{name} is of other options"
    for key, value in here[name].items():
        if there.get(key) != value:
            return f"{key} of {name} is {there.get(key)!r} there and {value!r} here"
    return f"a file that {name} is made from has changed"
