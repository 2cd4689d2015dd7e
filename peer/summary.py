"""summary.json (schema 1): what a run was, what came of it, and what it cost."""

from __future__ import annotations

import resource
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import topology
from peer.choices import WEIGHT_BYTES
from peer.config import Experiment
from peer.corpus import Corpus
from peer.entry import Entry
from peer.traffic import Traffic
from peer.wire import Entries, encode

SCHEMA = 1

FAULTS = {
    "crashes": "crash",
    "restarts": "restart",
    "joins": "join",
    "leaves": "leave",
    "evictions": "evict",
    "partitions": "partition",
    "holds": "hold",
}
"""The names of what a scenario's verbs have done."""


@dataclass
class Outcome:
    """What a run has ended with; lists are by peer, without those that are absent.

    Attributes:
        accumulator_digests: of each peer's accumulator.
        model_digests: of each peer's weights, made from its own accumulator; empty: no model.
        published: how many entries, histories and ENDs; or how often a peer has sent its weights.
        lower_bound: payload bytes if each of these had been sent once to whoever needs it.
        received: how many of them each peer got from others.
        timeouts: how many rounds were closed without somebody's entry, over all peers.
        missing: peers whose logs did not come to their end.
        traffic: bytes and messages per link.
        losses: the model's loss before the first round and after each, [] without a model.
        rouge_l: see `rouge_over_rounds`; None: it was not measured.
        tasks: see `before_and_after`.
        seconds: wall, local_steps, rebuild, evaluation.
        processes: of `kseed launch`.
        exit_signals: of processes that a signal has ended.
        befallen: by a scenario's verb, how many peers it has befallen, or how many cuts there were.
        absent: peers that were not there at the end: crashed, frozen, gone, evicted or never come.
        accused: of what each peer has found others guilty.
        network: what has become of the frames on simulated links.
        cluster: the workers that took the local steps, the nodes they were on, and how often one
            was lost; None: there were none.
        consensus: of peers that average: how far from each other they have ended, and how far they
            were after each round.
        rebuild: of methods of sums: perturbations and seconds of a rebuild, after each round.
    """

    accumulator_digests: list[str]
    model_digests: list[str]
    published: int
    lower_bound: int
    received: list[int]
    timeouts: int
    missing: tuple[int, ...]
    traffic: Traffic
    losses: list[float] = field(default_factory=list)
    rouge_l: dict[str, Any] | None = None
    tasks: list[dict[str, Any]] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    peak_memory_bytes: int = 0
    rejected: int = 0
    accused: Mapping[int, Mapping[int, str]] = field(default_factory=dict)
    skipped_steps: int = 0
    processes: list[dict[str, Any]] | None = None
    exit_signals: list[int] = field(default_factory=list)
    befallen: Mapping[str, int] = field(default_factory=dict)
    absent: tuple[int, ...] = ()
    network: dict[str, int] | None = None
    cluster: dict[str, int] | None = None
    consensus: dict[str, Any] | None = None
    rebuild: dict[str, Any] | None = None


