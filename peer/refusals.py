"""When a peer that its neighbours refuse has nothing left to wait for."""

from __future__ import annotations

import asyncio

from peer.errors import UserError
from peer.events import Event, LinkRefused
from peer.participant import Participant


class Refusals:
    """Who refuses a peer before anything of another has come to it, in this life or an earlier one.

    A neighbour that differs may be mended and started again, and the others are waited for
    meanwhile. Where all differ, the mistake is most likely here.

    Args:
        participant: the peer.

    Attributes:
        by_all: fails with a UserError when no neighbour is left; otherwise it stays open.
    """

    def __init__(self, participant: Participant) -> None:
        self._participant = participant
        self._names: dict[int, tuple[str, ...]] = {}
        self.by_all: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def happened(self, event: Event) -> None:
        """Take note of a neighbour that differs."""
        if not isinstance(event, LinkRefused) or self.by_all.done():
            return
        self._names[event.neighbour] = event.names
        links = self._participant.links
        # One that has been mended since then has opened its link.
        all_do = all(n in self._names and not link.open for n, link in links.items())
        if all_do and not self._participant.received:
            differing = sorted({name for names in self._names.values() for name in names})
            peers = ", ".join(map(str, sorted(self._names)))
            self.by_all.set_exception(
                UserError(
                    f"peer {self._participant.me} is refused by all its neighbours ({peers}), "
                    f"which differ from it in: {', '.join(differing)}"
                )
            )
