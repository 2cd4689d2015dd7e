"""Weights that come from neighbours, part by part, until they are whole."""

from __future__ import annotations

from typing import Final

from peer.errors import MalformedMessage
from peer.weights import Weights, part_sizes
from peer.wire import Part

AHEAD: Final = 2
"""Of so many exchanges of one neighbour weights are kept at once, the newest."""

WINDOW: Final = 64
"""Parts that are under way from one neighbour at most: it sends the first unasked, as a start."""


class Inbound:
    """What has come and is still of use.

    Args:
        dtype: of the weights.
        count: P.

    Attributes:
        sizes: the length in bytes of each part.
        whole: weights by (exchange, neighbour).
        taken: how many parts have brought something new.
    """

    def __init__(self, dtype: str, count: int) -> None:
        self.sizes = part_sizes(dtype, count)
        self.whole: dict[tuple[int, int], Weights] = {}
        self.taken = 0
        self._dtype = dtype
        self._count = count
        self._parts: dict[tuple[int, int], dict[int, bytes]] = {}
        self._newest: dict[int, int] = {}
        self._reach: dict[tuple[int, int], int] = {}

    def take(self, neighbour: int, part: Part) -> bool:
        """Take a part; tell whether it has completed a neighbour's weights.

        Raises:
            MalformedMessage: there is no such part, or it has other bytes, or a weight that is not
                finite. What had come of these weights is dropped with the last.
        """
        if part.part >= len(self.sizes) or len(part.data) != self.sizes[part.part]:
            raise MalformedMessage(f"part {part.part} of weights in {len(part.data)} bytes")
        key = part.exchange, neighbour
        if key in self.whole:
            return False
        parts = self._parts.setdefault(key, {})
        if part.part in parts:
            return False
        parts[part.part] = part.data
        self.taken += 1
        self._newest[neighbour] = max(part.exchange, self.newest(neighbour))
        self._drop_old(neighbour)
        if key not in self._parts or len(parts) < len(self.sizes):
            return False
        del self._parts[key]
        self._reach.pop(key, None)
        ordered = [parts[number] for number in range(len(self.sizes))]
        self.whole[key] = Weights.joined(self._dtype, self._count, ordered)
        return True

    def lacking(self, exchange: int, neighbour: int) -> list[int]:
        """Return the parts of a neighbour's weights that have not come, ascending."""
        there = self._parts.get((exchange, neighbour), {})
        return [number for number in range(len(self.sizes)) if number not in there]

    def following(self, exchange: int, neighbour: int, part: int) -> range:
        """Return the parts to be asked for now that one has come, so that the stream goes on.

        Half a window at a time, each part once; what is lost of them is for `lacking` to tell.
        """
        key = exchange, neighbour
        reach = self._reach.get(key, WINDOW)
        if key not in self._parts or part < reach - WINDOW // 2 or reach >= len(self.sizes):
            return range(0)
        self._reach[key] = min(reach + WINDOW // 2, len(self.sizes))
        return range(reach, self._reach[key])

    def newest(self, neighbour: int) -> int:
        """Return the last exchange of which a neighbour has sent anything, -1: of none."""
        return self._newest.get(neighbour, -1)

    def forget(self, before: int) -> None:
        """Drop what belongs to exchanges before one."""
        for held in (self.whole, self._parts, self._reach):
            for key in [key for key in held if key[0] < before]:
                del held[key]

    def _drop_old(self, neighbour: int) -> None:
        """Keep a neighbour's newest exchanges only: it may send what it likes."""
        mine = sorted(
            {number for number, sender in [*self.whole, *self._parts] if sender == neighbour}
        )
        for number in mine[:-AHEAD]:
            self.whole.pop((number, neighbour), None)
            self._parts.pop((number, neighbour), None)
            self._reach.pop((number, neighbour), None)
