"""Loss and bytes of a method over its rounds, seed by seed, from the run folders."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from peer.records import RunFolder
from sim.compare.conduct import Conducted
from sim.compare.definition import Contender
from sim.study.attempt import DONE


@dataclass(frozen=True)
class Curves:
    """What a method's runs have recorded before the first round and after each.

    Attributes:
        losses: held-out loss in nats per token, shape (seeds, rounds + 1); NaN: not finite.
        moved: bytes that a peer has sent and received since the start, the mean over the peers, of
            the same shape.
    """

    losses: NDArray[np.float64]
    moved: NDArray[np.float64]

    def first_at(self, target: float) -> int | None:
        """Return after how many rounds the mean loss over the seeds is first at most `target`."""
        reached = np.flatnonzero(self.losses.mean(axis=0) <= target)
        return int(reached[0]) if len(reached) else None


def curves_of(conducted: Conducted, contender: Contender) -> Curves | None:
    """Return the curves of a method's finished runs; None: there is no loss in any."""
    losses, moved = [], []
    for run, outcome in conducted.of(contender):
        if outcome.status != DONE or outcome.row is None or outcome.row["eval_loss"] is None:
            continue
        rounds = RunFolder(conducted.folder.of_run(run)).read_rounds()
        losses.append([each["eval_loss"] for each in rounds])
        # What one peer sends is what another receives, so each byte counts twice.
        moved.append([2 * each["wire_bytes"] / outcome.row["peers"] for each in rounds])
    if not losses:
        return None
    shown = min(map(len, losses))
    return Curves(
        np.array([each[:shown] for each in losses], dtype=float),
        np.array([each[:shown] for each in moved], dtype=float),
    )
