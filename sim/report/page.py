"""The page: what is said of a run, and where."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from peer.methods import METHODS
from peer.summary import weights_up_and_down
from sim.called import called, promises_equal_bits, title_of
from sim.report import tables
from sim.report.folder import Run
from sim.report.pictures import Pictures, pictures
from sim.report.troubles import camps, troubles
from sim.words import (
    bytes_in_words,
    count,
    made_in_words,
    ratio_in_words,
    rouge_in_words,
    seconds_in_words,
    signed_change,
)

_EQUAL = "Equal digests mean equal states, to the bit."
_APART = "Peers that average among neighbours come near to each other and are never quite equal."


@dataclass(frozen=True)
class Figure:
    """A number that stands for much, and what it is."""

    label: str
    value: str
    detail: str


def page(run: Run) -> str:
    """Return the report of a run as the text of one HTML file."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    drawn = pictures(run, _words(run))
    found = troubles(run)
    ended = run.summary is not None
    return environment.get_template("report.html").render(
        title=_title(run),
        subtitle=f"{run.name}: {made_in_words(run.engine, run.summary)}",
        name=run.name,
        verdict=_verdict(run),
        mood=_mood(run),
        troubles=found,
        figures=_figures(run),
        words=_words(run),
        # Made by ElementTree, which escapes.
        svg={kind: Markup(text) for kind, text in drawn.svg.items()},
        scale=drawn.scale,
        links=_links(run, drawn),
        colours=drawn.colours,
        options=tables.changed_options(run),
        config=run.config,
        what=[tables.scenario(run), *([tables.befallen(run)] if ended else [])],
        traffic=tables.traffic(run),
        busiest=tables.busiest_links(run),
        rounds=tables.rounds(run),
        tasks=tables.tasks(run),
        peers=tables.peers(run),
        digests=tables.digests(run) if ended else None,
        equality=_EQUAL if run.summary is None or promises_equal_bits(run.summary) else _APART,
        costs=[tables.times(run), tables.processes(run)] if ended else [],
    )


def _title(run: Run) -> str:
    graph = run.experiment.topology if run.graph is None else run.graph.name
    return f"{title_of(run.experiment)} on {graph}, {count(run.experiment.peers, 'peer')}"


def _verdict(run: Run) -> str:
    if run.summary is None:
        return "one of the peers" if run.engine == "peer" else "not ended"
    if not promises_equal_bits(run.summary):
        return "peers near each other, as they average"
    if _differing(run):
        return "peers differ"
    return f"all {len(run.there):,} peers equal"


def _mood(run: Run) -> str:
    """Return the class of the verdict."""
    if run.summary is None:
        return "mild" if run.engine == "peer" else "grave"
    return "grave" if promises_equal_bits(run.summary) and _differing(run) else "sound"


def _differing(run: Run) -> bool:
    return any(len(camps(run, what)) > 1 for what in ("accumulator", "model"))


def _figures(run: Run) -> list[Figure]:
    done, wanted = run.rounds_done, run.experiment.rounds
    steps = f"each of {count(run.experiment.local_steps, 'local step')} a peer"
    if run.experiment.averages and run.experiment.local_epochs:
        steps = f"each {count(run.experiment.local_epochs, 'time')} through a peer's own rows"
    # A launched run's rounds are known when it has ended, a single peer's are not recorded.
    value = f"{done:,} of {wanted:,}" if run.rounds else f"{wanted:,} wanted"
    shown = [Figure("rounds", value, steps)]
    losses = [record["eval_loss"] for record in run.rounds]
    if losses and not run.experiment.is_synthetic:
        shown.insert(0, _loss_figure(losses))
    measured = _measured(run)
    if measured:
        detail = f"F measure, from {rouge_in_words(measured[0])}"
        shown.insert(1, Figure("Rouge-L", rouge_in_words(measured[-1]), detail))
    if run.summary is None:
        sent = run.traffic.total().wire_bytes
        if sent:
            shown.append(Figure("sent so far", bytes_in_words(sent), "all peers together"))
        return shown
    cost = run.summary["bytes"]
    mean = bytes_in_words(cost["per_peer_round_mean"])
    shown.append(Figure("bytes a peer and round", mean, _against_weights(run.summary)))
    whole = cost["wire_total"]
    names = called(run.experiment.method)
    share = "nothing"
    if whole:
        share = f"{100 * cost['payload_total'] / whole:.0f} % of it {names.payload}"
    shown.append(Figure("sent in all", bytes_in_words(whole), share))
    if cost["redundancy"] is not None:
        redundancy = f"{cost['redundancy']:.2f}"
        once = "1 is one for each who is to have them"
        if not run.experiment.averages:
            once = "1 is one for every other peer"
        shown.append(Figure(f"copies of {names.one}", redundancy, once))
    shown += _apart(run.summary)
    seconds = run.summary["seconds"]
    virtual = seconds.get("virtual")
    detail = f"{seconds_in_words(virtual)} of virtual time" if virtual else "on the clock"
    shown.append(Figure("time", seconds_in_words(seconds["wall"]), detail))
    return shown


