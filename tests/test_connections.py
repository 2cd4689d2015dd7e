"""What is known of accepted connections, tried on TCP connections without ZeroMQ."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import pytest

from peer.connections import OUTSTANDING, PER_NEIGHBOUR, STRANGERS, Connections
from peer.zmtp import handshake_bytes

GREETED = {curve: handshake_bytes(dialled=True, curve=curve) for curve in (False, True)}

linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells what has come in")


@dataclass
class Pair:
    """Both ends of a connection; the far one is the other side's."""

    near: socket.socket
    far: socket.socket

    @property
    def descriptor(self) -> int:
        return self.near.fileno()

    def bring(self, size: int) -> None:
        """Send bytes and read them, as libzmq would."""
        block = bytes(min(size, 2**16))
        while size:
            self.far.sendall(block[:size])
            left = min(size, len(block))
            size -= left
            while left:
                left -= len(self.near.recv(left))

    def is_over(self) -> bool:
        self.far.setblocking(False)
        try:
            return self.far.recv(1) == b""
        except BlockingIOError:
            return False
        except ConnectionResetError:
            return True


class Door:
    """A listening socket, and the connections that were accepted over it."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self._server = stack.enter_context(socket.create_server(("127.0.0.1", 0)))

    def pair(self) -> Pair:
        far = self._stack.enter_context(socket.create_connection(self._server.getsockname()))
        near, _ = self._server.accept()
        return Pair(self._stack.enter_context(near), far)


@pytest.fixture
def door() -> Iterator[Door]:
    with ExitStack() as stack:
        yield Door(stack)


def accept(connections: Connections, door: Door, size: int = 0, *, curve: bool = True) -> Pair:
    """Have a connection that has made its handshake and then brought so many bytes."""
    pair = door.pair()
    connections.accepted(pair.descriptor)
    pair.bring(GREETED[curve] + size)
    return pair


def let_in(connections: Connections, door: Door, neighbour: int, size: int = 0) -> tuple[Pair, int]:
    pair = accept(connections, door, size)
    return pair, connections.admit(neighbour)


@linux
def test_what_is_delivered_is_not_held_back(door: Door) -> None:
    connections = Connections(curve=True)
    pair, admission = let_in(connections, door, 7, 3 * OUTSTANDING)
    assert connections.heard(pair.descriptor, 7, admission, 2 * OUTSTANDING)
    assert list(connections.end_costly()) == []
    pair.bring(1)
    assert list(connections.end_costly()) == [7]
    assert pair.is_over()
    assert len(connections) == 0


@linux
def test_what_waits_in_the_kernel_costs_nothing(door: Door) -> None:
    connections = Connections(curve=True)
    pair, admission = let_in(connections, door, 7, OUTSTANDING)
    connections.heard(pair.descriptor, 7, admission, 0)
    pair.far.sendall(bytes(1000))
    assert list(connections.end_costly()) == []
    assert not pair.is_over()


@linux
def test_who_was_not_heard_is_named_if_it_can_be_no_other(door: Door) -> None:
    connections = Connections(curve=True)
    heard, admission = let_in(connections, door, 3)
    connections.heard(heard.descriptor, 3, admission, 0)
    pair, _ = let_in(connections, door, 7, OUTSTANDING + 1)
    assert list(connections.end_costly()) == [7]
    assert pair.is_over()


@linux
def test_in_doubt_nobody_is_named(door: Door) -> None:
    connections = Connections(curve=True)
    pair, _ = let_in(connections, door, 7, OUTSTANDING + 1)
    let_in(connections, door, 3)
    assert list(connections.end_costly()) == []
    assert pair.is_over()


@linux
def test_who_went_unheard_before_is_not_in_doubt(door: Door) -> None:
    connections = Connections(curve=True)
    gone, _ = let_in(connections, door, 3)
    connections.ended(gone.descriptor)
    pair, _ = let_in(connections, door, 7, OUTSTANDING + 1)
    assert list(connections.end_costly()) == [7]
    assert pair.is_over()


@linux
@pytest.mark.parametrize("named", [False, True])
def test_without_keys_nobody_is_named(door: Door, named: bool) -> None:
    connections = Connections(curve=False)
    pair = accept(connections, door, OUTSTANDING + 1, curve=False)
    if named:
        assert connections.heard(pair.descriptor, 7, None, 0)
    assert list(connections.end_costly()) == []
    assert pair.is_over()


@linux
def test_connections_of_one_neighbour_share_a_limit_and_the_largest_goes(door: Door) -> None:
    connections = Connections(curve=True)
    pairs = []
    for size in (OUTSTANDING // 2, OUTSTANDING // 2 + 2, 1):
        pair, admission = let_in(connections, door, 7, size)
        connections.heard(pair.descriptor, 7, admission, 0)
        pairs.append(pair)
    other, admission = let_in(connections, door, 3, OUTSTANDING)
    connections.heard(other.descriptor, 3, admission, 0)
    assert list(connections.end_costly()) == []
    assert [pair.is_over() for pair in (*pairs, other)] == [False, True, False, False]


@linux
def test_strangers_share_a_limit(door: Door) -> None:
    connections = Connections(curve=True)
    pairs = [accept(connections, door, OUTSTANDING // 4) for _ in range(8)]
    assert list(connections.end_costly()) == []
    assert sum(pair.is_over() for pair in pairs) == 4


def test_silent_connections_are_bounded_and_each_may_be_the_one_to_go(door: Door) -> None:
    connections = Connections(curve=True)
    connections.expected = 2
    heard, admission = let_in(connections, door, 7)
    connections.heard(heard.descriptor, 7, admission, 0)
    pairs = [door.pair() for _ in range(2 * STRANGERS + 2)]
    for pair in pairs[: STRANGERS + 2]:
        connections.accepted(pair.descriptor)
    assert not any(pair.is_over() for pair in pairs)
    for pair in pairs[STRANGERS + 2 :]:
        connections.accepted(pair.descriptor)
    assert len(connections) == STRANGERS + 2 + 1
    over = [pair.is_over() for pair in pairs]
    assert sum(over) == STRANGERS
    # All of one kind: 1 in 10^30 if each is as likely.
    assert any(over[:STRANGERS])
    assert any(over[STRANGERS:])
    assert not heard.is_over()


def test_a_neighbour_has_few_connections(door: Door) -> None:
    connections = Connections(curve=True)
    pairs = []
    for _ in range(PER_NEIGHBOUR + 3):
        pair, admission = let_in(connections, door, 7)
        assert connections.heard(pair.descriptor, 7, admission, 0)
        assert not connections.heard(pair.descriptor, 7, admission, 0)
        pairs.append(pair)
    assert [pair.is_over() for pair in pairs] == [True] * 3 + [False] * PER_NEIGHBOUR


def test_a_neighbour_that_is_shut_out_loses_its_connections_alone(door: Door) -> None:
    connections = Connections(curve=True)
    pairs = []
    for neighbour in (7, 3, 7):
        pair, admission = let_in(connections, door, neighbour)
        connections.heard(pair.descriptor, neighbour, admission, 0)
        pairs.append(pair)
    connections.shut(7)
    assert [pair.is_over() for pair in pairs] == [True, False, True]


def test_a_descriptor_that_has_passed_on_is_left_alone(door: Door) -> None:
    connections = Connections(curve=True)
    first, admission = let_in(connections, door, 7)
    connections.heard(first.descriptor, 7, admission, 0)
    second = door.pair()
    # Nobody has told yet that the first is over and its descriptor another's.
    os.dup2(second.descriptor, first.descriptor)
    connections.shut(7)
    assert not second.is_over()
    connections.accepted(first.descriptor)
    assert list(connections.end_costly()) == []


def test_a_descriptor_that_is_closed_is_no_trouble(door: Door) -> None:
    connections = Connections(curve=True)
    pair, admission = let_in(connections, door, 7)
    connections.heard(pair.descriptor, 7, admission, 0)
    descriptor = pair.near.detach()
    os.close(descriptor)
    assert list(connections.end_costly()) == []
    connections.shut(7)
    connections.accepted(descriptor)
    assert len(connections) == 0


@linux
def test_what_an_ended_connection_has_left_names_no_later_one(door: Door) -> None:
    """A message may be read when its connection is over and the descriptor is another's."""
    connections = Connections(curve=True)
    old = connections.admit(3)
    pair, _ = let_in(connections, door, 7, OUTSTANDING + 1)
    assert not connections.heard(pair.descriptor, 3, old, 2 * OUTSTANDING)
    assert list(connections.end_costly()) == [7]
    assert pair.is_over()
