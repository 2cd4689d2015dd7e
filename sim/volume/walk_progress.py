"""How far walks over a graph have come, on standard error: one live line, or a plain one."""

from __future__ import annotations

import sys
from threading import Lock
from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)


class WalkProgress:
    """Counts origins.

    Args:
        title: what is done.

    Attributes:
        done: how many origins have been walked.
    """

    def __init__(self, title: str) -> None:
        self.done = 0
        self._title = title
        self._lock = Lock()
        self._console = Console(file=sys.stderr)
        self._live = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("origins"),
            TimeRemainingColumn(),
            console=self._console,
            disable=not self._console.is_terminal,
        )
        self._task = self._live.add_task(title, total=None)

    def __enter__(self) -> WalkProgress:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._live.stop()

    def walked(self, done: int, total: int) -> None:
        """So many of so many origins have been walked; two threads may say so at once."""
        with self._lock:
            if not self.done:
                # Not before the first one, for a mistake may be told in place of all this.
                if self._live.disable:
                    self._console.print(self._title, highlight=False)
                self._live.start()
            self.done = max(self.done, done)
            self._live.update(self._task, completed=self.done, total=total)
