"""The small web server of one peer: /metrics for Prometheus, /status as JSON, and nothing else.

Whoever reaches it can read, and no more: a few connections at a time, each for a few seconds and
one small request; the rest are closed as soon as they come. It runs in threads of its own and asks
the peer through a `StatusSource`, so no stranger can cost the event loop more than that allows.
"""

from __future__ import annotations

import io
import socket
import threading
import time
from collections.abc import Callable
from functools import lru_cache
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from socketserver import TCPServer, ThreadingMixIn
from types import TracebackType
from typing import Any, Final, Self

from prometheus_client import CONTENT_TYPE_LATEST

from peer.errors import UserError, in_one_line
from peer.metrics import exposition
from peer.metrics_address import MetricsAddress, metrics_address
from peer.participant import Phase
from peer.status import PeerStatus
from peer.status_source import NoStatus, StatusSource

CONNECTIONS: Final = 8
"""Connections that are served at a time."""

DESCRIPTORS: Final = CONNECTIONS + 4
"""Open files that it takes: those, what listens, what waits, and one that is turned away."""

SECONDS: Final = 5.0
"""For a request to arrive, and again for an answer to leave."""

REQUEST_BYTES: Final = 2**13
"""Of a request with all its headers."""

PAUSE: Final = 0.001
"""Seconds from one connection to the next, so that a flood of them keeps no core busy."""

LOOK: Final = 0.1
"""Seconds from one look to the next whether to stop."""

BACKLOG: Final = 128
"""Connections that wait in the kernel."""

WATCHED: Final = 10.0
"""Seconds since the last question within which somebody still watches."""

FAREWELL: Final = 3.0
"""Seconds that a peer which is watched stays at its end, to tell that it has ended."""

JSON: Final = "application/json"
NAME: Final = "kseed"
"""What the server calls itself."""


class StatusServer:
    """Listens from its making on, and serves until it is left.

    Args:
        address: `host:port`; port 0 takes a free one.
        source: what is told.

    Attributes:
        address: where it listens in fact.

    Raises:
        UserError: it cannot listen there.
    """

    def __init__(self, address: str, source: StatusSource) -> None:
        wanted = metrics_address(address)
        try:
            self._server = _Server(wanted, source)
        # A name that no name server could know is not even looked up.
        except (OSError, UnicodeError) as error:
            why = getattr(error, "strerror", None) or in_one_line(error)
            raise UserError(f"cannot offer metrics on {address}: {why}") from None
        self.address = str(MetricsAddress(wanted.host, self._server.server_address[1]))
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(LOOK,), name="metrics", daemon=True
        )

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def say_farewell(self) -> None:
        """Wait, if somebody watches, until the end of the peer has been told; not for long."""
        if time.monotonic() < self._server.watched_at + WATCHED:
            self._server.end_told.wait(FAREWELL)


class _Server(ThreadingMixIn, TCPServer):
    """Serves each connection in a thread of its own, and closes those that there is no room for.

    Attributes:
        watched_at: when /status was last asked for, in seconds of `time.monotonic`.
        end_told: set when it has been answered that the peer has ended.
    """

    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False
    request_queue_size = BACKLOG

    def __init__(self, address: MetricsAddress, source: StatusSource) -> None:
        family, *_, target = socket.getaddrinfo(
            address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        self.address_family = family
        self.source = source
        self.watched_at = -float("inf")
        self.end_told = threading.Event()
        self._room = threading.BoundedSemaphore(CONNECTIONS)
        # What is told again within a moment is not written anew either.
        self.page = lru_cache(len(PAGES))(lambda path, status: PAGES[path][1](status))
        super().__init__((str(target[0]), int(target[1])), _Handler)

    def service_actions(self) -> None:
        time.sleep(PAUSE)

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self._room.acquire(blocking=False):
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except BaseException:
            self._room.release()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._room.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: strangers break off as they like."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    error_content_type = "text/plain"
    error_message_format = "%(code)d %(message)s\n"

    def version_string(self) -> str:
        """Return what the server calls itself, which is nobody's business beyond that."""
        return NAME

    def setup(self) -> None:
        """Read the whole request, within limits; the parser gets no more than that."""
        super().setup()
        self.rfile = io.BytesIO(_head_of(self.request))
        self.request.settimeout(SECONDS)

    def do_GET(self) -> None:
        """Answer with a page, or why there is none."""
        path = self.path.partition("?")[0]
        if path not in PAGES:
            self.send_error(HTTPStatus.NOT_FOUND)
            return
        kind, _ = PAGES[path]
        if kind == JSON:
            self.server.watched_at = time.monotonic()
        try:
            status = self.server.source.status()
        except NoStatus as error:
            self.send_error(HTTPStatus.SERVICE_UNAVAILABLE, str(error))
            return
        page = self.server.page(path, status)
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(page)))
        self.end_headers()
        self.wfile.write(page)
        if kind == JSON and status.phase == Phase.ENDED:
            self.server.end_told.set()

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Answer with an error; what is not done at all is done nowhere here."""
        if code == HTTPStatus.NOT_IMPLEMENTED:
            code, message = HTTPStatus.METHOD_NOT_ALLOWED, None
        super().send_error(code, message, explain)

    def log_message(self, format: str, *values: Any) -> None:
        """Say nothing: a stranger could fill the log."""


PAGES: Final[dict[str, tuple[str, Callable[[PeerStatus], bytes]]]] = {
    "/metrics": (CONTENT_TYPE_LATEST, exposition),
    "/status": (JSON, PeerStatus.to_json),
}
"""What can be read, by its path."""


def _head_of(request: socket.socket) -> bytes:
    """Return a request up to its empty line, or what has come of it within the limits."""
    head, deadline = b"", time.monotonic() + SECONDS
    while b"\r\n\r\n" not in head and b"\n\n" not in head and len(head) < REQUEST_BYTES:
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        request.settimeout(left)
        more = request.recv(REQUEST_BYTES - len(head))
        if not more:
            break
        head += more
    return head
