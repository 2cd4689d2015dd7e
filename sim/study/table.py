"""The table of a study: a setting a row, in the order of the grid."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from sim.study.conduct import Conducted
from sim.study.measuring import COLUMNS

if TYPE_CHECKING:
    import pandas as pd

MAIN_OPTIONS: Final = (
    "topology",
    "peers",
    "degree",
    "participation",
    "schedule",
    "method",
    "trainer",
    "rounds",
    "local_steps",
    "candidate_seeds",
    "gradient_bytes",
    "gossip",
    "sign",
    "latency",
    "loss",
    "step_seconds",
    "seed",
)
"""Options that every table has, beside those that are varied."""


def rows(conducted: Conducted) -> list[dict[str, Any]]:
    """Return the table's rows; what is not known is None.

    The columns: `setting` (names its result in the folder), `status`, `reason`, the varied options,
    the main ones of the others, and `sim.study.measuring.COLUMNS`.
    """
    names = [*conducted.study.sweep]
    names += [name for name in MAIN_OPTIONS if name not in names]
    made = []
    for setting, outcome in zip(conducted.study.settings, conducted.outcomes, strict=True):
        found = outcome.row or {}
        head = {
            "setting": setting.digest,
            "status": outcome.status,
            "reason": outcome.reason or None,
        }
        options = {name: setting.options[name] for name in names}
        # A topology file sets the number of peers.
        options["peers"] = found.get("peers", options["peers"])
        made.append(head | options | {name: found.get(name) for name in COLUMNS})
    return made


def frame(table: list[dict[str, Any]]) -> pd.DataFrame:
    """Return rows as a data frame; whole numbers stay whole where some are missing."""
    import pandas as pd

    return pd.DataFrame(table).convert_dtypes()


def write_table(table: list[dict[str, Any]], folder: Path, *, parquet: bool) -> list[Path]:
    """Write table.csv, and table.parquet if asked for; return their paths."""
    data, written = frame(table), [folder / "table.csv"]
    data.to_csv(_new(written[0]), index=False, lineterminator="\n")
    if parquet:
        written.append(folder / "table.parquet")
        data.to_parquet(_new(written[1]), index=False)
    for path in written:
        os.replace(_new(path), path)
    return written


def _new(path: Path) -> Path:
    return path.with_name(path.name + ".new")
