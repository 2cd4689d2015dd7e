"""The runs that a `gossip_machine.Network` goes through."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property

import networkx as nx

from peer.protocol import Protocol
from peer.roster import Roster
from peer.seeding import SEEDINGS
from peer.signatures import public_key
from peer.trees import Trees
from peer.units import choose_units

CANDIDATES = 4
TICK = 1.0
ROUND_TIMEOUT = 6.0
SETTLE_TIMEOUT = 120.0


@dataclass(frozen=True)
class Plan:
    """A run: who takes part, how, and over which links.

    Attributes:
        seed: of the graph, the keys and the gradients.
        first: the rounds from which peers are members; some join late.
        last: the rounds from which they are none any more, None for those who stay.
    """

    seed: int
    peers: int
    gossip: str
    schedule: str
    seeding: str
    signed: bool
    rounds: int
    participation: float = 1.0
    gradient_bytes: int = 4
    first: tuple[int, ...] = ()
    last: tuple[int | None, ...] = ()

    @cached_property
    def graph(self) -> nx.Graph:
        """A connected graph: a random tree and some edges more."""
        source = random.Random(self.seed)
        graph = nx.Graph((peer, source.randrange(peer)) for peer in range(1, self.peers))
        for _ in range(source.randrange(self.peers)):
            graph.add_edge(*source.sample(range(self.peers), 2))
        return graph

    @property
    def patient(self) -> bool:
        """Whether what is sent to a peer that does not run waits for it, or is lost."""
        return self.seed % 4 == 3

    @cached_property
    def leaving(self) -> set[int]:
        """The peers that do not stay to the last round."""
        last = self.protocol.roster.last_of
        return {peer for peer in range(self.peers) if last(peer, self.rounds) < self.rounds}

    def holds_without(self, gone: Iterable[int]) -> bool:
        """Tell whether the links connect all who are not gone, and those of them who stay."""
        rest = set(range(self.peers)) - set(gone)
        # Who leaves has to be heard before, and what comes after has to go without it.
        return all(nx.is_connected(self.graph.subgraph(r)) for r in (rest, rest - self.leaving))

    @cached_property
    def secrets(self) -> list[bytes]:
        """The signing keys."""
        return [random.Random(f"{self.seed}/{p}").randbytes(32) for p in range(self.peers)]

    @cached_property
    def protocol(self) -> Protocol:
        """The agreement: 2 numbers a round over 4 candidate seeds, or 2 in each of 2 blocks."""
        rows = tuple(range(1, self.peers + 1))
        roster = Roster(rows, self.participation, self.seed, self.first, self.last)
        neighbours = {peer: sorted(self.graph[peer]) for peer in range(self.peers)}
        return Protocol(
            roster=roster,
            rounds=self.rounds,
            local_steps=2,
            candidate_seeds=CANDIDATES // 2 if self.seeding == "blocks" else CANDIDATES,
            blocks=2,
            coordinates=2,
            gradient_bytes=self.gradient_bytes,
            gradient_bound=1.0,
            seeding=self.seeding,
            learning_rate=1e-4,
            units=choose_units(1e-4, self.rounds, 2, 1.0, self.peers),
            schedule=self.schedule,
            gossip=self.gossip,
            trees=Trees(neighbours, roster),
            public_keys=tuple(map(public_key, self.secrets)) if self.signed else (),
            tick=TICK,
            round_timeout=ROUND_TIMEOUT,
            settle_timeout=SETTLE_TIMEOUT,
        )


def draw_plan(source: random.Random) -> Plan:
    """Return a run as the generator has it."""
    peers, rounds = source.randint(5, 8), source.choice([4, 8, 16, 48])
    # Two peers at least are there all the time.
    late = [source.randrange(rounds) if source.random() < 0.3 else 0 for _ in range(peers - 2)]
    gone = [source.randint(first + 1, rounds) if source.random() < 0.1 else None for first in late]
    plan = Plan(
        seed=source.randrange(2**32),
        peers=peers,
        gossip=source.choice(["tree", "flood", "antientropy"]),
        schedule=source.choice(["sync", "sync", "sync", "async"]),
        seeding=source.choice([*SEEDINGS]),
        signed=source.random() < 0.4,
        rounds=rounds,
        participation=source.choice([1.0, 1.0, 0.3]),
        gradient_bytes=source.choice([4, 1]),
        first=(0, 0, *late),
        last=(None, None, *gone),
    )
    return plan if plan.holds_without(()) else replace(plan, last=())
