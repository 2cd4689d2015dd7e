"""The connections that a peer has accepted: who speaks over each, what it holds back, and its end.

libzmq ends no connection that it is not told to, and hides unfinished messages, whose frames it
keeps without limit. What it does tell is the descriptor of each connection. With it this module
asks the kernel how much has come in; what of that was neither left in the kernel's queue nor
delivered to us is held back by libzmq. A connection is ended by shutting its socket down, which
libzmq takes as the other side's doing.

What a connection may hold back is OUTSTANDING bytes: no connection that keeps to the protocol can
reach them, since RECEIVE_QUEUE messages of one frame wait at most, one stands before the queue, one
was taken out of it beforehand, and one is on its way to who takes note of it here. All connections
of one neighbour together may hold back as much, and so may all that nobody has been heard on. So
each neighbour that has gone bad, and all strangers together, can cost OUTSTANDING bytes and what
comes in between two looks. In memory a small frame takes more than on the wire: with CURVE about
130 bytes for 35, without it 64 for 2 (measured: 40 and 340 MB at the limit).

Counting needs Linux's TCP_INFO. Elsewhere, and on ipc, nothing limits what is held back. To look
only when there is something to see, an epoll of our own reports the first bytes after each look.

A descriptor may have passed on to another connection when it is used, so the socket's inode number
is compared each time, on a duplicate that cannot change any more.
"""

from __future__ import annotations

import array
import fcntl
import os
import random
import select
import socket
import struct
import sys
import termios
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Final

from peer.wire import FRAME_LIMIT
from peer.zmtp import framing_bytes, handshake_bytes

RECEIVE_QUEUE: Final = 2
"""Messages that wait per connection before the sender has to. With 1, libzmq 4.3.5 delivers nothing
over a connection that was let in by ZAP."""

LONGEST_FRAME: Final = FRAME_LIMIT + framing_bytes(FRAME_LIMIT, curve=True)
OUTSTANDING: Final = (RECEIVE_QUEUE + 3) * LONGEST_FRAME + 2**16
"""Bytes of unfinished and undelivered messages that a connection may hold back (10.6 MB)."""

STRANGERS: Final = 128
"""Connections that nobody was heard on yet, beside one for each neighbour. Past these, any one of
them is ended: were it the oldest, a flood would push out who is honest, were it the newest, silence
would keep them out."""

PER_NEIGHBOUR: Final = 4
"""Connections of one neighbour. It needs one, and another while the first has not been missed."""

_BYTES_RECEIVED: Final = struct.Struct("=128xQ")
"""Where tcpi_bytes_received is in the kernel's struct tcp_info."""

_ONCE: Final = select.EPOLLIN | select.EPOLLONESHOT if sys.platform == "linux" else 0
_AT_ONCE: Final = struct.pack("ii", 1, 0)
_SECRETS: Final = random.SystemRandom()


@dataclass(eq=False)
class Connection:
    """One accepted connection.

    Attributes:
        descriptor: libzmq's.
        inode: of the socket, which tells it from the next one with this descriptor.
        since: admissions before it was accepted.
        delivered: bytes on the wire of what was heard, the handshake included.
        neighbour: who was heard, if anybody.
    """

    descriptor: int
    inode: int
    since: int
    delivered: int
    neighbour: int | None = None


