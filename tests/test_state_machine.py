"""Hypothesis chooses what happens to a network of `Gossip` machines; see `gossip_machine`."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any, ClassVar

from gossip_machine import QUEUE, Network
from gossip_plan import Plan
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    rule,
    run_state_machine_as_test,
)

from peer.seeding import SEEDINGS

CI_EXAMPLES = 200
numbers = st.integers(0, 2**16)
peers = st.integers(0, 7)


class GossipMachine(RuleBasedStateMachine):
    """What may happen to peers and their messages. `Network` checks what must hold after each."""

    totals: ClassVar[Counter[str]] = Counter()
    network: Network

    @initialize(
        seed=st.integers(0, 2**32),
        count=st.integers(5, 8),
        gossip=st.sampled_from(["tree", "flood", "antientropy"]),
        schedule=st.sampled_from(["sync", "sync", "sync", "async"]),
        seeding=st.sampled_from([*SEEDINGS]),
        signed=st.booleans(),
        rounds=st.integers(4, 12),
        participation=st.sampled_from([1.0, 0.4]),
        late=st.lists(st.sampled_from([0, 4, 7]), min_size=1, max_size=3),
        absent=st.sampled_from([(), (), (), (0,)]),
    )
    def begin(
        self, count: int, rounds: int, late: list[int], absent: tuple[int, ...], **chosen: Any
    ) -> None:
        """Start the peers that are there from the beginning."""
        self.absent = absent
        first = [min(round_, rounds - 1) for round_ in late]
        first = (*[0] * (count - len(late)), *first)
        self.network = Network(Plan(peers=count, rounds=rounds, first=first, **chosen))
        for peer in range(count):
            if not first[peer]:
                self.network.start(peer)

    @rule(link=numbers, place=st.integers(0, QUEUE), count=st.integers(1, 20))
    def deliver(self, link: int, place: int, count: int) -> None:
        """Frames of a link come, the oldest ones or such as overtake others."""
        for _ in range(count):
            self.network.deliver(self._link(link), place)

    @rule(link=numbers, place=numbers)
    def lose(self, link: int, place: int) -> None:
        """A frame is lost."""
        self.network.lose(self._link(link), place)

    @rule(link=numbers, place=numbers)
    def double(self, link: int, place: int) -> None:
        """A frame is doubled."""
        self.network.double(self._link(link), place)

    @rule(peer=peers)
    def publish(self, peer: int) -> None:
        """A peer's local steps are done."""
        self.network.train(self._peer(peer))

    @rule(seconds=st.sampled_from([None, None, 0.5, 2.0, 8.0, 30.0]))
    def wait(self, seconds: float | None) -> None:
        """Time goes on, to the next timer or for long."""
        self.network.wait(seconds)

    @rule(seed=numbers, moves=st.integers(1, 100))
    def go_on(self, seed: int, moves: int) -> None:
        """Much happens, nothing of it bad but to frames."""
        source = random.Random(seed)
        for _ in range(moves):
            self.network.move(source, mishaps=0.0)

    @rule(group=st.sets(peers, min_size=1, max_size=4), told=st.booleans())
    def cut(self, group: set[int], told: bool) -> None:
        """The network falls in two."""
        self.network.cut({self._peer(peer) for peer in group}, told=told)

    @rule()
    def mend(self) -> None:
        """The two parts come together again."""
        self.network.mend()

    @rule(peer=peers)
    def crash(self, peer: int) -> None:
        """A peer dies between two calls."""
        self.network.crash(self._peer(peer))

    @rule(peer=peers, actions=st.integers(0, 5))
    def doom(self, peer: int, actions: int) -> None:
        """A peer is to die between storing an entry and sending it, or thereabouts."""
        self.network.doom(self._peer(peer), actions)

    @rule(peer=peers)
    def join(self, peer: int) -> None:
        """A peer comes back, or for the first time."""
        self.network.join(self._peer(peer))

    @rule(peer=peers, place=st.integers(0, 7))
    def lie(self, peer: int, place: int) -> None:
        """A peer signs a second content for one of its entries."""
        if not self.network.liars:
            self.network.lie(self._peer(peer), place)

    def teardown(self) -> None:
        """A network that is left in peace comes to an end, and to the same everywhere."""
        if not hasattr(self, "network"):
            return
        self.network.calm(self.absent)
        type(self).totals.update(self.network.figures)

    def _peer(self, number: int) -> int:
        return number % self.network.plan.peers

    def _link(self, number: int) -> tuple[int, int]:
        return self.network.links[number % len(self.network.links)]


def search(examples: int, **changes: Any) -> Counter[str]:
    """Try so many sequences of moves; return how often what happened in all of them."""
    GossipMachine.totals.clear()
    chosen = settings(
        max_examples=examples,
        stateful_step_count=30,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        **changes,
    )
    run_state_machine_as_test(GossipMachine, settings=chosen)
    return GossipMachine.totals


def test_whatever_happens_equal_entries_are_equal_sums() -> None:
    """And a search that never gets to what is difficult would show nothing.

    The same examples every time, as what lands is to be judged alike; `scenarios/machine.py` looks
    for others.
    """
    totals = search(CI_EXAMPLES, derandomize=True, database=None)
    for what in ("folds", "snapshots", "restarts", "crashes", "partitions", "doubled", "lost"):
        assert totals[what], f"no {what} in {CI_EXAMPLES} examples"
