"""Natural Instructions (Wang et al., 2022): a folder of tasks, and which of them are for tests.

Either a folder of task*.json, or the collection's own layout:

    tasks/task*.json    splits/default/train_tasks.txt    splits/default/test_tasks.txt

There only the tasks of the two lists are read, which are about half of the collection; the lists
may also lie in splits/ itself, and may name tasks that are not there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from peer.errors import UserError

TRAIN_LIST = "train_tasks.txt"
TEST_LIST = "test_tasks.txt"


def task_files(folder: Path) -> list[Path]:
    """Return the files of a folder's tasks, by name.

    Raises:
        UserError: there is none, or a list of the collection's layout is missing or names none.
    """
    inner = folder / "tasks"
    if not inner.is_dir():
        return _tasks_in(folder)
    files = _tasks_in(inner)
    listed = _listed(folder, files, TRAIN_LIST) | _listed(folder, files, TEST_LIST)
    return [path for path in files if path.stem in listed]


def tasks_for_tests(folder: Path) -> tuple[str, ...]:
    """Return, by name, the tasks that a folder's list sets apart for tests; without lists, none.

    A task in both lists is for tests.

    Raises:
        UserError: as `task_files`.
    """
    inner = folder / "tasks"
    if not inner.is_dir():
        return ()
    return tuple(sorted(_listed(folder, _tasks_in(inner), TEST_LIST)))


def is_task(document: object) -> bool:
    """Whether what a JSON file holds is a task."""
    return isinstance(document, dict) and {"Definition", "Instances"} <= document.keys()


def instances_of(path: Path, task: Mapping[str, object]) -> Iterator[tuple[str, object]]:
    """Yield (where, record) of a task's instances; of the answers that are allowed, the first.

    Raises:
        UserError: the task is not as the collection's are.
    """
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


def _tasks_in(folder: Path) -> list[Path]:
    files = sorted(folder.glob("task*.json"))
    if not files:
        raise UserError(
            f"{folder}: no task*.json in this folder; allowed: a folder of Natural Instructions"
            " tasks, one with tasks/ and splits/ in it, or a file"
        )
    return files


def _listed(folder: Path, files: list[Path], name: str) -> set[str]:
    """Return which of the tasks are in a list."""
    places = (folder / "splits" / "default" / name, folder / "splits" / name)
    path = next((place for place in places if place.is_file()), None)
    if path is None:
        raise UserError(
            f"{places[0]}: no such file; allowed: tasks/ with both lists beside it, or the folder"
            f" {folder / 'tasks'} alone"
        )
    try:
        names = set(path.read_text(encoding="utf-8-sig").split())
    except (OSError, UnicodeDecodeError):
        raise UserError(f"{path}: cannot be read; allowed: a task's name a line") from None
    found = names & {file.stem for file in files}
    if not found:
        raise UserError(f"{path}: none of the {len(names)} tasks in it is in {folder / 'tasks'}")
    return found


def _strings(value: object, where: str) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise UserError(f"{where}: allowed: a list of texts")
    return value
