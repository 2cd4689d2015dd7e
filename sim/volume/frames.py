"""How long the frames are that carry a run's entries, from lengths alone.

An entry is a msgpack array (`peer.entry`), and a pushed one travels alone in ENTRIES (`peer.wire`).
Everything in it has a length of its own but its three numbers, which take 1, 2, 3 or 5 bytes as
they grow past 127, 255 and 65,535. So one entry is made, and the others follow from their numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray

from peer import wire
from peer.entry import (
    CUT_BYTES,
    SIGNATURE_BYTES,
    Entry,
    Kind,
    make_ack,
    make_end,
    make_history,
)
from peer.errors import UserError
from peer.folding import IDLE_ROUNDS
from peer.protocol import Protocol
from peer.seeds import active_count
from peer.zmtp import framing_bytes

Numbers = NDArray[np.int64]

MOST_HISTORIES: Final = 2**24
MOST_ROUNDS: Final = 2**16
MOST_COUNTED: Final = 2**26
"""What can be counted within a minute and some gigabytes: all entries, and each round of each peer,
for who is active in it is drawn from all."""

_NUMBER_LIMITS: Final = np.array([2**7, 2**8, 2**16])
_NUMBER_BYTES: Final = np.array([1, 2, 3, 5])
_BINARY_LIMITS: Final = np.array([2**8, 2**16])
_BINARY_HEADERS: Final = np.array([2, 3, 5])


@dataclass(frozen=True)
class Published:
    """All entries of a sync run in which nobody fails, sorted by round; arrays have shape (M,).

    Attributes:
        origins: who publishes it.
        rounds: the round in which that peer is then; the number of rounds for an END.
        histories: whether it holds a round's scalar gradients; else it is an ACK or an END.
        frame_bytes: length of the frame that carries it.
    """

    origins: Numbers
    rounds: Numbers
    histories: NDArray[np.bool_]
    frame_bytes: Numbers

    def by_round(self, rounds: int) -> list[slice]:
        """Return where the entries of each of the first rounds lie."""
        ends = np.searchsorted(self.rounds, np.arange(rounds + 1)).tolist()
        return [slice(first, last) for first, last in pairwise(ends)]

    def framing_bytes(self, *, curve: bool) -> Numbers:
        """Return what ZMTP adds to each frame, shape (M,)."""
        lengths, where = np.unique(self.frame_bytes, return_inverse=True)
        costs = [framing_bytes(int(length), curve=curve) for length in lengths]
        return np.array(costs, dtype=np.int64)[where]


def check_countable(peers: int, rounds: int, participation: float) -> None:
    """Refuse a run whose entries would take too long to count.

    Raises:
        UserError: it is one.
    """
    histories, turns = rounds * active_count(peers, participation), rounds * peers
    # Whoever is idle acknowledges now and then, and everybody says that it has ended.
    others = peers + (turns // IDLE_ROUNDS if histories < turns else 0)
    counted = turns + histories + others
    if histories > MOST_HISTORIES or rounds > MOST_ROUNDS or counted > MOST_COUNTED:
        raise UserError(
            f"rounds = {rounds} is not allowed: the {histories:,} histories of these peers would "
            f"be counted, at most {MOST_HISTORIES:,} in {MOST_ROUNDS:,} rounds can be, and "
            f"{counted:,} entries and rounds of peers, at most {MOST_COUNTED:,}"
        )


def published(protocol: Protocol) -> Published:
    """Return what a run publishes.

    Histories of all active peers, an ACK of whoever has been idle for `IDLE_ROUNDS`, and an END of
    everybody. The scale of one-byte gradients is counted as a byte. One of -33 or less would take
    two: only where no gradient of an entry is above 2**-24.

    Args:
        protocol: the agreement of the run.

    Raises:
        UserError: that is too much to count.
    """
    peers = len(protocol.roster.rows)
    check_countable(peers, protocol.rounds, protocol.roster.participation)
    folds = protocol.folding and protocol.schedule == "sync" and protocol.folds
    sequences = np.zeros(peers, dtype=np.int64)
    last_word = np.full(peers, -1)
    samples = _samples(protocol)
    parts: list[tuple[Numbers, Numbers, NDArray[np.bool_], Numbers]] = []

    def publish(origins: Numbers, round_: int, kind: Kind) -> None:
        numbers, history = (
            np.full(len(origins), round_),
            np.full(len(origins), kind is Kind.HISTORY),
        )
        lengths = _frame_lengths(samples[kind], origins, sequences[origins], numbers)
        parts.append((origins, numbers, history, lengths))
        sequences[origins] += 1
        last_word[origins] = round_

    for round_ in range(protocol.rounds):
        active = np.array(protocol.roster.active(round_), dtype=np.int64)
        if folds:
            idle = np.array(protocol.roster.members(round_), dtype=np.int64)
            idle = idle[round_ - last_word[idle] >= IDLE_ROUNDS]
            publish(np.setdiff1d(idle, active), round_, Kind.ACK)
        publish(active, round_, Kind.HISTORY)
    evicted = list(protocol.roster.evicted)
    publish(np.setdiff1d(np.arange(peers), evicted), protocol.rounds, Kind.END)
    columns = zip(*parts, strict=True)
    return Published(*(np.concatenate(column) for column in columns))


def history_bytes(protocol: Protocol) -> int:
    """Return the length of the frame of a history whose three numbers take a byte each."""
    return len(wire.encode_entry(_samples(protocol)[Kind.HISTORY]))


def _samples(protocol: Protocol) -> Mapping[Kind, Entry]:
    """Return a history, an ACK and an END whose three numbers take a byte each."""
    seeds = protocol.seeds
    sign = (lambda _: bytes(SIGNATURE_BYTES)) if protocol.public_keys else None
    history = make_history(
        0,
        0,
        0,
        weight=1.0,
        cut=bytes(CUT_BYTES),
        scale=0,
        gradients=bytes(seeds.numbers * protocol.gradient_bytes),
        indices=None if seeds.packed_bytes is None else bytes(seeds.packed_bytes),
        sign=sign,
    )
    return {
        Kind.HISTORY: history,
        Kind.ACK: make_ack(0, 0, 0, bytes(CUT_BYTES), sign),
        Kind.END: make_end(0, 0, 0, sign),
    }


def _frame_lengths(sample: Entry, *numbers: Numbers) -> Numbers:
    """Return the lengths of frames like that of a sample, but with other numbers."""
    content = np.full(len(numbers[0]), len(sample.content))
    for number in numbers:
        content += _number_bytes(number) - 1
    around = len(wire.encode_entry(sample)) - len(sample.content)
    around -= int(_binary_header(np.array([len(sample.content)]))[0])
    lengths: Numbers = around + _binary_header(content) + content
    return lengths


def _number_bytes(number: Numbers) -> Numbers:
    bytes_: Numbers = _NUMBER_BYTES[np.searchsorted(_NUMBER_LIMITS, number, side="right")]
    return bytes_


def _binary_header(length: Numbers) -> Numbers:
    bytes_: Numbers = _BINARY_HEADERS[np.searchsorted(_BINARY_LIMITS, length, side="right")]
    return bytes_
