"""Whether a run goes as formulas have it: nothing is lost, nobody is given up, no link is slow.

Where an entry is on its way for longer than a tick, the neighbours of whoever lacks it tell that
they have it, and it is asked for: it comes twice, and with it control that no formula here has.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf
from typing import Final

import numpy as np

import topology
from peer.config import Experiment
from peer.latency import Constant, Edge, parse_latency
from peer.pace import IDLE_PATIENCE
from peer.protocol import Protocol
from peer.trees import EAGER_CAP
from peer.work import seconds_per_step
from sim.speeds import slowness
from sim.volume.frames import Published
from sim.volume.sends import BY_THE_GRAPH
from sim.volume.timeline import Timeline
from sim.volume.tree_sum import breadth_first
from topology.arrays import Links

EXACT_LATENESS: Final = 1.0
"""Ticks by which news may be late at most for payload to be exact."""

FOLLOWED_LATENESS: Final = 0.5
"""The same for control to follow from when entries come: it is 5 % off at a lateness of one."""


WITHOUT_TIMES: Final = frozenset({"scenario", "schedule", "topology"})
"""Those of `left_out` with which entries come at times that nobody follows."""


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
        train = seconds_per_step(experiment) * experiment.local_steps
        if (max(factors) - min(factors)) * train > experiment.round_timeout:
            # The quick ones give up the slow ones.
            names.append("round_timeout")
    if experiment.schedule != "sync":
        names.append("schedule")
    if isinstance(graph, topology.Varying):
        names.append("topology")
    return tuple(names)


@dataclass(frozen=True)
class Pace:
    """How late entries can be, in seconds: as it is followed, or at most.

    Attributes:
        lateness: by how much the news of a neighbour may be ahead of an entry.
        round_: from the first history of a round until its last peer has begun the next one.
        idle: from when a peer that does not train in a round begins it until its first history.
        closing: from the first END until everybody has every entry.
        met: whether all greetings are answered before there is anything to tell.
    """

    lateness: float
    round_: float
    idle: float
    closing: float
    met: bool


@dataclass(frozen=True)
class Verdict:
    """What may be promised of the numbers that formulas give for a run.

    Attributes:
        exact: payload and its framing are those of the run, to the byte.
        follows_times: control follows from when entries come.
        why: in a few words, what keeps payload from being exact; empty if nothing does.
    """

    exact: bool
    follows_times: bool
    why: str = ""


UNDISTURBED: Final = Verdict(exact=True, follows_times=False)
"""That of links which are alike and quick, and lose nothing."""


def judge(
    experiment: Experiment,
    pace: Pace | None,
    graph: topology.Topology | None = None,
) -> Verdict:
    """Return what may be promised of a run: nothing is called exact anywhere that is not so here.

    Args:
        experiment: the run.
        pace: of its entries; None: not known, so nothing is promised.
        graph: where it is known, for it may vary over time.
    """
    why = _obstacle(experiment, pace, graph)
    if why or pace is None:
        return Verdict(exact=False, follows_times=False, why=why)
    soon = pace.lateness <= FOLLOWED_LATENESS * experiment.tick
    return Verdict(exact=True, follows_times=soon and pace.met)


def _obstacle(experiment: Experiment, pace: Pace | None, graph: topology.Topology | None) -> str:
    """Return what keeps payload from being exact, in a few words; empty if nothing does."""
    if experiment.gossip not in BY_THE_GRAPH:
        return "what is asked for comes several entries in a message"
    if names := left_out(experiment, graph):
        return f"{', '.join(names)} {'is' if len(names) == 1 else 'are'} left out"
    if pace is None:
        return "how late entries can be is not known"
    if pace.lateness > EXACT_LATENESS * experiment.tick:
        return "slow links, on which entries may be asked for before they come"
    if pace.round_ == inf:
        return "how long rounds last is not known"
    if experiment.sign and not pace.met:
        # Where versions are equal and an old digest is not, who can prove a lie asks for the logs.
        return "of signed entries those that cross greetings may be asked for again"
    # What comes just when a time-out does may come too late.
    if pace.round_ >= experiment.round_timeout:
        return "a round may outlast round_timeout"
    if pace.idle >= IDLE_PATIENCE * experiment.round_timeout:
        return "training may outlast the patience of peers that are idle"
    if pace.closing >= experiment.settle_timeout:
        return "the end may outlast settle_timeout"
    return ""


def followed_pace(
    protocol: Protocol, entries: Published, times: Timeline, latencies: Mapping[Edge, float]
) -> Pace:
    """Return how late entries are in a timeline."""
    rounds, idle = [], [0.0]
    for round_, at in enumerate(entries.by_round(protocol.rounds)):
        histories, start = entries.histories[at], times.starts[round_]
        rounds.append(times.starts[round_ + 1].max() - times.published[at][histories].min())
        if len(active := protocol.roster.active(round_)) < len(start):
            waits = times.arrivals[at][histories].min(axis=0) - start
            idle.append(np.delete(waits, active).max())
    return Pace(
        lateness(times, latencies),
        float(max(rounds)),
        float(max(idle)),
        float(times.arrivals.max() - times.starts[-1].min()),
        bool(times.published.min() > 2 * max(latencies.values())),
    )


def most_pace(
    experiment: Experiment, latency: float, links: Links | None, depth: int | None = None
) -> Pace | None:
    """Return how late entries can be at most, with no timeline; None: that is not known.

    On shortest paths one neighbour has an entry by a link's latency before the other at most, and
    the word of it takes that again. The ways of a tree are such only where no peer has more links
    than it pushes to: else it leaves some neighbours to others, and they may be as far down as the
    tree is deep.

    Args:
        experiment: the run.
        latency: the most seconds of a link.
        links: its graph; None: too large to be made.
        depth: links that an entry passes until its last peer has it, at most, if that is known.
    """
    shortest = experiment.gossip == "flood" or (
        links is not None and int(links.degrees.max()) <= EAGER_CAP
    )
    if depth is None and links is not None and shortest:
        depth = 2 * breadth_first(links).height()
    gap = 1 if shortest else depth
    if gap is None:
        return None
    hops = inf if depth is None else depth
    train = seconds_per_step(experiment) * experiment.local_steps
    slowest = quickest = 1.0
    if experiment.speed_spread or experiment.stragglers:
        factors = slowness(experiment)
        slowest, quickest = max(factors), min(factors)
    # Peers begin a round, and close their logs, within the time that an entry takes to everybody.
    spread = 2 * hops * latency if latency else 0.0
    return Pace(
        lateness=(gap + 1) * latency,
        round_=spread + (slowest - quickest) * train,
        idle=spread + slowest * train if experiment.participation < 1 else 0.0,
        closing=spread,
        met=quickest * train > 2 * latency,
    )


def longest_latency(experiment: Experiment) -> float | None:
    """Return the most seconds that a link can take; None: a file says it."""
    law = parse_latency(experiment.latency)
    return None if law is None else float(law.quantiles(np.array([1 - 2.0**-53]))[0])


def lateness(times: Timeline, latencies: Mapping[Edge, float]) -> float:
    """Return by how much the news of a neighbour may be ahead of an entry, in seconds.

    That is how much earlier than a peer one of its neighbours can have an entry, and the time that
    word of it takes.
    """
    arrivals = np.ascontiguousarray(times.arrivals.T)
    lags = (
        np.abs(arrivals[one] - arrivals[other]).max()
        + max(latencies[one, other], latencies[other, one])
        for one, other in latencies
        if one < other
    )
    return float(max(lags))
