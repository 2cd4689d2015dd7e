"""Records out of JSON, JSON lines, CSV and Natural Instructions files.

Every reader yields (where, record): `where` names the place in an error message. Files are UTF-8,
with or without a byte-order mark.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path

from peer.data.natural_instructions import instances_of, is_task, task_files
from peer.errors import UserError

Records = Iterator[tuple[str, object]]


def records_of(path: Path) -> Records:
    """Yield the records of a data file, or of a folder of Natural Instructions tasks.

    Raises:
        UserError: a suffix that is not known, a folder with no task in it, text that is not UTF-8,
            or that does not parse (with the line's number).
    """
    if path.is_dir():
        return _task_folder(path)
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise UserError(
            f"{path}: unknown suffix {path.suffix!r}; allowed: {', '.join(READERS)},"
            " or a folder of Natural Instructions tasks"
        )
    return reader(path)


def _json(path: Path) -> Records:
    text = _read(path)
    try:
        document = json.loads(text)
    except json.JSONDecodeError as error:
        raise UserError(
            f"{path}, line {error.lineno}: {error.msg}; allowed: one list of objects"
            " (one object a line needs the suffix .jsonl)"
        ) from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: {error}") from None
    if isinstance(document, list):
        for number, record in enumerate(document, start=1):
            yield f"{path}, item {number}", record
    elif is_task(document):
        yield from instances_of(path, document)
    else:
        found = ", ".join(document) if isinstance(document, dict) else type(document).__name__
        raise UserError(
            f"{path}: found {found or 'an empty object'}; allowed: a list of objects, or a"
            " Natural Instructions task (Definition, Instances)"
        )


def _json_lines(path: Path) -> Records:
    # Only \n ends a line: str.splitlines would cut at the Unicode separators that JSON leaves bare.
    for number, line in enumerate(_read(path).split("\n"), start=1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        try:
            record = json.loads(line)
        except json.JSONDecodeError as error:
            raise UserError(f"{where}: {error.msg}; allowed: one JSON object a line") from None
        except (ValueError, RecursionError) as error:
            raise UserError(f"{where}: {error}") from None
        yield where, record


def _csv(path: Path) -> Records:
    reader = csv.DictReader(io.StringIO(_read(path), newline=""), strict=True)
    try:
        for record in reader:
            where = f"{path}, line {reader.line_num}"
            if None in record:
                raise UserError(f"{where}: more columns than the header's {len(record) - 1}")
            yield where, record
    except csv.Error as error:
        raise UserError(f"{path}, line {reader.reader.line_num}: {error}") from None


def _task_folder(folder: Path) -> Records:
    for path in task_files(folder):
        yield from _json(path)


def _read(path: Path) -> str:
    try:
        # newline="" keeps what a CSV cell or a JSON string holds as it is.
        with path.open(encoding="utf-8-sig", newline="") as file:
            return file.read()
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 at byte {error.start}; allowed: UTF-8") from None
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None


READERS: dict[str, Callable[[Path], Records]] = {
    ".json": _json,
    ".jsonl": _json_lines,
    ".csv": _csv,
}
"""The suffixes that are known, and how each is read."""
