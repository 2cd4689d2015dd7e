"""What a driver sees of one peer's protocol, be its method one of sums or of averages.

Both are state machines without I/O (C5): `peer.gossip.Gossip` and `peer.averager.Averager`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from enum import StrEnum
from typing import Any
from typing import Protocol as Interface

from peer.accumulator import Accumulator
from peer.events import Finished, Output, RoundStarted
from peer.links import Link
from peer.protocol import Protocol
from peer.weights import Weights


class Phase(StrEnum):
    """What a peer does at a moment."""

    GREETING = "greeting"
    TRAINING = "training"
    WAITING = "waiting"
    ENDING = "ending"
    ENDED = "ended"


class Participant(Interface):
    """One peer of a run.

    Attributes:
        me: its place in the roster.
        protocol: the agreement of the run.
        finished: how the run has ended for it, None while it goes on.
    """

    me: int
    protocol: Protocol
    finished: Finished | None

    @property
    def timer(self) -> float | None:
        """When `advance` is next due; None after the end."""

    @property
    def state(self) -> Accumulator | Weights:
        """What its model follows from now; not to be changed."""

    @property
    def phase(self) -> Phase:
        """What it does now; it may train while it also waits, and then it trains."""

    @property
    def round(self) -> int:
        """The round that it is in, from 0; the number of rounds after the last."""

    @property
    def cut_round(self) -> int | None:
        """After how many rounds every peer's state has to be what `state` is; None: it need not."""

    @property
    def links(self) -> Mapping[int, Link]:
        """What it knows of each neighbour; not to be changed."""

    @property
    def held(self) -> int:
        """How many entries are in its log, its own and folded ones too; whole weights kept."""

    @property
    def received(self) -> int:
        """How many entries, or how often whole weights, have come from others."""

    @property
    def timeouts(self) -> int:
        """How often this peer has gone on without somebody."""

    @property
    def rejections(self) -> Counter[int]:
        """How many messages of each neighbour could not be taken."""

    @property
    def accused(self) -> Mapping[int, str]:
        """Peers that have lied or cost too much, and how."""

    @property
    def waiting_for(self) -> tuple[int, ...]:
        """The peers that hold this one up now."""

    def start(self, now: float) -> Output:
        """Greet the neighbours; the first round begins when all of them have answered."""

    def receive(self, frame: bytes, neighbour: int, now: float) -> Output:
        """Take a frame from a neighbour; whatever is in it, nothing is raised."""

    def trained(self, start: RoundStarted, made: Any, now: float) -> Output:
        """Take what the local steps of a round gave, and publish it."""

    def advance(self, now: float) -> Output:
        """Do what is due at `now`."""

    def link_up(self, neighbour: int, now: float) -> Output:
        """Take note that the graph has a link to a neighbour from now on."""

    def link_down(self, neighbour: int, now: float) -> Output:
        """Take note that the graph has no link to a neighbour for some time."""
