"""The closing words of a run: what its summary.json says, in short lines for a terminal."""

from __future__ import annotations

import math
import shlex
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from peer.methods import METHODS
from peer.records import SAMPLES
from peer.seeding import ENDLESS
from peer.summary import weights_up_and_down
from sim.called import promises_equal_bits
from sim.tables import labelled
from sim.troubles import troubles_of
from sim.words import (
    bytes_in_words,
    count,
    made_in_words,
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
        *_rebuild(summary),
        *((found.label, found.short) for found in troubles_of(summary) if found.label),
        *_traffic(summary),
        ("time", seconds_in_words(summary["seconds"]["wall"])),
        *_folder(summary),
    ]
    return labelled(rows)


def _run(summary: Mapping[str, Any]) -> _Rows:
    graph, model = summary["topology"], summary["model"]
    size = f"{count(summary['peers'], 'peer')}, {count(graph['edges'], 'link')}"
    epochs = summary.get("local_epochs")
    each = f"of {count(summary['local_steps'], 'local step')} a peer"
    if epochs:
        each = f"{count(epochs, 'time')} through a peer's own rows"
    rows = [
        ("run", f"{summary['method']}, {made_in_words(summary['engine'], summary)}"),
        ("topology", f"{graph['name']}: {size}, diameter {graph['diameter']:,}"),
        ("rounds", f"{summary['rounds']:,}, each {each}"),
    ]
    if model is not None:
        rows.append(
            ("model", f"{model['name']}, {model['parameters']:,} parameters in {model['dtype']}")
        )
        part = METHODS[summary["method"]].trains
        if part.adapter is not None:
            rows.append(("trained", f"{part.value}, {model['trained']:,} numbers in float32"))
    if (cluster := summary.get("cluster")) is not None:
        text = f"{count(cluster['workers'], 'worker')} on {count(cluster['nodes'], 'node')}"
        if cluster["lost"]:
            text += f", lost and begun anew {count(cluster['lost'], 'time')}"
        rows.append(("cluster", text))
    return rows


def _loss(summary: Mapping[str, Any]) -> _Rows:
    label, loss = "held-out loss", summary["eval_loss"]
    if loss is None:
        return [(label, "none: the synthetic trainer has no model")]
    before, after = _finite(loss["initial"]), _finite(loss["final"])
    rows = [(label, f"{_nats(before)} before, {_nats(after)} after, in nats per token")]
    if before and after is not None:
        change = f"{100 * abs(after - before) / before:.1f} %"
        rows.append(("", f"{change} {'lower' if after < before else 'higher'}"))
    if not promises_equal_bits(summary):
        rows.append(("", "of the mean of the peers' weights, each by its number of rows"))
    return rows


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
    if not promises_equal_bits(summary):
        return _apart(summary["consensus"])
    if METHODS[summary["method"]].averages:
        return [("weights", _agreed(digests["accumulator"]))]
    rows = [("accumulators", _agreed(digests["accumulator"]))]
    if digests["model"] is not None:
        rows.append(("models", _agreed(digests["model"])))
    return rows


def _agreed(digests: Sequence[str]) -> str:
    different = len(set(digests))
    if different > 1:
        return f"NOT EQUAL: {different:,} different digests at {len(digests):,} peers"
    return f"equal at all {len(digests):,} peers, digest {digests[0][:_DIGEST_SHOWN]}"


def _apart(consensus: Mapping[str, Any]) -> _Rows:
    """Tell how far from each other peers have ended that promise no equal bits."""
    distance, relative = consensus["distance"], consensus["relative"]
    rows = [("apart", f"the peers' weights are {distance:.3g} from their mean (root mean square)")]
    if relative is None or not math.isfinite(relative):
        rows.append(("", "the mean is where it was at the start"))
    elif relative:
        rows.append(("", f"while the mean has come {ratio_in_words(1 / relative)} times as far"))
    return rows


def _rebuild(summary: Mapping[str, Any]) -> _Rows:
    """Tell how rebuilding the model has become longer, where it does so with every round."""
    rebuild = summary.get("rebuild")
    if METHODS[summary["method"]].seeding != ENDLESS or rebuild is None:
        return []
    # A run that an earlier version has begun lacks some.
    told = [
        _first_and_last(values, in_words)
        for values, in_words in (
            (rebuild["perturbations"], "{:,} perturbations".format),
            (rebuild["seconds"], seconds_in_words),
        )
        if None not in (values[0], values[-1])
    ]
    told.append(f"a pool of {summary['candidate_seeds']:,} seeds would end its growth there")
    return [("rebuild" if not place else "", text) for place, text in enumerate(told)]


def _first_and_last(values: Sequence[Any], in_words: Callable[[Any], str]) -> str:
    """Return what a value was after the first round, and after the last."""
    return f"{in_words(values[0])} after round 1, {in_words(values[-1])} after {len(values):,}"


def _traffic(summary: Mapping[str, Any]) -> _Rows:
    cost, averages = summary["bytes"], METHODS[summary["method"]].averages
    # Methods that send them have nothing to compare with.
    weights = None if averages else weights_up_and_down(summary["model"])
    mean, redundancy = cost["per_peer_round_mean"], cost["redundancy"]
    rows = [("traffic", f"{bytes_in_words(mean)} per peer and round, sent plus received")]
    if weights is not None and mean:
        text = f"sending the weights, up and down, would take {bytes_in_words(weights)}"
        rows += [("", f"{text},"), ("", f"{ratio_in_words(weights / mean)} times as much")]
    if redundancy is not None:
        once = "all weights that were asked for, once"
        if not averages:
            once = "every entry to every peer once"
        rows.append(("redundancy", f"{redundancy:.2f} times the payload of {once}"))
    return rows


def _folder(summary: Mapping[str, Any]) -> _Rows:
    folder = summary["folder"]
    rows = [("run folder", folder), ("pictures", f"{folder}/plots")]
    if summary.get("rouge_l") is not None:
        rows.append(("answers", f"some of them in {folder}/{SAMPLES}"))
    if summary["model"] is not None:
        rows.append(("to export", f"kseed export {shlex.quote(folder)} --to DIR"))
    return rows
