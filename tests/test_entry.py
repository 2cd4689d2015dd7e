"""Entries as bytes: golden, one encoding only, and refused when they are anything else."""

from __future__ import annotations

import struct
from itertools import product
from typing import Any

import msgpack
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from peer.entry import (
    NUMBER_LIMIT,
    SIGNATURE_BYTES,
    Entry,
    Kind,
    decode_entry,
    index_type,
    make_ack,
    make_end,
    make_history,
    pack_indices,
)
from peer.errors import MalformedMessage

numbers = st.integers(0, NUMBER_LIMIT - 1)
weights = st.floats(width=32, allow_nan=False)
histories = st.builds(
    make_history,
    numbers,
    numbers,
    numbers,
    weight=weights,
    cut=st.binary(min_size=8, max_size=8),
    scale=st.integers(-(2**63), 2**64 - 1),
    gradients=st.binary(max_size=300),
    indices=st.none() | st.binary(max_size=300),
)
cuts = st.binary(min_size=8, max_size=8)
any_entries = st.one_of(
    histories,
    st.builds(make_end, numbers, numbers, numbers),
    st.builds(make_ack, numbers, numbers, numbers, cuts),
)
signatures = st.binary(min_size=SIGNATURE_BYTES, max_size=SIGNATURE_BYTES)

FIELDS = [1, 2, 3, b"\x00\x00\x80\x3f", b"01234567", 0, b"abcd", None]


def alternatives(value: Any) -> list[bytes]:
    """Every way in which msgpack may write a value; the shortest is among them."""
    if isinstance(value, list):
        heads = [bytes([0x90 | len(value)])] if len(value) < 16 else []
        heads += [b"\xdc" + len(value).to_bytes(2, "big"), b"\xdd" + len(value).to_bytes(4, "big")]
        # One element at a time in another form; all of them would be too many.
        shortest = [msgpack.packb(item) for item in value]
        bodies = [b"".join(shortest)]
        for place, item in enumerate(value):
            bodies += [
                b"".join([*shortest[:place], form, *shortest[place + 1 :]])
                for form in alternatives(item)
                if form != shortest[place]
            ]
        return [head + body for head, body in product(heads, bodies)]
    if isinstance(value, bytes):
        sizes = [(b"\xc4", 1), (b"\xc5", 2), (b"\xc6", 4)]
        fit = [(code, width) for code, width in sizes if len(value) < 256**width]
        return [code + len(value).to_bytes(width, "big") + value for code, width in fit]
    if isinstance(value, int):
        forms = [bytes([value & 0xFF])] if -32 <= value < 128 else []
        for width, unsigned, signed in zip(
            (1, 2, 4, 8), b"\xcc\xcd\xce\xcf", b"\xd0\xd1\xd2\xd3", strict=True
        ):
            if 0 <= value < 256**width:
                forms.append(bytes([unsigned]) + value.to_bytes(width, "big"))
            if -(256**width) // 2 <= value < 256**width // 2:
                forms.append(bytes([signed]) + value.to_bytes(width, "big", signed=True))
        return forms
    return [msgpack.packb(value)]


# Golden bytes


def test_golden_history() -> None:
    entry = make_history(
        3,
        200,
        70_000,
        weight=0.125,
        cut=bytes(range(8)),
        scale=-5,
        gradients=b"\x38\x7f\xb8",
        indices=None,
    )
    assert entry.content.hex(" ") == (
        "98 03 cc c8 ce 00 01 11 70 c4 04 00 00 00 3e c4 08 00 01 02 03 04 05 06 07 "
        "fb c4 03 38 7f b8 c0"
    )


def test_golden_history_with_indices() -> None:
    gradients = np.array([0.5, -2.0], dtype="<f4").tobytes()
    entry = make_history(
        0,
        0,
        0,
        weight=1.5,
        cut=b"\xff" * 8,
        scale=0,
        gradients=gradients,
        indices=pack_indices(np.array([258, 7]), 1024),
    )
    assert entry.content.hex(" ") == (
        "98 00 00 00 c4 04 00 00 c0 3f c4 08 ff ff ff ff ff ff ff ff 00 "
        "c4 08 00 00 00 3f 00 00 00 c0 c4 04 02 01 07 00"
    )


def test_golden_end() -> None:
    assert make_end(3, 6, 300).content.hex(" ") == "93 03 06 cd 01 2c"
    assert make_end(2**32 - 1, 2**32 - 1, 0).content.hex(" ") == (
        "93 ce ff ff ff ff ce ff ff ff ff 00"
    )


def test_golden_ack() -> None:
    assert make_ack(3, 6, 300, bytes(range(8))).content.hex(" ") == (
        "94 03 06 cd 01 2c c4 08 00 01 02 03 04 05 06 07"
    )


