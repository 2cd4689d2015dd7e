"""Whether the address under which others know a peer leads to that very peer.

Two peers that were started with one number would both speak under it, and were they to publish
unlike entries, honest peers would take them for one liar. So a peer dials the address that the
roster has for it, under a name that it alone knows, and looks whether that comes in at its own
socket. Where another answers, that one has its place.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Final

import zmq

from peer.errors import UserError
from peer.keys import Security
from peer.zeromq.dealer import Dealer

GRACE: Final = 5.0
"""Seconds in which a peer's own frame comes back to it once there is a connection."""

_LOG: Final = logging.getLogger("kseed")


class Itself:
    """A peer's look for itself.

    Args:
        context: the peer's.
        me: its number.
        address: where the roster says that it listens.
        security: its keys, if links speak CURVE.
        largest: the bytes of a frame that is not read any more.

    Attributes:
        found: see `Transport.look_for_itself`.

    Raises:
        UserError: the address is none.
    """

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        me: int,
        address: str,
        security: Security | None,
        largest: int,
    ) -> None:
        self._me = me
        self._address = address
        self._loop = asyncio.get_running_loop()
        self.found: asyncio.Future[None] = self._loop.create_future()
        self._waiting: asyncio.TimerHandle | None = None
        self._told = False
        rest = (security, largest, self._shaken, self._refused, lambda _drops: None)
        self._dealer = Dealer(context, me, me, address, *rest)

    def heard(self, routing_id: bytes) -> None:
        """Take note of who has spoken under this peer's own number."""
        if routing_id == self._dealer.routing_id:
            if not self.found.done():
                self.found.set_result(None)
            self.close()
        elif not self._told:
            self._told = True
            _LOG.warning("another process was started as peer %d: it is not heard", self._me)

    def close(self) -> None:
        """Look no more."""
        if self._waiting is not None:
            self._waiting.cancel()
        self._dealer.close(linger=0)

    def _shaken(self) -> None:
        # What was under way on an earlier connection may have been lost with it.
        self._dealer.send(b"")
        if self._waiting is not None:
            self._waiting.cancel()
        self._waiting = self._loop.call_later(GRACE, self._taken_by_another)

    def _refused(self) -> None:
        """Whoever is there has other keys: neighbours that have these will not take it for us."""

    def _taken_by_another(self) -> None:
        if not self._dealer.reached:
            # It was about to end, and has left the place to who comes next.
            return
        if not self.found.done():
            self.found.set_exception(
                UserError(
                    f"another process listens at {self._address}, the place of peer {self._me} in "
                    f"the roster: is peer {self._me} running already, on another host?"
                )
            )
        self.close()
