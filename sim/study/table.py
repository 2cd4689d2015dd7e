"""The table of a study: a setting a row, in the order of the grid."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from peer.declarations import options
from peer.options import kind
from peer.whole_file import replacing
from sim.study.conduct import Conducted
from sim.study.measuring import COLUMNS

if TYPE_CHECKING:
    import pandas as pd

_TYPES: Final[dict[type, str]] = {int: "Int64", float: "Float64", bool: "boolean", str: "string"}
"""Those of pandas that can be missing, so that whole numbers stay whole."""

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
    """Return rows as a data frame: of each column the type that it has in every study."""
    import pandas as pd

    types = {item.name: kind(item) for item in options()} | COLUMNS
    columns = {
        name: pd.array([row[name] for row in table], dtype=_TYPES[types.get(name, str)])
        for name in table[0]
    }
    return pd.DataFrame(columns)


def write_table(table: list[dict[str, Any]], folder: Path, *, parquet: bool) -> list[Path]:
    """Write table.csv, and table.parquet if asked for; return their paths."""
    data, written = frame(table), [folder / "table.csv"]
    with replacing(written[0]) as new:
        data.to_csv(new, index=False, lineterminator="\n")
    if parquet:
        written.append(folder / "table.parquet")
        with replacing(written[1]) as new:
            data.to_parquet(new, index=False)
    return written
