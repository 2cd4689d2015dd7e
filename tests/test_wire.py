"""Messages as bytes: golden, a complete table, and from any bytes typed messages or refusals."""

from __future__ import annotations

import random
import re
import struct
from typing import Any, get_args

import msgpack
import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from peer import wire
from peer.base import Base
from peer.entry import NUMBER_LIMIT, make_ack, make_end, make_history
from peer.errors import MalformedMessage
from peer.log import DIGEST_BYTES
from peer.wire import (
    FRAME_LIMIT,
    TIME_LIMIT,
    VERSION,
    Announce,
    Behind,
    Bye,
    Digest,
    Entries,
    Heads,
    Hello,
    Message,
    Missing,
    Part,
    Proof,
    Prune,
    Refusal,
    Snapshot,
    Versions,
    Want,
    decode,
    encode,
    is_payload,
)

numbers = st.integers(0, NUMBER_LIMIT - 1)
digests = st.binary(min_size=DIGEST_BYTES, max_size=DIGEST_BYTES)
times = st.floats(-TIME_LIMIT, TIME_LIMIT)
names = st.from_regex(r"[a-z_][a-z0-9_]{0,20}", fullmatch=True)
versions = st.dictionaries(numbers, numbers, max_size=8)
histories = st.builds(
    make_history,
    numbers,
    numbers,
    numbers,
    weight=st.floats(width=32, allow_nan=False),
    cut=st.binary(min_size=8, max_size=8),
    scale=st.integers(-64, 64),
    gradients=st.binary(max_size=40),
    indices=st.none() | st.binary(max_size=10),
)
signatures = st.binary(min_size=64, max_size=64)
any_entries = (
    histories
    | st.builds(make_end, numbers, numbers, numbers)
    | st.builds(make_ack, numbers, numbers, numbers, digests)
    | st.builds(
        lambda origin, signature: make_end(origin, 1, 2, lambda _: signature), numbers, signatures
    )
)
ranges = st.dictionaries(
    numbers, st.tuples(numbers, numbers).filter(lambda pair: pair[0] != pair[1]), max_size=6
).map(lambda by_origin: tuple((o, min(pair), max(pair)) for o, pair in sorted(by_origin.items())))
messages: st.SearchStrategy[Message] = st.one_of(
    st.builds(Hello, numbers, digests, digests, st.booleans(), times),
    st.builds(Entries, st.lists(any_entries, max_size=3).map(tuple)),
    st.builds(Digest, digests, st.booleans()),
    st.builds(Versions, versions, numbers),
    st.builds(Want, ranges, st.booleans()),
    st.builds(Refusal, st.dictionaries(names, digests, max_size=5)),
    st.just(Bye()),
    st.builds(Announce, versions),
    st.builds(Prune, st.sets(numbers, max_size=5).map(sorted).map(tuple)),
    st.builds(Proof, st.just(make_end(1, 2, 3)), st.just(make_end(1, 2, 4))),
    st.builds(Behind, numbers),
    st.builds(Part, numbers, numbers, st.binary(max_size=20)),
    st.builds(Missing, numbers, st.sets(numbers, max_size=5).map(sorted).map(tuple)),
)