def test_golden_signed_entry() -> None:
    """The signature is one field more, and covers the bytes of the entry without it."""
    signed: list[bytes] = []

    def sign(body: bytes) -> bytes:
        signed.append(body)
        return bytes(range(SIGNATURE_BYTES))

    entry = make_end(3, 6, 300, sign)
    assert signed == [make_end(3, 6, 300).content] == [entry.body]
    assert entry.content.hex(" ") == "94 03 06 cd 01 2c c4 40 " + bytes(range(64)).hex(" ")
    assert entry.kind is Kind.END
    assert entry.is_end


@given(any_entries, signatures)
def test_a_signed_entry_says_what_it_says_unsigned(entry: Entry, signature: bytes) -> None:
    fields = [*msgpack.unpackb(entry.content), signature]
    signed = decode_entry(msgpack.packb(fields))
    assert signed.signature == signature
    assert signed.body == entry.content
    assert signed != entry
    assert signed.hash != entry.hash
    for name in ("origin", "sequence", "round", "kind", "cut", "scale", "gradients", "indices"):
        assert getattr(signed, name) == getattr(entry, name)


def test_the_kinds_are_told_apart_by_their_fields() -> None:
    assert [make_end(1, 2, 3).kind, make_ack(1, 2, 3, bytes(8)).kind] == [Kind.END, Kind.ACK]
    for length in (0, 7, 9, 63):
        with pytest.raises(MalformedMessage):
            decode_entry(msgpack.packb([1, 2, 3, bytes(length)]))


def test_the_size_in_the_design() -> None:
    """With tau = 200 and derived indices about 0.8 KB in float32 and 0.2 KB in one byte."""
    for width, least, most in ((4, 800, 840), (2, 400, 440), (1, 200, 240)):
        content = make_history(
            9, 60, 60, weight=0.1, cut=bytes(8), scale=0, gradients=bytes(200 * width), indices=None
        ).content
        assert least < len(content) < most


# Round trips


@given(any_entries)
def test_an_entry_is_its_bytes(entry: Entry) -> None:
    assert decode_entry(entry.content) == entry
    again = decode_entry(bytes(bytearray(entry.content)))
    assert again == entry
    assert again.content == entry.content


@given(
    numbers, numbers, numbers, weights, st.binary(max_size=40), st.none() | st.binary(max_size=9)
)
def test_fields_arrive_as_they_were_given(
    origin: int, sequence: int, round_: int, weight: float, gradients: bytes, indices: bytes | None
) -> None:
    entry = make_history(
        origin,
        sequence,
        round_,
        weight=weight,
        cut=b"cut bits",
        scale=-3,
        gradients=gradients,
        indices=indices,
    )
    assert (entry.origin, entry.sequence, entry.round) == (origin, sequence, round_)
    assert struct.pack("<f", entry.weight) == struct.pack("<f", weight)
    assert (entry.cut, entry.scale, entry.gradients) == (b"cut bits", -3, gradients)
    assert entry.indices == indices
    assert not entry.is_end


