"""The web server of a peer: two pages to read, and nothing that strangers can do to it."""

from __future__ import annotations

import json
import os
import re
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from http.client import HTTPException

import pytest
from statuses import EMPTY, get, status, telling

from peer import status_server
from peer.errors import UserError
from peer.metrics_address import MetricsAddress, metrics_address
from peer.status_server import CONNECTIONS, REQUEST_BYTES, StatusServer
from peer.status_source import StatusSource
from peer.teller import Look

TOLD = status()
ANSWERED = status(digest=EMPTY.digest())


@contextmanager
def serving(source: StatusSource) -> Iterator[StatusServer]:
    with StatusServer("127.0.0.1:0", source) as server:
        yield server


@pytest.fixture
def server() -> Iterator[StatusServer]:
    with telling(TOLD) as source, serving(source) as server:
        yield server


def connected(server: StatusServer) -> socket.socket:
    place = metrics_address(server.address)
    return socket.create_connection((place.host, place.port), timeout=20.0)


def said(server: StatusServer, request: bytes) -> bytes:
    """Everything that is answered to a request; what breaks off is an answer too."""
    with closing(connected(server)) as connection:
        answer = b""
        with suppress(ConnectionError):
            connection.sendall(request)
            while more := connection.recv(2**16):
                answer += more
        return answer


def answers(server: StatusServer) -> bool:
    """Whether a status comes, at the first attempt."""
    code, _, body = get(server.address, "/status")
    return code == 200 and body == ANSWERED.to_json()


def wait_until_it_answers(server: StatusServer) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        with suppress(OSError, HTTPException):
            if answers(server):
                return
    pytest.fail("the server answers no more")


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_two_pages(server: StatusServer) -> None:
    code, kind, body = get(server.address, "/status")
    assert (code, kind) == (200, "application/json")
    assert body == ANSWERED.to_json()
    code, kind, body = get(server.address, "/metrics?name=ignored")
    assert code == 200
    assert kind.startswith("text/plain; version=")
    assert b'kseed_round{peer="0"} 2.0\n' in body


@pytest.mark.parametrize("path", ["/", "/status/", "/metrics/x", "/%2e%2e/status"])
def test_there_is_nothing_else(server: StatusServer, path: str) -> None:
    code, kind, body = get(server.address, path)
    assert (code, body) == (404, b"404 Not Found\n")
    assert kind == "text/plain"


@pytest.mark.parametrize("method", ["HEAD", "POST", "PUT", "DELETE", "OPTIONS", "TRACE", "BREW"])
def test_nothing_but_reading(server: StatusServer, method: str) -> None:
    assert get(server.address, "/status", method)[0] == 405


def test_it_says_nothing_of_what_it_runs_on(server: StatusServer) -> None:
    answer = said(server, b"GET /status HTTP/1.0\r\n\r\n")
    assert b"\r\nServer: kseed\r\n" in answer
    assert sys.version.split()[0].encode() not in answer


GARBAGE = {
    "nothing": b"",
    "an empty line": b"\r\n\r\n",
    "no HTTP": b"\x16\x03\x01\x02\x00\x01\x00" * 40 + b"\r\n\r\n",
    "zeros": bytes(2 * REQUEST_BYTES),
    "a long path": b"GET /" + b"a" * REQUEST_BYTES + b" HTTP/1.0\r\n\r\n",
    "huge headers": b"GET /status HTTP/1.0\r\n" + b"X: y\r\n" * 2**18,
    "many headers": b"GET /status HTTP/1.0\r\n" + b"a: b\r\n" * 200 + b"\r\n",
    "an odd version": b"GET /status HTTP/9.9\r\n\r\n",
    "a negative length": b"POST /status HTTP/1.0\r\nContent-Length: -1\r\n\r\n",
    "an escape": b"\x1b[2JGET /status HTTP/1.0\r\n\r\n",
    "only half": b"GET /sta",
}


