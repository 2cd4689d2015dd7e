"""A folder of Natural Instructions: its own layout and lists, and a plain folder of tasks."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from peer.data.rows import load_rows
from peer.errors import UserError

TASKS = Path(__file__).parents[2] / "shared" / "data" / "natural-instructions-mini"


def write_task(path: Path, rows: int = 2) -> None:
    """Write a task with some rows, whose responses name it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    instances = [{"input": f"in {i}", "output": [f"{path.stem} {i}"]} for i in range(rows)]
    task = {"Definition": ["Do it."], "Categories": ["Sums"], "Instances": instances}
    path.write_text(json.dumps(task), encoding="utf-8")


def write_collection(folder: Path, train: str, test: str, below: str = "splits/default") -> Path:
    """Write tasks 1 to 5 and the two lists."""
    for number in range(1, 6):
        write_task(folder / "tasks" / f"task{number}_x.json")
    (folder / below).mkdir(parents=True)
    (folder / below / "train_tasks.txt").write_text(train, encoding="utf-8")
    (folder / below / "test_tasks.txt").write_text(test, encoding="utf-8")
    return folder


def refused(folder: Path) -> str:
    with pytest.raises(UserError) as caught:
        load_rows(str(folder))
    line = str(caught.value)
    assert len(line.splitlines()) == 1
    return line


@pytest.mark.parametrize("below", ["splits/default", "splits"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\n\n", " \n"])
def test_only_listed_tasks_are_read_and_some_are_for_tests(
    tmp_path: Path, below: str, end: str
) -> None:
    train, test = (end.join(names) for names in (["task5_x", "task2_x", "gone"], ["task3_x", ""]))
    loaded = load_rows(str(write_collection(tmp_path, train, test, below)))
    assert [row.task for row in loaded.rows] == [f"task{i}_x" for i in (2, 2, 3, 3, 5, 5)]
    assert loaded.test_tasks == ("task3_x",)


def test_a_task_in_both_lists_is_for_tests(tmp_path: Path) -> None:
    folder = write_collection(tmp_path, "task1_x\ntask2_x\n", "task2_x\ntask4_x\n")
    assert load_rows(str(folder)).test_tasks == ("task2_x", "task4_x")


def test_a_plain_folder_has_no_tests(tmp_path: Path) -> None:
    folder = write_collection(tmp_path, "task1_x", "task2_x")
    loaded = load_rows(str(folder / "tasks"))
    assert loaded.test_tasks == ()
    assert len({row.task for row in loaded.rows}) == 5


def test_a_task_that_is_not_listed_is_not_even_looked_at(tmp_path: Path) -> None:
    folder = write_collection(tmp_path, "task1_x", "task2_x")
    (folder / "tasks" / "task9_x.json").write_text("broken")
    assert len(load_rows(str(folder)).rows) == 4


@pytest.mark.parametrize("name", ["train_tasks.txt", "test_tasks.txt"])
def test_a_list_that_is_missing_is_told(tmp_path: Path, name: str) -> None:
    folder = write_collection(tmp_path, "task1_x", "task2_x")
    path = folder / "splits" / "default" / name
    path.unlink()
    assert refused(folder) == (
        f"{path}: no such file; allowed: tasks/ with both lists beside it, or the folder"
        f" {folder / 'tasks'} alone"
    )


@pytest.mark.parametrize(
    ("content", "names"), [(b"task7_x\ntask8_x\n", 2), (b"", 0), (b"task1_x.json\n", 1)]
)
def test_a_list_that_names_no_task_of_the_folder_is_told(
    tmp_path: Path, content: bytes, names: int
) -> None:
    folder = write_collection(tmp_path, "task1_x", "task2_x")
    path = folder / "splits" / "default" / "test_tasks.txt"
    path.write_bytes(content)
    assert refused(folder) == f"{path}: none of the {names} tasks in it is in {folder / 'tasks'}"


def test_a_list_that_is_no_text_is_told(tmp_path: Path) -> None:
    folder = write_collection(tmp_path, "task1_x", "task2_x")
    path = folder / "splits" / "default" / "train_tasks.txt"
    path.write_bytes(b"\xff\xfe")
    assert refused(folder) == f"{path}: cannot be read; allowed: a task's name a line"


def test_a_folder_of_tasks_without_tasks_is_told(tmp_path: Path) -> None:
    (tmp_path / "tasks").mkdir()
    assert refused(tmp_path).startswith(f"{tmp_path / 'tasks'}: no task*.json in this folder; ")


@pytest.mark.skipif(not TASKS.exists(), reason=f"{TASKS.name} is not on this machine")
def test_the_small_collection() -> None:
    loaded = load_rows(str(TASKS))
    tasks = {row.task for row in loaded.rows}
    assert (len(tasks), len(loaded.test_tasks)) == (80, 10)
    assert set(loaded.test_tasks) < tasks
    assert loaded.rows == load_rows(str(TASKS / "tasks")).rows
