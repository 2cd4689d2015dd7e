"""An entry: what one peer publishes for one round, and the END record that closes its log.

The bytes of an entry are made once, by its origin, and are what is stored, forwarded, hashed and
counted everywhere; there is one encoding of each content.

    history  [origin, sequence, round, weight, cut, scale, gradients, indices]
    END      [origin, sequence, round]                  round = the number of rounds of the run

origin, sequence, round: unsigned, below 2**32. weight: 4 bytes, float32, c_i * eta_r / 2**e.
cut: the first 8 bytes of the digest of the accumulator that the steps started from; reported, never
a reason to refuse. scale: the power of two of one-byte gradients. gradients: tau * 4, 2 or 1 bytes.
indices: nil where they follow from (origin, round), else 2 bytes each (4 if K > 2**16). Numbers
in binary fields are little-endian.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import msgpack
import numpy as np
from numpy.typing import NDArray

from peer.errors import MalformedMessage

NUMBER_LIMIT: Final = 2**32
CUT_BYTES: Final = 8
_CACHED_BYTES: Final = 2**13
_FLOAT32: Final = struct.Struct("<f")


@dataclass(frozen=True, slots=True)
class Entry:
    """One place in an origin's log. `content` holds its bytes as they travel."""

    origin: int
    sequence: int
    round: int
    is_end: bool
    weight: float
    cut: bytes
    scale: int
    gradients: bytes
    indices: bytes | None
    content: bytes


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
) -> Entry:
    """Return the entry of one round's local steps; see the module's legend for the fields."""
    fields = [origin, sequence, round_, _FLOAT32.pack(weight), cut, scale, gradients, indices]
    return decode_entry(msgpack.packb(fields))


def make_end(origin: int, sequence: int, rounds: int) -> Entry:
    """Return the END record of a run of `rounds` rounds."""
    return decode_entry(msgpack.packb([origin, sequence, rounds]))


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
        fields = msgpack.unpackb(content, max_array_len=8, max_map_len=0, max_ext_len=0)
    except (ValueError, msgpack.UnpackException) as error:
        raise MalformedMessage(f"an entry is not msgpack: {error}") from None
    if not isinstance(fields, list) or len(fields) not in (3, 8):
        raise MalformedMessage("an entry has 3 or 8 fields")
    if not all(type(number) is int and 0 <= number < NUMBER_LIMIT for number in fields[:3]):
        raise MalformedMessage("origin, sequence and round are numbers below 2**32")
    if _packed(fields) != content:
        raise MalformedMessage("an entry is not in its one encoding")
    origin, sequence, round_ = fields[:3]
    if len(fields) == 3:
        return Entry(origin, sequence, round_, True, 0.0, b"", 0, b"", None, content)
    weight, cut, scale, gradients, indices = fields[3:]
    if type(weight) is not bytes or len(weight) != _FLOAT32.size:
        raise MalformedMessage("a weight takes 4 bytes")
    if type(cut) is not bytes or len(cut) != CUT_BYTES:
        raise MalformedMessage(f"a cut takes {CUT_BYTES} bytes")
    if type(scale) is not int or type(gradients) is not bytes:
        raise MalformedMessage("a scale is a number, scalar gradients are binary")
    if indices is not None and type(indices) is not bytes:
        raise MalformedMessage("seed indices are binary or nil")
    return Entry(
        origin,
        sequence,
        round_,
        False,
        _FLOAT32.unpack(weight)[0],
        cut,
        scale,
        gradients,
        indices,
        content,
    )


# Replicas in one process, and repeated deliveries in any, meet the same bytes many times.
_cached = lru_cache(maxsize=4096)(_decode)


def _packed(fields: list[Any]) -> bytes | None:
    try:
        return bytes(msgpack.packb(fields))
    except ValueError:
        # Some versions read deeper nestings than they write.
        return None