@pytest.mark.parametrize("request_", GARBAGE.values(), ids=GARBAGE)
def test_garbage_is_refused_quietly(
    server: StatusServer, request_: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    with closing(connected(server)) as connection, suppress(ConnectionError):
        connection.sendall(request_)
        connection.shutdown(socket.SHUT_WR)
        answer = connection.recv(2**16)
        assert not answer.startswith(b"HTTP/1.0 200")
    wait_until_it_answers(server)
    assert capfd.readouterr() == ("", "")


def test_who_never_finishes_a_request_is_cut_off(
    server: StatusServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(status_server, "SECONDS", 0.3)
    with closing(connected(server)) as connection:
        began = time.monotonic()
        with suppress(ConnectionError):
            # Each byte comes soon after the one before, and no end ever.
            while time.monotonic() < began + 20:
                connection.sendall(b"a")
                connection.settimeout(0.05)
                with suppress(TimeoutError):
                    assert connection.recv(1) == b""
                    break
        assert time.monotonic() < began + 10
    wait_until_it_answers(server)


def test_slow_ones_beyond_the_limit_are_turned_away_and_then_all_are_gone(
    server: StatusServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(status_server, "SECONDS", 2.0)
    before, threads = descriptors(), threading.active_count()
    with ExitStack() as stack:
        slow = [stack.enter_context(closing(connected(server))) for _ in range(3 * CONNECTIONS)]
        for connection in slow:
            with suppress(ConnectionError):
                connection.sendall(b"GET /")
        turned_away = 0
        for connection in slow:
            connection.settimeout(0.2)
            with suppress(TimeoutError):
                try:
                    turned_away += connection.recv(1) == b""
                except ConnectionError:
                    turned_away += 1
        assert turned_away >= len(slow) - CONNECTIONS
        assert threading.active_count() <= threads + CONNECTIONS
        # Our own ends are descriptors of this process as well.
        assert descriptors() <= before + len(slow) + CONNECTIONS + 1
    wait_until_it_answers(server)
    wait_until_there_are(before)


def wait_until_there_are(most: int) -> None:
    deadline = time.monotonic() + 30
    while descriptors() > most:
        assert time.monotonic() < deadline, "descriptors are lost"
        time.sleep(0.01)


@pytest.mark.slow
def test_a_thousand_quick_connections(server: StatusServer) -> None:
    assert answers(server)
    before = descriptors()
    for number in range(1000):
        with closing(connected(server)) as connection, suppress(ConnectionError):
            if number % 2:
                connection.sendall(b"GET /status HTTP/1.0\r\n\r\n")
    wait_until_it_answers(server)
    wait_until_there_are(before)


def test_who_does_not_read_its_answer_is_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(status_server, "SECONDS", 0.3)
    long = (status_server.JSON, lambda _status: bytes(2**24))
    monkeypatch.setitem(status_server.PAGES, "/status", long)
    with telling(TOLD) as source, serving(source) as server, ExitStack() as stack:
        for _ in range(CONNECTIONS):
            deaf = stack.enter_context(closing(socket.socket()))
            deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**12)
            place = metrics_address(server.address)
            deaf.connect((place.host, place.port))
            deaf.sendall(b"GET /status HTTP/1.0\r\n\r\n")
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            with suppress(OSError, HTTPException):
                code, _, _ = get(server.address, "/nothing")
                if code == 404:
                    break
        else:
            pytest.fail("those who do not read hold the server")


def test_before_the_peer_is_there_and_when_it_is_busy_the_answer_is_503() -> None:
    source = StatusSource()
    with serving(source) as server:
        assert get(server.address, "/status")[0] == 503
        code, _, body = get(server.address, "/metrics")
        assert (code, body) == (503, b"503 the peer is starting\n")


def test_a_watched_peer_stays_until_its_end_was_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(status_server, "FAREWELL", 30.0)
    source = StatusSource()
    with serving(source) as server:
        get(server.address, "/metrics")
        server.say_farewell()
        get(server.address, "/status")
        source.end(Look(status(phase="ended"), EMPTY))
        waits = threading.Thread(target=server.say_farewell)
        waits.start()
        assert json.loads(get(server.address, "/status")[2])["phase"] == "ended"
        waits.join(20.0)
        assert not waits.is_alive()


def test_it_is_gone_with_the_peer() -> None:
    before = descriptors()
    with telling(TOLD) as source:
        with serving(source) as server:
            assert answers(server)
        with pytest.raises(ConnectionRefusedError):
            get(server.address, "/status")
        with StatusServer(server.address, source) as again:
            assert answers(again)
    wait_until_there_are(before)


def test_an_address_in_use_is_the_users_mistake(server: StatusServer) -> None:
    with pytest.raises(UserError, match=f"^cannot offer metrics on {server.address}: Address al"):
        StatusServer(server.address, StatusSource())


@pytest.mark.parametrize(
    "address",
    ["", "9464", ":9464", "a:b", "a:65536", "a b:1", "tcp://a:1", "a:1:2", "[::1]", "a:*"],
)
def test_what_is_no_address_is_the_users_mistake(address: str) -> None:
    with pytest.raises(UserError, match="is no address of metrics: must be host:port"):
        StatusServer(address, StatusSource())


def test_a_host_that_is_none_is_the_users_mistake() -> None:
    for address in ("192.0.2.1:0", "a..b:0", f"{'a' * 64}:0"):
        with pytest.raises(UserError, match=f"^cannot offer metrics on {re.escape(address)}: "):
            StatusServer(address, StatusSource())


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [("a.b:0", "a.b", 0), ("127.0.0.1:65535", "127.0.0.1", 65535), ("[::1]:9", "::1", 9)],
)
def test_addresses(text: str, host: str, port: int) -> None:
    assert metrics_address(text) == MetricsAddress(host, port)
    assert str(metrics_address(text)) == text


def test_version_six() -> None:
    with telling(TOLD) as source:
        try:
            server = StatusServer("[::1]:0", source)
        except UserError as error:
            pytest.skip(str(error))
        with server:
            assert server.address.startswith("[::1]:")
            assert answers(server)
