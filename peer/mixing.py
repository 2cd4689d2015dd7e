"""Who sends weights to whom in a round, and how each mixes what has come: gossip, or a server.

A round of averaging is one exchange or several. In an exchange a peer sends its weights to some,
takes those of others, and goes on with a weighted sum of theirs and its own.

- `gossip`: D-PSGD (Lian et al., 2017, algorithm 1): after its local steps every peer exchanges
  weights with all its neighbours, active or not. The coefficients are the Metropolis-Hastings ones
  for the peers' numbers of rows n_i: W_ij = min(1 / (1 + d_i), (n_j / n_i) / (1 + d_j)) for
  neighbours of degrees d_i and d_j, and W_ii what is left to 1. So sum_i n_i x_i stays as it is,
  and repeated exchanges end in FedAvg's mean. With equal n_i it is the usual symmetric matrix.
  Where only some are active, the others mix in what they had: a round moves the mean by the active
  peers' share of all rows, and not, as a server does, by their updates' mean.
- `server`: FedAvg (McMahan et al., 2017, algorithm 1) on a star, whose centre is the server and a
  client too. The active peers send to it; it takes their mean with the weights c_i, and sends it to
  those that are active in the next round, after the last to everybody.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from typing import Protocol as Interface

from peer.roster import Roster
from peer.weights import Weights


@dataclass(frozen=True)
class Exchange:
    """One peer's part in one exchange of a round.

    Attributes:
        sends_to: the neighbours that get its weights.
        coefficients: by neighbour, what its weights count for; these are the ones awaited.
        own: what its own count for; that of a neighbour which stays away is added to it.
    """

    sends_to: tuple[int, ...]
    coefficients: Mapping[int, float]
    own: float


class Mixing(Interface):
    """How all peers of a run average.

    Attributes:
        exchanges: in a round.
        equalises: whether all end with the same weights.
    """

    exchanges: int
    equalises: bool

    def exchange(self, peer: int, round_: int, number: int) -> Exchange:
        """Return a peer's part in an exchange of a round, `number` from 0."""


@dataclass(frozen=True, eq=False)
class Averaging:
    """What all peers of a run that averages have agreed on.

    Attributes:
        initial: the weights that every peer starts from.
        mixing: who sends to whom.
    """

    initial: Weights
    mixing: Mixing


class GossipMixing:
    """Every peer with its neighbours; see the module.

    Args:
        neighbours: for each peer, whom it has links to.
        roster: says how many rows each has.
    """

    exchanges = 1
    equalises = False

    def __init__(self, neighbours: Mapping[int, Sequence[int]], roster: Roster) -> None:
        self._neighbours = neighbours
        self._rows = roster.rows
        self._known: dict[int, Exchange] = {}

    def exchange(self, peer: int, round_: int, number: int) -> Exchange:
        """See `Mixing.exchange`; it is the same in every round."""
        del round_, number
        if peer not in self._known:
            near = tuple(sorted(self._neighbours[peer]))
            coefficients = {other: self._coefficient(peer, other) for other in near}
            own = 1.0 - sum(coefficients.values())
            self._known[peer] = Exchange(near, coefficients, own)
        return self._known[peer]

    def _coefficient(self, peer: int, other: int) -> float:
        mine = 1.0 / (1 + len(self._neighbours[peer]))
        theirs = 1.0 / (1 + len(self._neighbours[other]))
        return min(mine, self._rows[other] / self._rows[peer] * theirs)


class ServerMixing:
    """All with the centre of a star; see the module.

    Args:
        neighbours: for each peer of a star, whom it has links to.
        roster: says who is active, and how many rows each has.
        rounds: R, after which everybody gets the mean.
    """

    exchanges = 2
    equalises = True

    def __init__(
        self, neighbours: Mapping[int, Sequence[int]], roster: Roster, rounds: int
    ) -> None:
        self._centre = max(neighbours, key=lambda peer: len(neighbours[peer]))
        self._roster = roster
        self._rounds = rounds

    def exchange(self, peer: int, round_: int, number: int) -> Exchange:
        """See `Mixing.exchange`: 0 is up to the centre, 1 down from it."""
        active = self._roster.active(round_)
        if number == 0:
            return self._up(peer, active)
        return self._down(peer, round_)

    def _up(self, peer: int, active: Sequence[int]) -> Exchange:
        if peer != self._centre:
            return Exchange((self._centre,) if peer in active else (), {}, 1.0)
        rows = sum(self._roster.rows[one] for one in active)
        shares = {one: self._roster.rows[one] / rows for one in active}
        own = shares.pop(peer, 0.0)
        return Exchange((), shares, own)

    def _down(self, peer: int, round_: int) -> Exchange:
        receivers = self._receivers(round_ + 1)
        if peer == self._centre:
            return Exchange(tuple(one for one in receivers if one != peer), {}, 1.0)
        if peer in receivers:
            return Exchange((), {self._centre: 1.0}, 0.0)
        return Exchange((), {}, 1.0)

    def _receivers(self, round_: int) -> Sequence[int]:
        if round_ >= self._rounds:
            return range(len(self._roster.rows))
        return self._roster.active(round_)


MIXINGS: Final[dict[str, Callable[[Mapping[int, Sequence[int]], Roster, int], Mixing]]] = {
    "gossip": lambda neighbours, roster, _rounds: GossipMixing(neighbours, roster),
    "server": ServerMixing,
}
"""How peers average, by the names that users give it."""
