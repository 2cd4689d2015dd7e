"""Instruction rows, whatever they come from: the built-in file, a file, a task folder, the hub."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from peer import builtin
from peer.data.fields import Row, row_from_fields
from peer.data.files import READERS, Records, records_of
from peer.data.hub import hub_records, is_hub_id
from peer.data.natural_instructions import tasks_for_tests
from peer.errors import UserError

__all__ = ["BUILTIN", "LoadedRows", "Row", "load_rows"]

BUILTIN = "builtin"
"""The source that needs no file and no network."""


@dataclass(frozen=True)
class LoadedRows:
    """The usable rows of a source, in its order, and how many were left out."""

    rows: list[Row]
    empty_responses: int
    """Rows dropped because nothing but white space is in their response."""

    test_tasks: tuple[str, ...] = ()
    """The tasks that the source sets apart for tests, if it does."""


def load_rows(source: str) -> LoadedRows:
    """Read all rows of a data source.

    Args:
        source: `builtin`; a .json, .jsonl or .csv file; a Natural Instructions task file, or a
            folder of them as `natural_instructions` says (the instruction is the task's definition,
            the response the first output, the category the task's first, the task its file's
            name); or else, where no such path exists, the id of a data set on the Hugging Face hub,
            `name` or `owner/name`.

    Raises:
        UserError: the source is missing, cannot be read, has no known fields, or no usable row.
    """
    rows = [row_from_fields(record, where) for where, record in _records(source)]
    usable = [row for row in rows if row.response.strip()]
    if not usable:
        raise UserError(
            f"{source}: no usable rows: {len(rows)} read, each with an empty response;"
            " allowed: at least one row with a response"
        )
    folder = Path(source)
    test_tasks = tasks_for_tests(folder) if source != BUILTIN and folder.is_dir() else ()
    return LoadedRows(usable, len(rows) - len(usable), test_tasks)


def _records(source: str) -> Records:
    if source == BUILTIN:
        return records_of(builtin.INSTRUCTIONS)
    path = Path(source)
    if path.exists():
        return records_of(path)
    if path.suffix.lower() in READERS or not is_hub_id(source):
        raise UserError(f"{source}: no such file or folder")
    return hub_records(source)
