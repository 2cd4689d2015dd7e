"""Which entries a peer takes from its neighbours, and which it refuses unchanged (C8)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from mesh import agreement, history, in_the_middle, met, refused

from peer.entry import Entry, make_end, pack_indices
from peer.events import EntryAdded, Rejected
from peer.protocol import Protocol
from peer.units import SUM_LIMIT
from peer.wire import Entries, encode

NAN = float("nan")


def with_steps(protocol: Protocol, values: list[float], scale: int = 0, **changes: Any) -> Entry:
    kind = {4: "<f4", 2: "<f2"}.get(protocol.gradient_bytes)
    with np.errstate(over="ignore"):
        data = np.array(values).astype(kind).tobytes() if kind else bytes(map(int, values))
    return history(protocol, 1, 1, 1, gradients=data, scale=scale, **changes)


def weight_of(protocol: Protocol) -> float:
    return protocol.roster.weight(1, 1, protocol.step_size)


def with_counts(protocol: Protocol, counts: list[int], sequence: int = 1, round_: int = 1) -> Entry:
    """An entry that says so of each block."""
    return history(protocol, 1, sequence, round_, indices=protocol.seeds.pack(np.array(counts)))


BLOCKS: dict[str, Any] = {"seeding": "blocks", "blocks": 3}

BAD_ENTRIES: dict[str, tuple[dict[str, Any], Any, str]] = {
    "origin": ({}, lambda _: make_end(5, 0, 4), "roster"),
    "far origin": ({}, lambda _: make_end(2**32 - 1, 0, 4), "roster"),
    "sequence": ({}, lambda p: history(p, 1, 8, 1), "a log has 8 at most"),
    "far sequence": ({}, lambda p: history(p, 1, 2**32 - 1, 1), "a log has 8 at most"),
    "round": ({}, lambda p: history(p, 1, 1, 4, weight=weight_of(p)), "round 4"),
    "far round": ({}, lambda p: history(p, 1, 1, 2**32 - 1, weight=weight_of(p)), "round"),
    "END of no round": ({}, lambda _: make_end(1, 1, 0), "END after 0"),
    "END of a longer run": ({}, lambda _: make_end(1, 1, 5), "END after 5"),
    "weight": ({}, lambda p: history(p, 1, 1, 1, weight=weight_of(p) * 1.0001), "weight"),
    "light": ({}, lambda p: history(p, 1, 1, 1, weight=0.0), "weight"),
    "negative": ({}, lambda p: history(p, 1, 1, 1, weight=-weight_of(p)), "weight"),
    "NaN weight": ({}, lambda p: history(p, 1, 1, 1, weight=NAN), "weight"),
    "infinite weight": ({}, lambda p: history(p, 1, 1, 1, weight=float("inf")), "weight"),
    "short": ({}, lambda p: with_steps(p, [0.5] * 4), "16 bytes"),
    "long": ({}, lambda p: with_steps(p, [0.5] * 6), "24 bytes"),
    "torn": ({}, lambda p: history(p, 1, 1, 1, gradients=bytes(19)), "19 bytes"),
    "empty": ({}, lambda p: with_steps(p, []), "0 bytes"),
    "too many steps": ({}, lambda p: with_steps(p, [0.5] * 200), "800 bytes"),
    "oversized": ({}, lambda p: with_steps(p, [0.5] * 200_000), "bytes in ENTRIES, at most"),
    "scale": ({}, lambda p: with_steps(p, [0.5] * 5, scale=1), "scale"),
    "past the bound": ({}, lambda p: with_steps(p, [0.5, 1.0000001, 0, 0, 0]), "bound"),
    "below the bound": ({}, lambda p: with_steps(p, [0.5, 0, 0, 0, -1.0000001]), "bound"),
    "infinite": ({}, lambda p: with_steps(p, [0.5, 0, np.inf, 0, 0]), "not finite"),
    "foreign NaN": (
        {},
        lambda p: history(p, 1, 1, 1, gradients=bytes(16) + b"\x01\x00\xc0\x7f"),
        "not finite",
    ),
    "indices": ({}, lambda p: history(p, 1, 1, 1, indices=bytes(10)), "FedKSeed-Pro"),
    "half, infinite": (
        {"gradient_bytes": 2},
        lambda p: with_steps(p, [0, 0, 0, 0, 1e9]),
        "not finite",
    ),
    "half, bound": ({"gradient_bytes": 2}, lambda p: with_steps(p, [0, 0, 0, 0, 1.001]), "bound"),
    "byte, NaN": ({"gradient_bytes": 1}, lambda p: with_steps(p, [0, 0, 0, 0, 0xFF]), "finite"),
    "byte, bound": ({"gradient_bytes": 1}, lambda p: with_steps(p, [0, 0, 0, 0, 0x39]), "bound"),
    "byte, scale": ({"gradient_bytes": 1}, lambda p: with_steps(p, [0] * 5, scale=65), "scale"),
    "byte, far scale": (
        {"gradient_bytes": 1},
        lambda p: with_steps(p, [0] * 5, scale=-(2**63)),
        "scale",
    ),
    "Pro without indices": (
        {"seeding": "weighted"},
        lambda p: history(p, 1, 1, 1, indices=None),
        "FedKSeed-Pro",
    ),
    "Pro, few indices": (
        {"seeding": "weighted"},
        lambda p: history(p, 1, 1, 1, indices=bytes(8)),
        "8 bytes",
    ),
    "Pro, torn indices": (
        {"seeding": "weighted"},
        lambda p: history(p, 1, 1, 1, indices=bytes(9)),
        "9 bytes",
    ),
    "Pro, index past K": (
        {"seeding": "weighted"},
        lambda p: history(p, 1, 1, 1, indices=pack_indices(np.array([0, 1, 2, 3, 16]), 16)),
        "past the 16",
    ),
    "endless, indices": (
        {"seeding": "endless"},
        lambda p: history(p, 1, 1, 1, indices=bytes(10)),
        "follow from origin and round",
    ),
    "endless, short": ({"seeding": "endless"}, lambda p: with_steps(p, [0.5] * 4), "16 bytes"),
    "endless, far round": (
        {"seeding": "endless"},
        lambda p: history(p, 1, 1, 2**32 - 1, weight=weight_of(p)),
        "round",
    ),
    "blocks, no counts": (BLOCKS, lambda p: history(p, 1, 1, 1, indices=None), "0 bytes"),
    "blocks, few counts": (BLOCKS, lambda p: history(p, 1, 1, 1, indices=bytes(4)), "4 bytes"),
    "blocks, many counts": (BLOCKS, lambda p: history(p, 1, 1, 1, indices=bytes(8)), "8 bytes"),
    "blocks, torn counts": (BLOCKS, lambda p: history(p, 1, 1, 1, indices=bytes(5)), "5 bytes"),
    "blocks, nothing": (BLOCKS, lambda p: with_counts(p, [0, 0, 0]), "0 coordinates"),
    "blocks, one less": (BLOCKS, lambda p: with_counts(p, [4, 0, 0]), "4 coordinates"),
    "blocks, one more": (BLOCKS, lambda p: with_counts(p, [1, 4, 1]), "6 coordinates"),
    "blocks, all the most": (BLOCKS, lambda p: with_counts(p, [65535] * 3), "196605 coordinates"),
    "blocks, past K": (
        BLOCKS | {"coordinates": 20, "candidate_seeds": 16},
        lambda p: with_counts(p, [17, 3, 0]),
        "17 of one block",
    ),
    "blocks, few coordinates": (BLOCKS, lambda p: with_steps(p, [0.5] * 4), "16 bytes"),
    "blocks, many coordinates": (BLOCKS, lambda p: with_steps(p, [0.5] * 6), "24 bytes"),
    "blocks, past the bound": (BLOCKS, lambda p: with_steps(p, [0.5, 2, 0, 0, 0]), "bound"),
    "blocks, infinite": (BLOCKS, lambda p: with_steps(p, [0.5, 0, np.inf, 0, 0]), "not finite"),
    "blocks, a second content": (
        BLOCKS,
        lambda p: with_counts(p, [5, 0, 0], sequence=0, round_=0),
        "second content",
    ),
    "a second content": ({}, lambda p: history(p, 1, 0, 0, fill=0.75), "second content"),
    "a round again": ({}, lambda p: history(p, 1, 1, 0), "round 0 after round 0"),
    "a round before": ({}, lambda p: history(p, 3, 2, 1), "round 1 after round 2"),
    "an END too early": ({}, lambda _: make_end(3, 2, 2), "round 2 after round 2"),
}


@pytest.mark.parametrize("name", BAD_ENTRIES)
def test_an_entry_that_no_honest_peer_publishes_is_refused(name: str) -> None:
    changes, make, reason = BAD_ENTRIES[name]
    gossip = in_the_middle(**changes)
    assert refused(gossip, encode(Entries((make(gossip.protocol),))), reason).messages == []
    # What is in order is still taken, from the same neighbour.
    good = history(gossip.protocol, 1, 1, 1)
    output = gossip.receive(encode(Entries((good,))), 1, 3.0)
    assert output.events == [EntryAdded(good)]


def test_an_entry_of_a_peer_that_is_not_active_is_refused() -> None:
    protocol = agreement(5, rounds=4, participation=0.4)
    gossip, _ = met(0, [1, 2], protocol)
    idle = next(p for p in range(1, 5) if p not in protocol.roster.active(0))
    entry = history(protocol, idle, 0, 0)
    refused(gossip, encode(Entries((entry,))), "not active in round 0")


def test_an_entry_may_have_any_weight_within_the_tolerance() -> None:
    """Another machine may compute the last bits of c_i * eta differently; its entry counts."""
    gossip = in_the_middle()
    near = float(np.nextafter(np.float32(weight_of(gossip.protocol)), np.float32(2)))
    entry = history(gossip.protocol, 1, 1, 1, weight=near)
    assert gossip.receive(encode(Entries((entry,))), 1, 2.0).events == [EntryAdded(entry)]
    assert gossip.log.entries(1)[1].weight == near


def test_a_log_goes_on_after_its_end_only_with_later_rounds() -> None:
    gossip = in_the_middle()
    p = gossip.protocol
    gossip.receive(encode(Entries((make_end(1, 1, 2),))), 1, 2.0)
    assert gossip.log.length(1) == 2
    for entry in (history(p, 1, 2, 1), make_end(1, 2, 1), make_end(1, 2, 2)):
        refused(gossip, encode(Entries((entry,))), "after round 2")
    for entry in (history(p, 1, 2, 2), make_end(1, 3, 3), make_end(1, 4, 4)):
        assert gossip.receive(encode(Entries((entry,))), 1, 2.0).events[0] == EntryAdded(entry)
    refused(gossip, encode(Entries((history(p, 1, 5, 3),))), "after the end")


def test_a_bad_entry_does_not_take_the_good_ones_of_its_message_along() -> None:
    gossip = in_the_middle()
    p = gossip.protocol
    good = [history(p, 1, 1, 1), history(p, 2, 1, 1)]
    bad = history(p, 4, 1, 1, weight=NAN)
    output = gossip.receive(encode(Entries((good[0], bad, good[1]))), 1, 2.0)
    assert [e.entry for e in output.events if isinstance(e, EntryAdded)] == good
    assert [type(e) for e in output.events] == [EntryAdded, Rejected, EntryAdded]


def test_a_damaged_entry_spoils_its_message() -> None:
    """Bytes that are not well-formed to their end are no message, so nothing in them is taken."""
    gossip = in_the_middle()
    entries = history(gossip.protocol, 1, 1, 1), make_end(2, 1, 4)
    frame = encode(Entries(entries))
    refused(gossip, frame[:-1] + b"\xc3", "numbers")


def test_no_sum_overflows_however_often_a_peer_publishes() -> None:
    """Without one entry per round the choice of units would bound nothing (C2)."""
    protocol = agreement(2, rounds=2, local_steps=4, candidate_seeds=1, gradient_bound=2.0**15)
    gossip, _ = met(0, [1], protocol)
    largest = protocol.gradient_bound
    for sequence in range(50):
        for round_ in range(protocol.rounds):
            entry = history(protocol, 1, sequence, round_, fill=largest)
            gossip.receive(encode(Entries((entry,))), 1, 1.0)
    assert [e.round for e in gossip.log.entries(1)] == [0, 1]
    steps = np.full(4, largest)
    for round_ in (0, 1):
        indices = np.zeros(4, dtype=np.int64)
        gossip.publish(round_, indices, steps, 2.0)
    assert gossip.rounds.over
    total = int(gossip.rounds.accumulator.sums[0])
    both = 8 * largest * protocol.step_size * 2**protocol.units.fraction_bits
    assert total == pytest.approx(both, rel=1e-6)
    assert total < SUM_LIMIT
