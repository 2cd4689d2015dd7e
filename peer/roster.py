"""The roster: who takes part, with how many rows, and what follows from it for every round."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from peer.seeds import active_peers


@dataclass(frozen=True)
class Roster:
    """Known to every peer before the start, and hashed into the handshake.

    Attributes:
        rows: n_i, the number of training rows of each peer; its length is the number of peers N.
        participation: the share of peers that train in a round, in (0, 1].
        root_seed: the experiment's.
    """

    rows: tuple[int, ...]
    participation: float
    root_seed: int
    _rounds: dict[int, _Round] = field(
        default_factory=dict, init=False, repr=False, compare=False, hash=False
    )

    def active(self, round_: int) -> tuple[int, ...]:
        """Return the peers that train in a round, in ascending order."""
        return self._round(round_).active

    def is_active(self, peer: int, round_: int) -> bool:
        """Tell whether a peer trains in a round."""
        return peer in self._round(round_).members

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
            active = active_peers(self.root_seed, len(self.rows), self.participation, round_)
            rows = sum(self.rows[peer] for peer in active)
            self._rounds[round_] = _Round(active, frozenset(active), rows)
        return self._rounds[round_]


@dataclass(frozen=True)
class _Round:
    """Who is active in one round, and how many rows they have together."""

    active: tuple[int, ...]
    members: frozenset[int]
    rows: int
