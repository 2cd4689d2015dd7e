"""The sockets of one peer: the only file that imports zmq.

One bound ROUTER receives; one DEALER per neighbour sends, so that a slow neighbour fills only its
own queue. A message is one frame. ROUTER drops silently what it cannot route, so nothing is sent
on it.

A DEALER's routing id is `<peer>/<nonce>`: the peer's number names the sender, the nonce is new with
every DEALER. With the number alone, a peer that comes back before its neighbour has read the old
connection to its end would be a duplicate to the ROUTER, and never be heard again. As only the
neighbour that is dialled learns the nonce, a connection can only be taken over by the same socket's
next one, so the ROUTER hands over.

With CURVE a connection is let in if its key is in the roster (ZAP). The key says who speaks; a
message under another's number is dropped, and who sent it is named. Without CURVE links are not
authenticated: whoever reaches the address can speak as any neighbour.

What strangers and neighbours gone bad can hold back in memory is limited by `peer.connections`.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import struct
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import Final, TypeAlias

import zmq
import zmq.asyncio

from peer.addresses import LOOPBACK, check_address
from peer.connections import OUTSTANDING, RECEIVE_QUEUE, Connections
from peer.descriptors import need_descriptors
from peer.errors import UserError
from peer.keys import Security
from peer.wire import FRAME_LIMIT
from peer.zmtp import ROUTING_ID_BYTES, framing_bytes

SEND_QUEUE: Final = 1000
"""Frames that wait for a neighbour; past these they are dropped, and repaired by the protocol."""

LINGER: Final = 1.0
"""Seconds that `close` gives to what has not been sent yet."""

RECONNECT: Final = (0.1, 3.0)
"""Seconds before the first and at most before a later attempt to reach a neighbour."""

KEEPALIVE: Final = (30, 10, 3)
"""TCP's own probes: after so many seconds of silence, so many seconds apart, so many of them."""

GARBAGE: Final = 64
"""Messages that a neighbour may send, as its key tells, which are not one frame from itself."""

HANDSHAKE: Final = 10.0
"""Seconds in which a connection has to introduce itself."""

WATCH: Final = 0.02
"""Seconds from the first byte that comes to a look at what connections hold back."""

SLICE: Final = 100
"""Events that are followed at a stretch: strangers can make many."""

BACKLOG: Final = 1024
"""Connections that wait in the kernel to be accepted."""

SOCKETS: Final = 2**14
"""Sockets of a process: three for each neighbour."""

DESCRIPTORS: Final = 16
"""Open files that a transport takes, without its neighbours."""

DESCRIPTORS_PER_NEIGHBOUR: Final = 5
"""A socket, its two monitors' ends, and a connection in each direction."""

_NUMBER_DIGITS: Final = 6
_NONCE_BYTES: Final = (ROUTING_ID_BYTES - _NUMBER_DIGITS - 1) // 2
_ZAP: Final = "inproc://zeromq.zap.01"
_ZAP_DOMAIN: Final = b"kseed"
_EVENT: Final = struct.Struct("=Hi")
_SHAKEN: Final = zmq.EVENT_HANDSHAKE_SUCCEEDED
_REFUSED: Final = zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL | zmq.EVENT_HANDSHAKE_FAILED_AUTH
_LOG: Final = logging.getLogger("kseed")

OnHandshake: TypeAlias = Callable[[int, bool], None]
_Socket: TypeAlias = "zmq.Socket[bytes] | zmq.asyncio.Socket"


