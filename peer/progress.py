"""How far a run has come, on standard error: one live line, or plain lines where nobody looks."""

from __future__ import annotations

import math
import sys
from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)


class RunProgress:
    """Counts the local rounds of all peers, and says each round's loss.

    Args:
        total: how many local rounds (one peer's steps of one round) the run has.
        rounds: R.
    """

    def __init__(self, total: int, rounds: int) -> None:
        self._rounds = rounds
        self._console = Console(file=sys.stderr)
        self._live = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            MofNCompleteColumn(),
            TextColumn("local rounds"),
            TimeRemainingColumn(),
            console=self._console,
            disable=not self._console.is_terminal,
        )
        self._task = self._live.add_task("starting", total=total)

    def __enter__(self) -> RunProgress:
        self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._live.stop()

    def trained(self, round_: int) -> None:
        """One peer has taken its local steps of a round."""
        self._live.update(
            self._task, advance=1, description=f"round {round_ + 1} of {self._rounds}"
        )

    def closed(self, rounds_done: int, loss: float) -> None:
        """A round has been closed and the model evaluated."""
        text = f"after round {rounds_done} of {self._rounds}"
        if rounds_done == 0:
            text = "before the first round"
        if math.isfinite(loss):
            self._console.print(f"{text}: held-out loss {loss:.4f}", highlight=False)
        elif rounds_done:
            self._console.print(text, highlight=False)
