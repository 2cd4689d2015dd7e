"""Bytes and messages per directed link, counted alike by the simulator and the ZeroMQ process.

A frame's bytes are what the protocol made. What ZMTP adds on the wire follows from the frame's
length: 2 bytes up to 255, else 9. Payload is the frames that carry entries; all else is control.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

from peer.wire import is_payload

SHORT_FRAME = 255
SHORT_HEADER = 2
LONG_HEADER = 9


@dataclass
class LinkCount:
    """What was sent over one directed link."""

    payload_messages: int = 0
    payload_bytes: int = 0
    control_messages: int = 0
    control_bytes: int = 0
    framing_bytes: int = 0

    def add(self, other: LinkCount) -> None:
        """Add what was counted elsewhere."""
        self.payload_messages += other.payload_messages
        self.payload_bytes += other.payload_bytes
        self.control_messages += other.control_messages
        self.control_bytes += other.control_bytes
        self.framing_bytes += other.framing_bytes

    @property
    def wire_bytes(self) -> int:
        """Everything: payload, control and framing."""
        return self.payload_bytes + self.control_bytes + self.framing_bytes


class Traffic:
    """The counts of all directed links (sender, receiver)."""

    def __init__(self) -> None:
        self._links: defaultdict[tuple[int, int], LinkCount] = defaultdict(LinkCount)

    def count(self, sender: int, receiver: int, frame: bytes) -> None:
        """Count one frame."""
        link = self._links[sender, receiver]
        link.framing_bytes += SHORT_HEADER if len(frame) <= SHORT_FRAME else LONG_HEADER
        if is_payload(frame):
            link.payload_messages += 1
            link.payload_bytes += len(frame)
        else:
            link.control_messages += 1
            link.control_bytes += len(frame)

    def add(self, sender: int, receiver: int, count: LinkCount) -> None:
        """Add what was counted elsewhere, by another process or before a resumption."""
        self._links[sender, receiver].add(count)

    def links(self) -> Iterator[tuple[int, int, LinkCount]]:
        """Walk (sender, receiver, count) in order."""
        for (sender, receiver), count in sorted(self._links.items()):
            yield sender, receiver, count

    def total(self) -> LinkCount:
        """Return the sum over all links."""
        total = LinkCount()
        for count in self._links.values():
            total.add(count)
        return total
