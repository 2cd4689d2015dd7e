"""What a search leaves: tune.json and tune.csv in the run's folder, and a table for people."""

from __future__ import annotations

import json
from collections.abc import Sequence
from math import isfinite
from pathlib import Path
from typing import Any, Final

from peer.errors import UserError
from peer.records import TUNE, TUNE_TABLE, finite
from peer.whole_file import write_whole
from sim.tables import aligned, rows_csv
from sim.tuning.search import Found, Values

SCHEMA: Final = 1


def rows(found: Found) -> list[dict[str, Any]]:
    """Return a row for each short run: the values, both losses, and whether it has diverged."""
    return [
        {
            **trial.values,
            "initial_loss": trial.losses.initial,
            "final_loss": trial.losses.final if isfinite(trial.losses.final) else None,
            "diverged": trial.losses.diverged,
        }
        for trial in found.trials
    ]


def write(found: Found, folder: Path) -> None:
    """Write tune.csv, and then tune.json, into a folder that is there."""
    content = {
        "schema": SCHEMA,
        "chosen": dict(found.chosen),
        "lowered": found.lowered,
        "at_edge": list(found.at_edge),
        "runs": rows(found),
    }
    write_whole(folder / TUNE_TABLE, rows_csv(rows(found)))
    write_whole(folder / TUNE, json.dumps(finite(content), indent=1) + "\n")


def read_chosen(folder: Path) -> Values | None:
    """Return the values that an earlier search has chosen; None: there has been none.

    Raises:
        UserError: its file is damaged.
    """
    path = folder / TUNE
    if not path.exists():
        return None
    try:
        found = json.loads(path.read_bytes())
        if found["schema"] != SCHEMA:
            raise ValueError
        return {str(name): float(value) for name, value in found["chosen"].items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise UserError(f"{path} is damaged") from None


def in_words(found: Found, names: Sequence[str]) -> str:
    """Return a table of the short runs, and what was chosen, without a newline at the end.

    Args:
        found: the search.
        names: the options that were searched.
    """
    lines = [[*map(_said, names), "loss before", "after", ""]]
    for trial in found.trials:
        losses, mark = trial.losses, ""
        if losses.diverged:
            mark = "diverged"
        elif trial.values == found.chosen:
            mark = "chosen"
        after = f"{losses.final:.4f}" if isfinite(losses.final) else "not finite"
        values = [f"{trial.values[name]:g}" for name in names]
        lines.append([*values, f"{losses.initial:.4f}", after, mark])
    right = [*[True] * (len(names) + 2), False]
    return "\n".join([*aligned(lines, right), *verdict(found, names)])


def verdict(found: Found, names: Sequence[str]) -> list[str]:
    """Return what was chosen and what there is to say about it, in sentences."""
    chosen = " and ".join(f"{_said(name)} {found.chosen[name]:g}" for name in names)
    if not found.lowered:
        return [f"No values lowered the loss on the rows set apart: {chosen} as given."]
    edges = [
        f"The best {_said(name)} is the last one tried; a better one may lie beyond."
        for name in found.at_edge
    ]
    return [f"Chosen: {chosen}.", *edges]


def _said(name: str) -> str:
    return name.replace("_", " ")
