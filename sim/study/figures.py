"""The pictures of a study: each is drawn where the study has, or varies, what it shows."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any, Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter, NullLocator

from peer.records import RunFolder
from sim.ink import ink, save
from sim.plots import link_bytes, links_figure
from sim.study.attempt import DONE
from sim.study.conduct import Conducted
from sim.study.looks import Looks, Row, distinct
from sim.words import byte_unit

OVER: Final = {
    "peers": "peers",
    "local_steps": "local steps τ a round",
    "candidate_seeds": "candidate seeds K",
}
"""Options that bytes per peer and round are drawn against."""

MOST_LINK_PICTURES: Final = 12
MOST_PEERS_DRAWN: Final = 2_000

_SEED: Final = "seed"
_LOGARITHMIC_FROM: Final = 8
"""The ratio of two ends of an axis from which on it is logarithmic."""

_MOST_TICKS: Final = 12
_TICKS_APART: Final = 0.06
"""Of the width of an axis."""


def draw_study(conducted: Conducted, table: Sequence[Row]) -> list[Path]:
    """Draw a study's pictures into its folder's figures/; the same results give the same bytes.

    Args:
        conducted: the study.
        table: its rows, see `sim.study.table.rows`.
    """
    done = [row for row in table if row["status"] == DONE]
    varied, name = tuple(conducted.study.sweep), conducted.study.name
    folder = conducted.folder.path / "figures"
    folder.mkdir(exist_ok=True)
    written = []
    with ink():
        drawn: dict[str, Figure] = {}
        for key in OVER:
            if len(distinct(done, key)) > 1:
                stem = f"bytes-against-{key.replace('_', '-')}"
                drawn[stem] = _bytes_figure(done, varied, key, name)
        timed = [row for row in done if row["spread_seconds_mean"] is not None]
        if len(distinct(timed, "diameter")) > 1:
            drawn["time-against-diameter"] = _time_figure(timed, varied, name)
        trained = [row for row in done if row["eval_loss_final"] is not None]
        if trained:
            drawn["loss-against-bytes"] = _loss_figure(conducted, trained, varied, name)
        drawn |= _links_figures(conducted, done)
        for stem, figure in drawn.items():
            written.append(folder / f"{stem}.svg")
            save(figure, written[-1])
    return written


def _bytes_figure(rows: Sequence[Row], varied: Sequence[str], key: str, name: str) -> Figure:
    looks = Looks.of(rows, varied, key, _SEED)
    unit, size = byte_unit(max(row["bytes_per_peer_round"] for row in rows))
    figure, panels = looks.figure(
        f"Bytes per peer and round, sent plus received\n{name}{_means(rows)}",
        OVER[key],
        f"bytes per peer and round ({unit})",
    )
    lines = defaultdict(list)
    for row in rows:
        lines[looks.group_of(row)].append(row)
    for members in lines.values():
        panel = looks.panel_of(members[0])
        if panel >= len(panels):
            continue
        at = sorted(distinct(members, key))
        found = [
            [row["bytes_per_peer_round"] / size for row in members if row[key] == x] for x in at
        ]
        look = looks.drawn(members[0])
        panels[panel].plot(at, [fmean(values) for values in found], **look)
        low, high = [min(values) for values in found], [max(values) for values in found]
        panels[panel].fill_between(at, low, high, color=look["color"], alpha=0.2, linewidth=0)
    _scale_x(panels, distinct(rows, key))
    _scale_y(panels, [row["bytes_per_peer_round"] / size for row in rows])
    return figure


def _time_figure(rows: Sequence[Row], varied: Sequence[str], name: str) -> Figure:
    """Draw all rows as points, which rise from the mean over all histories to the longest time."""
    looks = Looks.of(rows, varied, "peers", _SEED)
    figure, panels = looks.figure(
        "Time until a history has come to the last peer\n"
        f"{name}: mean over all histories (marker) and the longest (end of the line)",
        "diameter of the graph (hops)",
        "virtual seconds",
    )
    for row in rows:
        panel, look = looks.panel_of(row), looks.drawn(row)
        if panel < len(panels):
            x, mean, most = row["diameter"], row["spread_seconds_mean"], row["spread_seconds_max"]
            panels[panel].plot([x, x], [mean, most], color=look["color"], linewidth=1)
            panels[panel].plot([x], [mean], **(look | {"linestyle": ""}))
    _scale_x(panels, distinct(rows, "diameter"))
    _scale_y(panels, [row[f"spread_seconds_{of}"] for row in rows for of in ("mean", "max")])
    return figure


def _loss_figure(
    conducted: Conducted, rows: Sequence[Row], varied: Sequence[str], name: str
) -> Figure:
    """Draw each run's loss over the bytes that its peers have moved, from its rounds.jsonl."""
    looks = Looks.of(rows, varied, _SEED)
    curves = []
    for row in rows:
        rounds = RunFolder(conducted.folder.folder_of(row["setting"])).read_rounds()
        # What one peer sends is what another receives, so each byte counts twice.
        moved = np.array([2 * each["wire_bytes"] / row["peers"] for each in rounds])
        curves.append((row, moved, np.array([each["eval_loss"] for each in rounds], dtype=float)))
    unit, size = byte_unit(max(moved.max(initial=0.0) for _, moved, _ in curves))
    figure, panels = looks.figure(
        f"Held-out loss over the bytes that a peer has sent and received\n{name}",
        f"bytes per peer since the start ({unit})",
        "loss (nats per token)",
    )
    for row, moved, losses in curves:
        panel = looks.panel_of(row)
        if panel < len(panels):
            look = looks.drawn(row) | {"markersize": 4, "linewidth": 1.5}
            panels[panel].plot(moved / size, losses, **look)
    for axes in panels:
        axes.ticklabel_format(axis="y", useOffset=False)
    return figure


