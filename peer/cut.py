"""A cut: the sums over a set of histories, with what tells the set itself from every other.

Cuts are never changed. The replicas of one process that have come to the same set share one object,
as `Cuts` finds it by the sum of its entries' hashes; a replica alone makes each cut by itself.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from functools import cached_property
from typing import Final
from weakref import WeakValueDictionary

from peer.accumulator import Accumulator
from peer.entry import CUT_BYTES, HASH_BYTES, Entry

_MODULUS: Final = 2 ** (8 * HASH_BYTES)

Add = Callable[[Accumulator, Entry, int], None]
"""Adds a history to an accumulator, or with -1 takes it out."""


class Cut:
    """The state of a set of histories.

    Attributes:
        accumulator: their sums; not to be changed.
        sum: of the histories' hashes, mod 2**128.
    """

    def __init__(self, accumulator: Accumulator, sum_: int) -> None:
        self.accumulator = accumulator
        self.sum = sum_

    @cached_property
    def digest(self) -> bytes:
        """8 bytes for the set and its sums: what an entry acknowledges as its `cut`."""
        hasher = hashlib.blake2b(self.sum.to_bytes(HASH_BYTES, "little"), digest_size=CUT_BYTES)
        hasher.update(bytes.fromhex(self.accumulator.digest()))
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
        return self._find(0, self._empty)

    def extended(self, cut: Cut, histories: Iterable[Entry], times: int = 1) -> Cut:
        """Return a cut with some histories more, or with times = -1 without these."""
        histories = list(histories)
        total = (cut.sum + times * sum(entry.hash for entry in histories)) % _MODULUS

        def make() -> Accumulator:
            accumulator = cut.accumulator.copy()
            for entry in histories:
                self._add(accumulator, entry, times)
            return accumulator

        return self._find(total, make) if histories else cut

    def _find(self, total: int, make: Callable[[], Accumulator]) -> Cut:
        cut = self._known.get(total)
        if cut is None:
            cut = self._known[total] = Cut(make(), total)
        return cut
