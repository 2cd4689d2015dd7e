"""Bytes and messages per directed link, counted alike by the simulator and the ZeroMQ process.

A frame's bytes are what the protocol made; payload is the frames that carry entries, all else is
control. What ZMTP adds around a frame is framing, and what it needs for a connection is handshake;
both follow from lengths (see `peer.zmtp`). A link belongs to two connections, one dialled by each
end, and gets what its sender sends over both.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from peer.wire import PAYLOAD
from peer.zmtp import framing_bytes, handshake_bytes


@dataclass(slots=True)
class LinkCount:
    """What was sent over one directed link."""

    payload_messages: int = 0
    payload_bytes: int = 0
    control_messages: int = 0
    control_bytes: int = 0
    framing_bytes: int = 0
    handshake_bytes: int = 0

    def count(self, frame: bytes, framing: int) -> None:
        """Count one frame, and what ZMTP adds to it."""
        self.framing_bytes += framing
        if frame.startswith(PAYLOAD):
            self.payload_messages += 1
            self.payload_bytes += len(frame)
        else:
            self.control_messages += 1
            self.control_bytes += len(frame)

    def add(self, other: LinkCount) -> None:
        """Add what was counted elsewhere."""
        self.payload_messages += other.payload_messages
        self.payload_bytes += other.payload_bytes
        self.control_messages += other.control_messages
        self.control_bytes += other.control_bytes
        self.framing_bytes += other.framing_bytes
        self.handshake_bytes += other.handshake_bytes

    @property
    def wire_bytes(self) -> int:
        """Everything: payload, control, framing and handshakes."""
        return self.payload_bytes + self.control_bytes + self.framing_bytes + self.handshake_bytes


class Traffic:
    """The counts of all directed links (sender, receiver).

    Args:
        curve: whether links are encrypted, which makes all that ZMTP adds longer.

    Attributes:
        framing: returns what a frame of so many bytes costs beyond these.
    """

    def __init__(self, *, curve: bool = False) -> None:
        self._curve = curve
        self.framing = lru_cache(2**12)(lambda length: framing_bytes(length, curve=curve))
        self._links: defaultdict[tuple[int, int], LinkCount] = defaultdict(LinkCount)

    def count(self, sender: int, receiver: int, frame: bytes) -> None:
        """Count one frame."""
        self._links[sender, receiver].count(frame, self.framing(len(frame)))

    def link(self, sender: int, receiver: int) -> LinkCount:
        """Return the count of one directed link, to which more may be added."""
        return self._links[sender, receiver]

    def count_handshake(self, sender: int, receiver: int, *, dialled: bool) -> None:
        """Count the sender's part in making a connection, which it has dialled or answered."""
        sent = handshake_bytes(dialled=dialled, curve=self._curve)
        self._links[sender, receiver].handshake_bytes += sent

    def add(self, sender: int, receiver: int, count: LinkCount) -> None:
        """Add what was counted elsewhere, by another process or before a resumption."""
        self._links[sender, receiver].add(count)

    def links(self) -> Iterator[tuple[int, int, LinkCount]]:
        """Walk (sender, receiver, count) in order."""
        for (sender, receiver), count in sorted(self._links.items()):
            yield sender, receiver, count

    def over_links(self) -> Counter[tuple[int, int]]:
        """Return the bytes over each link (lower end, higher end), both ways, all included."""
        carried: Counter[tuple[int, int]] = Counter()
        for (sender, receiver), count in self._links.items():
            carried[min(sender, receiver), max(sender, receiver)] += count.wire_bytes
        return carried

    def total(self) -> LinkCount:
        """Return the sum over all links."""
        total = LinkCount()
        for count in self._links.values():
            total.add(count)
        return total
