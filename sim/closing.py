"""The closing words of a run: what its summary.json says, in short lines for a terminal."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from peer.config import WEIGHT_BYTES
from sim.tables import labelled
from sim.words import bytes_in_words, count, seconds_in_words

_Rows = list[tuple[str, str]]

_ENGINES = {"sim": "simulated in one process", "launch": "one process a peer"}
_DIGEST_SHOWN = 12
_PEERS_LISTED = 8


def closing_words(summary: Mapping[str, Any]) -> str:
    """Return what a run was, what came of it and what it cost, without a newline at the end.

    Args:
        summary: as `peer.summary.summarise` makes it, and the run folder's path as "folder".
    """
    rows = [
        *_run(summary),
        *_loss(summary),
        *_agreement(summary),
        *_troubles(summary),
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
        ("run", f"{summary['method']}, {_ENGINES[summary['engine']]}"),
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


def _troubles(summary: Mapping[str, Any]) -> _Rows:
    """Return what went wrong, no lines if nothing did."""
    timeouts, skipped = summary["timeouts_fired"], summary["skipped_steps"]
    rejected = summary["rejected_messages"]
    unusable = summary["data"]["unusable_rows"] if summary["data"] else 0
    rows: _Rows = []
    if summary["missing_peers"]:
        rows.append(
            ("missing peers", f"{_list(summary['missing_peers'])}: no end of their logs came")
        )
    if summary["absent_peers"]:
        rows.append(("absent peers", f"{_list(summary['absent_peers'])}: not there at the end"))
    if timeouts:
        rows.append(("time-outs", f"{count(timeouts, 'round')} closed without somebody's entry"))
    if skipped:
        rows.append(("skipped steps", f"{skipped:,}, whose loss was not finite"))
    if rejected:
        rows.append(("rejected", f"{count(rejected, 'message')} that broke the protocol"))
    for liar in summary["liars"]:
        named_by, reasons = _list(liar["named_by"]), "; ".join(liar["reasons"])
        rows.append(("liar", f"peer {liar['peer']}, named by {named_by}: {reasons}"))
    if unusable:
        rows.append(("unusable rows", f"{unusable:,}, with no response or none within max_length"))
    return rows


def _list(peers: Sequence[int]) -> str:
    text = ", ".join(str(peer) for peer in peers[:_PEERS_LISTED])
    rest = len(peers) - _PEERS_LISTED
    return f"{text} and {rest:,} more" if rest > 0 else text


def _traffic(summary: Mapping[str, Any]) -> _Rows:
    cost, model = summary["bytes"], summary["model"]
    mean, redundancy = cost["per_peer_round_mean"], cost["redundancy"]
    rows = [("traffic", f"{bytes_in_words(mean)} per peer and round, sent plus received")]
    if model is not None and mean:
        # As in FedAvg, where a client gets the weights and sends them back.
        weights = 2 * model["parameters"] * WEIGHT_BYTES[model["dtype"]]
        text = f"sending the weights, up and down, would take {bytes_in_words(weights)}"
        rows += [("", f"{text},"), ("", f"{_times(weights / mean)} times as much")]
    if redundancy is not None:
        rows.append(
            ("redundancy", f"{redundancy:.2f} times the payload of every entry to every peer once")
        )
    return rows


def _times(ratio: float) -> str:
    return f"{ratio:,.0f}" if ratio >= 99.5 else f"{ratio:.2g}"


def _folder(summary: Mapping[str, Any]) -> _Rows:
    folder = summary["folder"]
    rows = [("run folder", folder), ("pictures", f"{folder}/plots")]
    if summary["model"] is not None:
        rows.append(("to export", f"kseed export {shlex.quote(folder)} --to DIR"))
    return rows
