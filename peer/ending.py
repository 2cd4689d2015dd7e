"""The end of a peer's run: when nobody needs it any more."""

from __future__ import annotations

from collections.abc import Mapping

from peer.links import ALIVE_TICKS, Link
from peer.replica import Replica


class Ending:
    """Since when everything is settled.

    Args:
        replica: this peer's.
        links: to all neighbours.
    """

    def __init__(self, replica: Replica, links: Mapping[int, Link]) -> None:
        self._replica = replica
        self._links = links
        protocol = replica.protocol
        self._stays = protocol.roster.last_of(replica.me, protocol.rounds) == protocol.rounds
        self.settled_since: float | None = None

    def live(self, now: float) -> list[tuple[int, Link]]:
        """Return the neighbours that have been heard lately, have not left, nor been evicted."""
        protocol = self._replica.protocol
        since = now - ALIVE_TICKS * protocol.tick
        evicted = protocol.roster.evicted
        links = self._links.items()
        return [(n, link) for n, link in links if link.alive(since) and n not in evicted]

    @property
    def due(self) -> float | None:
        """When this peer may go, if nothing changes until then."""
        return None if self.settled_since is None else self.settled_since + self._linger

    @property
    def _linger(self) -> float:
        """How long everything has to have been settled.

        All complete logs are alike but for what a convicted origin had written before its lie: of
        that one peer may hold more than others, and each has to be there to get it.
        """
        protocol = self._replica.protocol
        convicted = bool(self._replica.log.convictions)
        return max(protocol.linger, ALIVE_TICKS * protocol.tick if convicted else 0.0)

    def settled(self, now: float) -> bool:
        """Tell whether this peer, its log being closed, may go: nobody needs it any more.

        Who stays to the end goes when every live neighbour has reported the same complete log; who
        leaves before it, when each has had all that this peer had.
        """
        # Its own END is not out while local steps are under way.
        if self._replica.awaits_end(self._replica.me):
            return False
        if self._stays and not self._replica.complete:
            return False
        digest = self._replica.log.digest()
        ready = [link.agrees(digest) if self._stays else link.shared for _, link in self.live(now)]
        if not all(ready):
            self.settled_since = None
            return False
        if self.settled_since is None:
            self.settled_since = now
        return now >= self.settled_since + self._linger
