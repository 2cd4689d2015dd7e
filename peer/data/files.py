"""Records out of JSON, JSON lines, CSV and Natural Instructions files.

Every reader yields (where, record): `where` names the place in an error message. Files are UTF-8,
with or without a byte-order mark.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

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
    elif isinstance(document, dict) and "Definition" in document and "Instances" in document:
        yield from _task(path, document)
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
    paths = sorted(folder.glob("task*.json"))
    if not paths:
        raise UserError(
            f"{folder}: no task*.json in this folder; allowed: a folder of Natural Instructions"
            f" tasks, or a file ({', '.join(READERS)})"
        )
    for path in paths:
        yield from _json(path)


def _task(path: Path, task: Mapping[str, object]) -> Records:
    """Yield a task's instances; of the answers that are allowed, the first (Wang et al., 2022)."""
    definition = _strings(task["Definition"], f"{path}: Definition")
    categories = _strings(task.get("Categories", []), f"{path}: Categories")
    instances = task["Instances"]
    if not isinstance(instances, list):
        raise UserError(f"{path}: Instances is no list; allowed: a list of input and output")
    for number, instance in enumerate(instances, start=1):
        where = f"{path}, instance {number}"
        if not isinstance(instance, Mapping) or not {"input", "output"} <= instance.keys():
            raise UserError(f"{where}: allowed: an object with the fields input and output")
        output = _strings(instance["output"], f"{where}: output")
        record = {
            "instruction": "\n".join(definition),
            "context": instance["input"],
            "response": output[0] if output else "",
            "category": categories[0] if categories else "",
            "task": path.stem,
        }
        yield where, record


def _strings(value: object, where: str) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise UserError(f"{where}: allowed: a list of texts")
    return value


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