D = b"01234567"
BASE = Base(3, {0: (2, 2), 300: (1, 0)}, 5, np.arange(6).reshape(3, 2))
SNAPSHOT = (
    "93 0c c4 3a 95 03 82 00 92 02 02 cd 01 2c 92 01 00 c4 10 05 00 00 00 00 00 00 00 00 00 00 00 "
    "00 00 00 00 02 c4 18 78 9c 63 60 80 00 46 28 cd 04 a5 99 a1 34 0b 94 66 85 d2 00 01 48 00 10 "
    "91 c4 04 93 04 05 06"
)
GOLDEN: list[tuple[Message, str]] = [
    (
        Hello(3, D, b"abcdefgh", False, 1.5),
        "97 01 03 03 c4 08 30 31 32 33 34 35 36 37 c4 08 61 62 63 64 65 66 67 68 c2 "
        "cb 3f f8 00 00 00 00 00 00",
    ),
    (
        Entries((make_end(1, 2, 3), make_end(4, 5, 6))),
        "92 02 92 c4 04 93 01 02 03 c4 04 93 04 05 06",
    ),
    (Digest(D, True), "93 03 c4 08 30 31 32 33 34 35 36 37 c3"),
    (Versions({1: 7, 300: 1}, 5), "93 04 82 01 07 cd 01 2c 01 05"),
    (Want(((0, 1, 2), (9, 0, 200))), "93 05 92 93 00 01 02 93 09 00 cc c8 c2"),
    (Refusal({"eta": D}), "92 06 81 a3 65 74 61 c4 08 30 31 32 33 34 35 36 37"),
    (Bye(), "91 07"),
    (Announce({1: 7}), "92 08 81 01 07"),
    (Prune((3, 200)), "92 09 92 03 cc c8"),
    (
        Proof(make_end(1, 2, 3), make_end(1, 2, 4)),
        "93 0a c4 04 93 01 02 03 c4 04 93 01 02 04",
    ),
    (Behind(300), "92 0b cd 01 2c"),
    (Snapshot(BASE, (make_end(4, 5, 6),)), SNAPSHOT),
    (Heads(((1, 0, D),)), "92 0d 91 93 01 00 c4 08 30 31 32 33 34 35 36 37"),
    (Part(7, 1, b"\x00\x00\x80\x3f"), "94 0e 07 01 c4 04 00 00 80 3f"),
    (Missing(7, (0, 3)), "93 0f 07 92 00 03"),
]


# The table


@pytest.mark.parametrize(("message", "frame"), GOLDEN)
def test_golden_frames(message: Message, frame: str) -> None:
    read = decode(bytes.fromhex(frame))
    if isinstance(message, Snapshot):
        # Another zlib may find other bytes for the same sums; all read these.
        assert isinstance(read, Snapshot)
        assert read.witnesses == message.witnesses
        assert (read.base.round, read.base.sum) == (BASE.round, BASE.sum)
        assert read.base.ends == BASE.ends
        assert np.array_equal(read.base.arrays, BASE.arrays)
    else:
        assert encode(message).hex(" ") == frame
        assert read == message


def test_the_table_in_the_module_is_complete() -> None:
    """Code, name and number of fields of every message, as the docstring tells them."""
    rows = re.findall(r"^    (\d+) +([A-Z]+) +(.*?) *(payload|control)$", wire.__doc__ or "", re.M)
    told = {int(code): (name, fields, kind) for code, name, fields, kind in rows}
    by_name = {message_type.__name__.upper(): message_type for message_type in get_args(Message)}
    assert {name for name, _, _ in told.values()} == set(by_name)
    for message, _ in GOLDEN:
        parts = msgpack.unpackb(encode(message), strict_map_key=False)
        name, fields, kind = told[parts[0]]
        assert by_name[name] is type(message)
        outermost = re.sub(r"\[.*\]", "list", fields)
        assert len(parts) - 1 == len([field for field in outermost.split(",") if field])
        assert is_payload(encode(message)) == (kind == "payload")
    assert {type(message) for message, _ in GOLDEN} == set(get_args(Message))
    for code in set(range(-3, 300)) - set(told):
        with pytest.raises(MalformedMessage, match="no such message"):
            decode(msgpack.packb([code]))


@given(messages)
def test_a_message_arrives_as_it_was_sent(message: Message) -> None:
    frame = encode(message)
    assert decode(frame) == message
    assert encode(decode(frame)) == frame


@given(messages)
def test_payload_is_what_carries_entries(message: Message) -> None:
    assert is_payload(encode(message)) == isinstance(message, Entries | Part)


# Limits


