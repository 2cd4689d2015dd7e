"""Ed25519 signatures of entries, so that who forwards another's history cannot alter it."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey


def signer(secret: bytes) -> Callable[[bytes], bytes]:
    """Return what signs a message with a secret key of 32 bytes."""
    return Ed25519PrivateKey.from_private_bytes(secret).sign


def public_key(secret: bytes) -> bytes:
    """Return the public key, 32 bytes, of a secret one."""
    return Ed25519PrivateKey.from_private_bytes(secret).public_key().public_bytes_raw()


def verify(public: bytes, message: bytes, signature: bytes) -> bool:
    """Tell whether a signature of a message was made with the secret half of a public key."""
    try:
        _key(public).verify(signature, message)
    except InvalidSignature:
        return False
    return True


_key = lru_cache(maxsize=2**14)(Ed25519PublicKey.from_public_bytes)
