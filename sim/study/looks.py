"""How rows of a study are told apart in a picture: by colour, by line and marker, and by panel."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any, Final

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from sim.ink import BLUE, GREEN, ORANGE, PURPLE, RIM, SKY, TEXT, VERMILION

Row = Mapping[str, Any]

_COLOURS: Final = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY, TEXT)
_LINES: Final = (("-", "o", 5), ("--", "s", 7), (":", "^", 9), ("-.", "D", 11))
"""Lines, and hollow markers of such sizes that none hides another at the same place."""

_WIDTHS: Final = (1.2, 4.0)

MOST_PANELS: Final = 12
_COLUMNS: Final = 3
_LEGEND_COLUMNS: Final = 4


@dataclass(frozen=True)
class Looks:
    """Which of the varied options a picture shows in which way.

    Attributes:
        colour: an option, or empty: one colour.
        line: an option, or empty: one kind of lines.
        panels: the other options; each combination of their values has a panel.
        values: for each of these options its values, in the order of the grid.
        combinations: those of the options of panels, in the same order.
    """

    colour: str
    line: str
    panels: tuple[str, ...]
    values: Mapping[str, tuple[Any, ...]]
    combinations: tuple[tuple[Any, ...], ...]

    @classmethod
    def of(cls, rows: Sequence[Row], varied: Sequence[str], *apart: str) -> Looks:
        """Choose looks for rows.

        Args:
            rows: of the table.
            varied: the options that may differ among them.
            apart: options that the picture shows in another way, or takes the mean over.
        """
        values = {key: distinct(rows, key) for key in varied if key not in apart}
        left = [key for key, found in values.items() if len(found) > 1]
        colour = _take(left, "topology")
        line = _take([key for key in left if len(values[key]) <= len(_LINES)], "gossip", colour)
        panels = tuple(key for key in left if key not in (colour, line))
        combinations = dict.fromkeys(tuple(row[key] for key in panels) for row in rows)
        return cls(colour, line, panels, values, tuple(combinations))

    def panel_of(self, row: Row) -> int:
        """Return the number of the panel that a row belongs to."""
        return self.combinations.index(tuple(row[key] for key in self.panels))

    def group_of(self, row: Row) -> Hashable:
        """Return what rows share that belong to one line."""
        return tuple(row[key] for key in (*self.panels, self.colour, self.line) if key)

    def drawn(self, row: Row) -> dict[str, Any]:
        """Return the arguments of `Axes.plot` for a row's line."""
        line, marker, size = _LINES[self._place(self.line, row)]
        # The first lines are the widest, so that later ones at the same place do not hide them.
        number, (least, most) = len(self.values.get(self.colour, " ")), _WIDTHS
        share = 1 - self._place(self.colour, row) / max(number - 1, 1) if number > 1 else 0.3
        return {
            "color": self._colour(row),
            "linestyle": line,
            "linewidth": least + share * (most - least),
            "marker": marker,
            "markersize": size,
            "fillstyle": "none",
            "markeredgewidth": 1.2,
        }

    def figure(self, title: str, x_label: str, y_label: str) -> tuple[Figure, list[Axes]]:
        """Return a figure with its panels, and a legend below them."""
        shown = self.combinations[:MOST_PANELS]
        columns = 2 if len(shown) == 4 else min(len(shown), _COLUMNS)
        rows = ceil(len(shown) / columns)
        size = (7.0, 4.6) if len(shown) == 1 else (max(3.4 * columns, 7.0), 2.8 * rows + 1.2)
        figure = Figure(figsize=size, layout="constrained")
        grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
        axes: list[Axes] = list(grid.flat)
        for unused in axes[len(shown) :]:
            unused.set_axis_off()
        for panel, combination in zip(axes, shown, strict=False):
            named = zip(self.panels, combination, strict=True)
            panel.set_title(", ".join(f"{said(key)} {value}" for key, value in named), fontsize=9)
        if len(self.combinations) > len(shown):
            title += f"\nthe first {len(shown)} of {len(self.combinations)} panels"
        figure.suptitle(title, x=0.01, ha="left", fontsize=11)
        figure.supylabel(y_label, fontsize=10)
        for panel in axes[max(len(shown) - columns, 0) : len(shown)]:
            panel.set_xlabel(x_label)
            panel.tick_params(labelbottom=True)
        self._legend(figure)
        return figure, axes[: len(shown)]

    def _legend(self, figure: Figure) -> None:
        handles = []
        for key in filter(None, (self.colour, self.line)):
            for value in self.values[key]:
                look = self.drawn({self.colour: None, self.line: None, key: value})
                if key != self.colour:
                    look |= {"color": RIM, "linewidth": _WIDTHS[0]}
                elif self.line:
                    look |= {"linestyle": "-", "marker": ""}
                label = str(value) if isinstance(value, str) else f"{said(key)} {value}"
                handles.append(Line2D([], [], label=label, **look))
        if handles:
            columns = min(len(handles), _LEGEND_COLUMNS)
            figure.legend(handles=handles, loc="outside lower center", ncols=columns, fontsize=9)

    def _colour(self, row: Row) -> Any:
        values = self.values.get(self.colour, ())
        place = self._place(self.colour, row)
        if len(values) <= len(_COLOURS):
            return _COLOURS[place]
        return colormaps["viridis"](np.linspace(0, 0.95, len(values))[place])

    def _place(self, key: str, row: Row) -> int:
        return self.values[key].index(row[key]) if key and row[key] is not None else 0


def distinct(rows: Sequence[Row], key: str) -> tuple[Any, ...]:
    """Return the values of a column that are known, each once, in the order of the rows."""
    return tuple(dict.fromkeys(row[key] for row in rows if row[key] is not None))


def said(key: str) -> str:
    """Return a column's name as words."""
    return key.replace("_", " ")


def _take(keys: Sequence[str], wanted: str, *taken: str) -> str:
    left = [key for key in keys if key not in taken]
    return wanted if wanted in left else next(iter(left), "")
