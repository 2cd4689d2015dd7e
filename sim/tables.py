"""Tables as text: in columns and as labelled lines for people, and as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any


def aligned(rows: Sequence[Sequence[str]], right: Sequence[bool] = ()) -> list[str]:
    """Return the lines of a table.

    Args:
        rows: the cells, as many in each row.
        right: for each column whether its cells end below each other; none: no column's do.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    ends = right or [False] * len(widths)
    return [
        "  ".join(
            cell.rjust(width) if is_right else cell.ljust(width)
            for cell, width, is_right in zip(row, widths, ends, strict=True)
        ).rstrip()
        for row in rows
    ]


def labelled(rows: Sequence[tuple[str, str]]) -> str:
    """Return texts below each other, each behind its label, without a newline at the end.

    Args:
        rows: (label, text); a line that goes on with the one above has an empty label.
    """
    width = max(len(label) for label, _ in rows) + 2
    return "\n".join(f"{label:<{width}}{text}" for label, text in rows)


def rows_csv(rows: Iterable[Mapping[str, Any]]) -> str:
    """Return rows that have the same keys as CSV, a header first; what is None is left empty."""
    listed = list(rows)
    text = io.StringIO()
    writer = csv.DictWriter(text, list(listed[0]) if listed else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows(listed)
    return text.getvalue()
