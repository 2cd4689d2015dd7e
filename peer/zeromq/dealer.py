"""The socket to one peer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import count
from typing import Final

import zmq

from peer.addresses import check_address
from peer.errors import UserError
from peer.keys import Security
from peer.zeromq import sockets
from peer.zeromq.sockets import Ear, configure, introduce, monitored, routing_id

_NAMES: Final = count()


class Dealer:
    """Sends to one peer; what it is given waits for as long as that peer is not there.

    A peer with other keys is dialled again, too: whoever has made the mistake may mend it. libzmq
    gives up at the first refusal, so that takes another socket.

    Args:
        context: the peer's own.
        me: its number.
        peer: whom to send to.
        address: where that one listens.
        security: speak CURVE with these keys; None: speak NULL.
        largest: the bytes of a frame that is not read any more.
        shaken: called when a connection has been made.
        refused: called when one has not, since this peer's key is not known there.
        dropped: called when one has not, without a word, with how often that was so in turn.

    Attributes:
        routing_id: the name that it speaks under.
        reached: whether there is a connection.

    Raises:
        UserError: the address is none.
    """

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        me: int,
        peer: int,
        address: str,
        security: Security | None,
        largest: int,
        shaken: Callable[[], None],
        refused: Callable[[], None],
        dropped: Callable[[int], None],
    ) -> None:
        self._context = context
        self._me = me
        self._peer = peer
        self._address = address
        self._security = security
        self._largest = largest
        self._shaken = shaken
        self._refused = refused
        self._dropped = dropped
        self._drops = 0
        self._loop = asyncio.get_running_loop()
        self._redialling: asyncio.TimerHandle | None = None
        self.routing_id = b""
        self.reached = False
        try:
            check_address(address)
            self._dial()
        except (zmq.ZMQError, UserError) as error:
            raise UserError(f"cannot connect to peer {peer} at {address}: {error}") from None

    def send(self, frame: bytes) -> bool:
        """Hand a frame over; return False if there is no room, or nobody to send to any more."""
        if self._socket.closed:
            return False
        try:
            self._socket.send(frame, zmq.DONTWAIT)
        except zmq.Again:
            return False
        return True

    def listen(self) -> None:
        """Follow what has happened to the connection so far."""
        self._ear.listen()

    def close(self, linger: int | None = None) -> None:
        """Send no more.

        Args:
            linger: milliseconds for what has not left yet; None: as all sockets have.
        """
        if self._redialling is not None:
            self._redialling.cancel()
        if not self._socket.closed:
            self._socket.disable_monitor()
            self._socket.close(linger)
            self._ear.close()

    def _dial(self) -> None:
        self._socket = self._context.socket(zmq.DEALER)
        events = sockets.SHAKEN | sockets.LOST | sockets.REFUSED | sockets.DROPPED
        watch = monitored(self._context, self._socket, events, f"{self._me}-{next(_NAMES)}")
        self._ear = Ear(self._loop, watch, self._happened)
        try:
            configure(self._socket, self._largest, curve=self._security is not None)
            self.routing_id = routing_id(self._me)
            self._socket.set(zmq.ROUTING_ID, self.routing_id)
            if self._security is not None:
                introduce(self._socket, self._security, self._peer)
            self._socket.connect(self._address)
        except zmq.ZMQError:
            self.close(linger=0)
            raise

    def _happened(self, frames: list[bytes]) -> None:
        kind, _ = sockets.event(frames)
        if kind == sockets.SHAKEN:
            self._drops = 0
            self.reached = True
            self._shaken()
            return
        if kind == sockets.LOST:
            self.reached = False
            return
        if kind == sockets.DROPPED:
            # Here libzmq tries again by itself.
            self._drops += 1
            self._dropped(self._drops)
            return
        self._refused()
        _, longest = sockets.RECONNECT
        if not self._socket.closed and self._redialling is None:
            self._redialling = self._loop.call_later(longest, self._redial)

    def _redial(self) -> None:
        self._redialling = None
        self.close(linger=0)
        self._dial()
