"""Scalar gradients as they travel: float32, float16, or one byte each.

One byte is fp8 e4m3 (1 sign, 4 exponent and 3 fraction bits; no infinities; largest value 448)
times a power of two chosen per entry, rounded half to even and saturating. A step that was skipped
keeps its place as the format's one NaN, which adds and counts nothing. Anything else that is not
finite is refused, and so is anything past the experiment's bound.
"""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from peer.errors import RefusedEntry

GRADIENT_BYTES: Final = (4, 2, 1)

SCALE_LIMIT: Final = 64
"""The exponent of an entry's power of two lies in [-64, 64]."""

_FP8_NAN: Final = 0x7F
_FP8_MAX: Final = 448.0
_WIDE: Final[dict[int, np.dtype[Any]]] = {4: np.dtype("<f4"), 2: np.dtype("<f2")}


def _positive_fp8() -> NDArray[np.float32]:
    """Return the 127 values at codes 0 to 126, ascending."""
    codes = np.arange(127)
    exponent, fraction = codes >> 3, codes & 7
    subnormal = fraction * 2.0**-9
    normal = (8 + fraction) * 2.0 ** (exponent - 10.0)
    return np.where(exponent == 0, subnormal, normal).astype(np.float32)


_POSITIVE = _positive_fp8()
_DECODE = np.concatenate([_POSITIVE, [np.nan], -_POSITIVE, [np.nan]]).astype(np.float32)
_MIDPOINTS = (_POSITIVE[:-1].astype(np.float64) + _POSITIVE[1:]) / 2


def _fp8(values: NDArray[np.float64]) -> NDArray[np.uint8]:
    magnitude = np.minimum(np.abs(values), _FP8_MAX)
    codes = np.searchsorted(_MIDPOINTS, magnitude, side="left")
    tie = (codes < len(_MIDPOINTS)) & (_MIDPOINTS[np.minimum(codes, 125)] == magnitude)
    codes += tie & (codes % 2 == 1)
    codes |= np.signbit(values).astype(np.int64) << 7
    return np.where(np.isnan(values), _FP8_NAN, codes).astype(np.uint8)


def encode(gradients: NDArray[np.float64], width: int) -> tuple[bytes, int]:
    """Return the bytes of scalar gradients, `width` bytes each, and the exponent of their scale.

    Args:
        gradients: shape (tau,), finite and within the bound, NaN for a skipped step.
        width: 4, 2 or 1.
    """
    if width in _WIDE:
        values = gradients.astype(_WIDE[width])
        values[np.isnan(gradients)] = np.nan
        return values.tobytes(), 0
    largest = float(np.nanmax(np.abs(gradients), initial=0.0))
    scale = 0
    if largest:
        # 448 = 7/8 * 2**9; the least scale whose 448 * 2**scale reaches the largest.
        fraction, exponent = math.frexp(largest)
        scale = exponent - 9 + (fraction > 7 / 8)
    scale = min(max(scale, -SCALE_LIMIT), SCALE_LIMIT)
    return _fp8(np.ldexp(gradients, -scale)).tobytes(), scale


def decode(data: bytes, width: int, scale: int, bound: float) -> NDArray[np.float32]:
    """Return scalar gradients, shape (len(data) / width,), NaN for skipped steps.

    Raises:
        RefusedEntry: a value that is neither finite nor the one NaN, or one past `bound`.
    """
    if width in _WIDE:
        raw = np.frombuffer(data, dtype=_WIDE[width])
        values: NDArray[np.float32] = raw.astype(np.float32)
        strange = ~np.isfinite(values)
        one_nan = np.array([np.nan], dtype=_WIDE[width]).tobytes()
        if any(item.tobytes() != one_nan for item in raw[strange]):
            raise RefusedEntry("a scalar gradient is not finite")
    else:
        codes = np.frombuffer(data, dtype=np.uint8)
        if np.any(codes == 0xFF):
            raise RefusedEntry("a scalar gradient is not finite")
        values = np.ldexp(_DECODE[codes], scale)
    if np.any(np.abs(values) > bound):
        raise RefusedEntry(f"a scalar gradient is past the bound of {bound:g}")
    return values
