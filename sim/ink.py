"""How pictures look: nothing of the user's settings, and nothing of chance, is in the files."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, TextIO

from matplotlib import style
from matplotlib.figure import Figure

# Okabe and Ito's colours, which colour-blind readers can tell apart too.
BLUE: Final = "#0072b2"
VERMILION: Final = "#d55e00"
GREEN: Final = "#009e73"
PURPLE: Final = "#cc79a7"
ORANGE: Final = "#e69f00"
SKY: Final = "#56b4e9"

TEXT: Final = "#14283c"
RIM: Final = "#44546a"
FILL: Final = "#ffffff"
GRID: Final = "#e3e7ec"

_SETTINGS: Final[dict[str, Any]] = {
    "svg.hashsalt": "kseed",
    "font.size": 10,
    "axes.titlesize": 11,
    "text.color": TEXT,
    "text.parse_math": False,
    "axes.titlecolor": TEXT,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "legend.frameon": False,
}


@contextmanager
def ink(more: Mapping[str, Any] | None = None) -> Iterator[None]:
    """Let what is drawn and saved meanwhile look alike everywhere.

    Args:
        more: settings of matplotlib's beside the common ones.
    """
    with style.context(["default", _SETTINGS | dict(more or {})]), warnings.catch_warnings():
        # A name in a script that the font lacks becomes boxes; the picture is still of use.
        warnings.filterwarnings("ignore", message="Glyph", category=UserWarning)
        yield


def save(figure: Figure, file: Path | TextIO) -> None:
    """Write a figure as SVG, the same one to the same bytes, whatever a path ends in."""
    # The resolution is that of parts which are images for their many lines.
    figure.savefig(file, format="svg", metadata={"Date": None}, dpi=200)