def test_a_frame_at_the_limit_is_read_and_a_larger_one_not_even_parsed() -> None:
    def frame(gradients: int) -> bytes:
        entry = make_history(
            0, 0, 0, weight=1.0, cut=D, scale=0, gradients=bytes(gradients), indices=None
        )
        return encode(Entries((entry,)))

    room = FRAME_LIMIT - len(frame(2**16)) + 2**16
    assert len(frame(room)) == FRAME_LIMIT
    assert isinstance(decode(frame(room)), Entries)
    with pytest.raises(MalformedMessage, match=f"{FRAME_LIMIT + 1} bytes, at most {FRAME_LIMIT}"):
        decode(frame(room + 1))
    with pytest.raises(MalformedMessage, match="at most"):
        decode(b"\x91\x07" + bytes(FRAME_LIMIT))


@pytest.mark.parametrize(
    "frame",
    [
        b"\xdd\xff\xff\xff\xff",
        b"\xdf\xff\xff\xff\xff",
        b"\xc6\xff\xff\xff\xff",
        b"\xdb\xff\xff\xff\xff",
        b"\xc9\xff\xff\xff\xff\x05",
        b"\x92\x02\xdd\x00\x10\x00\x00",
        b"\x93\x04\xdf\x00\x10\x00\x00",
        b"\x93\x05\xdd\x00\x00\x00\x02\x93\x00\x00\x01",
        b"\xdd\x00\x10\x00\x00" * 1000,
        b"\xdd\x00\x00\x13\x88" * 1000,
    ],
)
def test_what_is_announced_and_does_not_come_costs_nothing(frame: bytes) -> None:
    with pytest.raises(MalformedMessage):
        decode(frame)


def test_room_is_taken_only_for_what_a_frame_can_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    """Some versions of msgpack take the room of all announced items of an array at once."""
    limits = []
    unpackb = msgpack.unpackb

    def spy(frame: bytes, **options: Any) -> Any:
        limits.append(options["max_array_len"] / len(frame))
        return unpackb(frame, **options)

    frames = [encode(message) for message, _ in GOLDEN if not isinstance(message, Snapshot)]
    monkeypatch.setattr(wire.msgpack, "unpackb", spy)
    wire._cached.cache_clear()
    for frame in frames:
        decode(frame)
    assert max(limits) <= 1.0


@pytest.mark.parametrize("depth", [1, 10, 510, 511, 512, 1023, 1024, 1025, 100_000])
@pytest.mark.parametrize("opening", [b"\x91", b"\x81\x00", b"\x92\x02"])
def test_deep_nestings_are_refused(opening: bytes, depth: int) -> None:
    for frame in (opening * depth, opening * depth + b"\x00", b"\x92\x02" + opening * depth):
        with pytest.raises(MalformedMessage):
            decode(frame)


def packed(*parts: Any) -> bytes:
    return bytes(msgpack.packb(parts))


DIGEST = D
HELLO: tuple[Any, ...] = (1, VERSION, 3, DIGEST, b"abcdefgh", False, 1.5)
END = make_end(1, 2, 3).content
OTHER_END = make_end(1, 2, 4).content


