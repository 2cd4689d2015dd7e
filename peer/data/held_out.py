"""Which tasks are held out for evaluation, by what the option of that name says.

A task is here what FedKSeed's paper calls one: the row's task where the source names tasks, as
Natural Instructions does, and its category elsewhere, as for Dolly.
"""

from __future__ import annotations

import difflib
from typing import Final

import numpy as np
from numpy.typing import NDArray

from peer.data.encode import Encoded
from peer.errors import UserError
from peer.options import refuse

ROWS: Final = "rows"
"""Rows are held out at random, whatever their task is."""

LAST: Final = "last"
"""The last task by name, as the published FedKSeed program does for Dolly: summarization."""

TEST: Final = "test"
"""The tasks that the source sets apart for tests."""

_SHOWN: Final = 8


def tasks_of(encoded: Encoded) -> tuple[tuple[str, ...], NDArray[np.int32]]:
    """Return the names of the tasks, sorted, and for each row the place of its task in them."""
    if any(encoded.task_names):
        return encoded.task_names, encoded.tasks
    return encoded.category_names, encoded.categories


def held_out_rows(encoded: Encoded, held_out: str) -> NDArray[np.bool_]:
    """Return for each of n rows whether it is of a task that is held out, shape (n,).

    Args:
        encoded: the rows.
        held_out: `last`, `test`, or names of tasks or categories, joined by commas.

    Raises:
        UserError: there is no such task, or none would be left.
    """
    names, tasks = tasks_of(encoded)
    chosen: NDArray[np.bool_]
    if held_out == LAST:
        chosen = tasks == len(names) - 1
    elif held_out == TEST:
        chosen = np.isin(tasks, _places(names, encoded.test_tasks))
        if not chosen.any():
            refuse("held_out", held_out, _why_no_tests(encoded))
    else:
        chosen = _named(encoded, held_out)
    if chosen.all():
        raise UserError(
            f"held_out = {held_out!r} is not allowed: it leaves no row to train on; the data has"
            f" {_shortened(names)}"
        )
    return chosen


def _why_no_tests(encoded: Encoded) -> str:
    if encoded.test_tasks:
        return f"max_length leaves no row of the {len(encoded.test_tasks)} test tasks"
    return "no task of the data is for tests; a folder with tasks/ and splits/ in it says which are"


def _named(encoded: Encoded, held_out: str) -> NDArray[np.bool_]:
    known = sorted({*encoded.category_names, *encoded.task_names} - {""})
    # A name may have a comma in it.
    wanted = [held_out] if held_out in known else [name.strip() for name in held_out.split(",")]
    for name in wanted:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"there are {_shortened(known)}"
            raise UserError(
                f"held_out = {held_out!r} is not allowed: the data has no task or category"
                f" {name!r}; {hint}"
            )
    by_category = np.isin(encoded.categories, _places(encoded.category_names, wanted))
    return by_category | np.isin(encoded.tasks, _places(encoded.task_names, wanted))


def _places(names: tuple[str, ...], wanted: tuple[str, ...] | list[str]) -> list[int]:
    return [place for place, name in enumerate(names) if name in wanted]


def _shortened(names: tuple[str, ...] | list[str]) -> str:
    some = ", ".join(name or "one without a name" for name in names[:_SHOWN])
    more = len(names) - _SHOWN
    return (some or "none") + (f" and {more} more" if more > 0 else "")
