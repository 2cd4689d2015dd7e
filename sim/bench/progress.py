"""How far a bench has come, on standard error: one live line, or a plain one where nobody looks."""

from __future__ import annotations

import sys
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn


class BenchProgress:
    """Counts samples.

    Args:
        title: what is measured.
        total: how many samples there will be.
    """

    def __init__(self, title: str, total: int) -> None:
        self._title = title
        self._console = Console(file=sys.stderr)
        self._live = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TimeRemainingColumn(),
            console=self._console,
            disable=not self._console.is_terminal,
            # A thread of its own would draw, and take time, while something is measured.
            auto_refresh=False,
        )
        self._task = self._live.add_task(title, total=total)

    def __enter__(self) -> BenchProgress:
        if self._live.disable:
            self._console.print(f"measuring {self._title}", highlight=False)
        self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._live.stop()

    def advance(self) -> None:
        """One more sample has been taken."""
        self._live.update(self._task, advance=1, refresh=True)
