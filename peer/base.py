"""A base: what a replica keeps of the entries that everybody has, in place of the entries (C3).

It is the cut of a round that the whole roster has acknowledged: where each log ends, and K sums
(for FedKSeed-Pro 3K). Its size hangs on N and K only, so it is also the snapshot from which a peer
that comes late starts, however old the run is.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import msgpack
import numpy as np
from numpy.typing import NDArray

from peer.accumulator import Accumulator
from peer.cut import Cut, Ends
from peer.entry import HASH_BYTES, NUMBER_LIMIT
from peer.errors import MalformedMessage
from peer.units import Units

_INTEGER: Final = np.dtype("<i8")
MOST_BYTES: Final = 2**20
"""Bytes of sums that a base may unpack to; a run with more does not fold."""


@dataclass(frozen=True)
class Base:
    """The state after the rounds before `round`, as all have acknowledged it.

    Attributes:
        round: the first one that is not in it.
        ends: of the logs in it, as `Cut.ends`.
        sum: of the hashes of the entries in it, mod 2**128.
        arrays: int64, shape (3, K): sums, magnitudes, counts.
    """

    round: int
    ends: Ends
    sum: int
    arrays: NDArray[np.int64]

    @classmethod
    def of(cls, round_: int, cut: Cut) -> Base:
        """Return the base of a cut."""
        a = cut.accumulator
        return cls(round_, cut.ends, cut.sum, np.stack([a.sums, a.magnitudes, a.counts]))

    def cut(self, units: Units) -> Cut:
        """Return the cut that it stands for."""
        return Cut(Accumulator(units, *self.arrays), self.sum, self.ends)

    @cached_property
    def versions(self) -> Mapping[int, int]:
        """Origin -> how many of its entries are in it."""
        return {origin: length for origin, (length, _) in self.ends.items()}

    def pack(self) -> bytes:
        """Return its one encoding."""
        return self._packed

    @cached_property
    def _packed(self) -> bytes:
        return bytes(
            msgpack.packb(
                [
                    self.round,
                    dict(sorted(self.ends.items())),
                    self.sum.to_bytes(HASH_BYTES, "little"),
                    self.arrays.shape[1],
                    zlib.compress(self.arrays.astype(_INTEGER).tobytes(), 6),
                ]
            )
        )

    @classmethod
    def unpack(cls, content: bytes) -> Base:
        """Return the base that `pack` has made bytes of.

        Raises:
            MalformedMessage: the bytes are none.
        """
        try:
            fields = msgpack.unpackb(content, max_ext_len=0, strict_map_key=False)
        except (ValueError, TypeError, RecursionError, msgpack.UnpackException) as error:
            raise MalformedMessage(f"a base is not msgpack: {type(error).__name__}") from None
        if not isinstance(fields, list) or len(fields) != 5:
            raise MalformedMessage("a base has 5 fields")
        round_, ends, total, candidates, packed = fields
        if type(ends) is not dict:
            raise MalformedMessage("a base says where the logs end")
        if not all(type(end) is list and len(end) == 2 for end in ends.values()):
            raise MalformedMessage("a log in a base has a length and a last round")
        numbers = [round_, candidates, *ends]
        numbers += [number for end in ends.values() for number in end]
        if not all(type(number) is int and 0 <= number < NUMBER_LIMIT for number in numbers):
            raise MalformedMessage("the numbers of a base are below 2**32")
        if type(total) is not bytes or type(packed) is not bytes:
            raise MalformedMessage("the sums of a base are binary")
        if len(total) != HASH_BYTES:
            raise MalformedMessage(f"a sum of hashes takes {HASH_BYTES} bytes")
        arrays = np.frombuffer(_inflated(packed, candidates), _INTEGER).reshape(3, candidates)
        return cls(
            round_,
            {origin: (length, last) for origin, (length, last) in ends.items()},
            int.from_bytes(total, "little"),
            arrays.astype(np.int64),
        )


def _inflated(packed: bytes, candidates: int) -> bytes:
    """Return 3 * candidates numbers of 8 bytes, and never make more of a short message."""
    size: Any = 3 * candidates * _INTEGER.itemsize
    if size > MOST_BYTES:
        raise MalformedMessage("a base of more sums than any run has")
    inflater = zlib.decompressobj()
    try:
        numbers = inflater.decompress(packed, size + 1)
    except zlib.error as error:
        raise MalformedMessage(f"the sums of a base are damaged: {error}") from None
    if len(numbers) != size or not inflater.eof or inflater.unused_data:
        raise MalformedMessage(f"a base of {candidates} candidate seeds has other sums")
    return numbers
