"""Asking a peer for its status: one small request, and an answer of bounded size in bounded time.

What answers may be anything, or mean no good, so nothing that it says of itself is believed: it is
read to its end, or to the limit, and then looked at.
"""

from __future__ import annotations

import asyncio
import re
import time
from contextlib import suppress
from typing import Final

from peer.metrics_address import MetricsAddress
from sim.watch.answers import Heard, Silence
from sim.watch.reading import NotAStatus, read_status

PATIENCE: Final = 8.0
"""Seconds from the start of a question to the end of its answer: a host may be very busy."""

ANSWER_BYTES: Final = 2**22
"""Of an answer with all its headers; a status of ten thousand neighbours is shorter."""

_STATUS_LINE: Final = re.compile(rb"HTTP/1\.[01] ([0-9]{3})(?: ([ -~]{0,100}))?")


async def ask(address: MetricsAddress) -> Heard | Silence:
    """Return what a peer says, or why nothing was heard of it."""
    began = time.time()
    try:
        async with asyncio.timeout(PATIENCE):
            answer = await _get(address)
    except TimeoutError:
        return Silence(f"no answer within {PATIENCE:g} s")
    except ConnectionRefusedError:
        return Silence("nobody listens there", gone=True)
    except (OSError, UnicodeError) as error:
        return Silence((getattr(error, "strerror", None) or str(error)).lower())
    middle = (began + time.time()) / 2
    return _understood(answer, middle)


async def _get(address: MetricsAddress) -> bytes:
    """Return all that is said, one byte past the limit at most."""
    reader, writer = await asyncio.open_connection(address.host, address.port)
    try:
        request = f"GET /status HTTP/1.0\r\nHost: {address}\r\nAccept: application/json\r\n\r\n"
        writer.write(request.encode("ascii", "replace"))
        answer = bytearray()
        while len(answer) <= ANSWER_BYTES:
            more = await reader.read(ANSWER_BYTES + 1 - len(answer))
            if not more:
                break
            answer += more
        return bytes(answer)
    finally:
        writer.transport.abort()
        with suppress(OSError):
            await writer.wait_closed()


def _understood(answer: bytes, now: float) -> Heard | Silence:
    if len(answer) > ANSWER_BYTES:
        return Silence(f"no kseed peer: it says more than {ANSWER_BYTES:,} bytes")
    head, _, body = answer.partition(b"\r\n\r\n")
    line = _STATUS_LINE.fullmatch(head.partition(b"\r\n")[0])
    if line is None:
        return Silence("no kseed peer: it does not speak HTTP")
    code, reason = line[1].decode(), (line[2] or b"").decode()
    if code == "503":
        return Silence(reason or "the peer is busy")
    if code != "200":
        return Silence(f"no kseed peer: HTTP status {code} {reason}".rstrip())
    try:
        status = read_status(body)
    except NotAStatus as error:
        return Silence(f"no kseed peer: {error}")
    return Heard(status, status.now - now)