def hello(place: int, value: Any) -> bytes:
    return packed(*HELLO[:place], value, *HELLO[place + 1 :])


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        b"\xc0",
        b"\x90",
        b"\x80",
        b"\xc1",
        b"\x07",
        b"\x91\xc3",
        b"\x91\xcb\x40\x1c\x00\x00\x00\x00\x00\x00",
        b"\x91\xa1\x07",
        b"\x91\x07\x00",
        packed(7, 0),
        packed(3, DIGEST),
        packed(3, DIGEST, True, 0),
        packed(3, DIGEST[:7], True),
        packed(3, DIGEST + b"8", True),
        packed(3, DIGEST.decode(), True),
        packed(3, DIGEST, 1),
        packed(3, DIGEST, None),
        packed(4, {1: 7}),
        packed(4, {1: 7}, -1),
        packed(4, {1: 7}, 2**32),
        packed(4, {1: 7}, 0, 0),
        packed(4, [0, 2], 0),
        packed(4, {-1: 2}, 0),
        packed(4, {2**32: 2}, 0),
        packed(4, {1: 2**32}, 0),
        packed(4, {1: -1}, 0),
        packed(4, {1: 1.0}, 0),
        packed(4, {1.0: 1}, 0),
        packed(4, {True: 1}, 0),
        packed(4, {"1": 1}, 0),
        packed(4, {b"1": 1}, 0),
        packed(4, {None: 1}, 0),
        packed(5, [[0, 1, 2]], 0),
        packed(5, [[0, 1, 2]]),
        b"\x93\x04\x81\x91\x01\x01\x00",
        b"\x93\x04\x81\x80\x01\x00",
        b"\x93\x04\x81\xcb\x7f\xf8\x00\x00\x00\x00\x00\x00\x01\x00",
        packed(5, [[0, 1]], False),
        packed(5, [[0, 1, 2, 3]], False),
        packed(5, [[0, 2, 2]], False),
        packed(5, [[0, 3, 2]], False),
        packed(5, [[-1, 0, 2]], False),
        packed(5, [[0, 0, 2**32]], False),
        packed(5, [[0, 0, 1], [0, 1, 2]], False),
        packed(5, [[1, 0, 1], [0, 0, 1]], False),
        packed(5, [[0, 0, 1]] * 1000, False),
        packed(5, {0: 1}, False),
        packed(5, [0, 1, 2], False),
        packed(6, {"not a name": DIGEST}),
        packed(6, {"": DIGEST}),
        packed(6, {"x" * 65: DIGEST}),
        packed(6, {b"eta": DIGEST}),
        packed(6, {3: DIGEST}),
        packed(6, {"eta": DIGEST[:5]}),
        packed(6, {f"f{i}": DIGEST for i in range(257)}),
        packed(6, ["eta"]),
        packed(6, "eta"),
        b"\x92\x06\x81\xa1\xff\xc4\x0801234567",
        packed(8, [0, 1]),
        packed(8, {0: -1}),
        packed(8, {0: 1}, 0),
        packed(9, 3),
        packed(9, [3, 3]),
        packed(9, [4, 3]),
        packed(9, [-1]),
        packed(9, [True]),
        packed(10, END),
        packed(10, END, END),
        packed(10, END, make_end(1, 3, 4).content),
        packed(10, END, make_end(2, 2, 4).content),
        packed(10, END, OTHER_END, 0),
        packed(10, [1, 2, 3], [1, 2, 4]),
        packed(10, b"", OTHER_END),
        packed(11),
        packed(11, -1),
        packed(11, "3"),
        packed(12, b"", []),
        packed(12, BASE.pack()),
        packed(12, BASE.pack(), {}),
        packed(12, BASE.pack(), [b""]),
        packed(12, BASE.pack() + b"0", []),
        packed(12, [1], []),
        packed(14, 0, 0),
        packed(14, 0, 0, "text"),
        packed(14, 0, 0, [0.5]),
        packed(14, -1, 0, b""),
        packed(14, 0, 2**32, b""),
        packed(15, 0),
        packed(15, 0, 1),
        packed(15, 0, [1, 1]),
        packed(15, 0, [2, 1]),
        packed(15, 0, [-1]),
        packed(2, b""),
        packed(2, [b""]),
        packed(2, [make_end(1, 2, 3).content, b"\x93"]),
        packed(2, [[1, 2, 3]]),
        packed(2, {}),
        packed(2, [msgpack.ExtType(1, b"")]),
        packed(2, [msgpack.Timestamp(1)]),
        hello(1, VERSION + 1),
        hello(1, 0),
        hello(1, True),
        hello(2, -1),
        hello(2, 2**32),
        hello(2, "3"),
        hello(3, DIGEST[:5]),
        hello(3, {"eta": DIGEST}),
        hello(3, None),
        hello(4, DIGEST + b"8"),
        hello(4, 7),
        hello(5, 0),
        hello(5, None),
        hello(6, 1),
        hello(6, float("nan")),
        hello(6, float("inf")),
        hello(6, -1e13),
        hello(6, "1.5"),
        packed(*HELLO[:6]),
        packed(*HELLO, 0),
    ],
)
def test_what_is_no_message_is_refused(frame: bytes) -> None:
    with pytest.raises(MalformedMessage) as caught:
        decode(frame)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 200


