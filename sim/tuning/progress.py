"""How far a search has come."""

from __future__ import annotations

from math import isfinite
from typing import Final

from peer.live_line import LiveLine
from sim.tuning.search import Losses, Values


class TuningProgress(LiveLine):
    """Counts short runs, and says each one's losses.

    Args:
        runs: how many there will be at least; there may be a few more.
    """

    def __init__(self, runs: int) -> None:
        self._total, self._done = runs, 0
        super().__init__(_TITLE, "short runs", runs)

    def tried(self, values: Values, losses: Losses) -> None:
        """One short run is over."""
        self._done += 1
        self._total = max(self._total, self._done)
        self.show(self._done, self._total)
        after = f"{losses.final:.4f}" if isfinite(losses.final) else "not finite"
        what = ", ".join(f"{name.replace('_', ' ')} {value:g}" for name, value in values.items())
        diverged = ", diverged" if losses.diverged else ""
        self.say(f"tried {what}: loss {losses.initial:.4f} -> {after}{diverged}")


_TITLE: Final = "tuning"