def _links_figures(conducted: Conducted, rows: Sequence[Row]) -> dict[str, Figure]:
    """Draw the links of the first setting of each graph and way of gossip, by file name."""
    figures: dict[str, Figure] = {}
    seen: set[tuple[Any, ...]] = set()
    for row in rows:
        kind = tuple(row[key] for key in ("topology", "peers", "degree", "gossip"))
        if kind in seen or row["peers"] > MOST_PEERS_DRAWN or len(seen) == MOST_LINK_PICTURES:
            continue
        seen.add(kind)
        graph, traffic = conducted.folder.links_of(row["setting"], row["wire_bytes"])
        sent = link_bytes(graph, traffic)
        stem = f"links-{Path(row['topology']).stem}-{row['peers']}-{row['gossip']}"
        number = sum(key.startswith(stem) for key in figures)
        caption = f"{row['gossip']} on {graph.name}, {row['peers']:,} peers"
        figures[stem + f"-{number + 1}" * (number > 0)] = links_figure(graph, sent, caption)
    return figures


def _means(rows: Sequence[Row]) -> str:
    seeds = len(distinct(rows, _SEED))
    return f": means over {seeds} seeds, and from the least to the most" if seeds > 1 else ""


def _scale_x(panels: Sequence[Axes], values: Sequence[Any]) -> None:
    """Label the values themselves, but for those that would be too near to the one before."""
    logarithmic = max(values) >= _LOGARITHMIC_FROM * max(min(values), 1)
    where = np.log2 if logarithmic else np.asarray
    width, shown = where(max(values)) - where(min(values)), [min(values)]
    for value in sorted(values):
        if where(value) - where(shown[-1]) > _TICKS_APART * width:
            shown.append(value)
    for panel in panels:
        if logarithmic:
            panel.set_xscale("log", base=2)
        if len(shown) > _MOST_TICKS:
            panel.xaxis.set_major_locator(MaxNLocator(integer=True))
        else:
            panel.set_xticks(shown, [f"{value:,}" for value in shown])
        panel.xaxis.set_minor_locator(NullLocator())


def _scale_y(panels: Sequence[Axes], values: Sequence[float]) -> None:
    for panel in panels:
        if min(values) > 0 and max(values) >= _LOGARITHMIC_FROM * min(values):
            panel.set_yscale("log")
            panel.yaxis.set_major_formatter(FuncFormatter(lambda value, _place: f"{value:g}"))
            panel.yaxis.set_minor_formatter(NullFormatter())
        else:
            panel.set_ylim(0, 1.05 * max(values) or 1.0)
