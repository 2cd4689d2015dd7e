"""The figure of a comparison: held-out loss against the bytes that it took."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
from matplotlib.ticker import EngFormatter, NullFormatter

from sim.compare.conduct import Conducted
from sim.compare.curves import curves_of
from sim.compare.names import method_name
from sim.ink import ink, save
from sim.study.looks import Looks

FIGURE: Final = "loss-against-bytes.svg"

_COLUMNS: Final = ("method", "links")


def draw(conducted: Conducted) -> Path | None:
    """Draw a line for each method, and a band from the least to the most of its seeds.

    Each starts after the first round, for before it nothing was sent. The same results give the
    same bytes.

    Returns:
        Its path; None: no run has a loss after a round.
    """
    found = []
    for contender in conducted.comparison.contenders:
        curves = curves_of(conducted, contender)
        if curves is not None and np.isfinite(curves.losses[:, 1:]).any():
            links = "with a server" if contender.with_server else "gossip"
            found.append(({"method": method_name(contender.method), "links": links}, curves))
    if not found:
        return None
    looks = Looks.of([row for row, _ in found], _COLUMNS)
    seeds = conducted.comparison.seeds
    over = f", means over {seeds} seeds and from the least to the most" if seeds > 1 else ""
    with ink():
        figure, [axes] = looks.figure(
            f"Held-out loss against bytes{over}",
            "bytes that a peer has sent and received since the start",
            "loss (nats per token)",
        )
        for row, curves in found:
            look = looks.drawn(row) | {"markersize": 4, "linewidth": 1.5}
            moved, losses = curves.moved.mean(axis=0)[1:], curves.losses[:, 1:]
            axes.plot(moved, losses.mean(axis=0), gid=f"loss of {row['method']}", **look)
            low, high = losses.min(axis=0), losses.max(axis=0)
            axes.fill_between(moved, low, high, color=look["color"], alpha=0.2, linewidth=0)
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(EngFormatter("B", sep=" "))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.ticklabel_format(axis="y", useOffset=False)
        before = np.concatenate([curves.losses[:, 0] for _, curves in found]).mean()
        axes.axhline(before, color="grey", linewidth=1, linestyle=(0, (1, 3)))
        axes.annotate(
            "before the first round",
            (1, before),
            xycoords=("axes fraction", "data"),
            xytext=(0, 3),
            textcoords="offset points",
            ha="right",
            fontsize=8,
        )
        path = conducted.folder.path / FIGURE
        save(figure, path)
    return path