def test_another_protocol_version_is_named() -> None:
    with pytest.raises(MalformedMessage, match=f"version 9, this is version {VERSION}"):
        decode(hello(1, 9))


# Anything at all


def take(frame: bytes) -> Message | None:
    """Only a typed message or a refusal may come out, and the message must be sendable."""
    try:
        message = decode(frame)
    except MalformedMessage:
        return None
    assert isinstance(message, get_args(Message))
    if not isinstance(message, Snapshot):
        assert decode(encode(message)) == message or has_nan(message)
    assert not is_payload(frame) or isinstance(message, Entries | Part)
    return message


def has_nan(message: Message) -> bool:
    return isinstance(message, Entries) and any(e.weight != e.weight for e in message.entries)


scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**64 - 1),
    st.integers(0, 8),
    st.floats(),
    st.text(max_size=10),
    st.binary(max_size=20),
    digests,
    st.builds(msgpack.ExtType, st.integers(0, 127), st.binary(max_size=4)),
    st.just(msgpack.Timestamp(12345, 678)),
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(scalars, inner, max_size=4),
    max_leaves=12,
)
nearly_messages = st.builds(
    lambda code, fields: packed(code, *fields), st.integers(0, 13), st.lists(values, max_size=6)
)


def damaged(frame: bytes, source: random.Random) -> bytes:
    content = bytearray(frame)
    for _ in range(source.randint(1, 4)):
        place = source.randrange(len(content) + 1)
        kind = source.randrange(6)
        if kind == 0:
            content.insert(place, source.randrange(256))
        elif kind == 1:
            del content[place:]
        elif kind == 2:
            # Heads of every kind, with sizes far past the end.
            head = bytes([source.randrange(0x80, 0x100)])
            content[place:place] = head + struct.pack(">I", source.randrange(2**32))[: place % 5]
        elif kind == 3:
            start = source.randrange(len(content) + 1)
            content[place:place] = content[start : start + 9]
        elif place < len(content) and kind == 4:
            content[place] ^= 1 << source.randrange(8)
        elif place < len(content):
            del content[place]
    return bytes(content)


@settings(max_examples=300)
@given(st.binary(max_size=120))
@example(b"\x91\xd4\xff\x00")
@example(b"\x91\xc7\x00\x05")
def test_any_bytes(frame: bytes) -> None:
    take(frame)


@settings(max_examples=300)
@given(nearly_messages | values.map(msgpack.packb))
def test_any_msgpack(frame: bytes) -> None:
    take(frame)


@settings(max_examples=200)
@given(messages, st.integers(0, 2**32))
def test_any_damage(message: Message, seed: int) -> None:
    source = random.Random(seed)
    for _ in range(4):
        take(damaged(encode(message), source))


def test_a_repeated_key_is_no_way_in() -> None:
    """msgpack keeps the last value; what comes out is checked like any other."""
    assert take(b"\x93\x04\x82\x01\x02\x01\x03\x00") == Versions({1: 3})
    assert take(b"\x93\x04\x82\x01\x02\x01\xff\x00") is None
    name = b"\xa1e\xc4\x08"
    frame = b"\x92\x06\x82" + name + DIGEST + name + b"abcdefgh"
    assert take(frame) == Refusal({"e": b"abcdefgh"})


@pytest.mark.slow
@settings(max_examples=2_000, suppress_health_check=list(HealthCheck))
@given(st.one_of(st.binary(max_size=400), nearly_messages, values.map(msgpack.packb)))
def test_2_000_frames_of_anything(frame: bytes) -> None:
    take(frame)


@pytest.mark.slow
@settings(max_examples=2_000, suppress_health_check=list(HealthCheck))
@given(messages, st.integers(0, 2**32))
def test_100_000_damaged_frames(message: Message, seed: int) -> None:
    frame, source = encode(message), random.Random(seed)
    for _ in range(50):
        take(damaged(frame, source))
