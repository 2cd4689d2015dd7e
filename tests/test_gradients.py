"""Scalar gradients on the wire: each width against the definition of its format, in fractions."""

from __future__ import annotations

import math
from fractions import Fraction
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from peer.errors import RefusedEntry
from peer.gradients import GRADIENT_BYTES, SCALE_LIMIT, decode, encode

NAN = float("nan")
ANY_BOUND = math.inf

widths = st.sampled_from(GRADIENT_BYTES)
bounds = st.integers(0, 15).map(lambda power: 2.0**power)


def slow_fp8(code: int) -> Fraction | None:
    """fp8 e4m3 without infinities: bias 7, 3 fraction bits, all ones is NaN (None)."""
    sign, exponent, fraction = code >> 7, code >> 3 & 15, code & 7
    if exponent == 15 and fraction == 7:
        return None
    if exponent == 0:
        magnitude = Fraction(fraction, 8) * Fraction(1, 2**6)
    else:
        magnitude = (1 + Fraction(fraction, 8)) * Fraction(2) ** (exponent - 7)
    return -magnitude if sign else magnitude


POSITIVE_FP8 = [value for code in range(127) if (value := slow_fp8(code)) is not None]


def slow_encode(value: float, scale: int) -> int:
    """The code of the nearest value, of two equally near ones the even code; past 448, 448."""
    if math.isnan(value):
        return 0x7F
    target = abs(Fraction(value)) / Fraction(2) ** scale
    target = min(target, Fraction(448))
    code = min(range(127), key=lambda c: (abs(POSITIVE_FP8[c] - target), c % 2))
    return code | (0x80 if math.copysign(1.0, value) < 0 else 0)


def slow_scale(values: list[float]) -> int:
    """The least power of two with which 448 reaches the largest value."""
    largest = max((abs(Fraction(value)) for value in values if not math.isnan(value)), default=0)
    if not largest:
        return 0
    reaching = (s for s in range(-SCALE_LIMIT, SCALE_LIMIT) if 448 * Fraction(2) ** s >= largest)
    return next(reaching, SCALE_LIMIT)


def array(*values: float) -> np.ndarray[Any, np.dtype[np.float64]]:
    return np.array(values, dtype=np.float64)


# All widths


@given(widths, bounds, st.data())
def test_a_round_trip_keeps_places_and_the_bound(width: int, bound: float, data: Any) -> None:
    values = data.draw(st.lists(st.one_of(st.floats(-bound, bound), st.just(NAN)), max_size=30))
    sent, scale = encode(array(*values), width)
    got = decode(sent, width, scale, bound)
    assert len(sent) == width * len(values)
    assert got.dtype == np.float32
    assert np.isnan(got).tolist() == [math.isnan(value) for value in values]
    assert np.all(np.abs(got[~np.isnan(got)]) <= bound)
    if width == 1:
        assert -SCALE_LIMIT <= scale <= SCALE_LIMIT
    else:
        assert scale == 0
        same = array(*values).astype(np.float32 if width == 4 else np.float16).astype(np.float32)
        np.testing.assert_array_equal(got, same)


@pytest.mark.parametrize("width", GRADIENT_BYTES)
@pytest.mark.parametrize("power", range(16))
def test_the_bound_itself_is_allowed_and_nothing_rounds_past_it(width: int, power: int) -> None:
    bound = 2.0**power
    for largest in (bound, math.nextafter(bound, 0.0), bound * 0.97, bound * 0.9688, bound * 0.876):
        sent, scale = encode(array(largest, -largest, largest / 3), width)
        got = decode(sent, width, scale, bound)
        assert float(np.max(np.abs(got))) <= bound


@pytest.mark.parametrize("power", range(16))
def test_what_is_past_the_bound_is_refused(power: int) -> None:
    bound = 2.0**power
    above_4 = np.nextafter(np.float32(bound), np.float32(np.inf)).tobytes()
    above_2 = np.nextafter(np.float16(bound), np.float16(np.inf)).tobytes()
    # Codes 0x38 and 0x39 stand for 1 and 1.125.
    for data, width, scale in [(above_4, 4, 0), (above_2, 2, 0), (b"\x39", 1, power)]:
        for sign in (0x00, 0x80):
            signed = data[:-1] + bytes([data[-1] | sign])
            with pytest.raises(RefusedEntry, match="past the bound"):
                decode(signed, width, scale, bound)
    assert decode(b"\x38\xb8", 1, power, bound).tolist() == [bound, -bound]


