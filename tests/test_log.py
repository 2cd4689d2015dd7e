"""The replicated logs: merge is a join (C3), shown as laws on drawn states."""

from __future__ import annotations

import doctest
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import peer.log
from peer.entry import Entry, make_end, make_history
from peer.errors import Equivocation, Gap
from peer.log import DIGEST_BYTES, EntryLog

ORIGINS = 4
LONGEST = 5


def entry(origin: int, sequence: int, content: int = 0) -> Entry:
    return make_history(
        origin,
        sequence,
        sequence,
        weight=0.5,
        cut=bytes(8),
        scale=0,
        gradients=bytes([content]),
        indices=None,
    )


def log_of(lengths: dict[int, int], contents: Callable[[int, int], int] = lambda *_: 0) -> EntryLog:
    return EntryLog(
        entry(origin, sequence, contents(origin, sequence))
        for origin, length in lengths.items()
        for sequence in range(length)
    )


def copy(log: EntryLog) -> EntryLog:
    return EntryLog(log)


def state(log: EntryLog) -> tuple[Any, ...]:
    return log.versions(), log.digest(), [e.content for e in log], len(log)


def joined(one: EntryLog, other: EntryLog) -> EntryLog:
    result = copy(one)
    result.merge(other)
    return result


lengths = st.dictionaries(st.integers(0, ORIGINS - 1), st.integers(0, LONGEST), max_size=ORIGINS)
logs = lengths.map(log_of)


# Laws


@given(logs, logs)
def test_merge_is_commutative(one: EntryLog, other: EntryLog) -> None:
    assert state(joined(one, other)) == state(joined(other, one))


@given(logs, logs, logs)
def test_merge_is_associative(a: EntryLog, b: EntryLog, c: EntryLog) -> None:
    assert state(joined(joined(a, b), c)) == state(joined(a, joined(b, c)))


@given(logs)
def test_merge_is_idempotent(log: EntryLog) -> None:
    before = state(log)
    assert log.merge(copy(log)) == []
    assert log.merge(log) == []
    assert state(log) == before


@given(logs)
def test_the_empty_log_is_neutral(log: EntryLog) -> None:
    assert state(joined(log, EntryLog())) == state(log)
    assert state(joined(EntryLog(), log)) == state(log)


@given(logs, logs)
def test_merge_is_the_least_upper_bound(one: EntryLog, other: EntryLog) -> None:
    both = joined(one, other)
    origins = {*one.versions(), *other.versions()}
    assert both.versions() == {o: max(one.length(o), other.length(o)) for o in sorted(origins)}
    for part in (one, other):
        assert both.missing(part.versions()) == []
        assert state(joined(both, part)) == state(both)


@given(logs, logs)
def test_merge_returns_what_was_new_and_leaves_the_other_alone(
    one: EntryLog, other: EntryLog
) -> None:
    held, untouched = {e.content for e in one}, state(other)
    new = one.merge(other)
    assert [e.content for e in new] == [e.content for e in other if e.content not in held]
    assert state(other) == untouched
    assert [e.content for e in one if e.content not in held] == [e.content for e in new]


@given(st.lists(logs, min_size=1, max_size=5), st.randoms(use_true_random=False))
def test_replicas_that_have_merged_the_same_agree(parts: list[EntryLog], random: Any) -> None:
    shuffled = [*parts, *parts[:2]]
    random.shuffle(shuffled)
    one, other = EntryLog(), EntryLog()
    for part in parts:
        one.merge(part)
    for part in shuffled:
        other.merge(part)
    assert state(one) == state(other)


# Adding


deliveries = st.lists(
    st.tuples(st.integers(0, ORIGINS - 1), st.integers(0, LONGEST - 1)), max_size=40
)


@given(deliveries)
def test_a_delivery_is_new_or_known_or_a_gap(places: list[tuple[int, int]]) -> None:
    """Against a model of plain counters; the version vector only ever grows, by one at a time."""
    log, counts = EntryLog(), [0] * ORIGINS
    for origin, sequence in places:
        before = state(log)
        if sequence > counts[origin]:
            with pytest.raises(Gap):
                log.add(entry(origin, sequence))
            assert state(log) == before
            continue
        was_new = log.add(entry(origin, sequence))
        assert was_new == (sequence == counts[origin])
        counts[origin] += was_new
        assert (state(log) == before) == (not was_new)
        assert (log.digest() == before[1]) == (not was_new)
    assert log.versions() == {origin: count for origin, count in enumerate(counts) if count}
    assert len(log) == sum(counts)
    assert [(e.origin, e.sequence) for e in log] == [
        (origin, sequence) for origin in range(ORIGINS) for sequence in range(counts[origin])
    ]


