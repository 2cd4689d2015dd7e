"""The tasks that rows are of, and what was measured on rows as measures of tasks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from peer.data.encode import Encoded

if TYPE_CHECKING:
    from peer.answers import Answers
    from peer.evaluation import Losses

Record = Mapping[str, Any]
"""A line of rounds.jsonl."""


class Tasks:
    """Which row is of which task: the tasks that the source names, or else its categories.

    Args:
        encoded: all rows.

    Attributes:
        named: whether there are any names.
    """

    def __init__(self, encoded: Encoded) -> None:
        by_task = any(encoded.task_names)
        self._names = encoded.task_names if by_task else encoded.category_names
        self._codes = encoded.tasks if by_task else encoded.categories
        self.named = any(self._names)

    def of(self, row: int) -> str:
        """Return the name of a row's task."""
        return self._names[int(self._codes[row])]

    def spread(self, rows: NDArray[np.int64], count: int) -> NDArray[np.int64]:
        """Return so many of these rows, ascending, of each task about its share; at most all."""
        count = min(count, len(rows))
        by_task = rows[np.argsort(self._codes[rows], kind="stable")]
        return np.sort(by_task[np.arange(count) * len(rows) // max(count, 1)])

    def measures(
        self, rows: NDArray[np.int64], losses: Losses, answers: Answers | None
    ) -> list[dict[str, Any]]:
        """Return what is measured of each task that these rows are of, in the order of their names.

        Args:
            rows: shape (n,), those evaluated.
            losses: of these rows.
            answers: of some of them; None: the model was not asked.

        Returns:
            For each task {task, rows, loss (nats per token), answers, rouge_l}; rouge_l is the mean
            over the answers, None without any. Nothing where the source names no tasks.
        """
        if not self.named:
            return []
        found = []
        for code in np.unique(self._codes[rows]):
            its = self._codes[rows] == code
            scores = None
            if answers is not None:
                scores = answers.rouge_l[self._codes[answers.rows] == code]
            found.append(
                {
                    "task": self._names[code],
                    "rows": int(its.sum()),
                    "loss": float(losses.sums[its].sum() / losses.tokens[its].sum()),
                    "answers": 0 if scores is None else len(scores),
                    "rouge_l": float(scores.mean()) if scores is not None and len(scores) else None,
                }
            )
        return found


def rouge_over_rounds(records: Sequence[Record]) -> dict[str, Any] | None:
    """Return the summary's {initial, final, per_round}; None: nothing was measured.

    Args:
        records: the lines of rounds.jsonl, at least one.
    """
    measured = {
        record["round"]: record["rouge_l"]
        for record in records
        if record.get("rouge_l") is not None
    }
    if not measured:
        return None
    return {
        "initial": measured.get(0),
        "final": measured.get(records[-1]["round"]),
        "per_round": {str(round_): value for round_, value in measured.items() if round_},
    }


def before_and_after(records: Sequence[Record]) -> list[dict[str, Any]]:
    """Return the summary's measures of each task, before the first round and after the last.

    Args:
        records: the lines of rounds.jsonl, at least one.
    """
    first, last = (
        {measure["task"]: measure for measure in record.get("tasks") or ()}
        for record in (records[0], records[-1])
    )
    return [
        {
            "task": task,
            "rows": measure["rows"],
            "loss": {"initial": first.get(task, {}).get("loss"), "final": measure["loss"]},
            "rouge_l": None
            if measure["rouge_l"] is None
            else {
                "initial": first.get(task, {}).get("rouge_l"),
                "final": measure["rouge_l"],
            },
        }
        for task, measure in last.items()
    ]
