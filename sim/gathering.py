"""The weights of simulated peers, round by round, until all have come so far."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping

from peer.consensus import Consensus, mean_of
from peer.protocol import Protocol
from peer.weights import Weights


class Gathering:
    """What the peers of a run that averages have held at the start of each round.

    Args:
        protocol: the agreement of the run, with `averaging`.
    """

    def __init__(self, protocol: Protocol) -> None:
        assert protocol.averaging is not None
        self._rows = protocol.roster.rows
        self._initial = protocol.averaging.initial
        self._held: defaultdict[int, dict[int, Weights]] = defaultdict(dict)

    def add(
        self, peer: int, round_: int, state: Weights, *, absent: Collection[int]
    ) -> Consensus | None:
        """Take what a peer starts a round from; return where all lie once nobody is missing.

        Args:
            peer: who.
            round_: which.
            state: its weights.
            absent: peers that are not there, and not waited for.
        """
        held = self._held[round_]
        held[peer] = state
        if any(one not in held and one not in absent for one in range(len(self._rows))):
            return None
        return self.of(self._held.pop(round_))

    def rest(self) -> Iterator[tuple[int, Consensus]]:
        """Yield the rounds that somebody has not come to, in order."""
        for round_ in sorted(self._held):
            yield round_, self.of(self._held.pop(round_))

    def of(self, states: Mapping[int, Weights]) -> Consensus:
        """Return where the weights of some peers lie."""
        return mean_of(states, self._rows, self._initial)
