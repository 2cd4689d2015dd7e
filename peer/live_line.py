"""How far long work has come: one live line on standard error, plain ones where nobody looks."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


class LiveLine:
    """A title, a bar, how many of how many are done, and how long the rest may take.

    It is shown on a terminal alone; elsewhere there is only what is said.

    Args:
        title: what goes on.
        unit: what is counted, in the plural.
        total: how many there will be; None: not known yet.
        done: how many need not be done any more.
        plainly: said at the start in place of the line; empty: nothing.
        by_thread: whether a thread of its own draws, so that the line moves between two counts.

    Attributes:
        watched: whether the line is shown.
    """

    def __init__(
        self,
        title: str,
        unit: str,
        total: int | None,
        *,
        done: int = 0,
        plainly: str = "",
        by_thread: bool = True,
    ) -> None:
        self._console = Console(file=sys.stderr)
        self.watched = self._console.is_terminal
        self._plainly = plainly
        self._by_thread = by_thread
        self._live = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn(unit),
            TimeRemainingColumn(),
            console=self._console,
            disable=not self.watched,
            auto_refresh=by_thread,
        )
        self._task = self._live.add_task(title, total=total, completed=done)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._live.stop()

    def start(self) -> None:
        """Show the line, or say what there is to say in its place."""
        if self._plainly and not self.watched:
            self.say(self._plainly)
        self._live.start()

    def advance(self, title: str | None = None) -> None:
        """One more is done; None leaves the title as it is."""
        self._live.update(self._task, advance=1, description=title, refresh=not self._by_thread)

    def entitle(self, title: str) -> None:
        """Change the title alone."""
        self._live.update(self._task, description=title, refresh=not self._by_thread)

    def show(self, done: int, total: int) -> None:
        """So many of so many are done."""
        self._live.update(self._task, completed=done, total=total, refresh=not self._by_thread)

    def say(self, text: str) -> None:
        """Say something in a line of its own, above the live one."""
        self._console.print(text, highlight=False)