@pytest.mark.parametrize("width", GRADIENT_BYTES)
def test_all_skipped_all_zero_and_none(width: int) -> None:
    skipped, scale = encode(array(NAN, NAN, NAN), width)
    assert scale == 0
    assert np.isnan(decode(skipped, width, scale, 1.0)).tolist() == [True] * 3
    assert encode(array(0.0, 0.0), width) == (bytes(2 * width), 0)
    assert encode(array(), width) == (b"", 0)
    assert decode(b"", width, 0, 1.0).shape == (0,)
    minus_zero, scale = encode(array(-0.0, NAN), width)
    assert scale == 0
    assert decode(minus_zero, width, 0, 1.0)[0] == 0.0


@pytest.mark.parametrize(
    ("width", "golden", "scale"),
    [
        (4, "0000003f 000040c0 0000c07f 00000000 cdcc4c3e", 0),
        (2, "0038 00c2 007e 0000 6632", 0),
        (1, "68 fc 7f 00 5d", -7),
    ],
)
def test_golden_bytes(width: int, golden: str, scale: int) -> None:
    """0.5, -3, skipped, 0, 0.2."""
    encoded = encode(array(0.5, -3.0, NAN, 0.0, 0.2), width)
    assert encoded == (bytes.fromhex(golden), scale)


# NaN and infinities


@given(widths, st.integers(0, 2**51 - 1), st.booleans())
def test_any_nan_leaves_as_the_one_nan(width: int, payload: int, negative: bool) -> None:
    """Whatever its sign and payload; arithmetic makes quiet ones only."""
    bits = 0xFFF << 51 | payload | negative << 63
    strange = np.array([bits], dtype=np.uint64).view(np.float64)
    assert encode(strange, width) == encode(array(NAN), width)


def test_the_one_nan_of_each_width() -> None:
    assert encode(array(NAN), 4)[0] == bytes.fromhex("0000c07f")
    assert encode(array(NAN), 2)[0] == bytes.fromhex("007e")
    assert encode(array(NAN), 1)[0] == bytes.fromhex("7f")


def test_every_half_is_taken_for_what_it_is_or_refused() -> None:
    for bits in range(2**16):
        exponent, fraction = bits >> 10 & 31, bits & 0x3FF
        data = b"\x00\x00" + bits.to_bytes(2, "little")
        if exponent == 31 and bits != 0x7E00:
            with pytest.raises(RefusedEntry, match="not finite"):
                decode(data, 2, 0, ANY_BOUND)
            continue
        got = float(decode(data, 2, 0, ANY_BOUND)[1])
        if bits == 0x7E00:
            assert math.isnan(got)
            continue
        significand = fraction + (1024 if exponent else 0)
        expected = math.ldexp(significand, max(exponent, 1) - 25)
        assert got == (-expected if bits >> 15 else expected)


@given(st.integers(0, 2**23 - 1), st.booleans())
@example(0, False)
@example(0, True)
@example(1, False)
@example(0x400000, True)
@example(0x400001, False)
def test_every_foreign_single_is_refused(fraction: int, negative: bool) -> None:
    bits = 0xFF << 23 | fraction | negative << 31
    assume(bits != 0x7FC00000)
    with pytest.raises(RefusedEntry, match="not finite"):
        decode(bits.to_bytes(4, "little") + b"\x00\x00\x80\x3f", 4, 0, ANY_BOUND)


@pytest.mark.parametrize("scale", [-SCALE_LIMIT, -1, 0, 9, SCALE_LIMIT])
def test_every_byte_is_taken_for_what_it_is_or_refused(scale: int) -> None:
    for code in range(256):
        if code == 0xFF:
            with pytest.raises(RefusedEntry, match="not finite"):
                decode(b"\x38\xff", 1, scale, ANY_BOUND)
            continue
        got = float(decode(bytes([code]), 1, scale, ANY_BOUND)[0])
        expected = slow_fp8(code)
        if expected is None:
            assert math.isnan(got)
        else:
            assert Fraction(got) == expected * Fraction(2) ** scale
            assert math.copysign(1.0, got) == (-1.0 if code >> 7 else 1.0)


