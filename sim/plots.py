"""Pictures of a run, drawn from its folder: loss and bytes over rounds, and bytes per link."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps, style
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection
from matplotlib.colors import ListedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

import topology
from peer.records import RunFolder
from peer.traffic import Traffic
from sim.closing import byte_unit, bytes_in_words
from topology.drawing import LABEL_LIMIT, VECTOR_LIMIT
from topology.layout import Points, paths, positions

Rounds = Sequence[Mapping[str, Any]]
"""The lines of rounds.jsonl."""

# Okabe and Ito's colours, which colour-blind readers can tell apart too.
_BLUE, _ORANGE, _VERMILION = "#0072b2", "#e69f00", "#d55e00"
_FILL, _RIM, _TEXT = "#ffffff", "#44546a", "#14283c"

_NAME_LENGTH = 30
_MARKED_ROUNDS = 40
"""The most rounds whose values get a marker each."""

# Inches.
_LONGER_SIDE = (7.0, 11.0)
_LEAST_WIDTH = 6.0
_MARGIN = 0.35
_HEAD = 0.75
_FOOT = 0.85


def draw_run(folder: Path) -> list[Path]:
    """Draw a run's pictures into its folder's plots/; the same run gives the same bytes.

    Returns:
        The pictures written: loss.svg unless no loss was measured, links.svg, bytes.svg.

    Raises:
        UserError, TopologyError: the folder holds no run.
    """
    run = RunFolder(folder)
    experiment, rounds = run.experiment(), run.read_rounds()
    graph = topology.load(folder / "topology.json")
    name = graph.name
    if len(name) > _NAME_LENGTH:
        name = name[: _NAME_LENGTH - 1] + "…"
    caption = f"{experiment.method} on {name}, {len(graph.nodes):,} peers"
    with figure_settings():
        figures = {
            "links": links_figure(graph, link_bytes(graph, run.read_links()), caption),
            "bytes": _bytes_figure(rounds, caption),
        }
        if any(record["eval_loss"] is not None for record in rounds):
            figures["loss"] = _loss_figure(rounds, caption)
        (folder / "plots").mkdir(exist_ok=True)
        written = []
        for kind, figure in figures.items():
            path = folder / "plots" / f"{kind}.svg"
            figure.savefig(path, metadata={"Date": None}, dpi=200)
            written.append(path)
    return written


def link_bytes(graph: topology.Topology, traffic: Traffic) -> NDArray[np.int64]:
    """Return the bytes over each link, both directions together and everything included.

    Returns:
        Shape (E,), in the order of `graph.edges`.
    """
    counted: Counter[tuple[int, int]] = Counter()
    for sender, receiver, count in traffic.links():
        counted[min(sender, receiver), max(sender, receiver)] += count.wire_bytes
    return np.array([counted[edge] for edge in graph.edges], dtype=np.int64)


@contextmanager
def figure_settings() -> Iterator[None]:
    """Keep the user's settings and chance out of the files."""
    settings: dict[str, Any] = {
        "svg.hashsalt": "kseed",
        "font.size": 10,
        "axes.titlesize": 11,
        "text.color": _TEXT,
        "text.parse_math": False,
        "axes.titlecolor": _TEXT,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.axisbelow": True,
        "grid.color": "#e3e7ec",
        "legend.frameon": False,
    }
    with style.context(["default", settings]), warnings.catch_warnings():
        # A name in a script that the font lacks becomes boxes; the picture is still of use.
        warnings.filterwarnings("ignore", message="Glyph", category=UserWarning)
        yield


