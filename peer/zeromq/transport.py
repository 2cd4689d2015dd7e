"""The sockets of one peer.

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
from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from typing import Final, TypeAlias

import zmq
import zmq.asyncio

from peer.addresses import LOOPBACK, check_address
from peer.connections import OUTSTANDING, Connections
from peer.descriptors import need_descriptors
from peer.errors import UserError
from peer.keys import Security
from peer.wire import FRAME_LIMIT
from peer.zeromq import sockets
from peer.zeromq.dealer import Dealer
from peer.zeromq.itself import Itself
from peer.zeromq.paths import check_path
from peer.zeromq.sockets import Ear, configure, monitored, numbered
from peer.zmtp import framing_bytes

GARBAGE: Final = 64
"""Messages that a neighbour may send, as its key tells, which are not one frame from itself."""

WATCH: Final = 0.02
"""Seconds from the first byte that comes to a look at what connections hold back."""

BACKLOG: Final = 1024
"""Connections that wait in the kernel to be accepted."""

SOCKETS: Final = 2**14
"""Sockets of a process: three for each neighbour."""

DESCRIPTORS: Final = 16
"""Open files that a transport takes, without its neighbours."""

DESCRIPTORS_PER_NEIGHBOUR: Final = 5
"""A socket, its two monitors' ends, and a connection in each direction."""

DROPS: Final = 3
"""Attempts that a neighbour ends without a word, in turn, before its keys are put in question."""

_ZAP: Final = "inproc://zeromq.zap.01"
_ZAP_DOMAIN: Final = b"kseed"
_LOG: Final = logging.getLogger("kseed")

OnHandshake: TypeAlias = Callable[[int, bool], None]


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
        other_keys: neighbours that could not be reached as their keys are not as expected.

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
        self._dealers: dict[int, Dealer] = {}
        self._itself: Itself | None = None
        self._on_handshake: OnHandshake = lambda _neighbour, _dialled: None
        self.other_keys: set[int] = set()
        self._misdialled = False
        self._connections = Connections(
            curve=security is not None, tcp=address.startswith("tcp://")
        )
        self._look_ahead: asyncio.TimerHandle | None = None
        self._zap: Ear | None = None
        # libzmq aborts the process where these fail it.
        need_descriptors(DESCRIPTORS)
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._context.set(zmq.MAX_SOCKETS, SOCKETS)
        self._loop = asyncio.get_running_loop()
        # Receiving waits in the event loop; sending never waits, so plain sockets do for it.
        self._router = zmq.asyncio.Socket(self._context, zmq.ROUTER)
        try:
            events = zmq.EVENT_ACCEPTED | zmq.EVENT_DISCONNECTED | sockets.REFUSED
            watch = monitored(self._context, self._router, events, "router")
            self._monitor = Ear(self._loop, watch, self._happened)
            configure(self._router, largest, curve=security is not None)
            self._router.set(zmq.ROUTER_HANDOVER, 1)
            self._router.set(zmq.BACKLOG, BACKLOG)
            if security is not None:
                self._ask_for_keys(security)
            check_address(address)
            check_path(address)
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
        self,
        addresses: Mapping[int, str],
        on_handshake: OnHandshake | None = None,
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
            self._dealers[neighbour] = Dealer(
                self._context,
                self._me,
                neighbour,
                address,
                self._security,
                self._largest,
                partial(self._on_handshake, neighbour, True),
                partial(self._refused, neighbour),
                partial(self._dropped, neighbour),
            )
            self._numbers[numbered(neighbour)] = neighbour
        self._connections.expected = len(self._dealers)

    def look_for_itself(self, address: str) -> asyncio.Future[None]:
        """Find out who listens where this peer's neighbours look for it.

        Args:
            address: as the roster has it.

        Returns:
            Done when it has found itself there; fails with a UserError when there is another peer
            of its number. As long as nobody can be reached there it stays open.

        Raises:
            UserError: the address is none, or there are too few file descriptors.
        """
        assert self._itself is None, "it looks once"
        need_descriptors(DESCRIPTORS_PER_NEIGHBOUR)
        self._itself = Itself(self._context, self._me, address, self._security, self._largest)
        return self._itself.found

    def send(self, neighbour: int, frame: bytes) -> bool:
        """Hand a frame to a neighbour's socket; return False if it is full, or closed by a ban."""
        if neighbour in self.banned:
            return False
        if not self._dealers[neighbour].send(frame):
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
        number = routing_id.bytes.partition(b"/")[0]
        claimed = self._numbers.get(number)
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
        mine = number == numbered(self._me) and (not curve or speaker == self._me)
        if mine and self._itself is not None:
            self._itself.heard(routing_id.bytes)
            return None
        self.garbage += 1
        if curve and speaker is not None:
            self.guilty[speaker] += 1
            if self.guilty[speaker] > GARBAGE:
                self.ban(speaker, "sent what is not one frame under its own number")
        return None

    def _happened(self, frames: list[bytes]) -> None:
        """Follow what happens to connections that were accepted."""
        event, value = sockets.event(frames)
        if event == zmq.EVENT_ACCEPTED:
            self._connections.accepted(value)
        elif event == zmq.EVENT_DISCONNECTED:
            self._connections.ended(value)
        else:
            self._misdialled = True

    def _refused(self, neighbour: int) -> None:
        # Anybody at its address can say so, or nothing, so it is no proof.
        if neighbour not in self.banned and neighbour not in self.other_keys:
            self.other_keys.add(neighbour)
            _LOG.warning("peer %d and peer %d have other keys of one another", self._me, neighbour)

    def _dropped(self, neighbour: int, drops: int) -> None:
        # Who takes us for a stranger hangs up without a word, as does a tunnel with nobody at its
        # end. But the one dials here with keys that do not fit either.
        if drops >= DROPS and self._misdialled:
            self._refused(neighbour)

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
        stranger = peer == self._me and self._itself is None
        if peer is None or stranger or peer in self.banned:
            verdict = [b"400", b"unknown key", b"", b""]
        else:
            user = f"{peer}/{self._connections.admit(peer)}"
            verdict = [b"200", b"OK", user.encode(), b""]
        assert self._zap is not None
        self._zap.socket.send_multipart([version, number, *verdict])

    def _ask_for_keys(self, security: Security) -> None:
        """Let in over the ROUTER who has a key of the roster."""
        owners = {key: peer for peer, key in enumerate(security.public.curve)}
        zap = self._context.socket(zmq.REP)
        self._zap = Ear(self._loop, zap, partial(self._admit, owners))
        zap.bind(_ZAP)
        self._router.set(zmq.CURVE_SERVER, 1)
        self._router.set(zmq.CURVE_SECRETKEY, security.secret.curve)
        self._router.set(zmq.ZAP_DOMAIN, _ZAP_DOMAIN)
        self._router.set(zmq.ZAP_ENFORCE_DOMAIN, 1)

    def _close_sockets(self) -> None:
        if self._router.closed:
            return
        self._monitor.listen()
        for dealer in self._dealers.values():
            dealer.listen()
            dealer.close()
        if self._itself is not None:
            self._itself.close()
        self._router.disable_monitor()
        self._router.close()
        self._monitor.close()
        if self._zap is not None:
            self._zap.close()
        if self._look_ahead is not None:
            self._look_ahead.cancel()
        if self._connections.arrivals is not None:
            self._loop.remove_reader(self._connections.arrivals)
            self._connections.close()
