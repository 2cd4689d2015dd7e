"""When a peer that its neighbours refuse has nothing left to wait for."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from peer.errors import UserError
from peer.events import EntryAdded, Event, LinkRefused


class Refusals:
    """Who refuses a peer before anything of another has come to it.

    A neighbour that differs may be mended and started again, and the others are waited for
    meanwhile. Where all differ, the mistake is most likely here.

    Args:
        me: the peer.
        neighbours: its neighbours.

    Attributes:
        by_all: fails with a UserError when no neighbour is left; otherwise it stays open.
    """

    def __init__(self, me: int, neighbours: Iterable[int]) -> None:
        self._me = me
        self._neighbours = set(neighbours)
        self._names: dict[int, tuple[str, ...]] = {}
        self._heard = False
        self.by_all: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def happened(self, event: Event) -> None:
        """Take note of a refusal, or that something of another peer has come."""
        match event:
            case LinkRefused(neighbour, names):
                self.refused(neighbour, names)
            case EntryAdded(entry) if entry.origin != self._me:
                self._heard = True

    def refused(self, neighbour: int, names: tuple[str, ...] = ("keys",)) -> None:
        """Take note of a neighbour that differs in these things."""
        self._names[neighbour] = names
        all_do = self._names.keys() == self._neighbours
        if all_do and not self._heard and not self.by_all.done():
            differing = sorted({name for names in self._names.values() for name in names})
            peers = ", ".join(map(str, sorted(self._names)))
            self.by_all.set_exception(
                UserError(
                    f"peer {self._me} is refused by all its neighbours ({peers}), which differ "
                    f"from it in: {', '.join(differing)}"
                )
            )
