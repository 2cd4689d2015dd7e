"""Graphs that vary over time: in each slot of time some of the links are up, the others down.

| family               | the links of slot t                                               |
| -------------------- | ----------------------------------------------------------------- |
| one-peer-exponential | peer i to i + 2^(t mod ceil(log2 N)) modulo N, both ways          |
| random-matching      | pairs drawn at random, each peer in one; of an odd number one not |

The first is that of Ying et al., "Exponential graph is provably efficient for decentralized deep
training" (NeurIPS 2021), its links taken both ways. A file can hold any other sequence.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain, combinations

from topology.graph import Topology, TopologyError

Edge = tuple[int, int]
Edges = frozenset[Edge]

MOST_MATCHED = 512
"""The most peers of random-matching: any two may meet, and each of these links is kept track of."""

SPREAD_LIMIT = 10_000
"""Slots after which `slots_to_spread` gives up."""


@dataclass(frozen=True)
class Repeated:
    """These slots, again and again."""

    slots: tuple[Edges, ...]

    @property
    def period(self) -> int:
        """After so many slots they come again."""
        return len(self.slots)

    def __call__(self, slot: int) -> Edges:
        """Return the links of a slot."""
        return self.slots[slot % len(self.slots)]


@dataclass(frozen=True)
class Matchings:
    """Each slot is a matching drawn anew; one seed gives the same ones."""

    peers: int
    seed: int
    period: None = None

    def __call__(self, slot: int) -> Edges:
        """Return the links of a slot."""
        order = list(range(self.peers))
        random.Random(f"{self.seed}/{slot}").shuffle(order)
        pairs = zip(order[0::2], order[1::2], strict=False)
        return frozenset((min(pair), max(pair)) for pair in pairs)


@dataclass(frozen=True)
class Varying(Topology):
    """A graph that varies over time; as a `Topology` it is the union of all slots.

    So a peer's neighbours are all those that it ever has a link to.
    """

    slots: Repeated | Matchings = field(kw_only=True, repr=False)

    @property
    def period(self) -> int | None:
        """After so many slots they come again from the first; None: never."""
        return self.slots.period

    def edges_at(self, slot: int) -> Edges:
        """Return the links that are up in a slot, 0, 1, ...; pairs (i, j) with i < j."""
        return self.slots(slot)

    def changes(self, slot: int) -> tuple[tuple[Edge, ...], tuple[Edge, ...]]:
        """Return the links that go up and those that go down when a slot begins, sorted.

        Before slot 0 all links count as up.
        """
        before = frozenset(self.edges) if slot == 0 else self.edges_at(slot - 1)
        now = self.edges_at(slot)
        return tuple(sorted(now - before)), tuple(sorted(before - now))


def slots_to_spread(graph: Varying) -> int | None:
    """Return after how many slots, from slot 0 on, everyone has what each had at the start.

    In a slot, peers pass on what they had when it began. None: more than `SPREAD_LIMIT`.
    """
    everything = (1 << len(graph.nodes)) - 1
    # Bit j of entry i: peer i has what peer j had.
    known = [1 << peer for peer in graph.nodes]
    for slot in range(SPREAD_LIMIT):
        if all(each == everything for each in known):
            return slot
        before = known.copy()
        for i, j in graph.edges_at(slot):
            known[i] |= before[j]
            known[j] |= before[i]
    return None


def build_varying(name: str, peers: int, seed: int) -> Varying:
    """Return the graph of a family that varies over time; the same arguments give the same graph.

    Raises:
        TopologyError: more peers than the family can have.
    """
    names = tuple(str(peer) for peer in range(peers))
    if name == "one-peer-exponential":
        return from_slots(name, names, [_one_peer(peers, 2**k) for k in range(_doublings(peers))])
    if peers > MOST_MATCHED:
        raise TopologyError(
            f"{name} takes at most {MOST_MATCHED} peers, since any two of them may meet; "
            f"{peers} given (one-peer-exponential takes more)"
        )
    edges = tuple(combinations(range(peers), 2))
    return Varying(name, edges, names, slots=Matchings(peers, seed))


def from_slots(
    name: str, names: tuple[str, ...], slots: Sequence[Edges], notes: tuple[str, ...] = ()
) -> Varying:
    """Return the graph that goes through these slots again and again.

    Raises:
        TopologyError: there is no slot, or as for a `Topology` of all links together.
    """
    if not slots:
        raise TopologyError("a sequence has at least one graph; there is none")
    union = tuple(sorted(set(chain.from_iterable(slots))))
    return Varying(name, union, names, notes, slots=Repeated(tuple(slots)))


def _doublings(peers: int) -> int:
    """Return ceil(log2 N)."""
    return (peers - 1).bit_length()


def _one_peer(peers: int, distance: int) -> Edges:
    ends = ((peer, (peer + distance) % peers) for peer in range(peers))
    return frozenset((min(pair), max(pair)) for pair in ends)


VARYING = ("one-peer-exponential", "random-matching")
"""The families that vary over time."""
