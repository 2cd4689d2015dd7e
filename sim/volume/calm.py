"""Whether a run goes as formulas have it: nothing is lost, nobody is given up, no link is slow.

Where an entry is on its way for longer than a tick, the neighbours of whoever lacks it tell that
they have it, and it is asked for: it comes twice, and with it control that no formula here has.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np

import topology
from peer.config import Experiment
from peer.latency import Constant, Edge, parse_latency
from peer.protocol import Protocol
from sim.speeds import slowness
from sim.volume.frames import Published
from sim.volume.timeline import Timeline

EXACT_LATENESS: Final = 1.0
"""Ticks by which news may be late at most for payload to be exact."""

FOLLOWED_LATENESS: Final = 0.5
"""The same for control to follow from when entries come: it is 5 % off at a lateness of one."""


def left_out(experiment: Experiment, graph: topology.Topology | None = None) -> tuple[str, ...]:
    """Return the options, by name, that change what is sent and stand in no formula.

    Args:
        experiment: the run.
        graph: where it is known, for it may vary over time.
    """
    names = [
        name
        for name in ("loss", "duplication", "reordering", "bandwidth")
        if getattr(experiment, name)
    ]
    drawn = not isinstance(parse_latency(experiment.latency), Constant | None)
    if experiment.latency_per == "frame" and drawn:
        names.append("latency_per")
    if experiment.scenario:
        names.append("scenario")
    if experiment.speed_spread or experiment.stragglers:
        factors = slowness(experiment)
        train = experiment.step_seconds * experiment.local_steps
        if (max(factors) - min(factors)) * train > experiment.round_timeout:
            # The quick ones give up the slow ones.
            names.append("round_timeout")
    if experiment.schedule != "sync":
        names.append("schedule")
    if isinstance(graph, topology.Varying):
        names.append("topology")
    return tuple(names)


def in_time(protocol: Protocol, entries: Published, times: Timeline) -> bool:
    """Tell whether every round ends before anybody can give up those whose entries it awaits."""
    for round_ in range(protocol.rounds):
        first = times.published[(entries.rounds == round_) & entries.histories].min()
        if times.starts[round_ + 1].max() - first > protocol.round_timeout:
            return False
    closing = times.arrivals.max() - times.starts[-1].min()
    return bool(closing <= protocol.settle_timeout)


def meets_first(times: Timeline, latencies: Mapping[Edge, float]) -> bool:
    """Tell whether all greetings are answered before there is anything to tell."""
    return bool(times.published.min() > 2 * max(latencies.values()))


def lateness(times: Timeline, latencies: Mapping[Edge, float]) -> float:
    """Return by how much the news of a neighbour may be ahead of an entry, in seconds.

    That is how much earlier than a peer one of its neighbours can have an entry, and the time that
    word of it takes.
    """
    lags = (
        np.abs(times.arrivals[:, sender] - times.arrivals[:, receiver]).max() + seconds
        for (sender, receiver), seconds in latencies.items()
    )
    return float(max(lags))
