"""How a new entry spreads. A mode answers one question: to whom is it pushed at once?"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Protocol


class Dissemination(Protocol):
    """A mode of spreading entries over the open links."""

    def push_to(self, origin: int, sender: int | None, neighbours: Iterable[int]) -> list[int]:
        """Return the neighbours that get a new entry of `origin`, `sender` having brought it."""


class Flood:
    """Forward what is new to everybody but its sender.

    Every peer sends every entry over each of its links but one, the origin over all of its. On a
    graph of N peers and E edges this makes 2E - N + 1 sends, whatever the order of arrival.
    """

    def push_to(self, origin: int, sender: int | None, neighbours: Iterable[int]) -> list[int]:
        """Return all neighbours but the sender."""
        del origin
        return [neighbour for neighbour in neighbours if neighbour != sender]


MODES: Final[dict[str, type[Dissemination]]] = {"flood": Flood}
"""The modes by the names that users give them."""
