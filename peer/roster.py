"""The roster: who takes part, with how many rows, and what follows from it for every round."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from peer.seeds import active_peers


@dataclass(frozen=True)
class Roster:
    """Known to every peer before the start, and hashed into the handshake.

    Joins, leaves and evictions are changes of the roster that take effect at a stated round.

    Attributes:
        rows: n_i, the number of training rows of each peer; its length is the number of peers N.
        participation: the share of the members that train in a round, in (0, 1].
        root_seed: the experiment's.
        first: the round from which each peer is a member; empty: all from the first on.
        last: the round from which it is none any more, None: to the end; empty: all to the end.
        evicted: those of `last` that are dead: no END of theirs is waited for.
    """

    rows: tuple[int, ...]
    participation: float
    root_seed: int
    first: tuple[int, ...] = ()
    last: tuple[int | None, ...] = ()
    evicted: frozenset[int] = frozenset()
    _rounds: dict[int, _Round] = field(
        default_factory=dict, init=False, repr=False, compare=False, hash=False
    )

    def active(self, round_: int) -> tuple[int, ...]:
        """Return the peers that train in a round, in ascending order."""
        return self._round(round_).active

    def is_active(self, peer: int, round_: int) -> bool:
        """Tell whether a peer trains in a round."""
        return peer in self._round(round_).members

    def is_member(self, peer: int, round_: int) -> bool:
        """Tell whether a peer belongs to the roster in a round, active or not."""
        return self.first_of(peer) <= round_ < self.last_of(peer, round_ + 1)

    def first_of(self, peer: int) -> int:
        """Return the round from which a peer is a member."""
        return self.first[peer] if self.first else 0

    def last_of(self, peer: int, rounds: int) -> int:
        """Return the round from which a peer is no member any more, `rounds` if it stays."""
        last = self.last[peer] if self.last else None
        return rounds if last is None else min(last, rounds)

    def members(self, round_: int) -> Sequence[int]:
        """Return who belongs to the roster in a round, in ascending order."""
        everybody = range(len(self.rows))
        if not self.first and not self.last:
            return everybody
        return [peer for peer in everybody if self.is_member(peer, round_)]

    @cached_property
    def lasting(self) -> int:
        """A bit for each peer whose END is awaited; the replicas of a process share it."""
        return sum(1 << peer for peer in range(len(self.rows)) if peer not in self.evicted)

    def staying(self, round_: int, until: int) -> Sequence[int]:
        """Return who belongs to the roster in a round and still does in a later one."""
        members = self.members(round_)
        return [peer for peer in members if self.is_member(peer, until)] if self.last else members

    def changes(self) -> list[int]:
        """Return the rounds, in order, from which the members are others than before."""
        rounds = {first for first in self.first if first}
        rounds |= {last for last in self.last if last is not None}
        return sorted(rounds)

    def weight(self, peer: int, round_: int, step_size: float) -> float:
        """Return c_i * step_size as a float32 number, c_i = n_i / sum of n over the active peers.

        Args:
            peer: an active one.
            round_: whose active peers count.
            step_size: eta_r / 2**e, in [1, 2).
        """
        share = self.rows[peer] / self._round(round_).rows
        return float(np.float32(share * step_size))

    def _round(self, round_: int) -> _Round:
        # Every entry received asks for its round, and drawing the active peers is not cheap.
        if round_ not in self._rounds:
            members = self.members(round_)
            size = len(self.rows)
            active = active_peers(self.root_seed, size, self.participation, round_, members)
            rows = sum(self.rows[peer] for peer in active)
            self._rounds[round_] = _Round(active, frozenset(active), rows)
        return self._rounds[round_]


@dataclass(frozen=True)
class _Round:
    """Who is active in one round, and how many rows they have together."""

    active: tuple[int, ...]
    members: frozenset[int]
    rows: int
