"""The picture of `reconstruction`: four panels over K, T, d and L."""

from __future__ import annotations

import textwrap
from typing import Final

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter, NullLocator

from sim.figures.reconstruction_words import (
    Report,
    Rows,
    farthest,
    lines_of,
    over,
    rows_of,
    setting,
    speedup,
    unbiased,
    uncertain,
)
from sim.ink import BLUE, GREEN, ORANGE, PURPLE, RIM, SKY, TEXT, VERMILION

_SIZE: Final = (11.0, 7.0)
_WORDS_ACROSS: Final = 140
_DASHES: Final = (0, (4, 3))
_ZEROTH_ORDER: Final = {10.0: PURPLE, 1.0: ORANGE, 0.1: VERMILION, 0.001: SKY}
_LABELS: Final = {
    "bases": "bases K",
    "steps": "local steps T",
    "dimensions": "dimensions d",
    "blocks": "blocks L",
}


def reconstruction(report: Report) -> Figure:
    """Draw the report."""
    figure = Figure(figsize=_SIZE, layout="constrained")
    figure.suptitle(
        "Cosine of an update and its reconstruction (Ferret, Figures 3 and 4)\n" + setting(report),
        x=0.01,
        ha="left",
        fontsize=11,
    )
    notes = (
        f"Ferret is within {100 * farthest(report):.1f} % of the formula everywhere, with standard "
        f"errors of up to {100 * uncertain(report):.1f} %. {unbiased(report)} {speedup(report)}"
    )
    foot = "\n".join(textwrap.wrap(notes, _WORDS_ACROSS))
    figure.supxlabel(foot, fontsize=8, x=0.01, ha="left", color=RIM)
    for axes, panel in zip(figure.subplots(2, 2).flat, _LABELS, strict=True):
        _draw(axes, panel, rows_of(report, panel))
    handles = {
        label: handle
        for axes in figure.axes
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    figure.legend(handles.values(), handles.keys(), loc="outside right upper", fontsize=9)
    return figure


def _draw(axes: Axes, panel: str, rows: Rows) -> None:
    axes.set_title(over(panel, rows), loc="left", fontsize=9)
    axes.set_xscale("log")
    axes.set_xlabel(_LABELS[panel])
    places = sorted({row[panel] for row in rows})
    # Neighbouring labels of longer numbers would touch.
    axes.xaxis.set_major_locator(FixedLocator(places[:: 1 if len(places) < 7 else 3]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,.0f}"))
    axes.set_ylabel("cosine")
    if panel in ("bases", "dimensions"):
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(FixedLocator([0.003, 0.01, 0.03, 0.1, 0.3, 1.0]))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())
    for name, line in lines_of(rows).items():
        epsilon = line[0]["epsilon"]
        axes.errorbar(
            [row[panel] for row in line],
            [row["cosine"] for row in line],
            [row["cosine_error"] for row in line],
            color=BLUE if epsilon is None else _ZEROTH_ORDER[epsilon],
            marker="o" if epsilon is None else "s",
            markersize=6 if epsilon is None else 3,
            linestyle="" if epsilon is None else "-",
            linewidth=1,
            label=name,
            gid=f"{panel}-{'ferret' if epsilon is None else f'{epsilon:g}'}",
            zorder=3 if epsilon is None else 2,
        )
    ferret = lines_of(rows)["Ferret"]
    axes.plot(
        [row[panel] for row in ferret],
        [row["expected"] for row in ferret],
        color=TEXT,
        linestyle=_DASHES,
        label="sqrt(K / (K + d))",
        gid=f"{panel}-expected",
        zorder=4,
    )
    if panel in ("steps", "blocks"):
        # From 0: that nothing changes must look so.
        axes.set_ylim(0, 1.35 * max(row["cosine"] for row in rows))
    if panel == "blocks":
        _draw_times(axes, rows)


def _draw_times(axes: Axes, rows: Rows) -> None:
    times = axes.twinx()
    times.spines["right"].set_visible(True)
    times.grid(visible=False)
    times.plot(
        [row["blocks"] for row in rows],
        [row["seconds"] * 1e3 for row in rows],
        color=GREEN,
        marker="^",
        markersize=5,
        label="time (right)",
        gid="blocks-seconds",
    )
    times.set_yscale("log")
    times.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:,g}"))
    times.yaxis.set_minor_formatter(NullFormatter())
    times.set_ylabel("milliseconds")
