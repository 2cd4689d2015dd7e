"""Pictures of a run: loss, bytes and the like over rounds, and bytes per link.

They are drawn into the run's folder as files, or as texts for a page that shows them.
"""

from __future__ import annotations

from collections.abc import Sequence
from io import StringIO
from pathlib import Path

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection
from matplotlib.colors import ListedColormap, Normalize, to_hex
from matplotlib.figure import Figure
from numpy.typing import NDArray

import topology
from peer.config import Experiment
from peer.records import RunFolder
from peer.traffic import Traffic
from sim.called import title_of
from sim.curves import Rounds, curves
from sim.ink import FILL, RIM, ink, save
from sim.paper import FILE, PAGE, Paper
from sim.words import byte_unit, bytes_in_words
from topology.drawing import LABEL_LIMIT
from topology.layout import Points, paths, positions

# The pale end of the map would be lost on white.
SHADES = tuple(map(to_hex, colormaps["viridis_r"](np.linspace(0.1, 1, 256))))
"""The colours of links, from those that carried least to those that carried most."""

_NAME_LENGTH = 30
_MARGIN = 0.35
"""Inches around a graph."""


def draw_run(folder: Path) -> list[Path]:
    """Draw a run's pictures into its folder's plots/; the same run gives the same bytes.

    Returns:
        The pictures written: links.svg, bytes.svg, and of loss.svg, rouge.svg, consensus.svg and
        rebuild.svg those that there is anything to show in.

    Raises:
        UserError, TopologyError: the folder holds no run.
    """
    run = RunFolder(folder)
    experiment, rounds = run.experiment(), run.read_rounds()
    graph = topology.load(folder / "topology.json")
    name = graph.name
    if len(name) > _NAME_LENGTH:
        name = name[: _NAME_LENGTH - 1] + "…"
    caption = f"{title_of(experiment)} on {name}, {len(graph.nodes):,} peers"
    with ink():
        figures = {
            "links": links_figure(graph, link_bytes(graph, run.read_links()), caption),
            **curves(experiment, rounds, caption),
        }
        (folder / "plots").mkdir(exist_ok=True)
        written = []
        for kind, figure in figures.items():
            path = folder / "plots" / f"{kind}.svg"
            save(figure, path)
            written.append(path)
    return written


def page_pictures(
    experiment: Experiment,
    graph: topology.Topology | None,
    sent: NDArray[np.int64],
    rounds: Rounds,
    shades_on_dark: Sequence[str],
) -> dict[str, str]:
    """Return the pictures of a run as texts in SVG, for a page that says beside them what they are.

    They have no titles, no background and no scale of the links' colours, and their texts are text.

    Args:
        experiment: the run's.
        graph: None: there is none to draw.
        sent: bytes over each link, see `link_bytes`.
        rounds: as in rounds.jsonl; none: nothing is drawn over rounds.
        shades_on_dark: what takes the place of `SHADES` in a picture for a dark page.

    Returns:
        By kind, what there is of links and of the curves; and links-on-dark where the links are one
        image, so that the page cannot change their colours.
    """
    figures = {}
    with ink({"svg.fonttype": "none", "figure.facecolor": "none", "axes.facecolor": "none"}):
        if rounds:
            figures = curves(experiment, rounds, "", PAGE)
        if graph is not None:
            figures["links"] = links_figure(graph, sent, "", PAGE)
            if len(sent) > PAGE.most_lines:
                figures["links-on-dark"] = links_figure(graph, sent, "", PAGE, shades_on_dark)
        return {kind: _svg(figure) for kind, figure in figures.items()}


def _svg(figure: Figure) -> str:
    text = StringIO()
    save(figure, text)
    return text.getvalue()


