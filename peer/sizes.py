"""How large the messages of a run can be: a larger one is refused before it is parsed.

A megabyte of small numbers takes a hundred times as long to parse as to send.
"""

from __future__ import annotations

from typing import Final

from peer.base import MOST_BYTES
from peer.errors import MalformedMessage
from peer.wire import BATCH_BYTES, FRAME_LIMIT, kind_of

SMALL: Final = 2**12
"""Bytes that a message of any kind may have."""

_NUMBER: Final = 5
_HEADER: Final = 64
_SUM: Final = 24
"""Bytes of sum, magnitude and count of a candidate seed."""


class Sizes:
    """The bytes that each kind of message takes at most in a run.

    Args:
        peers: on the roster.
        seeds: K.
        entry: bytes of one, at most.
        witnesses: how many entries come with a base, at most.
        part: bytes of a part of weights, 0 where none travel.

    Attributes:
        base_fits: whether a base and its witnesses fit into a frame.
        largest: bytes of the largest message of any kind.
    """

    def __init__(self, peers: int, seeds: int, entry: int, witnesses: int, part: int) -> None:
        versions = 2 * _NUMBER * peers
        base = _SUM * seeds + (3 * _NUMBER + 1) * peers
        snapshot = _HEADER + base + entry * witnesses
        self.base_fits = snapshot <= FRAME_LIMIT and _SUM * seeds <= MOST_BYTES
        self._most = {
            "ENTRIES": _HEADER + 2 * BATCH_BYTES + entry,
            "VERSIONS": _HEADER + versions,
            "WANT": _HEADER + (3 * _NUMBER + 1) * peers,
            "ANNOUNCE": _HEADER + versions,
            "PRUNE": _HEADER + _NUMBER * peers,
            "PROOF": _HEADER + 2 * entry,
            "SNAPSHOT": snapshot,
            "PART": _HEADER + part,
            "HEADS": _HEADER + (4 * _NUMBER + 1) * peers,
        }
        self.largest = max(self._limit(kind) for kind in self._most)

    def check(self, frame: bytes) -> None:
        """Hold a frame's length against its kind.

        Raises:
            MalformedMessage: no honest peer of this run sends such a frame.
        """
        if len(frame) <= SMALL:
            return
        kind = kind_of(frame)
        most = self._limit(kind)
        if len(frame) > most:
            raise MalformedMessage(f"{len(frame)} bytes in {kind}, at most {most} are read")

    def _limit(self, kind: str) -> int:
        return max(SMALL, min(FRAME_LIMIT, self._most.get(kind, 0)))
