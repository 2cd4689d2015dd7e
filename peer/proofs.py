"""Proofs of equivocation: two contents that an origin has signed under one sequence number.

Whoever sees both makes the proof. It spreads to all, and what the origin has published from that
number on is dropped by all alike. The proof of the lowest number is the one that counts.
"""

from __future__ import annotations

from collections.abc import Mapping

from peer.conduct import Conduct
from peer.errors import RefusedEntry
from peer.events import Convicted
from peer.links import Link
from peer.outbox import Outbox
from peer.replica import Replica
from peer.wire import Proof


class Proofs:
    """What one peer can prove.

    Args:
        replica: drops what the convicted have published.
        conduct: bans them.
        links: to all neighbours.
        outbox: takes messages and events.
    """

    def __init__(
        self, replica: Replica, conduct: Conduct, links: Mapping[int, Link], outbox: Outbox
    ) -> None:
        self._replica = replica
        self._conduct = conduct
        self._links = links
        self._outbox = outbox
        self._lowest: dict[int, Proof] = {}
        self._to_tell: set[int] = set()

    @property
    def waiting(self) -> bool:
        """Whether the neighbours have to be told one at the next tick."""
        return bool(self._to_tell)

    def check(self, proof: Proof) -> None:
        """Hold a neighbour's proof against the agreement and its origin's key.

        Raises:
            RefusedEntry, Forgery: it proves nothing.
        """
        protocol = self._replica.protocol
        if not protocol.public_keys:
            raise RefusedEntry("entries are not signed in this run")
        for entry in (proof.first, proof.second):
            protocol.check(entry)

    def recall(self, proof: Proof) -> None:
        """Have the consequences of a proof that is known, as from an earlier life."""
        origin = proof.first.origin
        self._replica.convict(origin, proof.first.sequence)
        self._lowest[origin] = proof
        self._conduct.convict(origin)

    def take(self, proof: Proof, sender: int | None) -> bool:
        """Have the consequences of a checked proof, and spread it; return False if it has none.

        Args:
            proof: two entries.
            sender: who has brought it; None: it was found here.
        """
        origin, log = proof.first.origin, self._replica.log
        if log.convicted(origin, proof.first.sequence):
            return False
        known = origin in log.convictions
        self.recall(proof)
        self._outbox.emit(Convicted(proof.first, proof.second))
        if known:
            # A liar could make many, each of an earlier number: one a tick is passed on.
            self._to_tell.add(origin)
            return True
        for neighbour in self._links:
            if neighbour != sender:
                self._outbox.send(neighbour, proof)
        return True

    def tell_waiting(self) -> None:
        """Tell all neighbours what was put off to this tick."""
        for origin in sorted(self._to_tell):
            for neighbour in self._links:
                self._outbox.send(neighbour, self._lowest[origin])
        self._to_tell.clear()

    def tell_all(self, neighbour: int) -> None:
        """Tell one neighbour, whose digest differs, every proof."""
        for proof in self._lowest.values():
            self._outbox.send(neighbour, proof)