def _apart(summary: Any) -> list[Figure]:
    """Return how far from each other the peers are that promise no equal bits."""
    if promises_equal_bits(summary):
        return []
    distance, relative = summary["consensus"]["distance"], summary["consensus"]["relative"]
    detail = "root mean square"
    if relative:
        detail += f"; the mean has come {ratio_in_words(1 / relative)} times as far"
    return [Figure("peers from their mean", f"{distance:.3g}", detail)]


def _measured(run: Run) -> list[float]:
    """Return Rouge-L as often as it was measured."""
    return [rouge for record in run.rounds if (rouge := record.get("rouge_l")) is not None]


def _loss_figure(losses: list[float | None]) -> Figure:
    first, last = (
        loss if loss is not None and math.isfinite(loss) else None
        for loss in (losses[0], losses[-1])
    )
    value = "not finite" if last is None else f"{last:.4f}"
    if first is None or last is None:
        return Figure("held-out loss", value, "nats per token")
    return Figure("held-out loss", value, f"{signed_change(first, last)}, from {first:.4f} nats")


def _against_weights(summary: Any) -> str:
    mean, weights = summary["bytes"]["per_peer_round_mean"], weights_up_and_down(summary["model"])
    # Methods that send them have nothing to compare with.
    if weights is None or not mean or METHODS[summary["method"]].averages:
        return "sent plus received"
    times = ratio_in_words(weights / mean)
    return f"sent plus received; the weights, up and down, would be {times} times as much"


def _words(run: Run) -> dict[str, str]:
    """Return what each picture shows, for those who do not see it."""
    losses = [loss for r in run.rounds if (loss := r["eval_loss"]) is not None]
    sent = run.rounds[-1]["wire_bytes"] if run.rounds else 0
    words = {
        "loss": "Loss over the rounds.",
        "bytes": f"Bytes sent since the start, over the rounds: {bytes_in_words(sent)} in the end.",
        "links": "The graph.",
    }
    if losses:
        words["loss"] = (
            f"Loss over the rounds: on held-out rows {losses[0]:.4f} nats per token at first, "
            f"{losses[-1]:.4f} at last."
        )
    words |= _words_of_method(run)
    measured = _measured(run)
    if measured:
        words["rouge"] = (
            f"Rouge-L over the rounds: {rouge_in_words(measured[0])} at first, "
            f"{rouge_in_words(measured[-1])} at last."
        )
    if run.graph is not None:
        words["links"] = (
            f"The graph: {count(len(run.graph.nodes), 'peer')} and "
            f"{count(len(run.graph.edges), 'link')}"
        )
        words["links"] += _range(run) if run.sent.any() else "."
    return words


def _words_of_method(run: Run) -> dict[str, str]:
    """Return what those pictures show that only some methods have."""
    shown = {
        key: [record[key] for record in run.rounds if record.get(key) is not None]
        for key in ("consensus_distance", "perturbations")
    }
    words = {}
    if apart := shown["consensus_distance"]:
        words["consensus"] = (
            "Distance of the peers' weights from their mean, over the rounds: "
            f"{apart[-1]:.3g} at last."
        )
    if made := shown["perturbations"]:
        words["rebuild"] = (
            f"Perturbations in a rebuild of the model, over the rounds: {made[-1]:,} at last; in "
            f"a pool there would be {run.experiment.candidate_seeds:,}."
        )
    return words


def _range(run: Run) -> str:
    least, most = bytes_in_words(run.sent.min()), bytes_in_words(run.sent.max())
    each = f"{most} over each" if least == most else f"{least} to {most} over a link"
    return f". {each}, both directions together."


def _links(run: Run, drawn: Pictures) -> str:
    """Return what is said below the picture of the graph."""
    if run.graph is None:
        return ""
    size = f"{count(len(run.graph.nodes), 'peer')}, {count(len(run.graph.edges), 'link')}"
    if run.summary is not None:
        size += f", diameter {run.summary['topology']['diameter']:,}"
    if drawn.scale is None:
        return f"{size}. What the links have carried is not known."
    return f"{size}{_range(run)} The more a link carried, the thicker it is."
