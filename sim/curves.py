"""Curves of a run over its rounds: loss, bytes, and what only some runs and methods have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from peer.config import Experiment
from peer.methods import METHODS
from peer.seeding import ENDLESS
from sim.called import called
from sim.ink import BLUE, ORANGE, VERMILION
from sim.paper import FILE, Paper
from sim.words import byte_unit, bytes_in_words

Rounds = Sequence[Mapping[str, Any]]
"""The lines of rounds.jsonl."""

_MARKED_ROUNDS = 40
"""The most rounds whose values get a marker each."""


def curves(
    experiment: Experiment, rounds: Rounds, caption: str, paper: Paper = FILE
) -> dict[str, Figure]:
    """Return the curves that there is anything to show in: bytes, loss, rouge, consensus, rebuild.

    Args:
        experiment: the run's.
        rounds: as in rounds.jsonl.
        caption: what was run, for titles.
        paper: a file's or a page's.
    """
    payload = called(experiment.method).payload
    figures = {"bytes": bytes_figure(rounds, caption, paper, payload)}
    if _known(rounds, "eval_loss"):
        figures["loss"] = loss_figure(rounds, caption, paper)
    if _known(rounds, "rouge_l"):
        figures["rouge"] = rouge_figure(rounds, caption, paper)
    # With a server there is none, for all take its mean.
    if any(record["consensus_distance"] for record in _known(rounds, "consensus_distance")):
        figures["consensus"] = consensus_figure(rounds, caption, paper)
    if METHODS[experiment.method].seeding == ENDLESS and _known(rounds, "perturbations"):
        figures["rebuild"] = rebuild_figure(rounds, experiment.candidate_seeds, caption, paper)
    return figures


def consensus_figure(rounds: Rounds, caption: str, paper: Paper = FILE) -> Figure:
    """Draw how far peers that average are from their mean."""
    title = f"Distance of the peers' weights from their mean\n{caption}"
    figure, axes = _over_rounds(title, "root mean square distance", paper)
    _curve(axes, rounds, "consensus_distance")
    axes.set_ylim(bottom=0)
    return figure


def rebuild_figure(rounds: Rounds, pool: int, caption: str, paper: Paper = FILE) -> Figure:
    """Draw how many perturbations make the model, and how many there are in a pool of seeds."""
    title = f"Perturbations in a rebuild of the model\n{caption}"
    figure, axes = _over_rounds(title, "perturbations", paper)
    axes.axhline(pool, color=VERMILION, linestyle="--", label=f"a pool of {pool:,} seeds")
    _curve(axes, rounds, "perturbations", label="a seed for each step")
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    figure.legend(loc="outside lower center", ncols=paper.columns)
    return figure


def _over_rounds(title: str, label: str, paper: Paper) -> tuple[Figure, Axes]:
    figure = Figure(figsize=paper.curves, layout="constrained")
    axes = figure.add_subplot()
    if paper.head:
        axes.set_title(title, loc="left")
    axes.set_xlabel("rounds done")
    axes.set_ylabel(label)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    return figure, axes


def loss_figure(rounds: Rounds, caption: str, paper: Paper = FILE) -> Figure:
    """Draw both losses; a round whose loss is null, for it was not finite, leaves a gap."""
    title = f"Loss over the rounds\n{caption}"
    figure, axes = _over_rounds(title, "loss (nats per token)", paper)
    done = [record["round"] for record in rounds]
    marked = len(rounds) <= _MARKED_ROUNDS
    for key, label, colour, dashes, marker in (
        ("eval_loss", "held-out rows", BLUE, "-", "o"),
        ("train_loss", "training, mean of the round's local steps", VERMILION, "--", "s"),
    ):
        losses = np.array([record[key] for record in rounds], dtype=float)
        if np.isfinite(losses).any():
            axes.plot(
                done,
                losses,
                color=colour,
                linestyle=dashes,
                marker=marker if marked else "",
                markersize=4,
                label=label,
                gid=key,
            )
    axes.ticklabel_format(axis="y", useOffset=False)
    _show_all_rounds(axes, done[-1])
    figure.legend(loc="outside lower center", ncols=paper.columns)
    return figure


def _show_all_rounds(axes: Axes, last: int) -> None:
    """Set the limits by hand, for rounds at the end that leave a gap would not be shown at all."""
    last = max(last, 1)
    axes.set_xlim(-0.03 * last, 1.03 * last)


def _known(rounds: Rounds, key: str) -> list[Mapping[str, Any]]:
    """Return the rounds of which something is known."""
    return [record for record in rounds if record.get(key) is not None]


def _curve(
    axes: Axes, rounds: Rounds, key: str, *, label: str | None = None, factor: int = 1
) -> None:
    """Draw a number of the rounds, times a factor, where it is known."""
    known = _known(rounds, key)
    axes.plot(
        [record["round"] for record in known],
        [factor * record[key] for record in known],
        color=BLUE,
        marker="o" if len(known) <= _MARKED_ROUNDS else "",
        markersize=4,
        label=label,
        gid=key,
    )
    _show_all_rounds(axes, rounds[-1]["round"])


def rouge_figure(rounds: Rounds, caption: str, paper: Paper = FILE) -> Figure:
    """Draw Rouge-L in per cent over the rounds after which it was measured."""
    title = f"Rouge-L of answers to held-out rows\n{caption}"
    figure, axes = _over_rounds(title, "Rouge-L, F measure (%)", paper)
    _curve(axes, rounds, "rouge_l", factor=100)
    axes.ticklabel_format(axis="y", useOffset=False)
    return figure


def bytes_figure(
    rounds: Rounds, caption: str, paper: Paper = FILE, payload_is: str = "entries"
) -> Figure:
    """Draw what has been sent, payload below and all else on it."""
    done = [record["round"] for record in rounds]
    payload = np.array([record["payload_bytes"] for record in rounds], dtype=float)
    wire = np.array([record["wire_bytes"] for record in rounds], dtype=float)
    most = wire.max(initial=0.0)
    unit, size = byte_unit(most)
    figure, axes = _over_rounds(
        f"Bytes sent since the start, all peers together: {bytes_in_words(most)}\n{caption}",
        f"bytes since the start ({unit})",
        paper,
    )
    axes.stackplot(
        done,
        payload / size,
        (wire - payload) / size,
        labels=[f"payload: {payload_is}", "control, framing and handshakes"],
        colors=[BLUE, ORANGE],
    )
    axes.set_ylim(0, 1.05 * most / size or 1.0)
    axes.margins(x=0)
    figure.legend(loc="outside lower center", ncols=paper.columns)
    return figure
