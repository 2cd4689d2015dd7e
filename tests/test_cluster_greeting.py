"""Who listens at an address is asked whether it may be Ray, and has little time to say so."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from socket import create_server

import pytest

from sim.cluster import greeting
from sim.cluster.greeting import may_be_ray

SETTINGS = bytes.fromhex("000000 04 00 00000000")
MESSAGE = bytes.fromhex("000005 00 00 00000001 0000000000")


def trailers(status: str) -> bytes:
    text = b"\0\x0bgrpc-status" + bytes([len(status)]) + status.encode()
    return len(text).to_bytes(3) + bytes.fromhex("01 05 00000001") + text


@contextmanager
def answering(said: bytes, *, closing: bool = True) -> Iterator[int]:
    """Yield the port of somebody who says this to whoever connects."""
    over = threading.Event()
    with create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(said)
                if not closing:
                    over.wait(10)

        thread = threading.Thread(target=answer)
        thread.start()
        try:
            yield server.getsockname()[1]
        finally:
            over.set()
            thread.join()


@pytest.mark.parametrize(
    ("said", "ray"),
    [
        (SETTINGS + MESSAGE, True),
        (SETTINGS + SETTINGS + trailers("0") + MESSAGE, True),
        (SETTINGS + trailers("16"), True),
        (SETTINGS + trailers("12"), True),
        (SETTINGS * 30 + MESSAGE, False),
        (SETTINGS + bytes.fromhex("ffffff 00 00 00000001"), False),
        (SETTINGS, False),
        (SETTINGS[:5], False),
        (MESSAGE, False),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", False),
        (b"", False),
    ],
)
def test_only_who_answers_by_grpc_may_be_ray(said: bytes, ray: bool) -> None:
    with answering(said) as port:
        assert may_be_ray("127.0.0.1", port) == ray


def test_who_says_no_more_has_little_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(greeting, "PATIENCE", 0.1)
    with answering(SETTINGS, closing=False) as port:
        assert not may_be_ray("127.0.0.1", port)
    with answering(b"", closing=False) as port, pytest.raises(TimeoutError):
        may_be_ray("127.0.0.1", port)
