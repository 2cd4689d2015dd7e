"""The bytes that ZMTP 3.1 puts around frames, which follow from lengths alone.

Frame: a byte of flags, the length in 1 byte up to 255 or in 8, the body (RFC 37). With CURVE the
body is a MESSAGE command, which is sealed: 8 bytes of name, 8 of nonce, 16 of seal and 1 of flags
more than what it carries (RFC 26), so the short header ends at 222.

Connection: each side sends a greeting of 64 bytes, then

    NULL    DEALER --READY-->             ROUTER
                   <--READY--
    CURVE   DEALER --HELLO, INITIATE-->   ROUTER
                   <--WELCOME, READY--

where READY and INITIATE carry the type of the socket and its routing id. Nothing marks the end.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

ROUTING_ID_BYTES: Final = 23
"""Length of every DEALER's routing id, so that a handshake has one length, whoever the peer is."""

_GREETING: Final = 64
_SHORT: Final = 255
_KEY, _NONCE, _LONG_NONCE, _SEAL, _COOKIE = 32, 8, 16, 16, 96


@lru_cache(maxsize=2**12)
def framing_bytes(length: int, *, curve: bool) -> int:
    """Return what a frame of `length` bytes costs on the wire beyond these."""
    if not curve:
        return _header(length)
    sealed = len("\7MESSAGE") + _NONCE + _SEAL + 1
    return sealed + _header(sealed + length)


def handshake_bytes(*, dialled: bool, curve: bool) -> int:
    """Return what one side sends before the first frame.

    Args:
        dialled: of the side with the DEALER, which has dialled; else of the ROUTER.
        curve: the mechanism is CURVE, else NULL.
    """
    metadata = _property("Socket-Type", len("DEALER")) + _property(
        "Identity", ROUTING_ID_BYTES if dialled else 0
    )
    if not curve:
        return _GREETING + _command("READY", metadata)
    if dialled:
        version, padding = 2, 72
        hello = version + padding + _KEY + _NONCE + _SEAL + 64
        vouch = _LONG_NONCE + _SEAL + 2 * _KEY
        initiate = _COOKIE + _NONCE + _SEAL + _KEY + vouch + metadata
        return _GREETING + _command("HELLO", hello) + _command("INITIATE", initiate)
    welcome = _LONG_NONCE + _SEAL + _KEY + _COOKIE
    ready = _NONCE + _SEAL + metadata
    return _GREETING + _command("WELCOME", welcome) + _command("READY", ready)


def _header(length: int) -> int:
    return 2 if length <= _SHORT else 9


def _command(name: str, body: int) -> int:
    length = 1 + len(name) + body
    return _header(length) + length


def _property(name: str, value: int) -> int:
    return 1 + len(name) + 4 + value