def summarise(
    engine: str,
    experiment: Experiment,
    graph: topology.Topology,
    corpus: Corpus | None,
    model: Mapping[str, Any] | None,
    outcome: Outcome,
) -> dict[str, Any]:
    """Return summary.json as a dictionary; `model` is its {name, parameters, dtype, trained}."""
    measures = topology.measure(graph)
    total = outcome.traffic.total()
    peers = experiment.peers
    lower_bound = outcome.lower_bound
    digests = {*outcome.accumulator_digests}
    models = {*outcome.model_digests}
    losses = outcome.losses
    summary: dict[str, Any] = {
        "schema": SCHEMA,
        "engine": engine,
        "method": experiment.method,
        "aggregation": experiment.aggregation,
        "trainer": experiment.trainer,
        "peers": peers,
        "rounds": experiment.rounds,
        "local_steps": experiment.local_steps,
        "local_epochs": experiment.local_epochs if experiment.averages else 0,
        "candidate_seeds": experiment.candidate_seeds,
        "perturbation": experiment.perturbation,
        "gossip": experiment.gossip,
        "gradient_bytes": experiment.gradient_bytes,
        "seed": experiment.seed,
        "topology": {
            "name": graph.name,
            "nodes": measures.nodes,
            "edges": measures.edges,
            "diameter": measures.diameter,
        },
        "model": None if model is None else dict(model),
        "data": None if corpus is None else _data(corpus),
        "eval_loss": None
        if not losses
        else {"initial": losses[0], "final": losses[-1], "per_round": losses[1:]},
        "rouge_l": outcome.rouge_l,
        "tasks": outcome.tasks,
        "digests": {
            "accumulator": outcome.accumulator_digests,
            "model": outcome.model_digests or None,
            "all_equal": len(digests) == 1 and len(models) <= 1,
        },
        "entries": {"published": outcome.published, "received_per_peer": outcome.received},
        "rejected_messages": outcome.rejected,
        "liars": _liars(outcome.accused),
        "skipped_steps": outcome.skipped_steps,
        "missing_peers": list(outcome.missing),
        "absent_peers": list(outcome.absent),
        "timeouts_fired": outcome.timeouts,
        "faults": {name: outcome.befallen.get(verb, 0) for name, verb in FAULTS.items()}
        | {"exit_signals": outcome.exit_signals},
        "bytes": {
            "payload_total": total.payload_bytes,
            "control_total": total.control_bytes,
            "framing_total": total.framing_bytes,
            "handshake_total": total.handshake_bytes,
            "wire_total": total.wire_bytes,
            "per_peer_round_mean": per_peer_round(total.wire_bytes, peers, experiment.rounds),
            "lower_bound_payload_total": lower_bound,
            "redundancy": redundancy(total.payload_bytes, lower_bound),
        },
        "seconds": outcome.seconds,
        "peak_memory_bytes": outcome.peak_memory_bytes,
    }
    if outcome.consensus is not None:
        summary["consensus"] = outcome.consensus
    if outcome.rebuild is not None:
        summary["rebuild"] = outcome.rebuild
    if outcome.network is not None:
        summary["network"] = outcome.network
    if outcome.cluster is not None:
        summary["cluster"] = outcome.cluster
    if outcome.processes is not None:
        summary["processes"] = outcome.processes
    return summary


def lower_bound_payload(entries: Iterable[Entry], peers: int) -> int:
    """Return the payload bytes of one copy of each entry for every peer but its origin."""
    return sum(len(encode(Entries((entry,)))) * (peers - 1) for entry in entries)


def per_peer_round(sent: int, peers: int, rounds: int) -> float:
    """Return what a peer sends plus what it receives in a round, given what all have sent in all.

    What one peer sends is what another receives, so each byte counts twice.
    """
    return 2 * sent / peers / rounds


def redundancy(payload: int, lower_bound: int) -> float | None:
    """Return how often the payload of `lower_bound_payload` was sent; None: there was none."""
    return payload / lower_bound if lower_bound else None


def weights_up_and_down(model: Mapping[str, Any] | None) -> int | None:
    """Return the bytes of a model sent to a peer and back, as a round of FedAvg does.

    Args:
        model: {name, parameters, dtype} of a summary; None: the run had none.

    Returns:
        None without a model, or if it is of no known type.
    """
    if model is None or model["dtype"] not in WEIGHT_BYTES:
        return None
    both_ways: int = 2 * model["parameters"] * WEIGHT_BYTES[model["dtype"]]
    return both_ways


def _liars(accused: Mapping[int, Mapping[int, str]]) -> list[dict[str, Any]]:
    """Return who has been accused, by whom and of what."""
    liars: dict[int, dict[str, Any]] = {}
    for accuser, reasons in accused.items():
        for liar, reason in reasons.items():
            entry = liars.setdefault(liar, {"peer": liar, "named_by": [], "reasons": []})
            entry["named_by"].append(accuser)
            if reason not in entry["reasons"]:
                entry["reasons"].append(reason)
    return [liars[peer] for peer in sorted(liars)]


def _data(corpus: Corpus) -> dict[str, Any]:
    return {
        "rows_per_peer": [len(shard) for shard in corpus.split.shards],
        "eval_rows": len(corpus.split.held_out),
        "unusable_rows": corpus.unusable,
    }


def peak_memory() -> int:
    """Return the greatest resident size of this process so far, in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
