"""A ZMTP 3.1 client that sends what it is told, as libzmq would not: for those who mean no good.

libzmq gives no frame away before its message is finished, and sends no frame that is malformed.
"""

from __future__ import annotations

import secrets
import socket
from dataclasses import dataclass
from itertools import count

from nacl.bindings import (
    crypto_box,
    crypto_box_afternm,
    crypto_box_beforenm,
    crypto_box_keypair,
    crypto_box_open,
)

from peer.keys import Security

PATIENCE = 10.0
MORE, LONG, COMMAND = 1, 2, 4


@dataclass(frozen=True)
class Credentials:
    """Keys for CURVE, 32 bytes each: one's own pair, and that of who is dialled."""

    secret: bytes
    public: bytes
    server: bytes

    @classmethod
    def of(cls, security: Security, server: int) -> Credentials:
        """Take the keys of a peer of a roster."""
        secret = security.secret
        return cls(secret.curve, secret.public_curve, security.public.curve[server])


def header(flags: int, length: int) -> bytes:
    """Return what stands before a frame's body."""
    if length <= 255:
        return bytes((flags, length))
    return bytes((flags | LONG,)) + length.to_bytes(8, "big")


def command(name: str, body: bytes) -> bytes:
    """Return a command in its frame."""
    text = bytes((len(name),)) + name.encode() + body
    return header(COMMAND, len(text)) + text


def greeting(mechanism: str) -> bytes:
    """Return the 64 bytes that a client begins with."""
    return b"\xff" + bytes(8) + b"\x7f\3\1" + mechanism.encode().ljust(20, b"\0") + bytes(32)


def metadata(routing_id: bytes) -> bytes:
    """Return the properties of a DEALER."""
    properties = {b"Socket-Type": b"DEALER", b"Identity": routing_id}
    return b"".join(
        bytes((len(name),)) + name + len(value).to_bytes(4, "big") + value
        for name, value in properties.items()
    )


class Client:
    """One connection, with its handshake done.

    Args:
        endpoint: tcp://host:port.
        routing_id: to be known by.
        credentials: speak CURVE with these; None: speak NULL.
    """

    def __init__(
        self, endpoint: str, routing_id: bytes = b"", credentials: Credentials | None = None
    ) -> None:
        host, port = endpoint.removeprefix("tcp://").split(":")
        self.socket = socket.create_connection((host, int(port)), PATIENCE)
        self._nonces = count(1)
        self._shared = b""
        try:
            if credentials is None:
                self.socket.sendall(greeting("NULL") + command("READY", metadata(routing_id)))
                self._read(64)
                self._command("READY")
            else:
                self._prove(routing_id, credentials)
        except OSError:
            self.socket.close()
            raise

    def frame(self, body: bytes, *, more: bool = False) -> bytes:
        """Return what a frame is on the wire."""
        flags = MORE if more else 0
        if self._shared:
            nonce = self._nonce()
            box = self._sealed(bytes((flags,)) + body, b"CurveZMQMESSAGEC" + nonce)
            body, flags = b"\7MESSAGE" + nonce + box, 0
        return header(flags, len(body)) + body

    def send(self, body: bytes, *, more: bool = False) -> None:
        """Send a frame."""
        self.socket.sendall(self.frame(body, more=more))

    def ended(self) -> bool:
        """Wait for the other side to end the connection; return False if it does not."""
        try:
            while self.socket.recv(65536):
                pass
        except TimeoutError:
            return False
        except OSError:
            pass
        return True

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def _prove(self, routing_id: bytes, keys: Credentials) -> None:
        transient, mine = crypto_box_keypair()
        nonce = self._nonce()
        box = crypto_box(bytes(64), b"CurveZMQHELLO---" + nonce, keys.server, mine)
        hello = b"\1\0" + bytes(72) + transient + nonce + box
        self.socket.sendall(greeting("CURVE") + command("HELLO", hello))
        self._read(64)
        welcome = self._command("WELCOME")
        opened = crypto_box_open(welcome[16:], b"WELCOME-" + welcome[:16], keys.server, mine)
        theirs, cookie = opened[:32], opened[32:]
        vouch_nonce, nonce = secrets.token_bytes(16), self._nonce()
        vouch = crypto_box(transient + keys.server, b"VOUCH---" + vouch_nonce, theirs, keys.secret)
        said = keys.public + vouch_nonce + vouch + metadata(routing_id)
        self._shared = crypto_box_beforenm(theirs, mine)
        box = self._sealed(said, b"CurveZMQINITIATE" + nonce)
        self.socket.sendall(command("INITIATE", cookie + nonce + box))
        self._command("READY")

    def _sealed(self, text: bytes, nonce: bytes) -> bytes:
        return crypto_box_afternm(text, nonce, self._shared)

    def _nonce(self) -> bytes:
        return next(self._nonces).to_bytes(8, "big")

    def _command(self, expected: str) -> bytes:
        flags, length = self._read(2)
        text = self._read(length)
        name, body = text[1 : 1 + text[0]].decode(), text[1 + text[0] :]
        if flags != COMMAND or name != expected:
            raise ConnectionRefusedError(f"{name} {body!r}")
        return body

    def _read(self, length: int) -> bytes:
        read = b""
        while len(read) < length:
            part = self.socket.recv(length - len(read))
            if not part:
                raise ConnectionResetError("the other side has ended the connection")
            read += part
        return read
