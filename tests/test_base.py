"""A base as bytes: what comes out is what went in, and rubbish costs nothing."""

from __future__ import annotations

import tracemalloc
import zlib
from typing import Any

import msgpack
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from mesh import agreement, history

from peer.base import Base
from peer.entry import NUMBER_LIMIT
from peer.errors import MalformedMessage
from peer.log import runs_of

numbers = st.integers(0, NUMBER_LIMIT - 1)
sums = st.integers(0, 2**128 - 1)
bases = st.builds(
    Base,
    numbers,
    st.dictionaries(numbers, st.tuples(numbers, numbers), max_size=6),
    sums,
    st.integers(1, 20).flatmap(
        lambda k: arrays(np.int64, (3, k), elements=st.integers(-(2**63), 2**63 - 1))
    ),
)


def same(one: Base, other: Base) -> bool:
    return (
        (one.round, one.ends, one.sum) == (other.round, other.ends, other.sum)
        and one.arrays.dtype == other.arrays.dtype == np.int64
        and np.array_equal(one.arrays, other.arrays)
    )


@given(bases)
def test_a_base_is_its_bytes(base: Base) -> None:
    read = Base.unpack(base.pack())
    assert same(read, base)
    assert read.pack() == base.pack()
    # An accumulator goes on from it, so it must not be the frame's memory.
    read.arrays[0, 0] ^= 1


def test_a_cut_becomes_a_base_and_back() -> None:
    protocol = agreement(3, seeding="weighted")
    cut = protocol.cuts.extended(
        protocol.cuts.empty(), runs_of(history(protocol, p, 0, 0) for p in (0, 2))
    )
    base = Base.of(1, cut)
    again = Base.unpack(base.pack()).cut(protocol.units)
    assert again.digest == cut.digest
    assert again.accumulator.digest() == cut.accumulator.digest()
    assert (again.sum, again.ends) == (cut.sum, cut.ends)
    assert (base.round, base.versions, base.ends) == (1, {0: 1, 2: 1}, {0: (1, 0), 2: (1, 0)})


GOOD = [3, {0: [2, 1], 300: [1, 0]}, bytes(16), 2, zlib.compress(bytes(48))]


def with_(place: int, value: Any) -> bytes:
    return bytes(msgpack.packb([*GOOD[:place], value, *GOOD[place + 1 :]]))


def test_the_pattern_of_the_bad_ones_is_good() -> None:
    assert Base.unpack(bytes(msgpack.packb(GOOD))).arrays.shape == (3, 2)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xc1",
        b"\x07",
        b"\x91" * 5000,
        b"\xdd\xff\xff\xff\xff",
        msgpack.packb([]),
        msgpack.packb(GOOD[:4]),
        msgpack.packb([*GOOD, 0]),
        msgpack.packb(GOOD) + b"0",
        with_(0, -1),
        with_(0, 2**32),
        with_(0, True),
        with_(0, 1.0),
        with_(0, None),
        with_(1, [0, 2]),
        with_(1, {-1: [2, 1]}),
        with_(1, {0: [2**32, 1]}),
        with_(1, {0: [1, 2**32]}),
        with_(1, {0: 2}),
        with_(1, {0: [1]}),
        with_(1, {0: [1, 1, 1]}),
        with_(1, {0: None}),
        with_(1, {"0": [2, 1]}),
        with_(1, {b"0": [2, 1]}),
        with_(1, {True: [2, 1]}),
        with_(2, bytes(15)),
        with_(2, 7),
        with_(2, None),
        with_(3, 1),
        with_(3, 3),
        with_(3, -2),
        with_(3, 2**32 - 1),
        with_(4, b""),
        with_(4, b"rubbish"),
        with_(4, zlib.compress(bytes(47))),
        with_(4, zlib.compress(bytes(49))),
        with_(4, zlib.compress(bytes(48))[:-1]),
        with_(4, "text"),
        with_(4, [0] * 6),
    ],
)
def test_what_is_no_base_is_refused(content: bytes) -> None:
    with pytest.raises(MalformedMessage) as caught:
        Base.unpack(bytes(content))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 200


def test_what_comes_after_the_sums_is_refused() -> None:
    """There is one encoding of a base, or its bytes could carry anything."""
    with pytest.raises(MalformedMessage):
        Base.unpack(with_(4, zlib.compress(bytes(48)) + b"tail"))


BOMB = zlib.compress(bytes(2**26), 9)


@pytest.mark.parametrize("candidates", [2, 2**15, 2**20, 2**32 - 1])
def test_a_short_message_does_not_become_a_large_one(candidates: int) -> None:
    """Neither what it says nor what its stream holds is unpacked past what a base may be."""
    assert len(BOMB) < 2**17
    content = bytes(msgpack.packb([*GOOD[:3], candidates, BOMB]))
    tracemalloc.start()
    try:
        with pytest.raises(MalformedMessage):
            Base.unpack(content)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 2**22


@pytest.mark.parametrize("blocks", [1, 7])
def test_every_run_that_folds_has_bases_that_can_be_read(blocks: int) -> None:
    kind = {"seeding": "blocks" if blocks > 1 else "uniform", "blocks": blocks}
    runs = (agreement(2, candidate_seeds=k, **kind) for k in range(2**16 // blocks, 0, -1))
    largest = next(run.seeds.sums for run in runs if run.folds)
    assert largest > 2**15
    base = Base(1, {}, 0, np.full((3, largest), -1))
    assert same(Base.unpack(base.pack()), base)


@settings(max_examples=300)
@given(st.binary(max_size=200))
def test_any_bytes(content: bytes) -> None:
    try:
        Base.unpack(content)
    except MalformedMessage:
        return


@settings(max_examples=200)
@given(bases, st.data())
def test_any_damage(base: Base, data: Any) -> None:
    content = bytearray(base.pack())
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(content) - 1))
        content[place] ^= 1 << data.draw(st.integers(0, 7))
    try:
        Base.unpack(bytes(content))
    except MalformedMessage:
        return
