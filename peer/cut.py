"""A cut: the sums over a set of histories, with what tells the set itself from every other.

What stands before a history in its origin's log (END and ACK records) belongs to the cut with it,
so the cut says where each log ends, and who acknowledges it acknowledges this, too.

Cuts are never changed. The replicas of one process that have come to the same set share one object,
as `Cuts` finds it by the sum of its entries' hashes; a replica alone makes each cut by itself.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from weakref import WeakValueDictionary

import msgpack

from peer.accumulator import Accumulator
from peer.entry import CUT_BYTES, HASH_BYTES, Entry
from peer.log import HASH_MODULUS, Run

Add = Callable[[Accumulator, Entry], None]
"""Adds a history to an accumulator."""

Ends = Mapping[int, tuple[int, int]]
"""Origin -> how many of its entries there are, and the round of the last, which is a history."""


class Cut:
    """The state of a set of histories.

    Attributes:
        accumulator: their sums; not to be changed.
        sum: of the hashes of the logs' entries up to these, mod 2**128.
        ends: of the logs; see `Ends`.
    """

    def __init__(self, accumulator: Accumulator, sum_: int, ends: Ends) -> None:
        self.accumulator = accumulator
        self.sum = sum_
        self.ends = ends

    @cached_property
    def digest(self) -> bytes:
        """8 bytes for the set, its logs and its sums: what an entry acknowledges as its `cut`."""
        hasher = hashlib.blake2b(self.sum.to_bytes(HASH_BYTES, "little"), digest_size=CUT_BYTES)
        hasher.update(bytes.fromhex(self.accumulator.digest()))
        hasher.update(msgpack.packb(sorted(self.ends.items())))
        return hasher.digest()


class Cuts:
    """Makes cuts out of others, each set once.

    Args:
        empty: makes the accumulator of no histories.
        add: adds one to an accumulator.
    """

    def __init__(self, empty: Callable[[], Accumulator], add: Add) -> None:
        self._empty = empty
        self._add = add
        self._known: WeakValueDictionary[int, Cut] = WeakValueDictionary()

    def empty(self) -> Cut:
        """Return the cut before the first round."""
        cut = self._known.get(0)
        if cut is None:
            cut = self._known[0] = Cut(self._empty(), 0, {})
        return cut

    def extended(self, cut: Cut, histories: Iterable[Run]) -> Cut:
        """Return a cut with some histories more, each given as the chain that it ends."""
        histories = list(histories)
        if not histories:
            return cut
        total = (cut.sum + sum(run.sum for run in histories)) % HASH_MODULUS
        known = self._known.get(total)
        if known is None:
            accumulator, ends = cut.accumulator.copy(), dict(cut.ends)
            for run in histories:
                self._add(accumulator, run.entry)
                end = run.length, run.entry.round
                ends[run.entry.origin] = max(ends.get(run.entry.origin, end), end)
            known = self._known[total] = Cut(accumulator, total, ends)
        return known
