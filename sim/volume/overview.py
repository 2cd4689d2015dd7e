"""One setting at a glance: what every system costs, and how our entries spread over the graph."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from peer.config import Experiment
from peer.errors import UserError
from peer.latency import Constant, parse_latency
from peer.protocol import Protocol
from peer.seeding import BLOCKS, UNIFORM, WEIGHTED
from sim.volume.averages import averages_volume, judge_unseen, predict_averages
from sim.volume.calm import Pace, Verdict, judge, left_out, longest_latency, most_pace
from sim.volume.frames import history_bytes, published
from sim.volume.prediction import without_model
from sim.volume.rehearsal import REHEARSED, steps
from sim.volume.scale import agreement, graph_of, histories_spread
from sim.volume.sends import BY_THE_GRAPH, sends_per_entry
from sim.volume.setting import Setting, setting_of
from sim.volume.spread import SpreadVolume
from sim.volume.spread_words import in_words
from sim.volume.systems import systems_rows
from sim.volume.table import systems_in_words, systems_json
from sim.words import bytes_in_words
from topology.arrays import Links


@dataclass(frozen=True)
class Overview:
    """What is told of a setting.

    Attributes:
        setting: the numbers that the formulas go by.
        rows: of the systems; see `sim.volume.systems`.
        spread: of the histories of a run; None in a mode whose ways do not follow from the graph.
        run_payload_bytes: of all copies of all entries of the run, ACKs and ENDs included, or of
            the weights that it averages.
        left_out: options, by name, that change what is sent and stand in none of the formulas.
        alike: whether all links take the same time; if not, entries go other ways than `spread` has
            it, though as often.
        verdict: whether the run's payload is exact, and if not, why.
        averaged: whether it sends weights, and no entries.
    """

    setting: Setting
    rows: list[dict[str, Any]]
    spread: SpreadVolume | None
    run_payload_bytes: int
    left_out: tuple[str, ...]
    alike: bool
    verdict: Verdict
    averaged: bool = False


def _entry_bytes(protocol: Protocol, seeding: str, mean: float) -> float | None:
    """Return what the mean entry of another method of sums takes; None: it cannot be had so.

    Args:
        protocol: the agreement of the run.
        seeding: that of the other method.
        mean: bytes of the run's own entries.
    """
    try:
        return mean + history_bytes(replace(protocol, seeding=seeding)) - history_bytes(protocol)
    except UserError:
        # Ferret cannot have more coordinates than sums, nor more sums than there is room for.
        return None


def overview(
    experiment: Experiment,
    systems: Sequence[str],
    sample: int | None,
    walked: Callable[[int, int], None] = lambda _done, _total: None,
) -> Overview:
    """Return what a setting costs; nothing is run.

    Args:
        experiment: the setting; its model may be a size.
        systems: by name; none: all.
        sample: see `spread_volume`.
        walked: see `spread_volume`.

    Raises:
        UserError: an unknown system or size, or what has no formula.
        TopologyError: there is no such graph, or it varies over time.
    """
    experiment, links = graph_of(experiment)
    protocol = agreement(experiment)
    entries = published(protocol)
    mean = float(entries.frame_bytes[entries.histories].mean())
    own, pro, projected = (
        _entry_bytes(protocol, seeding, mean) for seeding in (UNIFORM, WEIGHTED, BLOCKS)
    )
    setting = setting_of(
        experiment, links, entry_bytes=own, pro_entry_bytes=pro, ferret_entry_bytes=projected
    )
    rows = systems_rows(setting, systems)
    alike = isinstance(parse_latency(experiment.latency), Constant)
    if experiment.averages:
        payload = averages_volume(experiment, protocol.roster, setting.edges).bytes
        names = left_out(experiment)
        verdict = _verdict(experiment, protocol.roster.rows, setting.edges)
        return Overview(setting, rows, None, payload, names, alike, verdict, averaged=True)
    copies = sends_per_entry(experiment.gossip, setting.peers, setting.edges)
    spread = None
    if experiment.gossip in BY_THE_GRAPH:
        spread = histories_spread(experiment, links, entries, sample=sample, walked=walked)
    return Overview(
        setting,
        rows,
        spread,
        int(entries.frame_bytes.sum()) * copies,
        left_out(experiment),
        alike,
        judge(experiment, _pace(experiment, links, spread, alike=alike)),
    )


def _verdict(experiment: Experiment, rows: Sequence[int], links: int) -> Verdict:
    """Return what may be promised of the payload of a run that averages.

    How long rounds last by whose rows is not known here: those at hand are made up.
    """
    unknown = left_out(experiment) or experiment.local_epochs
    if unknown or steps(experiment, rows, links) > REHEARSED:
        return judge_unseen(experiment)
    return predict_averages(without_model(experiment)).verdict


def _pace(
    experiment: Experiment, links: Links | None, spread: SpreadVolume | None, *, alike: bool
) -> Pace | None:
    """Return how late entries can be at most; None: that is not known."""
    latency = longest_latency(experiment)
    if latency is None or spread is None:
        return None
    # Of the ways of all peers it is known how long they are, if they are those that are walked.
    known = alike and spread.exact and spread.origins == spread.peers
    return most_pace(experiment, latency, links, spread.last_hops_max if known else None)


def overview_json(found: Overview) -> dict[str, Any]:
    """Return what `--json` prints."""
    return {
        **systems_json(found.setting, found.rows),
        "spread": None if found.spread is None else asdict(found.spread),
        "run_payload_bytes": found.run_payload_bytes,
        "left_out": found.left_out,
        "links_alike": found.alike,
        "exact": found.verdict.exact,
        "inexact_for": found.verdict.why,
    }


def overview_in_words(found: Overview) -> str:
    """Return an overview as text, without a newline at the end."""
    verdict = found.verdict
    sent = "With ACKs and ENDs the run's entries take"
    if found.averaged:
        sent = "The weights that peers of the run send take"
    whole = (
        f"{sent} {'' if verdict.exact else 'about '}"
        f"{bytes_in_words(found.run_payload_bytes)} ({found.run_payload_bytes:,} bytes)"
        f"{'' if verdict.exact else f', not to the byte: {verdict.why}'}."
    )
    spread = []
    if found.spread is not None:
        spread.append(in_words(found.spread, verdict, alike=found.alike))
    if spread and not found.alike:
        spread.append(
            "Links of this run differ in latency, and here all are alike: entries are sent as "
            "often, but go other ways."
        )
    if found.left_out:
        names = ", ".join(found.left_out)
        spread.append(
            f"These stand in none of the formulas, and what they change is left out: {names}."
        )
    return "\n\n".join([systems_in_words(found.setting, found.rows), whole, *spread])
