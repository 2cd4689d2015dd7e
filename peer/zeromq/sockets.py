"""The options, names and monitors that a peer's sockets share."""

from __future__ import annotations

import asyncio
import secrets
import struct
from collections.abc import Callable
from contextlib import suppress
from typing import Final, TypeAlias

import zmq
import zmq.asyncio

from peer.connections import RECEIVE_QUEUE
from peer.keys import Security
from peer.zmtp import ROUTING_ID_BYTES, framing_bytes

SEND_QUEUE: Final = 1000
"""Frames that wait for a neighbour; past these they are dropped, and repaired by the protocol."""

LINGER: Final = 1.0
"""Seconds that `close` gives to what has not been sent yet."""

RECONNECT: Final = (0.1, 3.0)
"""Seconds before the first and at most before a later attempt to reach a neighbour."""

KEEPALIVE: Final = (30, 10, 3)
"""TCP's own probes: after so many seconds of silence, so many seconds apart, so many of them."""

HANDSHAKE: Final = 10.0
"""Seconds in which a connection has to introduce itself."""

SLICE: Final = 100
"""Events that are followed at a stretch: strangers can make many."""

SHAKEN: Final = zmq.EVENT_HANDSHAKE_SUCCEEDED
LOST: Final = zmq.EVENT_DISCONNECTED
REFUSED: Final = zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL | zmq.EVENT_HANDSHAKE_FAILED_AUTH
DROPPED: Final = zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL

_NUMBER_DIGITS: Final = 6
_NONCE_BYTES: Final = (ROUTING_ID_BYTES - _NUMBER_DIGITS - 1) // 2
_EVENT: Final = struct.Struct("=Hi")

Socket: TypeAlias = "zmq.Socket[bytes] | zmq.asyncio.Socket"


def configure(socket: Socket, largest: int, *, curve: bool) -> None:
    """Set what all sockets of a peer share.

    Args:
        socket: to be set before it is bound or connected.
        largest: the bytes of a frame past which its connection is ended, unread.
        curve: whether it speaks CURVE.
    """
    shortest, longest = RECONNECT
    idle, interval, probes = KEEPALIVE
    plain, sealed = (framing_bytes(largest, curve=sealed) for sealed in (False, True))
    options = {
        zmq.LINGER: round(1000 * LINGER),
        zmq.SNDHWM: SEND_QUEUE,
        zmq.RCVHWM: RECEIVE_QUEUE,
        zmq.MAXMSGSIZE: largest + (sealed - plain if curve else 0),
        zmq.HANDSHAKE_IVL: round(1000 * HANDSHAKE),
        zmq.RECONNECT_IVL: round(1000 * shortest),
        zmq.RECONNECT_IVL_MAX: round(1000 * longest),
        # A machine that has vanished says no good-bye, and nothing is sent on the ROUTER that
        # would find out.
        zmq.TCP_KEEPALIVE: 1,
        zmq.TCP_KEEPALIVE_IDLE: idle,
        zmq.TCP_KEEPALIVE_INTVL: interval,
        zmq.TCP_KEEPALIVE_CNT: probes,
    }
    for option, value in options.items():
        socket.set(option, value)


def introduce(dealer: zmq.Socket[bytes], security: Security, peer: int) -> None:
    """Let a DEALER speak CURVE with a peer of the roster."""
    dealer.set(zmq.CURVE_SERVERKEY, security.public.curve[peer])
    dealer.set(zmq.CURVE_SECRETKEY, security.secret.curve)
    dealer.set(zmq.CURVE_PUBLICKEY, security.secret.public_curve)


def numbered(peer: int) -> bytes:
    """Return how the routing ids of a peer's DEALERs begin, before the slash."""
    return b"%0*d" % (_NUMBER_DIGITS, peer)


def routing_id(peer: int) -> bytes:
    """Return a new name for a DEALER, of the same length for every peer."""
    return numbered(peer) + b"/" + secrets.token_hex(_NONCE_BYTES).encode()


class Ear:
    """Takes what a plain socket receives, from the event loop and in order.

    Args:
        loop: the event loop.
        socket: to be heard.
        take: called with the frames of each message.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        socket: zmq.Socket[bytes],
        take: Callable[[list[bytes]], None],
    ) -> None:
        self.socket = socket
        self._loop = loop
        self._take = take
        self._descriptor = int(socket.get(zmq.FD))
        loop.add_reader(self._descriptor, self.listen)
        # The descriptor tells only what comes after everything has been read.
        self._rest = loop.call_soon(self.listen)

    def listen(self) -> None:
        """Take what has come so far; if that is much, the rest a little later."""
        if self.socket.closed:
            return
        with suppress(zmq.Again):
            for _ in range(SLICE):
                self._take(self.socket.recv_multipart(zmq.DONTWAIT))
            self._rest.cancel()
            self._rest = self._loop.call_soon(self.listen)

    def close(self) -> None:
        """Hear no more, and close the socket."""
        if not self.socket.closed:
            self._loop.remove_reader(self._descriptor)
            self.socket.close(linger=0)


def monitored(
    context: zmq.Context[zmq.Socket[bytes]], socket: Socket, events: int, name: str
) -> zmq.Socket[bytes]:
    """Return a socket that receives the events of another, each of which `event` reads.

    Args:
        context: of both.
        socket: to be watched.
        events: which of its events.
        name: which nothing else watched in this context has.
    """
    address = f"inproc://events-{name}"
    socket.monitor(address, events)
    pair = context.socket(zmq.PAIR)
    # With a full queue the thread that serves all sockets would wait for this one.
    pair.set(zmq.RCVHWM, 0)
    pair.connect(address)
    return pair


def event(frames: list[bytes]) -> tuple[int, int]:
    """Return (event, value) of what a monitor says."""
    kind, value = _EVENT.unpack(frames[0])
    return kind, value
