"""Rows by their tasks: a subset that is spread over them, and what was measured of each."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from peer.answers import Answers
from peer.data.encode import Encoded
from peer.evaluation import Losses
from peer.tasks import Tasks, before_and_after, rouge_over_rounds


def rows_of(
    categories: list[int], category_names: tuple[str, ...], task_names: tuple[str, ...] = ("",)
) -> Encoded:
    """Rows of two tokens each; their tasks, where these have names, are as their categories."""
    n = len(categories)
    codes = np.array(categories, dtype=np.int32)
    ones = np.ones(n, dtype=np.int32)
    tasks = codes if any(task_names) else 0 * codes
    offsets = np.arange(0, 2 * n + 1, 2)
    tokens = np.zeros(2 * n, dtype=np.int32)
    return Encoded(tokens, offsets, ones, codes, category_names, tasks, task_names, 0)


@given(st.lists(st.integers(0, 3), min_size=1, max_size=60), st.integers(0, 70), st.data())
def test_a_subset_has_of_each_task_its_share(
    categories: list[int], count: int, data: st.DataObject
) -> None:
    chosen = data.draw(st.sets(st.sampled_from(range(len(categories))), min_size=1))
    rows = np.array(sorted(chosen))
    tasks = Tasks(rows_of(categories, ("a", "b", "c", "d")))
    some = tasks.spread(rows, count)
    assert len(some) == min(count, len(rows))
    assert list(some) == sorted(set(some.tolist()) & chosen)
    np.testing.assert_array_equal(tasks.spread(rows, count), some)
    for name in "abcd":
        there = sum(tasks.of(row) == name for row in rows)
        taken = sum(tasks.of(row) == name for row in some)
        assert abs(taken - there * len(some) / len(rows)) < 1


def test_a_task_is_measured_on_its_own_rows() -> None:
    encoded = rows_of([0, 1, 0, 2, 1, 0], ("x", "y", "z"), ("add", "say", "tell"))
    rows = np.array([0, 1, 2, 4])
    losses = Losses(1.5, np.array([2.0, 3.0, 4.0, 9.0]), np.array([1, 2, 3, 1]))
    answers = Answers(np.array([0, 2]), ["", ""], np.array([0.25, 0.75]))
    tasks = Tasks(encoded)
    assert tasks.named
    assert tasks.measures(rows, losses, answers) == [
        {"task": "add", "rows": 2, "loss": 6 / 4, "answers": 2, "rouge_l": 0.5},
        {"task": "say", "rows": 2, "loss": 12 / 3, "answers": 0, "rouge_l": None},
    ]
    without = tasks.measures(rows, losses, None)
    assert [(each["answers"], each["rouge_l"]) for each in without] == [(0, None)] * 2


@pytest.mark.parametrize(
    ("categories", "tasks", "name"),
    [(("c",), ("t",), "t"), (("c",), ("",), "c"), (("",), ("",), None)],
)
def test_tasks_come_before_categories(
    categories: tuple[str, ...], tasks: tuple[str, ...], name: str | None
) -> None:
    found = Tasks(rows_of([0, 0], categories, tasks))
    losses = Losses(1.0, np.ones(2), np.ones(2, dtype=np.int64))
    measured = found.measures(np.arange(2), losses, None)
    assert [each["task"] for each in measured] == ([] if name is None else [name])
    assert found.named == (name is not None)


def test_a_summary_says_what_was_before_and_after() -> None:
    def measure(loss: float, rouge: float | None) -> dict[str, object]:
        return {"task": "add", "rows": 3, "loss": loss, "answers": 2, "rouge_l": rouge}

    records = [
        {"round": 0, "rouge_l": 0.1, "tasks": [measure(4.0, 0.1)]},
        {"round": 1, "rouge_l": None, "tasks": None},
        {"round": 2, "rouge_l": 0.3, "tasks": [measure(3.0, 0.3)]},
    ]
    assert rouge_over_rounds(records) == {"initial": 0.1, "final": 0.3, "per_round": {"2": 0.3}}
    assert before_and_after(records) == [
        {
            "task": "add",
            "rows": 3,
            "loss": {"initial": 4.0, "final": 3.0},
            "rouge_l": {"initial": 0.1, "final": 0.3},
        }
    ]
    assert rouge_over_rounds(records[1:2]) is None
    assert before_and_after(records[:2]) == []
    # Lines that a run of an earlier version has left.
    old = [{"round": 0}, records[2]]
    assert rouge_over_rounds(old) == {"initial": None, "final": 0.3, "per_round": {"2": 0.3}}
    assert before_and_after(old)[0]["loss"] == {"initial": None, "final": 3.0}
    assert before_and_after(old)[0]["rouge_l"] == {"initial": None, "final": 0.3}
    without = [records[0], {"round": 1, "tasks": [measure(3.5, None)]}]
    assert before_and_after(without)[0]["rouge_l"] is None