@given(lengths, st.randoms(use_true_random=False))
def test_the_digest_does_not_know_the_order_of_arrival(
    lengths: dict[int, int], random: Any
) -> None:
    waiting = {origin: list(range(length)) for origin, length in lengths.items() if length}
    log = EntryLog()
    while waiting:
        origin = random.choice(sorted(waiting))
        log.add(entry(origin, waiting[origin].pop(0)))
        if not waiting[origin]:
            del waiting[origin]
    assert state(log) == state(log_of({o: n for o, n in sorted(lengths.items()) if n}))


def test_a_gap_says_what_is_missing() -> None:
    log = log_of({2: 3})
    before = state(log)
    with pytest.raises(Gap, match="entry 5 of peer 2 came, number 3 is missing"):
        log.add(entry(2, 5))
    with pytest.raises(Gap, match="number 0 is missing"):
        log.add(entry(1, 1))
    assert state(log) == before
    assert log.versions() == {2: 3}


# Equivocation


@given(lengths, st.integers(0, ORIGINS - 1), st.integers(0, LONGEST - 1))
def test_a_second_content_is_an_equivocation(
    lengths: dict[int, int], origin: int, sequence: int
) -> None:
    log = log_of(lengths)
    held = sequence < log.length(origin)
    before = state(log)
    if held:
        with pytest.raises(Equivocation, match=f"entry {sequence} of peer {origin}"):
            log.add(entry(origin, sequence, content=1))
        assert state(log) == before
        assert log.holds(entry(origin, sequence))
    assert not log.holds(entry(origin, sequence, content=1))
    assert log.holds(entry(origin, sequence)) == held


@given(lengths, lengths, st.integers(0, ORIGINS - 1), st.integers(0, LONGEST - 1))
def test_a_merge_with_an_equivocation_changes_nothing(
    mine: dict[int, int], theirs: dict[int, int], origin: int, sequence: int
) -> None:
    """Even where other origins, or the place before, would have had something new."""
    mine[origin] = max(mine.get(origin, 0), sequence + 1)
    theirs[origin] = max(theirs.get(origin, 0), sequence + 1)
    one = log_of(mine)
    other = log_of(theirs, lambda o, s: int((o, s) >= (origin, sequence) and o == origin))
    before, untouched = state(one), state(other)
    with pytest.raises(Equivocation, match=f"entry {sequence} of peer {origin}"):
        one.merge(other)
    assert state(one) == before
    assert state(other) == untouched


# Digests


def test_a_digest_covers_contents_numbers_and_origins() -> None:
    different = [
        EntryLog(),
        log_of({0: 1}),
        log_of({1: 1}),
        log_of({0: 2}),
        log_of({0: 1, 1: 1}),
        log_of({0: 1}, lambda *_: 1),
        log_of({0: 2}, lambda _, sequence: int(sequence == 0)),
        log_of({0: 2}, lambda _, sequence: int(sequence == 1)),
        EntryLog([make_end(0, 0, 1)]),
        EntryLog([make_end(0, 0, 2)]),
    ]
    digests = [log.digest() for log in different]
    assert len(set(digests)) == len(digests)
    assert all(len(digest) == DIGEST_BYTES for digest in digests)


@given(lengths, lengths)
def test_equal_digests_mean_equal_contents(one: dict[int, int], other: dict[int, int]) -> None:
    a, b = log_of(one), log_of(other)
    assert (a.digest() == b.digest()) == ([e.content for e in a] == [e.content for e in b])


def test_golden_digest() -> None:
    assert EntryLog().digest().hex() == "5250a507f994740e"
    assert log_of({0: 1}).digest().hex() == "a37d4d699d2083e8"
    assert log_of({3: 2, 0: 3}).digest().hex() == "d223a8dca025408b"


# Queries


@given(logs, logs)
def test_what_is_missing_is_what_a_merge_would_bring(mine: EntryLog, theirs: EntryLog) -> None:
    ranges = mine.missing(theirs.versions())
    brought = [e for o, start, stop in ranges for e in theirs.entries(o, start, stop)]
    assert all(start < stop for _, start, stop in ranges)
    assert [o for o, _, _ in ranges] == sorted({o for o, _, _ in ranges})
    assert [e.content for e in brought] == [e.content for e in mine.merge(theirs)]


@given(logs, st.integers(0, ORIGINS), st.integers(0, 9), st.integers(0, 9) | st.none())
def test_ranges_are_cut_to_what_is_held(
    log: EntryLog, origin: int, start: int, stop: int | None
) -> None:
    before = state(log)
    expected = [e for e in log if e.origin == origin and e.sequence >= start]
    expected = [e for e in expected if stop is None or e.sequence < stop]
    assert log.entries(origin, start, stop) == expected
    assert log.length(origin) == log.versions().get(origin, 0)
    assert state(log) == before


def test_a_caller_s_list_is_its_own() -> None:
    log = log_of({0: 2})
    before = state(log)
    log.entries(0).clear()
    log.versions().clear()
    assert state(log) == before


def test_the_example_in_the_module() -> None:
    result = doctest.testmod(peer.log)
    assert result.attempted > 0
    assert result.failed == 0
