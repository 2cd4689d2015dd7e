"""When a peer that its neighbours refuse has nothing left to wait for."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from collections.abc import Set as AbstractSet

from peer.errors import UserError
from peer.events import Event, LinkRefused, RoundStarted
from peer.participant import Participant


class Refusals:
    """Who refuses a peer before anything of another has come to it, in this life or an earlier one.

    A neighbour that differs may be mended and started again, and the others are waited for
    meanwhile. Where all differ, the mistake is most likely here. That they have another experiment
    is believed at once, as their keys vouch for it. That they have other keys may be anybody's
    doing who is between: it ends a peer only when it would begin without any neighbour.

    Args:
        participant: the peer.
        other_keys: the neighbours whose keys are not as the roster says; it may grow.

    Attributes:
        by_all: fails with a UserError when no neighbour is left; otherwise it stays open.
    """

    def __init__(self, participant: Participant, other_keys: AbstractSet[int]) -> None:
        self._participant = participant
        self._other_keys = other_keys
        self._names: dict[int, tuple[str, ...]] = {}
        self.by_all: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def happened(self, event: Event) -> None:
        """Take note of a neighbour that differs, or that the run begins."""
        if self.by_all.done() or self._participant.received:
            return
        match event:
            case LinkRefused(neighbour, names):
                self._names[neighbour] = names
                self._look(self._names)
            case RoundStarted():
                self._look(dict.fromkeys(self._other_keys, ("keys",)) | self._names)

    def _look(self, differing: Mapping[int, tuple[str, ...]]) -> None:
        links = self._participant.links
        # One that has been mended since then has opened its link.
        if any(link.open or neighbour not in differing for neighbour, link in links.items()):
            return
        names = ", ".join(sorted({name for theirs in differing.values() for name in theirs}))
        peers = ", ".join(map(str, sorted(differing)))
        self.by_all.set_exception(
            UserError(
                f"peer {self._participant.me} is refused by all its neighbours ({peers}), which "
                f"differ from it in: {names}"
            )
        )