class Transport:
    """One peer's sockets, to be used inside a running event loop.

    Args:
        me: this peer's number.
        address: where to listen: `tcp://interface:port`, where a port `*` takes a free one, or
            `ipc://path`.
        security: speak CURVE with these keys; None: speak NULL.
        largest: the bytes of a frame past which its connection is ended, unread.

    Attributes:
        endpoint: where it listens in fact.
        garbage: how many messages came that were not one frame from a neighbour.
        guilty: how many of these came from whom, as far as keys tell.
        dropped: how many frames did not find room in the queue to each neighbour.
        banned: neighbours that are disconnected for good, and why.

    Raises:
        UserError: it cannot listen there, or there are too few file descriptors.
    """

    def __init__(
        self,
        me: int,
        address: str = LOOPBACK,
        security: Security | None = None,
        largest: int = FRAME_LIMIT,
    ) -> None:
        self._largest = largest
        self.garbage = 0
        self.guilty: Counter[int] = Counter()
        self.dropped: Counter[int] = Counter()
        self.banned: dict[int, str] = {}
        self._me = me
        self._security = security
        self._numbers: dict[bytes, int] = {}
        self._dealers: dict[int, zmq.Socket[bytes]] = {}
        self._on_handshake: OnHandshake = lambda _neighbour, _dialled: None
        self._connections = Connections(
            curve=security is not None, tcp=address.startswith("tcp://")
        )
        self._look_ahead: asyncio.TimerHandle | None = None
        # libzmq aborts the process where these fail it.
        need_descriptors(DESCRIPTORS)
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._context.set(zmq.MAX_SOCKETS, SOCKETS)
        self._loop = asyncio.get_running_loop()
        self._ears: list[_Ear] = []
        # Receiving waits in the event loop; sending never waits, so plain sockets do for it.
        self._router = zmq.asyncio.Socket(self._context, zmq.ROUTER)
        try:
            events = zmq.EVENT_ACCEPTED | zmq.EVENT_DISCONNECTED
            self._monitor = self._watch_over(self._router, self._happened, events)
            self._configure(self._router)
            self._router.set(zmq.ROUTER_HANDOVER, 1)
            self._router.set(zmq.BACKLOG, BACKLOG)
            if security is not None:
                self._ask_for_keys(security)
            check_address(address)
            self._router.bind(address)
        except (zmq.ZMQError, UserError) as error:
            self._close_sockets()
            self._context.term()
            taken = isinstance(error, zmq.ZMQError) and error.errno == zmq.EADDRINUSE
            who = ", maybe by another peer with this index" if taken else ""
            raise UserError(f"cannot listen on {address}: {error}{who}") from None
        self.endpoint = self._router.get_string(zmq.LAST_ENDPOINT)
        if self._connections.arrivals is not None:
            self._loop.add_reader(self._connections.arrivals, self._arrived)

    def connect(
        self, addresses: Mapping[int, str], on_handshake: OnHandshake | None = None
    ) -> None:
        """Open a socket to each neighbour; one that is not there yet is tried again.

        Args:
            addresses: neighbour -> where it listens.
            on_handshake: called with (neighbour, dialled) when a connection has been made that this
                peer has dialled, and when the first message has come over one that it has answered.

        Raises:
            UserError: an address is none, or there are too few file descriptors.
        """
        self._on_handshake = on_handshake or self._on_handshake
        need_descriptors(DESCRIPTORS_PER_NEIGHBOUR * len(addresses))
        for neighbour, address in addresses.items():
            assert neighbour not in self._dealers, "a neighbour has one socket"
            dealer = self._context.socket(zmq.DEALER)
            self._dealers[neighbour] = dealer
            self._watch_over(dealer, partial(self._dialled, neighbour), _SHAKEN | _REFUSED)
            self._configure(dealer)
            dealer.set(zmq.ROUTING_ID, _routing_id(self._me))
            try:
                if self._security is not None:
                    _introduce(dealer, self._security, neighbour)
                check_address(address)
                dealer.connect(address)
            except (zmq.ZMQError, UserError) as error:
                raise UserError(
                    f"cannot connect to peer {neighbour} at {address}: {error}"
                ) from None
            self._numbers[_number(neighbour)] = neighbour
        self._connections.expected = len(self._dealers)

    def send(self, neighbour: int, frame: bytes) -> bool:
        """Hand a frame to a neighbour's socket; return False if it is full, or closed by a ban."""
        if neighbour in self.banned:
            return False
        try:
            self._dealers[neighbour].send(frame, zmq.DONTWAIT)
        except zmq.Again:
            self.dropped[neighbour] += 1
            return False
        return True

    @property
    def unheard(self) -> int:
        """How many connections ended before a message had come over them, as strangers' do."""
        return self._connections.unheard

    async def receive(self) -> tuple[int, bytes]:
        """Wait for the next (neighbour, frame); what is not of this form is counted and dropped."""
        while True:
            message = await self._router.recv_multipart(copy=False)
            taken = self._take(*message)
            if taken is not None:
                return taken
            # What has come already is read without a pause, so a flood would hold up the loop.
            await asyncio.sleep(0)

    def ban(self, neighbour: int, reason: str) -> None:
        """End all connections with a neighbour, and take nothing from it any more.

        With CURVE its key is not let in again. Without, whoever speaks under its number is cut off.
        """
        if neighbour not in self.banned:
            self.banned[neighbour] = reason
            if neighbour in self._dealers:
                self._dealers[neighbour].close(linger=0)
            self._connections.shut(neighbour)

    async def close(self) -> None:
        """Close all sockets, giving what was sent a bounded time to leave."""
        self._close_sockets()
        # This waits for the linger of the slowest neighbour.
        await asyncio.to_thread(self._context.term)

    def _take(self, routing_id: zmq.Frame, *frames: zmq.Frame) -> tuple[int, bytes] | None:
        """Return (neighbour, frame) if a message is that, and count it otherwise."""
        claimed = self._numbers.get(routing_id.bytes.partition(b"/")[0])
        curve = self._security is not None
        speaker, admission = claimed, None
        if curve:
            speaker, admission = map(int, str(routing_id.get("User-Id")).split("/"))
        descriptor = routing_id.get(zmq.SRCFD)
        assert isinstance(descriptor, int)
        if not self._connections.knows(descriptor):
            self._monitor.listen()
        size = sum(len(frame) + framing_bytes(len(frame), curve=curve) for frame in frames)
        new = self._connections.heard(descriptor, speaker, admission, size)
        if speaker is not None and speaker in self.banned:
            self._connections.shut(speaker)
            return None
        if new and speaker is not None and speaker in self._dealers:
            self._on_handshake(speaker, False)
        if claimed is not None and claimed == speaker and len(frames) == 1:
            return claimed, frames[0].bytes
        self.garbage += 1
        if curve and speaker is not None:
            self.guilty[speaker] += 1
            if self.guilty[speaker] > GARBAGE:
                self.ban(speaker, "sent what is not one frame under its own number")
        return None

    def _happened(self, event: int, value: int) -> None:
        """Follow what happens to connections that were accepted."""
        if event == zmq.EVENT_ACCEPTED:
            self._connections.accepted(value)
        else:
            self._connections.ended(value)

    def _dialled(self, neighbour: int, event: int, _value: int) -> None:
        if event == _SHAKEN:
            self._on_handshake(neighbour, True)
        elif neighbour not in self.banned:
            # libzmq does not try again after this.
            _LOG.warning("peer %d and peer %d have other keys of one another", self._me, neighbour)

    def _arrived(self) -> None:
        self._connections.note_arrivals()
        if self._look_ahead is None:
            self._look_ahead = self._loop.call_later(WATCH, self._look)

    def _look(self) -> None:
        self._look_ahead = None
        self._monitor.listen()
        for neighbour in self._connections.end_costly():
            self.ban(neighbour, f"held back {OUTSTANDING:,} bytes of unfinished messages")

    def _admit(self, owners: Mapping[bytes, int], request: list[bytes]) -> None:
        """Answer whether a key is let in (ZAP 1.0, RFC 27)."""
        self._monitor.listen()
        version, number, _domain, _address, _routing_id, _mechanism, *credentials = request
        peer = owners.get(credentials[0]) if len(credentials) == 1 else None
        if peer is None or peer == self._me or peer in self.banned:
            verdict = [b"400", b"unknown key", b"", b""]
        else:
            user = f"{peer}/{self._connections.admit(peer)}"
            verdict = [b"200", b"OK", user.encode(), b""]
        self._zap.socket.send_multipart([version, number, *verdict])

    def _ask_for_keys(self, security: Security) -> None:
        """Let in over the ROUTER who has a key of the roster."""
        owners = {key: peer for peer, key in enumerate(security.public.curve)}
        zap = self._context.socket(zmq.REP)
        self._zap = self._hear(zap, partial(self._admit, owners))
        zap.bind(_ZAP)
        self._router.set(zmq.CURVE_SERVER, 1)
        self._router.set(zmq.CURVE_SECRETKEY, security.secret.curve)
        self._router.set(zmq.ZAP_DOMAIN, _ZAP_DOMAIN)
        self._router.set(zmq.ZAP_ENFORCE_DOMAIN, 1)

    def _watch_over(
        self, socket: _Socket, happened: Callable[[int, int], None], events: int
    ) -> _Ear:
        """Have a function called with (event, value) for each of these events of a socket."""
        address = f"inproc://events-{len(self._ears)}"
        socket.monitor(address, events)
        pair = self._context.socket(zmq.PAIR)
        # With a full queue the thread that serves all sockets would wait for this one.
        pair.set(zmq.RCVHWM, 0)
        pair.connect(address)
        return self._hear(pair, lambda frames: happened(*_EVENT.unpack(frames[0])))

    def _hear(self, socket: zmq.Socket[bytes], take: Callable[[list[bytes]], None]) -> _Ear:
        ear = _Ear(self._loop, socket, take)
        self._ears.append(ear)
        return ear

    def _close_sockets(self) -> None:
        if self._router.closed:
            return
        for ear in self._ears:
            ear.listen()
        for socket in (*self._dealers.values(), self._router):
            if not socket.closed:
                socket.disable_monitor()
                socket.close()
        for ear in self._ears:
            ear.close()
        if self._look_ahead is not None:
            self._look_ahead.cancel()
        if self._connections.arrivals is not None:
            self._loop.remove_reader(self._connections.arrivals)
            self._connections.close()

    def _configure(self, socket: _Socket) -> None:
        """Set what both kinds of socket share."""
        shortest, longest = RECONNECT
        idle, interval, probes = KEEPALIVE
        plain, sealed = (framing_bytes(self._largest, curve=curve) for curve in (False, True))
        options = {
            zmq.LINGER: round(1000 * LINGER),
            zmq.SNDHWM: SEND_QUEUE,
            zmq.RCVHWM: RECEIVE_QUEUE,
            zmq.MAXMSGSIZE: self._largest + (sealed - plain if self._security is not None else 0),
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


class _Ear:
    """Takes what a plain socket receives, from the event loop and in order."""

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
        if not self.socket.closed:
            self._loop.remove_reader(self._descriptor)
            self.socket.close(linger=0)


def _number(peer: int) -> bytes:
    return b"%0*d" % (_NUMBER_DIGITS, peer)


def _routing_id(peer: int) -> bytes:
    """Return a new name for a DEALER, of the same length for every peer."""
    return _number(peer) + b"/" + secrets.token_hex(_NONCE_BYTES).encode()


def _introduce(dealer: zmq.Socket[bytes], security: Security, neighbour: int) -> None:
    dealer.set(zmq.CURVE_SERVERKEY, security.public.curve[neighbour])
    dealer.set(zmq.CURVE_SECRETKEY, security.secret.curve)
    dealer.set(zmq.CURVE_PUBLICKEY, security.secret.public_curve)
