"""The bytes of a run of our protocol, from formulas alone.

Methods that average weights: see `sim.volume.averages`. Of the others, payload: each entry is sent
as often as `sim.volume.sends` says. Control: greetings, digests and news (`sim.volume.timers`) at
the times of a timeline (`sim.volume.timeline`). Handshakes: two connections a link.

Payload is exact where nothing is lost, nobody is given up, and links are quicker than half the tick
by which neighbours learn what they lack: otherwise some entries may be asked for while they are on
their way (`sim.volume.calm` tells). Control is a model, whose error a measurement shows.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from statistics import fmean
from typing import Final

import numpy as np

import topology
from peer.config import Experiment
from peer.link_latencies import link_latencies
from peer.links import HEARTBEAT_TICKS
from peer.protocol import Protocol
from peer.setup import Prepared, prepare
from peer.traffic import LinkCount
from peer.work import seconds_per_step
from peer.zmtp import handshake_bytes
from sim.speeds import slowness
from sim.volume.averages import Averages, predict_averages
from sim.volume.calm import WITHOUT_TIMES, followed_pace, judge, left_out, most_pace
from sim.volume.frames import Published, published
from sim.volume.quiet import quiet_control
from sim.volume.sends import BY_THE_GRAPH, sends_per_entry
from sim.volume.timeline import timeline
from sim.volume.timers import TimerModel
from topology.arrays import links_of

MODELLED: Final = 2**23
"""The most steps in which times are followed, see `_steps`: some 10 seconds of work."""

_MESSAGE_STEPS: Final = 64
"""So many steps a message between neighbours takes."""


@dataclass(frozen=True)
class Bytes:
    """What a run sends, all peers together.

    Attributes:
        payload_messages: frames that carry entries.
        payload_bytes: theirs.
        payload_framing_bytes: what ZMTP adds to these frames.
        control_messages: all other frames.
        control_bytes: theirs.
        control_framing_bytes: what ZMTP adds to these.
        handshake_bytes: of all connections.
        exact: whether payload and its framing are those of a run, to the byte.
        follows_times: whether control is counted or follows from when entries come. Where weights
            are averaged, it is that of a run; else within 5% in 96 of 100 random settings, and at
            most 19% off. Where it is false, control may be off by any factor: of slow or disturbed
            links it is only known that neighbours greet, tell digests and say farewell.
        seconds_to_last: from publishing an entry to its last peer, in virtual time, mean over all;
            None: not known, as the two that follow.
        most_seconds_to_last: the longest of them.
        ended_at: when the last peer has left, in virtual seconds.
    """

    payload_messages: int
    payload_bytes: int
    payload_framing_bytes: int
    control_messages: int
    control_bytes: int
    control_framing_bytes: int
    handshake_bytes: int
    exact: bool = True
    follows_times: bool = True
    seconds_to_last: float | None = None
    most_seconds_to_last: float | None = None
    ended_at: float | None = None

    @property
    def wire_bytes(self) -> int:
        """Everything."""
        return (
            self.payload_bytes
            + self.payload_framing_bytes
            + self.control_bytes
            + self.control_framing_bytes
            + self.handshake_bytes
        )


def without_model(experiment: Experiment) -> Prepared:
    """Return what the run of an experiment is made of, but for model, data and folder.

    Raises:
        UserError, TopologyError: as the run itself would.
    """
    return prepare(replace(experiment, trainer="synthetic", out="", resume=False), "sim")


def predict(experiment: Experiment) -> Bytes:
    """Return what a simulated run of an experiment sends.

    Anti-entropy puts several entries into a message: here each counts as if it came alone, which is
    some bytes too much; its control is not modelled.

    Raises:
        UserError, TopologyError: as the run itself would, or it has too many entries to count.
    """
    return predict_run(without_model(experiment))


def predict_run(prepared: Prepared) -> Bytes:
    """Return what a run sends whose parts are made already; see `predict`."""
    experiment, graph = prepared.experiment, prepared.graph
    curve = experiment.curve == "on"
    shakes = sum(handshake_bytes(dialled=dialled, curve=curve) for dialled in (True, False))
    handshakes = 2 * len(graph.edges) * shakes
    if experiment.averages:
        return _of_averages(predict_averages(prepared), handshakes)
    return _of_entries(experiment, graph, prepared.protocol, handshakes)


def _of_averages(found: Averages, handshakes: int) -> Bytes:
    return Bytes(
        found.payload.frames,
        found.payload.bytes,
        found.payload.framing,
        found.control.control_messages,
        found.control.control_bytes,
        found.control.framing_bytes,
        handshakes,
        exact=found.verdict.exact,
        follows_times=found.verdict.follows_times,
        ended_at=found.ended_at,
    )


def _of_entries(
    experiment: Experiment, graph: topology.Topology, protocol: Protocol, handshakes: int
) -> Bytes:
    curve = experiment.curve == "on"
    entries = published(protocol)
    peers, links = len(graph.nodes), len(graph.edges)
    sends = sends_per_entry(protocol.gossip, peers, links)
    payload = (
        len(entries.origins) * sends,
        int(entries.frame_bytes.sum()) * sends,
        int(entries.framing_bytes(curve=curve).sum()) * sends,
    )
    latencies = link_latencies(experiment, graph)
    disturbed = left_out(experiment, graph)
    by_the_graph = protocol.gossip in BY_THE_GRAPH and WITHOUT_TIMES.isdisjoint(disturbed)
    if not by_the_graph or _steps(experiment, entries, peers, links) > MODELLED:
        control = _quiet_control(experiment, graph, protocol, fmean(latencies.values()))
        numbers = (control.control_messages, control.control_bytes, control.framing_bytes)
        # A run too large to follow has its volume all the same, if its links are quick enough.
        pace = None
        if by_the_graph and not disturbed:
            pace = most_pace(experiment, max(latencies.values()), links_of(graph))
        exact = judge(experiment, pace, graph).exact
        return Bytes(*payload, *numbers, handshakes, exact=exact, follows_times=False)
    neighbours = graph.adjacency
    train = seconds_per_step(experiment) * experiment.local_steps
    train_seconds = [train * factor for factor in slowness(experiment)]
    times = timeline(protocol, entries, neighbours, latencies, train_seconds)
    model = TimerModel(protocol, entries, times, neighbours, latencies, curve=curve)
    last = times.seconds_to_last()
    verdict = judge(experiment, followed_pace(protocol, entries, times, latencies), graph)
    return Bytes(
        *payload,
        model.total.control_messages,
        model.total.control_bytes,
        model.total.framing_bytes,
        handshakes,
        exact=verdict.exact,
        follows_times=verdict.follows_times,
        seconds_to_last=float(last.mean()),
        most_seconds_to_last=float(last.max()),
        ended_at=model.ended_at,
    )


def _steps(experiment: Experiment, entries: Published, peers: int, links: int) -> int:
    """Return how much work it is to follow the times of a run, a microsecond each, more or less.

    Every peer gets every entry, by ways that are looked for from every origin; and neighbours tell
    their digests in every round, and in a long one that they live.
    """
    arrivals = len(entries.origins) * peers
    looks = len(np.unique(entries.origins)) * 2 * links
    train = seconds_per_step(experiment) * experiment.local_steps
    told = experiment.rounds * (1 + train / (HEARTBEAT_TICKS * experiment.tick))
    return arrivals + looks + round(_MESSAGE_STEPS * 2 * links * told)


def _quiet_control(
    experiment: Experiment, graph: topology.Topology, protocol: Protocol, latency: float
) -> LinkCount:
    """Return the control of a run in which each link's ends greet, tell digests and part.

    A digest is told at a tick after something has come: at every tick while rounds are shorter than
    that, else once a round; and once before the first entry.
    """
    train = protocol.local_steps * seconds_per_step(experiment)
    told = 1 + protocol.rounds * min(1.0, (train + latency) / protocol.tick)
    links, curve = len(graph.edges), experiment.curve == "on"
    return quiet_control(protocol, links, round(told), curve=curve)
