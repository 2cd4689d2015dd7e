"""What a neighbour may cost: messages and bytes that bring nothing new are paid from an allowance.

An entry that is new is free, for the roster and the rounds bound how many there can be. Everything
else an honest neighbour sends in proportion to time (digests, versions) or to what is new (second
copies, announcements, requests), so the allowance grows with both, up to a limit.
"""

from __future__ import annotations

import math
from typing import Final

from peer.protocol import Protocol

MESSAGES_PER_TICK: Final = 16
MESSAGES_PER_ENTRY: Final = 4
BYTES_PER_TICK: Final = 2**16
BYTES_PER_PEER: Final = 16
"""What a version vector takes for one peer, and once more."""

MOST_MESSAGES: Final = 512
MOST_BYTES: Final = 2**23
OFFENCE: Final = 64
"""Messages that one counts for which cannot be taken."""


class Quota:
    """The allowance of one neighbour.

    Args:
        protocol: says how many peers there are, and how long a tick is.
        now: the time.
    """

    __slots__ = ("_bytes", "_entries", "_messages", "_protocol", "_since")

    def __init__(self, protocol: Protocol, now: float) -> None:
        self._protocol = protocol
        self._messages = math.inf
        self._bytes = math.inf
        self._entries = 0
        self._since = now

    def pay(self, now: float, entries: int, size: int, messages: int) -> bool:
        """Take what a message costs; return False when the allowance is used up.

        Args:
            now: the time.
            entries: how many new ones this peer has taken so far, whoever has brought them.
            size: bytes.
            messages: how many it counts for.
        """
        protocol = self._protocol
        peers = len(protocol.roster.rows)
        ticks = (now - self._since) / protocol.tick
        new = entries - self._entries
        self._since, self._entries = now, entries
        per_tick = BYTES_PER_TICK + BYTES_PER_PEER * MESSAGES_PER_TICK * peers
        self._messages += ticks * MESSAGES_PER_TICK + new * MESSAGES_PER_ENTRY
        self._bytes += ticks * per_tick + new * MESSAGES_PER_ENTRY * protocol.entry_bytes
        most = MOST_MESSAGES + MESSAGES_PER_ENTRY * peers
        self._messages = min(self._messages, most) - messages
        # What was asked for twice because it was slow to come may be all of the weights.
        self._bytes = min(self._bytes, max(MOST_BYTES, 2 * protocol.weights_bytes)) - size
        return self._messages >= 0 and self._bytes >= 0
