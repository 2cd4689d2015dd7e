"""Weights as they travel between peers that average them, and their weighted sums.

A vector of P weights of one type, little-endian, cut into parts of at most a mebibyte. No tensors:
the protocol mixes what neighbours have sent without knowing of any model. A sum is taken in
float64, term by term in the order given, and rounded once to float32 (half to even) and from there
to the type, so equal terms give equal bits on every machine.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from peer.errors import MalformedMessage

PART_BYTES: Final = 2**20
"""The length of every part but the last."""

_CHUNK: Final = 2**18
_RAW: Final[dict[str, np.dtype[Any]]] = {
    "float32": np.dtype("<f4"),
    "float16": np.dtype("<f2"),
    # numpy has no bfloat16: its bits are the upper half of a float32's.
    "bfloat16": np.dtype("<u2"),
}


@dataclass(frozen=True, eq=False)
class Weights:
    """A vector of weights; not to be changed.

    Attributes:
        dtype: float32, float16 or bfloat16.
        raw: shape (P,): of that type, bfloat16 as its 16 bits.
    """

    dtype: str
    raw: NDArray[Any]

    @classmethod
    def of(cls, dtype: str, values: NDArray[np.float64]) -> Weights:
        """Return values as weights of a type, rounded half to even."""
        return cls(dtype, _rounded(dtype, values))

    @classmethod
    def repeated(cls, dtype: str, value: float, count: int) -> Weights:
        """Return so many times the same weight, which takes no memory however many they are."""
        return cls(dtype, np.broadcast_to(_rounded(dtype, np.array([value])), count))

    @classmethod
    def joined(cls, dtype: str, count: int, parts: Sequence[bytes]) -> Weights:
        """Return the vector that was cut into these parts.

        Args:
            dtype: its type.
            count: P.
            parts: all of them, in order, of the lengths that `part_sizes` gives.

        Raises:
            MalformedMessage: a weight is not finite.
        """
        weights = cls(dtype, np.frombuffer(b"".join(parts), _RAW[dtype], count))
        for start in range(0, count, _CHUNK):
            if not np.all(np.isfinite(weights.values(start, start + _CHUNK))):
                raise MalformedMessage("weights that are not finite")
        return weights

    def __len__(self) -> int:
        return len(self.raw)

    @cached_property
    def _digest(self) -> str:
        hasher = hashlib.blake2b(self.dtype.encode(), digest_size=16)
        hasher.update(np.ascontiguousarray(self.raw).data)
        return hasher.hexdigest()

    def digest(self) -> str:
        """Return 32 hexadecimal digits; equal ones mean equal weights."""
        return self._digest

    def values(self, start: int, stop: int) -> NDArray[np.float64]:
        """Return some of the weights as numbers; shape (stop - start,) or what there is of it."""
        some = self.raw[start:stop]
        if self.dtype == "bfloat16":
            some = (some.astype(np.uint32) << 16).view(np.float32)
        return some.astype(np.float64)

    def parts(self) -> Iterator[bytes]:
        """Yield the parts in order."""
        width = PART_BYTES // self.raw.itemsize
        for start in range(0, len(self.raw), width):
            yield self.raw[start : start + width].tobytes()

    def part(self, number: int) -> bytes:
        """Return one part."""
        width = PART_BYTES // self.raw.itemsize
        return self.raw[number * width : (number + 1) * width].tobytes()


def weights_bytes(dtype: str, count: int) -> int:
    """Return the length in bytes of a vector of `count` weights."""
    return count * _RAW[dtype].itemsize


def part_sizes(dtype: str, count: int) -> list[int]:
    """Return the length in bytes of each part of a vector of `count` weights, at least one."""
    size = weights_bytes(dtype, count)
    whole, rest = divmod(size, PART_BYTES)
    return [PART_BYTES] * whole + ([rest] if rest else [])


def weighted_sum(terms: Sequence[tuple[float, Weights]]) -> Weights:
    """Return sum_j c_j x_j over (c_j, x_j), at least one, all of one type and length."""
    _, first = terms[0]
    raw = np.empty_like(first.raw)
    for start in range(0, len(first), _CHUNK):
        total = np.zeros(len(first.raw[start : start + _CHUNK]))
        for coefficient, weights in terms:
            total += coefficient * weights.values(start, start + _CHUNK)
        raw[start : start + _CHUNK] = _rounded(first.dtype, total)
    return Weights(first.dtype, raw)


def _rounded(dtype: str, values: NDArray[np.float64]) -> NDArray[Any]:
    single = values.astype(np.float32)
    if dtype != "bfloat16":
        return single.astype(_RAW[dtype])
    bits = single.view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(_RAW[dtype])