@pytest.mark.parametrize(
    ("candidates", "width"), [(1, 2), (1024, 2), (2**16, 2), (2**16 + 1, 4), (2**24, 4)]
)
def test_indices_take_as_many_bytes_as_they_need(candidates: int, width: int) -> None:
    indices = np.array([0, candidates - 1, candidates // 2])
    packed = pack_indices(indices, candidates)
    assert len(packed) == 3 * width
    assert np.frombuffer(packed, index_type(candidates)).tolist() == indices.tolist()
    assert packed[width : 2 * width] == (candidates - 1).to_bytes(width, "little")


# One encoding


def history_of(scale: int, gradients: bytes) -> Entry:
    return make_history(
        300, 70, 2, weight=1.0, cut=bytes(8), scale=scale, gradients=gradients, indices=b"\x01\x00"
    )


@pytest.mark.parametrize(
    "entry",
    [
        make_end(3, 200, 70_000),
        make_end(0, 0, 1),
        history_of(0, b"1234"),
        history_of(-33, bytes(300)),
        history_of(127, b""),
    ],
)
def test_other_encodings_of_the_same_content_are_refused(entry: Entry) -> None:
    fields = msgpack.unpackb(entry.content)
    forms = alternatives(fields)
    assert entry.content in forms
    assert len(forms) == len(set(forms)) > 10
    for form in forms:
        assert msgpack.unpackb(form) == fields
        if form != entry.content:
            with pytest.raises(MalformedMessage, match="one encoding"):
                decode_entry(form)


def broken(**changes: Any) -> bytes:
    """A history with some of its fields, by place, replaced."""
    fields = list(FIELDS)
    for place, value in changes.items():
        fields[int(place[1:])] = value
    return bytes(msgpack.packb(fields))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xc0",
        b"\x80",
        b"\xc1",
        b"\x90",
        msgpack.packb([1, 2]),
        msgpack.packb([1, 2, 3, 4]),
        msgpack.packb(FIELDS[:7]),
        msgpack.packb([*FIELDS, 0]),
        msgpack.packb([1, 2, 3]) + b"\x00",
        msgpack.packb([1, 2, 3])[:-1],
        msgpack.packb([-1, 2, 3]),
        msgpack.packb([1, 2**32, 3]),
        msgpack.packb([1, 2, 2**64 - 1]),
        msgpack.packb([True, 2, 3]),
        msgpack.packb([1, False, 3]),
        msgpack.packb([1.0, 2, 3]),
        msgpack.packb([1, 2, float("nan")]),
        msgpack.packb([1, 2, "3"]),
        msgpack.packb([1, 2, None]),
        msgpack.packb([1, 2, [3]]),
        msgpack.packb({1: 2, 3: 4, 5: 6}),
        msgpack.packb([1, 2, msgpack.ExtType(4, b"")]),
        msgpack.packb([1, 2, msgpack.Timestamp(3)]),
        broken(_3=1.0),
        broken(_3=b"\x00\x00\x80"),
        broken(_3=b"\x00\x00\x80\x3f\x00"),
        broken(_3="abcd"),
        broken(_4=b"0123456"),
        broken(_4=b"012345678"),
        broken(_4="01234567"),
        broken(_4=None),
        broken(_5=0.0),
        broken(_5=None),
        broken(_5=True),
        broken(_6="abcd"),
        broken(_6=[1.0]),
        broken(_6=None),
        broken(_7="ab"),
        broken(_7=[0, 1]),
        broken(_7=0),
        broken(_7={}),
        b"\x93\x01\x02\xa1\xff",
        b"\xdd\xff\xff\xff\xff\x00\x00\x00",
        b"\x93\x01\x02\xdf\xff\xff\xff\xff",
    ],
)
def test_what_is_no_entry_is_refused(content: bytes) -> None:
    with pytest.raises(MalformedMessage):
        decode_entry(content)


@pytest.mark.parametrize("depth", [1, 8, 400, 500, 511, 512, 513, 700, 1000, 1022, 1024, 50_000])
@pytest.mark.parametrize("opening", [b"\x91", b"\x81\x00", b"\xdc\x00\x01"])
def test_deep_nestings_are_refused(depth: int, opening: bytes) -> None:
    nested = opening * depth + b"\x00"
    for content in (nested, b"\x98\x00\x00\x00" + b"\xc0" * 4 + nested, b"\x93\x00\x00" + nested):
        with pytest.raises(MalformedMessage):
            decode_entry(content)


def take(content: bytes) -> None:
    """Nothing else than an entry or a refusal may come out; an entry is made of its bytes."""
    try:
        entry = decode_entry(content)
    except MalformedMessage:
        return
    fields: list[Any] = [entry.origin, entry.sequence, entry.round]
    if entry.kind is Kind.ACK:
        fields.append(entry.cut)
    elif entry.kind is Kind.HISTORY:
        # Not from the float, in which a NaN's payload need not survive.
        before = 1 + sum(len(msgpack.packb(number)) for number in fields) + 2
        fields += [content[before : before + 4], entry.cut, entry.scale]
        fields += [entry.gradients, entry.indices]
    if entry.signature is not None:
        fields.append(entry.signature)
    assert msgpack.packb(fields) == content
    assert entry.content == content


@given(st.binary(max_size=80))
@example(b"\x93\x00\x00\xd6\xff\x00\x00\x00\x00")
def test_any_bytes_are_an_entry_or_refused(content: bytes) -> None:
    take(content)


@given(any_entries, st.data())
def test_damaged_entries_are_entries_or_refused(entry: Entry, data: Any) -> None:
    content = bytearray(entry.content)
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(content)))
        kind = data.draw(st.sampled_from(["flip", "insert", "delete", "cut"]))
        if kind == "insert":
            content.insert(place, data.draw(st.integers(0, 255)))
        elif kind == "cut":
            del content[place:]
        elif place < len(content):
            if kind == "flip":
                content[place] ^= 1 << data.draw(st.integers(0, 7))
            else:
                del content[place]
    take(bytes(content))


def test_large_contents_are_not_kept() -> None:
    """A neighbour could fill the memory with entries that no check has seen yet."""
    small, large = (
        make_history(0, 0, 0, weight=1.0, cut=bytes(8), scale=0, gradients=bytes(n), indices=None)
        for n in (2000, 100_000)
    )
    assert decode_entry(small.content) is decode_entry(small.content)
    assert decode_entry(large.content) is not decode_entry(large.content)
    assert decode_entry(large.content) == large
