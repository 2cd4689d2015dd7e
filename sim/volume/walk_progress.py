"""How far walks over a graph have come."""

from __future__ import annotations

from typing import Self

from peer.live_line import LiveLine


class WalkProgress(LiveLine):
    """Counts origins, from the first one that has been walked on.

    Args:
        title: what is done.
    """

    def __init__(self, title: str) -> None:
        super().__init__(title, "origins", None, plainly=title)
        self._begun = False

    def __enter__(self) -> Self:
        # Nothing is shown yet, for a mistake may be told in place of all this.
        return self

    def walked(self, done: int, total: int) -> None:
        """So many of so many origins have been walked."""
        if not self._begun:
            self._begun = True
            self.start()
        self.show(done, total)
