"""Pictures of topologies, as SVG; the only file of the package that needs matplotlib."""

from __future__ import annotations

import warnings
from math import ceil
from pathlib import Path

import numpy as np
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from topology.graph import Topology, TopologyError
from topology.layout import Points, paths, positions
from topology.varying import Varying

LABEL_LIMIT = 64
"""The most peers that get labels."""

SLOTS_SHOWN = 6
"""The most slots of a graph that varies over time that are drawn, side by side."""

VECTOR_LIMIT = 20_000
"""The most links that are drawn as lines; more become one image, to keep files small."""

# Inches.
_LONGER_SIDE = (7.0, 11.0)
_LONGER_SIDE_OF_SLOT = (3.5, 11.0)
_LEAST_WIDTH = 4.0
_MARGIN = 0.45
_TITLE = 0.3
_LINK, _FILL, _RIM, _TEXT = "#8593a3", "#dbe7f3", "#2f5d8a", "#14283c"


def draw(topology: Topology, path: str | Path, *, title: str | None = None) -> None:
    """Write a picture of a topology to an SVG file; the same graph gives the same bytes.

    Up to `LABEL_LIMIT` peers carry their names: inside the dots where they are short, else below
    them and cut where they are long. Without a title the picture states the topology's name and
    its numbers of peers and links.

    Raises:
        TopologyError: a path without the suffix .svg, or a file that cannot be written.
    """
    path = Path(path)
    if path.suffix.lower() != ".svg":
        raise TopologyError(f"a picture is saved as .svg; {path} given")
    if title is None:
        title = f"{topology.name}: {len(topology.nodes):,} peers, {len(topology.edges):,} links"
        if isinstance(topology, Varying):
            title += (
                " in all slots" if topology.period is None else f" in {topology.period:,} slots"
            )
    # Defaults and a fixed salt: nothing of the user's settings or of chance is in the file.
    with style.context(["default", {"svg.hashsalt": "topology"}]), warnings.catch_warnings():
        # A name in a script that the font lacks becomes boxes; the picture is still of use.
        warnings.filterwarnings("ignore", message="Glyph", category=UserWarning)
        try:
            _figure(topology, title).savefig(path, metadata={"Date": None}, dpi=200)
        except OSError as error:
            raise TopologyError(f"{path} cannot be written: {error.strerror}") from error


def _figure(topology: Topology, title: str) -> Figure:
    points = positions(topology)
    lines = paths(topology, points)
    panels = _panels(topology, lines)
    # Links may bow out beyond the peers, so the frame is drawn around both.
    low = np.concatenate(lines).min(axis=0)
    extent = np.concatenate(lines).max(axis=0) - low
    room = _room(points)
    # Labels need 22 points from peer to peer; graphs that crowd them get a larger picture.
    wanted = 22 / 72 / room * extent.max() if len(points) <= LABEL_LIMIT else 0.0
    sizes = _LONGER_SIDE if len(panels) == 1 else _LONGER_SIDE_OF_SLOT
    scale = float(np.clip(wanted, *sizes)) / extent.max()
    columns = ceil(len(panels) / ceil(len(panels) / 3))
    rows = ceil(len(panels) / columns)
    width, height = np.maximum(extent * scale + 2 * _MARGIN, (_LEAST_WIDTH / columns, 0))
    figure = Figure(figsize=(columns * width, rows * height + _TITLE))
    middle, half = low + extent / 2, np.array((width, height)) / scale / 2
    whole = rows * height + _TITLE
    for place, (heading, shown) in enumerate(panels):
        row, column = divmod(place, columns)
        bottom = (rows - 1 - row) * height / whole
        axes = figure.add_axes((column / columns, bottom, 1 / columns, height / whole))
        axes.set_xlim(middle[0] - half[0], middle[0] + half[0])
        axes.set_ylim(middle[1] - half[1], middle[1] + half[1])
        axes.set_axis_off()
        axes.text(0.5, 0.99, heading, transform=axes.transAxes, ha="center", va="top", color=_TEXT)
        _draw_links(axes, shown, 72 * scale)
        diameter = float(np.clip(0.6 * 72 * scale * room, 1.5, 24))
        _draw_peers(axes, topology, points, diameter)
    figure.text(
        0.5,
        1 - _TITLE / 2 / whole,
        title,
        ha="center",
        va="center",
        color=_TEXT,
        parse_math=False,
    )
    return figure


def _panels(topology: Topology, lines: list[Points]) -> list[tuple[str, list[Points]]]:
    """Return the headings and the links of the pictures that are drawn side by side."""
    if not isinstance(topology, Varying):
        return [("", lines)]
    line_of = dict(zip(topology.edges, lines, strict=True))
    slots = range(min(topology.period or SLOTS_SHOWN, SLOTS_SHOWN))
    return [
        (f"slot {slot}", [line_of[edge] for edge in sorted(topology.edges_at(slot))])
        for slot in slots
    ]


def _draw_links(axes: Axes, lines: list[Points], scale: float) -> None:
    """Draw links as thin as it takes for them to cover at most a third of a square's area."""
    total = sum(float(np.hypot(*np.diff(line, axis=0).T).sum()) for line in lines) or 1.0
    axes.add_collection(
        LineCollection(
            lines,
            colors=_LINK,
            linewidths=float(np.clip(4 * scale / 3 / total, 0.01, 1.0)),
            rasterized=len(lines) > VECTOR_LIMIT,
            zorder=1,
        ),
        autolim=False,
    )


def _room(points: Points) -> float:
    """Return a distance that most peers keep from their nearest, judged by 500 of them."""
    some = points[:: -(-len(points) // 500)]
    apart = np.hypot(*(some[:, None] - points).transpose(2, 0, 1))
    return float(np.quantile(np.sort(apart, axis=1)[:, 1], 0.1))


def _draw_peers(axes: Axes, topology: Topology, points: Points, diameter: float) -> None:
    axes.scatter(
        points[:, 0],
        points[:, 1],
        s=diameter**2,
        color=_FILL,
        edgecolors=_RIM,
        linewidths=min(0.8, diameter / 8),
        zorder=2,
    )
    if len(points) > LABEL_LIMIT:
        return
    inside = max(map(len, topology.names)) <= 2
    for name, (x, y) in zip(topology.names, points, strict=True):
        axes.annotate(
            name if len(name) <= 12 else name[:11] + "…",
            (x, y),
            xytext=(0, 0 if inside else -diameter / 2 - 1),
            textcoords="offset points",
            ha="center",
            va="center_baseline" if inside else "top",
            fontsize=float(np.clip(0.5 * diameter, 5, 9)),
            color=_TEXT,
            parse_math=False,
            # Links run behind a name that is outside its dot.
            path_effects=None if inside else [withStroke(linewidth=2, foreground="white")],
            zorder=3,
        )
