"""How far a study or a comparison has come."""

from __future__ import annotations

from typing import Final

from peer.live_line import LiveLine

_PLAIN_LINES: Final = 20


class StudyProgress(LiveLine):
    """Counts settings; where nobody looks, about each twentieth of them is told.

    Args:
        total: how many settings there are.
        before: how many of them need not be computed.
        title: what goes on.
        unit: what is counted.
    """

    def __init__(
        self, total: int, before: int, title: str = "studying", unit: str = "settings"
    ) -> None:
        self._total, self._done, self._unit = total, before, unit
        super().__init__(title, unit, total, done=before, plainly=self._count())

    def advance(self, title: str | None = None) -> None:
        """One more setting is done with."""
        super().advance(title)
        self._done += 1
        lines, before = (
            done * _PLAIN_LINES // self._total for done in (self._done, self._done - 1)
        )
        if lines > before and not self.watched:
            self.say(self._count())

    def _count(self) -> str:
        return f"{self._done} of {self._total} {self._unit}"
