"""A peer's status as Prometheus metrics, by that system's naming conventions.

A digest is no number and would make a new time series with every round as a label; the first 48 of
its bits, as a number, are what an alert needs to see that peers differ.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from peer.participant import Phase
from peer.status import NeighbourStatus, PeerStatus

DIGEST_DIGITS: Final = 12
"""Hexadecimal digits that a float64 holds exactly."""

KINDS: Final = ("payload", "control", "framing", "handshake")
"""Of bytes; the first two are of messages too. See `peer.traffic`."""


def exposition(status: PeerStatus) -> bytes:
    """Return the page that Prometheus reads, in its text format, with the process's own metrics."""
    registry = CollectorRegistry()
    registry.register(_Collector(status))
    ProcessCollector(registry=registry)
    return generate_latest(registry)


class _Collector(Collector):
    def __init__(self, status: PeerStatus) -> None:
        self._status = status

    def collect(self) -> Iterable[Metric]:
        return families(self._status)


def families(status: PeerStatus) -> Iterator[Metric]:
    """Walk the metrics of a peer; all bear its number as the label `peer`."""
    me = str(status.peer)

    def gauge(name: str, help_: str, value: float, unit: str = "") -> Metric:
        family = GaugeMetricFamily(name, help_, labels=["peer"], unit=unit)
        family.add_metric([me], value)
        return family

    def counter(name: str, help_: str, value: float) -> Metric:
        family = CounterMetricFamily(name, help_, labels=["peer"])
        family.add_metric([me], value)
        return family

    yield _info(status)
    yield _phase(status)
    yield gauge("kseed_peers", "Peers of the run.", status.peers)
    yield gauge("kseed_rounds", "Rounds of the run.", status.rounds)
    yield gauge("kseed_round", "Round that the peer is in, from 0.", status.round)
    yield gauge(
        "kseed_state_digest",
        "First 48 bits of the digest of the peer's accumulator or weights.",
        int(status.digest[:DIGEST_DIGITS], 16),
    )
    if status.cut_round is not None:
        help_ = "After how many rounds every peer has to have this peer's digest."
        yield gauge("kseed_cut_round", help_, status.cut_round)
    if status.loss is not None:
        help_ = "Mean loss that the last local steps met, in nats per token."
        yield gauge("kseed_training_loss_nats", help_, status.loss, unit="nats")
    yield gauge("kseed_entries_held", "Entries in the peer's log.", status.held)
    yield counter("kseed_entries_received", "Entries that came from others.", status.received)
    help_ = "How often the peer has gone on without somebody."
    yield counter("kseed_timeouts", help_, status.timeouts)
    help_ = "Messages of neighbours that could not be taken."
    yield counter("kseed_rejected_messages", help_, status.rejected)
    help_ = "Messages that were not one frame from a neighbour."
    yield counter("kseed_garbage_messages", help_, status.garbage)
    help_ = "Frames that found no room in the queue to a neighbour."
    yield counter("kseed_dropped_messages", help_, status.dropped)
    yield gauge("kseed_accused_peers", "Peers convicted or banned.", len(status.accused))
    yield gauge("kseed_awaited_peers", "Peers that hold this one up.", len(status.waiting_for))
    help_ = "When the peer began to take part, since 1970 in UTC."
    yield gauge("kseed_start_time_seconds", help_, status.started_at, unit="seconds")
    help_ = "The peer's clock, since 1970 in UTC."
    yield gauge("kseed_clock_seconds", help_, status.now, unit="seconds")
    help_ = "Greatest resident size of the peer's process."
    yield gauge("kseed_peak_memory_bytes", help_, status.peak_memory_bytes, unit="bytes")
    yield from _links(me, status.neighbours)


def _info(status: PeerStatus) -> Metric:
    names = ("method", "topology", "agreement")
    family = InfoMetricFamily("kseed_peer", "What the peer takes part in.", labels=["peer"])
    family.add_metric([str(status.peer)], {name: str(getattr(status, name)) for name in names})
    return family


def _phase(status: PeerStatus) -> Metric:
    help_ = "What the peer does: 1 for one phase, 0 for the others."
    family = GaugeMetricFamily("kseed_phase", help_, labels=["peer", "phase"])
    for phase in Phase:
        family.add_metric([str(status.peer), phase.value], float(status.phase == phase.value))
    return family


def _links(me: str, neighbours: Iterable[NeighbourStatus]) -> Iterator[Metric]:
    link = ["peer", "neighbour"]
    sent = CounterMetricFamily(
        "kseed_sent_bytes",
        "Bytes sent to a neighbour, by kind.",
        labels=[*link, "kind"],
        unit="bytes",
    )
    messages = CounterMetricFamily(
        "kseed_sent_messages", "Messages sent to a neighbour, by kind.", labels=[*link, "kind"]
    )
    silence = GaugeMetricFamily(
        "kseed_neighbour_silence_seconds",
        "Time since the last readable message of a neighbour; absent if there was none.",
        labels=link,
        unit="seconds",
    )
    open_ = GaugeMetricFamily(
        "kseed_link_open", "Whether a neighbour has greeted and not left.", labels=link
    )
    reached = GaugeMetricFamily(
        "kseed_neighbour_reached", "Whether a connection to a neighbour was made.", labels=link
    )
    banned = GaugeMetricFamily(
        "kseed_neighbour_banned", "Whether a neighbour is disconnected for good.", labels=link
    )
    for neighbour in neighbours:
        labels = [me, str(neighbour.peer)]
        for kind in KINDS:
            sent.add_metric([*labels, kind], getattr(neighbour, f"{kind}_bytes"))
        for kind in KINDS[:2]:
            messages.add_metric([*labels, kind], getattr(neighbour, f"{kind}_messages"))
        if neighbour.silent_seconds is not None:
            silence.add_metric(labels, neighbour.silent_seconds)
        reached.add_metric(labels, float(neighbour.reached))
        open_.add_metric(labels, float(neighbour.open))
        banned.add_metric(labels, float(neighbour.banned))
    yield from (sent, messages, silence, reached, open_, banned)
