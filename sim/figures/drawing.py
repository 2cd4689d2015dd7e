"""The pictures of figures, drawn from their reports alone."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

from sim.bench.load import warning
from sim.figures.reconstruction_drawing import reconstruction
from sim.figures.words import (
    COST_MODEL_ONLY,
    LINES,
    Report,
    machine_of_model,
    setting_of_bytes,
    setting_of_model,
    step_bytes,
    what_was_scaled,
)
from sim.ink import BLUE, GREEN, RIM, SKY, TEXT, VERMILION, ink, save
from sim.words import byte_unit

_SIZE: Final = (7.4, 5.6)
_WORDS_ACROSS: Final = 108

_LINE_COLOURS: Final = {"replay": VERMILION, "fedkseed": BLUE, "fedkseed-pro": GREEN}
_DASHES: Final = (0, (4, 3))
_Dashes: TypeAlias = Literal["-"] | tuple[float, Sequence[float]]
_MARKERS: Final = {"here": "o", "published": "s"}


def draw(report: Report, path: Path) -> None:
    """Draw a figure's report as SVG; the same report gives the same bytes."""
    with ink():
        make = {
            "latest-model": _latest_model,
            "break-even": _break_even,
            "reconstruction": reconstruction,
        }[report["figure"]]
        save(make(report), path)


def _plain(number: float, _position: int | None = None) -> str:
    return f"{number:,g}" if number < 1e6 else f"{number:,.0f}"


def _begin(title: str, notes: list[str]) -> tuple[Figure, Axes]:
    """Return a figure with its title, notes in small letters at its foot, and axes."""
    figure = Figure(figsize=_SIZE, layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(title, loc="left")
    lines = [line for note in notes for line in textwrap.wrap(note, _WORDS_ACROSS)]
    figure.supxlabel("\n".join(lines), fontsize=8, x=0.01, ha="left", color=RIM)
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(FuncFormatter(_plain))
    axes.yaxis.set_minor_formatter(NullFormatter())
    return figure, axes


def _latest_model(report: Report) -> Figure:
    notes = [f"{setting_of_model(report)}.", f"{machine_of_model(report)}."]
    notes += what_was_scaled(report)
    if report["quiet"] is False:
        notes.append(f"Not a quiet machine: {warning(report)}.")
    figure, axes = _begin("Time to obtain the latest model (FedKSeed, Figures 1(b) and 4)", notes)
    axes.set_xlabel("rounds done")
    axes.set_ylabel("seconds")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    for line in report["lines"]:
        _draw_times(axes, line)
    axes.set_xlim(left=0)
    figure.legend(handles=_legend(report), loc="outside upper center", ncols=3, fontsize=9)
    return figure


def _draw_times(axes: Axes, line: Mapping[str, Any]) -> None:
    """Draw what was measured whole as dots and a solid line, what was scaled open and dashed."""
    here = line["by"] == "here"
    points = line["points"]
    whole = [point for point in points if point["measured"] == "whole"]
    scaled = [point for point in points if point["measured"] != "whole"]
    if scaled:
        # The dashes begin where the solid line ends.
        scaled = whole[-1:] + scaled
    for kind, some, dashes in (("scaled", scaled, _DASHES), ("whole", whole, "-")):
        if not some:
            continue
        axes.plot(
            [point["round"] for point in some],
            [point["seconds"] for point in some],
            color=_LINE_COLOURS[line["line"]],
            marker=_MARKERS[line["by"]],
            markersize=5 if here else 4,
            markerfacecolor="white" if kind == "scaled" else None,
            linestyle=dashes,
            linewidth=1.6 if here else 1.0,
            gid=f"{line['line']}-{line['by']}-{kind}",
        )


def _legend(report: Report) -> list[Line2D]:
    """Return what colours mean, and below it what markers mean, of those that occur."""
    found = {(line["by"], p["measured"]) for line in report["lines"] for p in line["points"]}
    colours = [
        Line2D([], [], color=colour, label=LINES[line].format(**report["setting"]))
        for line, colour in _LINE_COLOURS.items()
    ]
    kinds: tuple[tuple[tuple[str, str], str, str, _Dashes, str], ...] = (
        (("here", "whole"), "here, measured whole", "o", "-", TEXT),
        (("here", "scaled"), "here, scaled", "o", _DASHES, "white"),
        (("published", "scaled"), "published loop, scaled", "s", _DASHES, "white"),
    )
    markers = [
        Line2D([], [], color=TEXT, marker=marker, linestyle=dashes, mfc=face, label=label)
        for key, label, marker, dashes, face in kinds
        if key in found
    ]
    # matplotlib fills a legend column by column.
    return [handle for column in zip_longest(colours, markers) for handle in column if handle]


def _break_even(report: Report) -> Figure:
    each, curve = step_bytes(report), report["curve"]
    notes = [f"{COST_MODEL_ONLY} Headers and framing are left out on both sides."]
    figure, axes = _begin(
        f"One round: histories, or sums up and down one tree\n{setting_of_bytes(report)}", notes
    )
    unit, size = byte_unit(max(curve["histories"]))
    unit, size = ("MB", 10**6) if unit in ("MB", "GB") else (unit, size)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(FuncFormatter(_plain))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("local steps a round (tau)")
    axes.set_ylabel(f"bytes of a round, all links together ({unit})")
    for key, label, colour, dashes in (
        ("histories", f"histories, {each['sent']} B a step: indices sent", BLUE, "-"),
        ("histories_derived", f"histories, {each['derived']} B: indices derived", SKY, "--"),
        ("sums", "sums along a tree: cost model only", VERMILION, "-"),
    ):
        axes.plot(
            curve["local_steps"],
            [number / size for number in curve[key]],
            color=colour,
            linestyle=dashes,
            label=label,
            gid=key,
        )
    simulated = [row for row in report["rows"] if row["sums_simulated"] is not None]
    if simulated:
        axes.plot(
            [row["local_steps"] for row in simulated],
            [row["sums_simulated"] / size for row in simulated],
            color=VERMILION,
            marker="o",
            markersize=4,
            linestyle="",
            mfc="white",
            label="the same, seeds drawn as peers draw them",
            gid="simulated",
        )
    for name, colour, offset in (("sent", BLUE, (-10, 14)), ("derived", SKY, (12, -22))):
        _mark(axes, report["break_even"][name], size, colour, offset)
    figure.legend(loc="outside upper center", ncols=2, fontsize=9)
    return figure


def _mark(
    axes: Axes, found: Mapping[str, float], size: int, colour: str, offset: tuple[int, int]
) -> None:
    x, y = found["local_steps"], found["bytes"] / size
    axes.plot([x], [y], marker="D", markersize=8, color=colour, mec=TEXT, linestyle="", zorder=4)
    axes.annotate(
        f"tau = {x:,.1f}\nN tau = {found['steps_per_seed']:.2f} K",
        (x, y),
        textcoords="offset points",
        xytext=offset,
        ha="right" if offset[0] < 0 else "left",
        va="bottom" if offset[1] > 0 else "top",
        fontsize=9,
    )
