import asyncio
import signal
import socket
import sys
import threading
from collections.abc import Callable

import pytest
import zmq

from peer.interrupts import interrupts_put_off
from peer.places import Loopback
from peer.zeromq import Transport

linux = pytest.mark.skipif(sys.platform != "linux", reason="ports are kept on Linux alone")


def port_of(address: str) -> int:
    return int(address.rpartition(":")[2])


@linux
def test_a_kept_port_is_nobody_elses_and_the_peers_again_and_again() -> None:
    places = Loopback(range(3))
    assert len(set(places.addresses.values())) == 3
    address = places.addresses[1]
    end = ("127.0.0.1", port_of(address))
    with socket.socket() as other, pytest.raises(OSError, match="in use"):
        other.bind(end)
    with socket.socket() as neighbour, pytest.raises(ConnectionRefusedError):
        # Nobody listens there yet.
        neighbour.connect(end)

    async def live() -> None:
        transport = Transport(1, address)
        assert transport.endpoint == address
        with socket.create_connection(end):
            pass
        await transport.close()

    for _ in range(3):
        asyncio.run(live())
    places.close()
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(end)


@linux
def test_a_peer_is_not_started_twice_at_a_kept_port() -> None:
    places = Loopback(range(1))
    with zmq.Context() as context, context.socket(zmq.ROUTER) as first:
        first.bind(places.addresses[0])
        with context.socket(zmq.ROUTER) as second, pytest.raises(zmq.ZMQError, match="in use"):
            second.bind(places.addresses[0])
    places.close()


def test_places_of_the_loopback_leave_cuts_and_namespaces_to_others() -> None:
    places = Loopback(range(2))
    assert not places.cut({(0, 1)})
    assert not places.cut(set())
    assert places.namespace(0) == ""
    places.close()


def interrupt() -> None:
    """Ctrl-C as a process gets it that has a thread which does not hold it back."""

    def answer() -> None:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        signal.raise_signal(signal.SIGINT)

    thread = threading.Thread(target=answer)
    thread.start()
    thread.join()


def put_off(done: list[str]) -> None:
    with interrupts_put_off():
        interrupt()
        done.append("what must not be left half done")


def put_off_twice(done: list[str]) -> None:
    with interrupts_put_off():
        put_off(done)
        done.append("after the inner one")


@pytest.mark.parametrize(("act", "steps"), [(put_off, 1), (put_off_twice, 2)])
def test_ctrl_c_is_put_off_to_the_end(act: Callable[[list[str]], None], steps: int) -> None:
    done: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        act(done)
    assert len(done) == steps
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, ())


def test_without_ctrl_c_nothing_happens() -> None:
    with interrupts_put_off():
        assert signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, ())
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, ())
