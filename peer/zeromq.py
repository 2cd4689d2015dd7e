"""The sockets of one peer: the only file that imports zmq.

One bound ROUTER receives; one DEALER per neighbour sends, so that a slow neighbour fills only its
own queue. A message is one frame. ROUTER drops silently what it cannot route, so nothing is sent
on it.

A DEALER's routing id is `<peer>/<nonce>`: the peer's number names the sender, the nonce is new with
every process. With the number alone, a peer that comes back before its neighbour has read the old
connection to its end would be a duplicate to the ROUTER, and never be heard again. As nobody else
knows the nonce, a connection can only be taken over by the same socket's next one.

What this does not keep out: links are not authenticated, so whoever can reach the address can speak
as any neighbour. libzmq limits the size of a frame but not the number of frames in a message, and
holds a message back until its last frame is there, so one sender can fill this process's memory
until the connection or the process ends. Listen where only peers can connect.
"""

from __future__ import annotations

import asyncio
import re
import secrets
from collections import Counter
from collections.abc import Mapping
from typing import Final

import zmq
import zmq.asyncio

from peer.errors import UserError
from peer.wire import FRAME_LIMIT

LOOPBACK: Final = "tcp://127.0.0.1:*"
"""Any free port of this machine, reachable from this machine only."""

SEND_QUEUE: Final = 1000
"""Frames that wait for a neighbour; past these they are dropped, and repaired by the protocol."""

RECEIVE_QUEUE: Final = 100
"""Frames of at most FRAME_LIMIT bytes that wait per connection before the sender has to."""

LINGER: Final = 1.0
"""Seconds that `close` gives to what has not been sent yet."""

RECONNECT: Final = (0.1, 3.0)
"""Seconds before the first and at most before a later attempt to reach a neighbour."""

KEEPALIVE: Final = (30, 10, 3)
"""TCP's own probes: after so many seconds of silence, so many seconds apart, so many of them."""

_ADDRESS: Final = re.compile(r"ipc://\S+|tcp://\S+:(?:\*|([0-9]{1,5}))")
_PORTS: Final = 2**16
_NONCE_BYTES: Final = 8


class Transport:
    """One peer's sockets, to be used inside a running event loop.

    Args:
        me: this peer's number.
        address: where to listen: `tcp://interface:port`, where a port `*` takes a free one, or
            `ipc://path`.

    Attributes:
        endpoint: where it listens in fact.
        garbage: how many messages came that were not one frame from a neighbour.
        dropped: how many frames did not find room in the queue to each neighbour.

    Raises:
        UserError: it cannot listen there.
    """

    def __init__(self, me: int, address: str = LOOPBACK) -> None:
        self.garbage = 0
        self.dropped: Counter[int] = Counter()
        self._routing_id = f"{me}/{secrets.token_hex(_NONCE_BYTES)}".encode()
        self._numbers: dict[bytes, int] = {}
        self._dealers: dict[int, zmq.Socket[bytes]] = {}
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        # Receiving waits in the event loop; sending never waits, so plain sockets do for it.
        self._router = zmq.asyncio.Socket(self._context, zmq.ROUTER)
        try:
            self._configure(self._router)
            self._router.set(zmq.ROUTER_HANDOVER, 1)
            _check(address)
            self._router.bind(address)
        except (zmq.ZMQError, UserError) as error:
            self._router.close()
            self._context.term()
            raise UserError(f"cannot listen on {address}: {error}") from None
        self.endpoint = self._router.get_string(zmq.LAST_ENDPOINT)

    def connect(self, addresses: Mapping[int, str]) -> None:
        """Open a socket to each neighbour; one that is not there yet is tried again.

        Args:
            addresses: neighbour -> where it listens.

        Raises:
            UserError: an address is none.
        """
        for neighbour, address in addresses.items():
            assert neighbour not in self._dealers, "a neighbour has one socket"
            dealer = self._context.socket(zmq.DEALER)
            self._dealers[neighbour] = dealer
            self._configure(dealer)
            dealer.set(zmq.ROUTING_ID, self._routing_id)
            try:
                _check(address)
                dealer.connect(address)
            except (zmq.ZMQError, UserError) as error:
                raise UserError(
                    f"cannot connect to peer {neighbour} at {address}: {error}"
                ) from None
            self._numbers[str(neighbour).encode()] = neighbour

    def send(self, neighbour: int, frame: bytes) -> bool:
        """Hand a frame to a neighbour's socket; return False if its queue is full."""
        try:
            self._dealers[neighbour].send(frame, zmq.DONTWAIT)
        except zmq.Again:
            self.dropped[neighbour] += 1
            return False
        return True

    async def receive(self) -> tuple[int, bytes]:
        """Wait for the next (neighbour, frame); what is not of this form is counted and dropped."""
        while True:
            routing_id, *frames = await self._router.recv_multipart()
            neighbour = self._numbers.get(routing_id.partition(b"/")[0])
            if neighbour is not None and len(frames) == 1:
                return neighbour, frames[0]
            self.garbage += 1
            # What has come already is read without a pause, so a flood would hold up the loop.
            await asyncio.sleep(0)

    async def close(self) -> None:
        """Close all sockets, giving what was sent a bounded time to leave."""
        for socket in (*self._dealers.values(), self._router):
            socket.close()
        # This waits for the linger of the slowest neighbour.
        await asyncio.to_thread(self._context.term)

    def _configure(self, socket: zmq.Socket[bytes] | zmq.asyncio.Socket) -> None:
        """Set what both kinds of socket share."""
        shortest, longest = RECONNECT
        idle, interval, probes = KEEPALIVE
        options = {
            zmq.LINGER: round(1000 * LINGER),
            zmq.SNDHWM: SEND_QUEUE,
            zmq.RCVHWM: RECEIVE_QUEUE,
            zmq.MAXMSGSIZE: FRAME_LIMIT,
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


def _check(address: str) -> None:
    match = _ADDRESS.fullmatch(address)
    # libzmq takes the remainder of a port that is too large.
    if match is None or int(match[1] or 0) >= _PORTS:
        raise UserError("an address is tcp://host:port or ipc://path")
