"""The roster: who takes part, with how many rows, and what follows from it for every round."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

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

    def active(self, round_: int) -> tuple[int, ...]:
        """Return the peers that train in a round, in ascending order."""
        return _active(self, round_)

    def weight(self, peer: int, round_: int, step_size: float) -> float:
        """Return c_i * step_size as a float32 number, c_i = n_i / sum of n over the active peers.

        Args:
            peer: an active one.
            round_: whose active peers count.
            step_size: eta_r / 2**e, in [1, 2).
        """
        share = self.rows[peer] / sum(self.rows[other] for other in self.active(round_))
        return float(np.float32(share * step_size))


@lru_cache(maxsize=1024)
def _active(roster: Roster, round_: int) -> tuple[int, ...]:
    return active_peers(roster.root_seed, len(roster.rows), roster.participation, round_)
