"""The closing words of a run: what its summary.json says, in short lines for a terminal."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from peer.records import SAMPLES
from peer.summary import weights_up_and_down
from sim.tables import labelled
from sim.troubles import troubles_of
from sim.words import (
    ENGINES,
    bytes_in_words,
    count,
    ratio_in_words,
    rouge_in_words,
    seconds_in_words,
)

_Rows = list[tuple[str, str]]

_DIGEST_SHOWN = 12


def closing_words(summary: Mapping[str, Any]) -> str:
    """Return what a run was, what came of it and what it cost, without a newline at the end.

    Args:
        summary: as `peer.summary.summarise` makes it, and the run folder's path as "folder".
    """
    rows = [
        *_run(summary),
        *_loss(summary),
        *_rouge(summary),
        *_agreement(summary),
        *((found.label, found.short) for found in troubles_of(summary) if found.label),
        *_traffic(summary),
        ("time", seconds_in_words(summary["seconds"]["wall"])),
        *_folder(summary),
    ]
    return labelled(rows)


def _run(summary: Mapping[str, Any]) -> _Rows:
    graph, model = summary["topology"], summary["model"]
    size = f"{count(summary['peers'], 'peer')}, {count(graph['edges'], 'link')}"
    steps = count(summary["local_steps"], "local step")
    rows = [
        ("run", f"{summary['method']}, {ENGINES[summary['engine']]}"),
        ("topology", f"{graph['name']}: {size}, diameter {graph['diameter']:,}"),
        ("rounds", f"{summary['rounds']:,}, each of {steps} a peer"),
    ]
    if model is not None:
        rows.append(
            ("model", f"{model['name']}, {model['parameters']:,} parameters in {model['dtype']}")
        )
    return rows


def _loss(summary: Mapping[str, Any]) -> _Rows:
    label, loss = "held-out loss", summary["eval_loss"]
    if loss is None:
        return [(label, "none: the synthetic trainer has no model")]
    before, after = _finite(loss["initial"]), _finite(loss["final"])
    text = f"{_nats(before)} before, {_nats(after)} after, in nats per token"
    if not before or after is None:
        return [(label, text)]
    change = f"{100 * abs(after - before) / before:.1f} %"
    return [(label, text), ("", f"{change} {'lower' if after < before else 'higher'}")]


def _rouge(summary: Mapping[str, Any]) -> _Rows:
    measured = summary.get("rouge_l")
    if measured is None:
        return []
    before, after = rouge_in_words(measured["initial"]), rouge_in_words(measured["final"])
    return [("Rouge-L", f"{before} before, {after} after")]


def _finite(loss: float | None) -> float | None:
    """Return None for a loss that is not finite; one read from a run folder is None already."""
    return loss if loss is not None and math.isfinite(loss) else None


def _nats(loss: float | None) -> str:
    return "not finite" if loss is None else f"{loss:.4f}"


def _agreement(summary: Mapping[str, Any]) -> _Rows:
    digests = summary["digests"]
    rows = [("accumulators", _agreed(digests["accumulator"]))]
    if digests["model"] is not None:
        rows.append(("models", _agreed(digests["model"])))
    return rows


def _agreed(digests: Sequence[str]) -> str:
    different = len(set(digests))
    if different > 1:
        return f"NOT EQUAL: {different:,} different digests at {len(digests):,} peers"
    return f"equal at all {len(digests):,} peers, digest {digests[0][:_DIGEST_SHOWN]}"


def _traffic(summary: Mapping[str, Any]) -> _Rows:
    cost, weights = summary["bytes"], weights_up_and_down(summary["model"])
    mean, redundancy = cost["per_peer_round_mean"], cost["redundancy"]
    rows = [("traffic", f"{bytes_in_words(mean)} per peer and round, sent plus received")]
    if weights is not None and mean:
        text = f"sending the weights, up and down, would take {bytes_in_words(weights)}"
        rows += [("", f"{text},"), ("", f"{ratio_in_words(weights / mean)} times as much")]
    if redundancy is not None:
        rows.append(
            ("redundancy", f"{redundancy:.2f} times the payload of every entry to every peer once")
        )
    return rows


def _folder(summary: Mapping[str, Any]) -> _Rows:
    folder = summary["folder"]
    rows = [("run folder", folder), ("pictures", f"{folder}/plots")]
    if summary.get("rouge_l") is not None:
        rows.append(("answers", f"some of them in {folder}/{SAMPLES}"))
    if summary["model"] is not None:
        rows.append(("to export", f"kseed export {shlex.quote(folder)} --to DIR"))
    return rows
