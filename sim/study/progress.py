"""How far a study has come."""

from __future__ import annotations

from typing import Final

from peer.live_line import LiveLine

_PLAIN_LINES: Final = 20


class StudyProgress(LiveLine):
    """Counts settings; where nobody looks, about each twentieth of them is told.

    Args:
        total: how many settings there are.
        before: how many of them need not be computed.
    """

    def __init__(self, total: int, before: int) -> None:
        self._total, self._done = total, before
        super().__init__("studying", "settings", total, done=before, plainly=self._count())

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
        return f"{self._done} of {self._total} settings"
