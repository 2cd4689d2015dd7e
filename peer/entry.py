"""An entry: one record of an origin's log, as it is stored, forwarded, hashed and counted.

The bytes of an entry are made once, by its origin, and there is one encoding of each content.

    history  [origin, sequence, round, weight, cut, scale, gradients, indices]
    ACK      [origin, sequence, round, cut]     an idle peer holds the cut of this round
    END      [origin, sequence, round]          no history of this round or a later one will follow

origin, sequence, round: unsigned, below 2**32. weight: 4 bytes, float32, c_i * eta_r / 2**e.
cut: 8 bytes, the digest of the cut that the steps started from; never a reason to refuse, but it
acknowledges the cut to whoever has the same. scale: the power of two of one-byte gradients.
gradients: tau * 4, 2 or 1 bytes. indices: nil where they follow from (origin, round), else 2 bytes
each (4 if K > 2**16). Numbers in binary fields are little-endian.

A signed entry has one field more, the origin's Ed25519 signature of the fields before it (64 bytes;
see `peer.signatures`).
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from typing import Any, Final

import msgpack
import numpy as np
from numpy.typing import NDArray

from peer.errors import MalformedMessage

NUMBER_LIMIT: Final = 2**32
CUT_BYTES: Final = 8
SIGNATURE_BYTES: Final = 64
HASH_BYTES: Final = 16
_CACHED_BYTES: Final = 2**12
_FLOAT32: Final = struct.Struct("<f")

Sign = Callable[[bytes], bytes]
"""What makes a signature of an entry's unsigned bytes."""


class Kind(Enum):
    """What an entry says; the value is its number of fields without a signature."""

    HISTORY = 8
    ACK = 4
    END = 3


# Python 3.11 takes five times as long to find a member in its class, and every entry is asked.
HISTORY: Final = Kind.HISTORY
END: Final = Kind.END


@dataclass(frozen=True, slots=True, eq=False)
class Entry:
    """One place in an origin's log; equal contents are equal entries.

    Attributes:
        content: its bytes as they travel; the other fields say what they mean.
        body: the part of them that a signature covers, the whole where there is none.
        signature: 64 bytes, or None.
        hash: 128 bits of its content; sets of entries are told apart by the sums of these.
    """

    origin: int
    sequence: int
    round: int
    kind: Kind
    weight: float
    cut: bytes
    scale: int
    gradients: bytes
    indices: bytes | None
    signature: bytes | None
    body: bytes
    content: bytes
    hash: int

    @property
    def is_end(self) -> bool:
        """Whether it closes its log."""
        return self.kind is END

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Entry) and self.content == other.content

    def __hash__(self) -> int:
        return hash(self.content)


def make_history(
    origin: int,
    sequence: int,
    round_: int,
    *,
    weight: float,
    cut: bytes,
    scale: int,
    gradients: bytes,
    indices: bytes | None,
    sign: Sign | None = None,
) -> Entry:
    """Return the entry of one round's local steps; see the module's legend for the fields."""
    packed = _FLOAT32.pack(weight)
    return _make([origin, sequence, round_, packed, cut, scale, gradients, indices], sign)


def make_ack(
    origin: int, sequence: int, round_: int, cut: bytes, sign: Sign | None = None
) -> Entry:
    """Return the word of a peer that does not train in a round that it holds the round's cut."""
    return _make([origin, sequence, round_, cut], sign)


def make_end(origin: int, sequence: int, rounds: int, sign: Sign | None = None) -> Entry:
    """Return the END record of a log without histories from round `rounds` on."""
    return _make([origin, sequence, rounds], sign)


def _make(fields: list[Any], sign: Sign | None) -> Entry:
    content = bytes(msgpack.packb(fields))
    if sign is not None:
        content = bytes(msgpack.packb([*fields, sign(content)]))
    return decode_entry(content)


def index_type(candidates: int) -> np.dtype[Any]:
    """Return the type in which explicit seed indices travel, given K."""
    return np.dtype("<u2") if candidates <= 2**16 else np.dtype("<u4")


def pack_indices(indices: NDArray[np.int64], candidates: int) -> bytes:
    """Return explicit seed indices as they travel."""
    return indices.astype(index_type(candidates)).tobytes()


def decode_entry(content: bytes) -> Entry:
    """Return the entry that `content` stands for.

    Raises:
        MalformedMessage: the bytes are none, or not the one encoding of what they say.
    """
    # What a neighbour sends is not yet checked here, so large contents must not pile up.
    return _cached(content) if len(content) <= _CACHED_BYTES else _decode(content)


def _decode(content: bytes) -> Entry:
    try:
        fields = msgpack.unpackb(content, max_array_len=9, max_map_len=0, max_ext_len=0)
    except (ValueError, msgpack.UnpackException) as error:
        raise MalformedMessage(f"an entry is not msgpack: {error}") from None
    if not isinstance(fields, list) or not 3 <= len(fields) <= 9:
        raise MalformedMessage("an entry has 3 to 9 fields")
    if not all(type(number) is int and 0 <= number < NUMBER_LIMIT for number in fields[:3]):
        raise MalformedMessage("origin, sequence and round are numbers below 2**32")
    if _packed(fields) != content:
        raise MalformedMessage("an entry is not in its one encoding")
    signature, body = None, content
    if type(fields[-1]) is bytes and len(fields[-1]) == SIGNATURE_BYTES and len(fields) in _SIGNED:
        *fields, signature = fields
        body = bytes(msgpack.packb(fields))
    try:
        kind = Kind(len(fields))
    except ValueError:
        raise MalformedMessage(f"no entry has {len(fields)} fields") from None
    origin, sequence, round_, *rest = fields
    weight, cut, scale, gradients, indices = _fields(kind, rest)
    digest = hashlib.blake2b(content, digest_size=HASH_BYTES).digest()
    return Entry(
        origin,
        sequence,
        round_,
        kind,
        weight,
        cut,
        scale,
        gradients,
        indices,
        signature,
        body,
        content,
        int.from_bytes(digest, "little"),
    )


def _fields(kind: Kind, rest: list[Any]) -> tuple[float, bytes, int, bytes, bytes | None]:
    """Return weight, cut, scale, gradients and indices from the fields after the first three."""
    if kind is Kind.END:
        return 0.0, b"", 0, b"", None
    cut = rest[0] if kind is Kind.ACK else rest[1]
    if type(cut) is not bytes or len(cut) != CUT_BYTES:
        raise MalformedMessage(f"a cut takes {CUT_BYTES} bytes")
    if kind is Kind.ACK:
        return 0.0, cut, 0, b"", None
    weight, _, scale, gradients, indices = rest
    if type(weight) is not bytes or len(weight) != _FLOAT32.size:
        raise MalformedMessage("a weight takes 4 bytes")
    if type(scale) is not int or type(gradients) is not bytes:
        raise MalformedMessage("a scale is a number, scalar gradients are binary")
    if indices is not None and type(indices) is not bytes:
        raise MalformedMessage("seed indices are binary or nil")
    return _FLOAT32.unpack(weight)[0], cut, scale, gradients, indices


_SIGNED: Final = frozenset(kind.value + 1 for kind in Kind)

# Replicas in one process, and repeated deliveries in any, meet the same bytes many times.
_cached = lru_cache(maxsize=2**12)(_decode)


def _packed(fields: list[Any]) -> bytes | None:
    try:
        return bytes(msgpack.packb(fields))
    except ValueError:
        # Some versions read deeper nestings than they write.
        return None
