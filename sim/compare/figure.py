"""The figure of a comparison: held-out loss against the bytes that it took."""

from __future__ import annotations

from collections.abc import Container, Iterable
from pathlib import Path
from typing import Any, Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import EngFormatter, LogLocator, NullLocator

from peer.methods import METHODS
from sim.compare.conduct import Conducted
from sim.compare.curves import Curves, curves_of
from sim.compare.definition import Comparison, Contender
from sim.ink import BLUE, GREEN, ORANGE, PURPLE, RIM, SKY, TEXT, VERMILION, ink, save

FIGURE: Final = "loss-against-bytes.svg"

_COLOURS: Final = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY, TEXT)
_MARKERS: Final = ("o", "s", "^", "D")
_LEGEND_COLUMNS: Final = 4
_MARKED_ROUNDS: Final = 40
"""The most rounds whose losses get a marker each."""


def draw(conducted: Conducted) -> Path | None:
    """Draw a line for each method, and a band from the least to the most of its seeds.

    A line starts after the first round, for before it nothing was sent. The same results give the
    same bytes.

    Returns:
        Its path; None: no run has a loss after a round.
    """
    comparison, found = conducted.comparison, []
    for contender in comparison.contenders:
        curves = curves_of(conducted, contender)
        if curves is not None and np.isfinite(curves.losses[:, 1:]).any():
            found.append((contender, curves))
    if not found:
        return None
    over = f"\nmeans over {comparison.seeds} seeds, and from the least to the most"
    with ink():
        figure = Figure(figsize=(7.0, 4.8), layout="constrained")
        axes = figure.add_subplot()
        axes.set_title(f"Held-out loss against bytes{over * (comparison.seeds > 1)}", loc="left")
        axes.set_xlabel("bytes that a peer has sent and received since the start")
        axes.set_ylabel("loss (nats per token)")
        for contender, curves in found:
            _line(axes, curves, _look(comparison, contender), contender)
        _scale(axes)
        before = float(np.mean([curves.losses[:, 0].mean() for _, curves in found]))
        _start(axes, before)
        _leave_out_diverged(axes, before, min(float(np.nanmin(c.losses)) for _, c in found))
        top = axes.get_ylim()[1]
        beyond = {c.method for c, curves in found if np.nanmin(curves.losses[:, 1:]) > top}
        _legend(figure, comparison, dict.fromkeys(c.method for c, _ in found), beyond)
        path = conducted.folder.path / FIGURE
        save(figure, path)
    return path


def _look(comparison: Comparison, contender: Contender) -> dict[str, Any]:
    """Return how a method's line looks; a colour and a marker together are one method's alone."""
    place = comparison.methods.index(contender.method)
    return {
        "color": _COLOURS[place % len(_COLOURS)],
        "marker": _MARKERS[place // len(_COLOURS) % len(_MARKERS)],
        "markersize": 4.5,
        "linewidth": 1.5,
        "linestyle": "--" if contender.with_server else "-",
        "fillstyle": "none" if contender.with_server else "full",
    }


def _line(axes: Axes, curves: Curves, look: dict[str, Any], contender: Contender) -> None:
    moved, losses = curves.moved.mean(axis=0)[1:], curves.losses[:, 1:]
    if len(moved) > _MARKED_ROUNDS:
        look = look | {"markevery": [0, len(moved) - 1]}
    axes.plot(moved, losses.mean(axis=0), gid=contender.key, **look)
    low, high = losses.min(axis=0), losses.max(axis=0)
    axes.fill_between(moved, low, high, color=look["color"], alpha=0.15, linewidth=0)


def _scale(axes: Axes) -> None:
    axes.set_xscale("log")
    least, most = axes.get_xlim()
    few = most < 1000 * least
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if few else (1.0,)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(EngFormatter("B", sep=" "))
    axes.ticklabel_format(axis="y", useOffset=False)


def _start(axes: Axes, loss: float) -> None:
    """Draw the loss before the first round, for which there is no place on a logarithmic axis."""
    axes.axhline(loss, color=RIM, linewidth=1, linestyle=(0, (1, 3)))
    axes.annotate(
        "before the first round",
        (1, loss),
        xycoords=("axes fraction", "data"),
        xytext=(0, 3),
        textcoords="offset points",
        ha="right",
        fontsize=8,
    )


def _leave_out_diverged(axes: Axes, before: float, least: float) -> None:
    """Let lines that rise far above the loss before the first round leave the picture."""
    top = before + 0.5 * (before - least)
    if before < top < axes.get_ylim()[1]:
        axes.set_ylim(top=top)


def _legend(
    figure: Figure, comparison: Comparison, methods: Iterable[str], beyond: Container[str]
) -> None:
    handles = []
    for method in methods:
        label = METHODS[method].title + " (above the picture)" * (method in beyond)
        handles.append(Line2D([], [], label=label, **_look(comparison, Contender(method))))
    if comparison.twin:
        handles.append(Line2D([], [], color=RIM, linestyle="--", label="with a server"))
    columns = min(len(handles), _LEGEND_COLUMNS)
    figure.legend(handles=handles, loc="outside lower center", ncols=columns, fontsize=9)
