"""The numbers that tell topologies apart, and the table that shows them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from topology.distances import hop_counts
from topology.graph import Topology
from topology.mixing import spectral_gap
from topology.varying import SPREAD_LIMIT, Varying, slots_to_spread

SLOTS_COUNTED = 256
"""The most slots whose links are counted."""


@dataclass(frozen=True)
class Measures:
    """The measures of one topology; paths are in hops."""

    nodes: int
    """The number of peers, N."""

    edges: int
    """The number of links, E; bytes flow both ways on each."""

    degree_min: int
    degree_mean: float
    """2 E / N."""
    degree_max: int

    diameter: int
    """The hops between the two peers that are furthest apart."""

    mean_path: float
    """The hops of a shortest path, as a mean over all pairs of distinct peers."""

    spectral_gap: float
    """1 - max |lambda| of the Metropolis-Hastings matrix, its first eigenvalue left out.

    Between 0, slow, and 1, where one step of averaging with neighbours gives the mean of all.
    See `topology.mixing.spectral_gap`.
    """


@dataclass(frozen=True)
class VaryingMeasures(Measures):
    """The same of all slots together, and those of a graph that varies over time."""

    period: int | None
    """After so many slots they come again; None: never."""

    slot_edges_min: int
    slot_edges_max: int
    """Links in one slot, among the first `SLOTS_COUNTED`."""

    spread_slots: int | None
    """Slots until everyone has what each had at the start, see `topology.varying`.

    None: more than `SPREAD_LIMIT`.
    """


def measure(topology: Topology) -> Measures:
    """Return the measures of a topology: seconds at 5,000 peers, and no more than that at fewer."""
    if isinstance(topology, Varying):
        slots = min(topology.period or SLOTS_COUNTED, SLOTS_COUNTED)
        counts = [len(topology.edges_at(slot)) for slot in range(slots)]
        return VaryingMeasures(
            **vars(_measure(topology)),
            period=topology.period,
            slot_edges_min=min(counts),
            slot_edges_max=max(counts),
            spread_slots=slots_to_spread(topology),
        )
    return _measure(topology)


def _measure(topology: Topology) -> Measures:
    degrees = [len(topology.neighbours(peer)) for peer in topology.nodes]
    counts = hop_counts(topology)
    hops = np.arange(1, len(counts) + 1)
    return Measures(
        nodes=len(degrees),
        edges=len(topology.edges),
        degree_min=min(degrees),
        degree_mean=sum(degrees) / len(degrees),
        degree_max=max(degrees),
        diameter=len(counts),
        mean_path=float(counts @ hops / counts.sum()),
        spectral_gap=spectral_gap(topology),
    )


def describe(topology: Topology, measures: Measures) -> str:
    """Return the measures as a plain table of two columns, the notes below; no newline at its end.

    >>> from topology.families import build
    >>> print(describe(ring := build("ring", 6), measure(ring)))
    topology      ring
    peers         6
    links         6
    degree        2
    diameter      3 hops
    mean path     1.80 hops
    spectral gap  0.333
    """
    degree = f"{measures.degree_min}"
    if measures.degree_min < measures.degree_max:
        degree += f" to {measures.degree_max}, mean {measures.degree_mean:.2f}"
    rows = {
        "topology": topology.name,
        "peers": f"{measures.nodes:,}",
        "links": f"{measures.edges:,}",
        "degree": degree,
        "diameter": f"{measures.diameter:,} hop{'s' * (measures.diameter > 1)}",
        "mean path": f"{measures.mean_path:,.2f} hops",
        "spectral gap": f"{measures.spectral_gap:.3g}",
    }
    if isinstance(measures, VaryingMeasures):
        rows["topology"] += ", varying over time"
        least, most = measures.slot_edges_min, measures.slot_edges_max
        rows["links"] += f" in all, {least:,}{f' to {most:,}' * (least < most)} at a time"
        period, spread = measures.period, measures.spread_slots
        rows["slots"] = "each drawn anew" if period is None else f"{period:,}, again and again"
        beyond = f"more than {SPREAD_LIMIT:,}" if spread is None else f"{spread:,}"
        rows["spread"] = f"{beyond} slot{'s' * (spread != 1)} from everyone to everyone"
    width = max(map(len, rows)) + 2
    lines = [f"{label:<{width}}{value}" for label, value in rows.items()]
    return "\n".join([*lines, *topology.notes])
