"""What simulated links are like, and what befalls each frame on them.

Everything is drawn: frame n of the link from i to j has four words of 32 bits of its own, a
function of the experiment's seed, i, j and n. They decide, in this order, about loss, duplication,
reordering and latency. So no link's draws depend on another's traffic, nor one fault's on whether
another is switched on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

import topology
from peer.config import Experiment
from peer.latency import Constant, Edge, Law, parse_latency
from peer.link_latencies import link_latencies
from peer.seeds import Domain, random_words

BATCH = 512
"""Frames whose words are drawn together: a call of the generator costs as much as 4,000 words."""

DEFAULT_LAW = Constant(0.01)

LOST, DOUBLED, HELD_BACK = 1, 2, 4
"""Bits of a frame's fate."""


class Fates(NamedTuple):
    """What befalls `BATCH` frames of one directed link, one after another."""

    marks: bytes
    """The bits above, a byte a frame."""
    latencies: memoryview | None
    """In seconds; None where all frames of the link take the same."""
    extras: memoryview | None
    """Seconds that a frame is held back, 0 for most; None where none is."""


NO_FATES = Fates(bytes(BATCH), None, None)


@dataclass(frozen=True)
class LinkModel:
    """What all links of a run are like.

    Attributes:
        law: of the latencies of frames, where each draws its own; else of links.
        per_frame: whether each frame draws its own latency.
        expected: seconds that a frame is expected to take, by directed link; for others, the law's
            mean.
        bandwidth: bytes a second in each direction; 0: no limit.
        loss: share of the frames that are lost.
        duplication: share of the frames that are sent on twice.
        reordering: share of the frames that are held back.
        seed: the experiment's.
    """

    law: Law = DEFAULT_LAW
    per_frame: bool = False
    expected: Mapping[Edge, float] = field(default_factory=dict)
    bandwidth: float = 0.0
    loss: float = 0.0
    duplication: float = 0.0
    reordering: float = 0.0
    seed: int = 0

    @property
    def has_fates(self) -> bool:
        """Whether anything is drawn for each frame."""
        return self.per_frame or max(self.loss, self.duplication, self.reordering) > 0

    def expected_latency(self, sender: int, receiver: int) -> float:
        """Return the seconds that a frame is expected to take, without queueing or reordering."""
        return self.expected.get((sender, receiver), self.law.mean)

    def fates(self, sender: int, receiver: int, batch: int) -> Fates:
        """Return what befalls frames `batch * BATCH` and following of a link."""
        link = sender << 18 | receiver
        words = random_words(self.seed, Domain.FRAMES, link, batch, 2 * BATCH)
        # The middle of one of 2**32 equal parts, so neither 0 nor 1.
        shares = (words.astype("<u8").view("<u4").reshape(BATCH, 4) + 0.5) / 2.0**32
        lost, doubled, held, placed = shares.T
        marks = LOST * (lost < self.loss) | DOUBLED * (doubled < self.duplication)
        latencies, extras = None, None
        if self.per_frame:
            latencies = self.law.quantiles(placed)
        if self.reordering:
            marks |= HELD_BACK * (held < self.reordering)
            # A share below a bound is itself evenly spread below it.
            whole = self.expected_latency(sender, receiver) if latencies is None else latencies
            within = np.minimum(held, self.reordering)
            extras = np.where(held < self.reordering, whole * within / self.reordering, 0.0)
        return Fates(
            marks.astype(np.uint8).tobytes(),
            None if latencies is None else latencies.data,
            None if extras is None else extras.data,
        )


def link_model(experiment: Experiment, graph: topology.Topology) -> LinkModel:
    """Return the links that an experiment asks for.

    Raises:
        UserError: the file of latencies cannot be used.
    """
    law = parse_latency(experiment.latency)
    return LinkModel(
        law=law or Constant(0.0),
        per_frame=experiment.latency_per == "frame" and not isinstance(law, Constant | None),
        expected=link_latencies(experiment, graph),
        bandwidth=experiment.bandwidth,
        loss=experiment.loss,
        duplication=experiment.duplication,
        reordering=experiment.reordering,
        seed=experiment.seed,
    )