class Connections:
    """All connections that one socket has accepted and that have not ended.

    Args:
        curve: whether the socket speaks CURVE.
        tcp: whether it listens on TCP.

    Attributes:
        expected: how many neighbours may come.
        unheard: how many connections have ended without anybody's being heard on them.
        arrivals: a descriptor that is readable when bytes have come since the last look; None: what
            is held back cannot be told here.
    """

    def __init__(self, *, curve: bool, tcp: bool = True) -> None:
        self.expected = 0
        self.unheard = 0
        self._epoll = select.epoll() if tcp and sys.platform == "linux" else None
        self.arrivals = self._epoll.fileno() if self._epoll is not None else None
        self._stirred: set[int] = set()
        self._curve = curve
        self._by_descriptor: dict[int, Connection] = {}
        self._silent: dict[int, Connection] = {}
        self._admissions = 0
        self._admitted: dict[int, _Admitted] = defaultdict(_Admitted)

    def __len__(self) -> int:
        return len(self._by_descriptor)

    def close(self) -> None:
        """Let go of `arrivals`."""
        if self._epoll is not None:
            self._epoll.close()

    def accepted(self, descriptor: int) -> None:
        """Take note of a new connection."""
        self.ended(descriptor)
        try:
            inode = os.fstat(descriptor).st_ino
            if self._epoll is not None:
                self._epoll.register(descriptor, _ONCE)
        except OSError:
            # It has come and gone.
            self.unheard += 1
            return
        greeted = handshake_bytes(dialled=True, curve=self._curve)
        connection = Connection(descriptor, inode, self._admissions, greeted)
        self._by_descriptor[descriptor] = self._silent[descriptor] = connection
        if len(self._silent) > STRANGERS + self.expected:
            self._shut(_SECRETS.choice(list(self._silent.values())))

    def ended(self, descriptor: int) -> None:
        """Take note of the end of a connection."""
        self._by_descriptor.pop(descriptor, None)
        if self._silent.pop(descriptor, None) is not None:
            self.unheard += 1

    def knows(self, descriptor: int) -> bool:
        """Return whether the connection with this descriptor has been taken note of."""
        connection = self._by_descriptor.get(descriptor)
        try:
            return connection is not None and os.fstat(descriptor).st_ino == connection.inode
        except OSError:
            return False

    def admit(self, neighbour: int) -> int:
        """Let a neighbour in that has proved its key; return the number of this admission."""
        self._admissions += 1
        self._admitted[neighbour].admit(self._admissions)
        return self._admissions

    def heard(
        self, descriptor: int, neighbour: int | None, admission: int | None, size: int
    ) -> bool:
        """Take note of a message.

        Args:
            descriptor: of the connection that it has come over.
            neighbour: who sent it; None: nobody that is known.
            admission: which admission it came under, with CURVE.
            size: bytes that it took on the wire.

        Returns:
            Whether this neighbour is heard on this connection for the first time.
        """
        connection = self._by_descriptor.get(descriptor)
        # What an earlier connection has left behind came under an earlier admission.
        if connection is None or (admission is not None and admission <= connection.since):
            return False
        connection.delivered += size
        if neighbour is None or connection.neighbour == neighbour:
            return False
        connection.neighbour = neighbour
        self._silent.pop(descriptor, None)
        if admission is not None:
            self._admitted[neighbour].hear()
        mine = [other for other in self._by_descriptor.values() if other.neighbour == neighbour]
        if len(mine) > PER_NEIGHBOUR:
            self._shut(mine[0])
        return True

    def shut(self, neighbour: int) -> None:
        """End all connections that a neighbour was heard on."""
        for connection in list(self._by_descriptor.values()):
            if connection.neighbour == neighbour:
                self._shut(connection)

    def note_arrivals(self) -> None:
        """Take note of who has sent something, which empties `arrivals` until the next look."""
        if self._epoll is not None:
            self._stirred.update(descriptor for descriptor, _ in self._epoll.poll(0))

    def end_costly(self) -> Iterator[int]:
        """End connections that hold back too much, and walk the neighbours whose doing it is.

        Without CURVE anybody can speak under any name, so nobody is blamed.
        """
        # First, so that what comes while we look is reported.
        for descriptor in self._stirred:
            with suppress(OSError):
                assert self._epoll is not None
                self._epoll.modify(descriptor, _ONCE)
        self._stirred.clear()
        costs: defaultdict[int | None, dict[Connection, int]] = defaultdict(dict)
        for connection in list(self._by_descriptor.values()):
            costs[connection.neighbour][connection] = self._outstanding(connection)
        for group in costs.values():
            while sum(group.values()) > OUTSTANDING:
                largest = max(group, key=group.__getitem__)
                self._shut(largest)
                if group.pop(largest) > OUTSTANDING and self._curve:
                    yield from self._culprits(largest)

    def _culprits(self, connection: Connection) -> list[int]:
        """Return whose connection this is, or nobody in doubt."""
        if connection.neighbour is not None:
            return [connection.neighbour]
        # Strangers cannot send messages, so it is one of those that were let in and not heard.
        suspects = [n for n, letin in self._admitted.items() if letin.since(connection.since)]
        return suspects if len(suspects) == 1 else []

    def _outstanding(self, connection: Connection) -> int:
        """Return how many bytes libzmq has read from a connection and not delivered."""
        with _own(connection) as own:
            if own is None:
                self.ended(connection.descriptor)
                return 0
            # In this order what comes in between makes the result too small, never too large.
            received = _bytes_received(own)
            return max(0, received - _bytes_waiting(own) - connection.delivered)

    def _shut(self, connection: Connection) -> None:
        self.ended(connection.descriptor)
        with _own(connection) as own:
            if own is not None:
                # The other side may have been faster.
                with suppress(OSError):
                    # When libzmq closes it, nothing is left of it in the kernel either, and a
                    # sender that waits for room learns of it.
                    own.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
                    own.shutdown(socket.SHUT_RDWR)


@dataclass
class _Admitted:
    """Admissions of one neighbour that nothing was heard under, counted rather too high."""

    number: int = 0
    last: int = 0

    def admit(self, admission: int) -> None:
        self.number += 1
        self.last = admission

    def hear(self) -> None:
        self.number -= 1

    def since(self, admission: int) -> bool:
        return self.number > 0 and self.last > admission


@contextmanager
def _own(connection: Connection) -> Iterator[socket.socket | None]:
    """Open a duplicate of a connection's socket; None if the connection is over."""
    try:
        descriptor = os.dup(connection.descriptor)
    except OSError:
        yield None
        return
    if os.fstat(descriptor).st_ino != connection.inode:
        os.close(descriptor)
        yield None
        return
    with socket.socket(fileno=descriptor) as own:
        yield own


def _bytes_received(own: socket.socket) -> int:
    """Return how many bytes a TCP connection has brought; 0 where that is not told."""
    if sys.platform != "linux" or own.family == socket.AF_UNIX:
        return 0
    info = own.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _BYTES_RECEIVED.size)
    if len(info) < _BYTES_RECEIVED.size:
        return 0
    received: int = _BYTES_RECEIVED.unpack(info)[0]
    return received


def _bytes_waiting(own: socket.socket) -> int:
    """Return how many of them are still in the kernel's queue."""
    waiting = array.array("i", [0])
    fcntl.ioctl(own, termios.FIONREAD, waiting)
    return waiting[0]