def link_order(sent: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the links in the order in which they are drawn: the busiest last, so on top."""
    return np.argsort(sent, kind="stable")


def link_range(sent: NDArray[np.int64]) -> tuple[float, float]:
    """Return the bytes over a link that the first and the last of `SHADES` stand for."""
    # A fifth at least, so that links that differ by a per cent do not differ in colour.
    return min(sent.min(), 0.8 * sent.max()), sent.max()


def link_bytes(graph: topology.Topology, traffic: Traffic) -> NDArray[np.int64]:
    """Return the bytes over each link, both directions together and everything included.

    Returns:
        Shape (E,), in the order of `graph.edges`.
    """
    counted = traffic.over_links()
    return np.array([counted[edge] for edge in graph.edges], dtype=np.int64)


def links_figure(
    graph: topology.Topology,
    sent: NDArray[np.int64],
    caption: str,
    paper: Paper = FILE,
    shades: Sequence[str] = SHADES,
) -> Figure:
    """Draw a graph, each link the darker and thicker the more went over it.

    Args:
        graph: whose links to draw.
        sent: as `link_bytes` returns it.
        caption: what was run, for the title.
        paper: a file's or a page's.
        shades: colours of links, from those that carried least to those that carried most.
    """
    points = positions(graph)
    lines = paths(graph, points)
    # Links may bow out beyond the peers, so the frame is drawn around both.
    corners = np.concatenate(lines)
    low, extent = corners.min(axis=0), np.ptp(corners, axis=0)
    room = _room(points)
    # Numbers need 22 points from peer to peer; graphs that crowd them get a larger picture.
    wanted = 22 / 72 / room * extent.max() if len(points) <= LABEL_LIMIT else 0.0
    scale = float(np.clip(wanted, *paper.longer_side)) / extent.max()
    width, height = np.maximum(extent * scale + 2 * _MARGIN, (paper.least_width, 0.0))
    whole = height + paper.head + paper.foot
    figure = Figure(figsize=(width, whole))
    axes = figure.add_axes((0, paper.foot / whole, 1, height / whole))
    middle, half = low + extent / 2, np.array((width, height)) / scale / 2
    axes.set_xlim(middle[0] - half[0], middle[0] + half[0])
    axes.set_ylim(middle[1] - half[1], middle[1] + half[1])
    axes.set_axis_off()
    colours = _draw_links(axes, lines, sent, 72 * scale, paper.most_lines, shades)
    _draw_peers(axes, points, float(np.clip(0.6 * 72 * scale * room, 1.5, 24)))
    if paper.head:
        title = _links_title(sent, caption)
        place = 1 - paper.head / 2 / whole
        figure.text(0.5, place, title, ha="center", va="center", fontsize=11)
    if paper.foot:
        bar = figure.add_axes((0.5 - 2 / width, 0.5 / whole, 4 / width, 0.14 / whole))
        figure.colorbar(colours, cax=bar, orientation="horizontal")
        bar.set_xlabel(f"bytes over the link ({byte_unit(sent.max())[0]})")
    return figure


def _links_title(sent: NDArray[np.int64], caption: str) -> str:
    least, most = bytes_in_words(sent.min()), bytes_in_words(sent.max())
    return (
        f"Bytes over each link, both directions together\n{caption}: "
        f"{bytes_in_words(sent.sum())} over {len(sent):,} link{'s' * (len(sent) > 1)}, "
        f"{most if least == most else f'{least} to {most}'} each"
    )


def _draw_links(
    axes: Axes,
    lines: list[Points],
    sent: NDArray[np.int64],
    scale: float,
    most_lines: int,
    shades: Sequence[str],
) -> ScalarMappable:
    """Draw links the darker and thicker the more went over them; return what colours mean.

    Args:
        axes: where.
        lines: a polyline for each link.
        sent: bytes over each link.
        scale: typographic points per unit of `lines`.
        most_lines: beyond it they become one image.
        shades: their colours, from those that carried least to those that carried most.
    """
    most = sent.max()
    _, size = byte_unit(most)
    span = Normalize(link_range(sent)[0] / size, most / size or 1.0)
    colours = ScalarMappable(span, ListedColormap(shades))
    total = sum(float(np.hypot(*np.diff(line, axis=0).T).sum()) for line in lines)
    # Covers at most a third of a square's area.
    widest = float(np.clip(4 * scale / 3 / total, 0.01, 4.5))
    order = link_order(sent)
    axes.add_collection(
        LineCollection(
            [lines[link] for link in order],
            colors=colours.to_rgba(sent[order] / size),
            linewidths=widest * (0.2 + 0.8 * sent[order] / max(most, 1)),
            rasterized=len(lines) > most_lines,
            zorder=1,
            gid="links",
        ),
        autolim=False,
    )
    return colours


def _room(points: Points) -> float:
    """Return a distance that most peers keep from their nearest, judged by some 500 of them."""
    some = points[:: -(-len(points) // 500)]
    apart = np.hypot(*(some[:, None] - points).transpose(2, 0, 1))
    return float(np.quantile(np.sort(apart, axis=1)[:, 1], 0.1))


def _draw_peers(axes: Axes, points: Points, diameter: float) -> None:
    """Draw peers as dots, with their numbers if they are few; links.csv has the same numbers."""
    axes.scatter(
        points[:, 0],
        points[:, 1],
        s=diameter**2,
        color=FILL,
        edgecolors=RIM,
        linewidths=min(1.0, diameter / 8),
        zorder=2,
        gid="peers",
    )
    if len(points) > LABEL_LIMIT:
        return
    for peer, (x, y) in enumerate(points):
        axes.text(
            x,
            y,
            str(peer),
            ha="center",
            va="center_baseline",
            fontsize=float(np.clip(0.5 * diameter, 4, 9)),
            zorder=3,
            gid=f"peer-{peer}",
        )