def test_a_refusal_needs_only_one_bad_step() -> None:
    good, _ = encode(array(0.5, NAN, -0.25), 4)
    bad = np.array([np.inf], dtype="<f4").tobytes()
    for place in range(0, 16, 4):
        with pytest.raises(RefusedEntry):
            decode(good[:place] + bad + good[place:], 4, 0, 1.0)


# One byte


def test_rounding_to_a_byte_is_exact_at_and_around_every_tie() -> None:
    """Every value, every midpoint, and the doubles next to them; 448 makes the scale 0."""
    points = [float(value) for value in POSITIVE_FP8]
    points += [(one + other) / 2 for one, other in pairwise(points)]
    near = [p for x in points for p in (x, math.nextafter(x, math.inf), math.nextafter(x, -1.0))]
    values = [value for x in near if abs(x) <= 448.0 for value in (x, -x)] + [448.0, NAN]
    sent, scale = encode(array(*values), 1)
    assert scale == 0
    assert list(sent) == [slow_encode(value, 0) for value in values]


finite = st.floats(allow_nan=False, allow_infinity=False, width=64)
gradient_lists = st.lists(
    st.one_of(st.floats(-1e3, 1e3), st.floats(-1e-30, 1e-30), finite, st.just(NAN)), max_size=12
)


@given(gradient_lists)
@example([5e-324])
@example([5e-324, -5e-324, 0.0])
@example([2.0**-1022])
@example([math.ldexp(448.0, SCALE_LIMIT), 1.0])
@example([math.nextafter(math.ldexp(448.0, SCALE_LIMIT), math.inf)])
@example([-1.7976931348623157e308, 3.0])
@example([math.ldexp(448.0, -SCALE_LIMIT - 1)])
def test_a_byte_and_its_scale_are_the_definition_s(values: list[float]) -> None:
    sent, scale = encode(array(*values), 1)
    assert scale == slow_scale(values)
    assert list(sent) == [slow_encode(value, scale) for value in values]


@given(st.lists(st.floats(-1.0, 1.0), min_size=1, max_size=10), st.integers(-40, 40))
def test_a_power_of_two_moves_the_scale_and_nothing_else(values: list[float], shift: int) -> None:
    assume(max(map(abs, values)) > 2.0**-10)
    sent, scale = encode(array(*values), 1)
    assert encode(np.ldexp(array(*values), shift), 1) == (sent, scale + shift)


@given(st.lists(st.floats(-1024.0, 1024.0), min_size=1, max_size=20))
def test_the_error_of_a_byte(values: list[float]) -> None:
    """A sixteenth of the value, or half the smallest step of the entry's scale."""
    sent, scale = encode(array(*values), 1)
    got = decode(sent, 1, scale, 1024.0)
    for value, near in zip(values, got.tolist(), strict=True):
        assert abs(near - value) <= max(abs(value) / 16, math.ldexp(1.0, scale - 10))


@given(st.integers(-SCALE_LIMIT, SCALE_LIMIT), st.binary(min_size=1, max_size=20))
def test_decoded_bytes_encode_to_the_same_values(scale: int, data: bytes) -> None:
    """Another scale may serve them better, but no value changes on a second journey."""
    codes = bytes(code if code != 0xFF else 0x7F for code in data)
    first = decode(codes, 1, scale, ANY_BOUND)
    sent, least = encode(first.astype(np.float64), 1)
    assert least <= scale or not np.nanmax(np.abs(first), initial=0.0)
    np.testing.assert_array_equal(decode(sent, 1, least, ANY_BOUND), first)


# Small numbers


@given(st.floats(-(2.0**-126), 2.0**-126, width=32))
def test_denormal_singles_travel_unchanged(value: float) -> None:
    sent, scale = encode(array(value, 1.0), 4)
    assert decode(sent, 4, scale, 1.0)[0] == np.float32(value)


@given(st.floats(-6.2e-5, 6.2e-5))
def test_small_halves_round_half_to_even(value: float) -> None:
    sent, _ = encode(array(value), 2)
    assert Fraction(float(decode(sent, 2, 0, 1.0)[0])) == Fraction(
        round(Fraction(value) * 2**24), 2**24
    )
