"""How far a study has come, on standard error: one live line, or plain lines where nobody looks."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

_PLAIN_LINES: Final = 20


class StudyProgress:
    """Counts settings.

    Args:
        total: how many settings there are.
        before: how many of them need not be computed.
    """

    def __init__(self, total: int, before: int) -> None:
        self._total, self._done = total, before
        self._console = Console(file=sys.stderr)
        self._live = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("settings"),
            TimeRemainingColumn(),
            console=self._console,
            disable=not self._console.is_terminal,
        )
        self._task = self._live.add_task("studying", total=total, completed=before)

    def __enter__(self) -> StudyProgress:
        if self._live.disable:
            self._tell()
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
        """One more setting is done with."""
        self._done += 1
        self._live.update(self._task, advance=1)
        if self._live.disable and (
            self._done * _PLAIN_LINES // self._total
            > (self._done - 1) * _PLAIN_LINES // self._total
        ):
            self._tell()

    def _tell(self) -> None:
        self._console.print(f"{self._done} of {self._total} settings", highlight=False)
