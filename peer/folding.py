"""When entries may be folded into a base: as soon as the whole roster has acknowledged a cut.

Every history says, by the digest of the cut that it started from, that its origin holds exactly the
histories of all rounds before, in logs that end alike; a peer that has not trained for long says
the same in an ACK. Where the digest is the one that this peer had for that round, the origin has
acknowledged it.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Final

from peer.base import Base
from peer.cut import Cut
from peer.entry import HISTORY, Entry
from peer.protocol import Protocol

IDLE_ROUNDS: Final = 32
"""A peer that has published nothing in so many rounds says with an ACK that it is up to date."""


class Folding:
    """Who has acknowledged the cut that is to be folded next.

    Args:
        protocol: the agreement of the run.
        me: this peer, which acknowledges its own cuts.
        base: the present one, if any.
        witnesses: the entries that bear it out.

    Attributes:
        base: the present one.
        witnesses: enough histories to convince others of it. They are kept with it, since what an
            origin has signed stays true when it has been convicted and its entries dropped.
    """

    def __init__(
        self,
        protocol: Protocol,
        me: int,
        base: Base | None = None,
        witnesses: tuple[Entry, ...] = (),
    ) -> None:
        self._protocol = protocol
        self._me = me
        self.base = base
        self.witnesses = witnesses
        self._digests: dict[int, bytes] = {}
        self._early: defaultdict[int, list[Entry]] = defaultdict(list)
        self._newest = -1
        self._target: Cut | None = None
        self._target_round = 0
        self._witnesses: list[Entry] = []
        # A bit for each peer, as sets would be the largest part of a replica.
        self._acknowledged = self._nobody()
        self._excused = 0

    def heard(self, entry: Entry) -> None:
        """Take note of what a history or an ACK acknowledges."""
        if entry.round > self._newest:
            self._early[entry.round].append(entry)
            return
        if entry.round < self._target_round and entry.kind is HISTORY:
            # Some have the target without it, so a later cut will do.
            self._target = None
        if self._digests.get(entry.round) == entry.cut:
            if entry.round == self._target_round and entry.kind is HISTORY:
                self._witnesses.append(entry)
            self._acknowledged[entry.origin >> 3] |= 1 << (entry.origin & 7)

    def excuse(self, origin: int) -> None:
        """Wait for no word of an origin any more; what it said before counts no more either."""
        self._excused |= 1 << origin
        self._target = None

    def entered(self, round_: int, cut: Cut) -> Base | None:
        """Take note of the cut that this peer has for a round; return a base if one is ready."""
        base = self._ready(round_) if self._target is not None else None
        # Nothing lies before round 0.
        if self._target is None and round_:
            self.base = base or self.base
            self._target, self._target_round, self._witnesses = cut, round_, []
            self._digests.clear()
            self._acknowledged = self._nobody()
        self._digests[round_] = cut.digest
        self._newest = round_
        for entry in self._early.pop(round_, ()):
            self.heard(entry)
        return base

    def _nobody(self) -> bytearray:
        return bytearray(len(self._protocol.roster.rows) // 8 + 1)

    def _ready(self, round_: int) -> Base | None:
        """Return the base at the target, if every member that is still one has acknowledged it.

        None too where too few of its round's entries bear witness to it to convince somebody who
        comes late; a later cut will do.
        """
        acknowledged = int.from_bytes(self._acknowledged, "little")
        present = acknowledged | self._excused | 1 << self._me
        members = self._protocol.roster.staying(self._target_round, round_)
        if present.bit_count() < len(members) or any(not present >> peer & 1 for peer in members):
            return None
        target, self._target = self._target, None
        assert target is not None
        if not self._protocol.convinces(len(self._witnesses), self._target_round):
            return None
        self.witnesses = tuple(self._witnesses[: self._protocol.most_witnesses])
        return Base.of(self._target_round, target)
