"""How neighbours behave: what cannot be taken is counted, and liars are banned."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from peer.errors import Forgery, NeighbourError
from peer.events import Banned, Rejected
from peer.links import Link
from peer.outbox import Outbox
from peer.protocol import Protocol
from peer.quota import OFFENCE, Quota


class Conduct:
    """The neighbours' record.

    Args:
        protocol: says whether liars are disconnected.
        links: to all neighbours.
        outbox: takes the events.

    Attributes:
        rejections: how many messages of each neighbour could not be taken.
        accused: peers that have lied or cost too much, neighbours or not -> how.
    """

    def __init__(self, protocol: Protocol, links: Mapping[int, Link], outbox: Outbox) -> None:
        self._protocol = protocol
        self._links = links
        self._outbox = outbox
        self._quotas: dict[int, Quota] = {}
        self.rejections: Counter[int] = Counter()
        self.accused: dict[int, str] = {}

    def reject(self, neighbour: int, error: NeighbourError, now: float, entries: int) -> None:
        """Count and report what cannot be taken.

        Args:
            neighbour: who sent it.
            error: what is wrong with it.
            now: the time.
            entries: how many new ones this peer has taken so far.
        """
        self.rejections[neighbour] += 1
        self._outbox.emit(Rejected(neighbour, str(error), self.rejections[neighbour]))
        if isinstance(error, Forgery):
            self.ban(neighbour, f"sent a forged entry: {error}")
        elif neighbour in self._links:
            self.charge(neighbour, now, entries, 0, OFFENCE)

    def charge(
        self, neighbour: int, now: float, entries: int, size: int, messages: int = 1
    ) -> None:
        """Let a neighbour pay for what has brought nothing new; see `Quota.pay`."""
        quota = self._quotas.get(neighbour)
        if quota is None:
            quota = self._quotas[neighbour] = Quota(self._protocol, now)
        if not quota.pay(now, entries, size, messages):
            self.ban(neighbour, "sent more than its quota of what brings nothing new")

    def ban(self, neighbour: int, reason: str) -> None:
        """Have a neighbour disconnected for good, unless the agreement is to endure all."""
        self.accused.setdefault(neighbour, reason)
        link = self._links[neighbour]
        if self._protocol.disconnects and not link.banned:
            link.banned = True
            self._outbox.emit(Banned(neighbour, reason))

    def convict(self, origin: int) -> None:
        """Take note of a proof against an origin; if it is a neighbour, ban it."""
        reason = "signed two contents under one number"
        self.accused[origin] = reason
        if origin in self._links:
            self.ban(origin, reason)