def _over_rounds(title: str, label: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(7.0, 4.2), layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(title, loc="left")
    axes.set_xlabel("rounds done")
    axes.set_ylabel(label)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    return figure, axes


def _loss_figure(rounds: Rounds, caption: str) -> Figure:
    """Draw both losses; a round whose loss is null, for it was not finite, leaves a gap."""
    figure, axes = _over_rounds(f"Loss over the rounds\n{caption}", "loss (nats per token)")
    done = [record["round"] for record in rounds]
    marked = len(rounds) <= _MARKED_ROUNDS
    for key, label, colour, dashes, marker in (
        ("eval_loss", "held-out rows", _BLUE, "-", "o"),
        ("train_loss", "training, mean of the round's local steps", _VERMILION, "--", "s"),
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
    # Set by hand, for rounds at the end of a run that leave a gap would not be shown at all.
    last = max(done[-1], 1)
    axes.set_xlim(-0.03 * last, 1.03 * last)
    figure.legend(loc="outside lower center", ncols=2)
    return figure


def _bytes_figure(rounds: Rounds, caption: str) -> Figure:
    done = [record["round"] for record in rounds]
    payload = np.array([record["payload_bytes"] for record in rounds], dtype=float)
    wire = np.array([record["wire_bytes"] for record in rounds], dtype=float)
    most = wire.max(initial=0.0)
    unit, size = byte_unit(most)
    figure, axes = _over_rounds(
        f"Bytes sent since the start, all peers together: {bytes_in_words(most)}\n{caption}",
        f"bytes since the start ({unit})",
    )
    axes.stackplot(
        done,
        payload / size,
        (wire - payload) / size,
        labels=["payload: entries", "control, framing and handshakes"],
        colors=[_BLUE, _ORANGE],
    )
    axes.set_ylim(0, 1.05 * most / size or 1.0)
    axes.margins(x=0)
    figure.legend(loc="outside lower center", ncols=2)
    return figure


def links_figure(graph: topology.Topology, sent: NDArray[np.int64], caption: str) -> Figure:
    """Draw a graph, each link the darker and thicker the more went over it.

    Args:
        graph: whose links to draw.
        sent: as `link_bytes` returns it.
        caption: what was run, for the title.
    """
    points = positions(graph)
    lines = paths(graph, points)
    # Links may bow out beyond the peers, so the frame is drawn around both.
    corners = np.concatenate(lines)
    low, extent = corners.min(axis=0), np.ptp(corners, axis=0)
    room = _room(points)
    # Numbers need 22 points from peer to peer; graphs that crowd them get a larger picture.
    wanted = 22 / 72 / room * extent.max() if len(points) <= LABEL_LIMIT else 0.0
    scale = float(np.clip(wanted, *_LONGER_SIDE)) / extent.max()
    width, height = np.maximum(extent * scale + 2 * _MARGIN, (_LEAST_WIDTH, 0.0))
    whole = height + _HEAD + _FOOT
    figure = Figure(figsize=(width, whole))
    axes = figure.add_axes((0, _FOOT / whole, 1, height / whole))
    middle, half = low + extent / 2, np.array((width, height)) / scale / 2
    axes.set_xlim(middle[0] - half[0], middle[0] + half[0])
    axes.set_ylim(middle[1] - half[1], middle[1] + half[1])
    axes.set_axis_off()
    least, most = bytes_in_words(sent.min()), bytes_in_words(sent.max())
    title = (
        f"Bytes over each link, both directions together\n{caption}: "
        f"{bytes_in_words(sent.sum())} over {len(lines):,} link{'s' * (len(lines) > 1)}, "
        f"{most if least == most else f'{least} to {most}'} each"
    )
    figure.text(0.5, 1 - _HEAD / 2 / whole, title, ha="center", va="center", fontsize=11)
    colours = _draw_links(axes, lines, sent, 72 * scale)
    _draw_peers(axes, points, float(np.clip(0.6 * 72 * scale * room, 1.5, 24)))
    bar = figure.add_axes((0.5 - 2 / width, 0.5 / whole, 4 / width, 0.14 / whole))
    figure.colorbar(colours, cax=bar, orientation="horizontal")
    bar.set_xlabel(f"bytes over the link ({byte_unit(sent.max())[0]})")
    return figure


def _draw_links(
    axes: Axes, lines: list[Points], sent: NDArray[np.int64], scale: float
) -> ScalarMappable:
    """Draw links the darker and thicker the more went over them; return what colours mean.

    Args:
        axes: where.
        lines: a polyline for each link.
        sent: bytes over each link.
        scale: typographic points per unit of `lines`.
    """
    most = sent.max()
    _, size = byte_unit(most)
    # The pale end of the map would be lost on white.
    shades = ListedColormap(colormaps["viridis_r"](np.linspace(0.1, 1, 256)))
    # A fifth at least, so that links that differ by a per cent do not differ in colour.
    span = Normalize(min(sent.min(), 0.8 * most) / size, most / size or 1.0)
    colours = ScalarMappable(span, shades)
    total = sum(float(np.hypot(*np.diff(line, axis=0).T).sum()) for line in lines)
    # Covers at most a third of a square's area.
    widest = float(np.clip(4 * scale / 3 / total, 0.01, 4.5))
    order = np.argsort(sent, kind="stable")
    axes.add_collection(
        LineCollection(
            [lines[link] for link in order],
            colors=colours.to_rgba(sent[order] / size),
            linewidths=widest * (0.2 + 0.8 * sent[order] / max(most, 1)),
            rasterized=len(lines) > VECTOR_LIMIT,
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
        color=_FILL,
        edgecolors=_RIM,
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
