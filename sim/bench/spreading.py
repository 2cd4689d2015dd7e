"""How entries spread over one simulated network: copies sent, and the time to the last peer."""

from __future__ import annotations

import statistics
from collections import defaultdict
from dataclasses import dataclass
from typing import Any

from peer import wire
from peer.config import Experiment
from peer.entry import Entry
from peer.events import Event
from sim.bench.worlds import build_world
from sim.spread_watch import SpreadWatch


@dataclass(frozen=True)
class Phase:
    """What came of the histories of some rounds.

    Attributes:
        redundancy: copies sent over the lower bound, N - 1 for each history.
        mean: seconds from publishing to the last peer, over all histories.
        worst: the longest of them.
    """

    redundancy: float
    mean: float
    worst: float


@dataclass(frozen=True)
class Spread:
    """What came of a run.

    Attributes:
        cold: of the first history of each origin.
        warm: of the later ones.
        control: control bytes over payload bytes, of the whole run.
        everywhere: whether every entry came to every peer.
    """

    cold: Phase
    warm: Phase
    control: float
    everywhere: bool


class _Watch:
    """Counts what a world does."""

    def __init__(self, experiment: Experiment, *, latencies_known: bool) -> None:
        self._watch = SpreadWatch()
        self._copies: defaultdict[Entry, int] = defaultdict(int)
        self.world = build_world(
            experiment,
            observe=self._observe,
            observe_frame=self._observe_frame,
            latencies_known=latencies_known,
        )

    def _observe(self, peer: int, event: Event) -> None:
        self._watch.observe(peer, event, self.world.schedule.now)

    def _observe_frame(self, what: str, sender: int, receiver: int, frame: bytes) -> None:
        del what, sender, receiver
        if wire.is_payload(frame):
            message = wire.decode(frame)
            assert isinstance(message, wire.Entries)
            for entry in message.entries:
                self._copies[entry] += 1

    def spread(self, peers: int) -> Spread:
        histories = self._watch.histories
        total = self.world.traffic.total()
        return Spread(
            self._phase([entry for entry in histories if entry.round == 0], peers),
            self._phase([entry for entry in histories if entry.round > 0], peers),
            total.control_bytes / total.payload_bytes,
            self._watch.everywhere(peers),
        )

    def _phase(self, entries: list[Entry], peers: int) -> Phase:
        copies = sum(self._copies[entry] for entry in entries)
        times = [self._watch.seconds(entry) for entry in entries]
        return Phase(copies / len(entries) / (peers - 1), statistics.fmean(times), max(times))


def spread(experiment: Experiment, *, latencies_known: bool = True) -> Spread:
    """Run an experiment and return how its entries have spread."""
    watch = _Watch(experiment, latencies_known=latencies_known)
    watch.world.run()
    return watch.spread(experiment.peers)


def compared(here: Phase, flooded: Phase) -> dict[str, Any]:
    """Return a phase as JSON tells it, its times relative to flooding's, too."""
    return {
        "redundancy": here.redundancy,
        "seconds": here.mean,
        "worst_seconds": here.worst,
        "time_to_flooding": here.mean / flooded.mean,
        "worst_time_to_flooding": here.worst / flooded.worst,
    }
