"""How far a run has come."""

from __future__ import annotations

import math

from peer.live_line import LiveLine


class RunProgress(LiveLine):
    """Counts the local rounds of all peers, and says each round's loss.

    Args:
        total: how many local rounds (one peer's steps of one round) the run has.
        rounds: R.
    """

    def __init__(self, total: int, rounds: int) -> None:
        super().__init__("starting", "local rounds", total)
        self._rounds = rounds

    def trained(self, round_: int) -> None:
        """One peer has taken its local steps of a round."""
        self.advance(f"round {round_ + 1} of {self._rounds}")

    def answered(self, done: int, total: int) -> None:
        """A model that is being measured has given so many of so many answers."""
        self.entitle(f"answers: {done} of {total}")

    def closed(self, rounds_done: int, loss: float) -> None:
        """A round has been closed and the model evaluated."""
        text = f"after round {rounds_done} of {self._rounds}"
        if rounds_done == 0:
            text = "before the first round"
        if math.isfinite(loss):
            self.say(f"{text}: held-out loss {loss:.4f}")
        elif rounds_done:
            self.say(text)
