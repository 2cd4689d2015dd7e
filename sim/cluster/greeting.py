"""Whether who listens at an address can be the head of a Ray cluster, asked without Ray.

Ray itself asks whoever speaks HTTP/2 again and again, for minutes. So it is asked once here, by one
of Ray's gRPC calls; any answer by gRPC will do, as the call may have another name in another
version: https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md
over RFC 9113, with headers as literals (RFC 7541, 6.2.2).
"""

from __future__ import annotations

import time
from socket import create_connection, socket
from typing import Final

PATIENCE: Final = 5.0
"""Seconds: who has not answered by then is not there."""

_PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _SETTINGS = 0, 1, 4
_END_STREAM, _END_HEADERS = 1, 4
_CALL: Final = "/ray.rpc.NodeInfoGcsService/CheckAlive"
_EMPTY_MESSAGE: Final = bytes(5)
_STATUS: Final = b"grpc-status"
_NO_FRAME: Final = (-1, 0, b"")
_MOST_FRAMES: Final = 20
_LONGEST_FRAME: Final = 2**14
"""Bytes; nobody may send more to who has not allowed it."""


def may_be_ray(host: str, port: int) -> bool:
    """Return whether a Ray cluster's head may be what listens at an address.

    Raises:
        OSError: nobody listens, or says anything.
    """
    until = time.monotonic() + PATIENCE
    with create_connection((host, port), PATIENCE) as connection:
        connection.sendall(_question())
        kind, _, _ = _frame_of(connection, until)
        if kind != _SETTINGS:
            return False
        try:
            for _ in range(_MOST_FRAMES):
                kind, stream, content = _frame_of(connection, until)
                if stream == 1 and kind == _DATA:
                    return True
                # A refusal comes without a message.
                if stream == 1 and kind == _HEADERS and _STATUS in content:
                    return True
        except OSError:
            return False
    return False


def _question() -> bytes:
    headers = {
        ":method": "POST",
        ":scheme": "http",
        ":path": _CALL,
        ":authority": "ray",
        "te": "trailers",
        "content-type": "application/grpc",
    }
    block = b"".join(b"\0" + _text(name) + _text(value) for name, value in headers.items())
    return (
        _PREFACE
        + _frame(_SETTINGS, 0, 0, b"")
        + _frame(_HEADERS, _END_HEADERS, 1, block)
        + _frame(_DATA, _END_STREAM, 1, _EMPTY_MESSAGE)
    )


def _text(text: str) -> bytes:
    return bytes([len(text)]) + text.encode()


def _frame(kind: int, flags: int, stream: int, content: bytes) -> bytes:
    return len(content).to_bytes(3) + bytes([kind, flags]) + stream.to_bytes(4) + content


def _frame_of(connection: socket, until: float) -> tuple[int, int, bytes]:
    """Return kind, stream and content of the next frame; or what is none.

    Raises:
        OSError: nothing comes any more.
    """
    head = _read(connection, 9, until)
    size = int.from_bytes(head[:3])
    if len(head) < 9 or size > _LONGEST_FRAME:
        return _NO_FRAME
    return head[3], int.from_bytes(head[5:]), _read(connection, size, until)


def _read(connection: socket, size: int, until: float) -> bytes:
    """Return so many bytes, or fewer if the other side has closed.

    Raises:
        OSError: they do not come.
    """
    read = b""
    while len(read) < size:
        # No time left would mean not to wait at all.
        connection.settimeout(max(0.001, until - time.monotonic()))
        some = connection.recv(size - len(read))
        if not some:
            break
        read += some
    return read
