"""How figures look: nothing of the user's settings, and nothing of chance, is in the files."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from matplotlib import style
from matplotlib.figure import Figure

# Okabe and Ito's colours, which colour-blind readers can tell apart too.
BLUE: Final = "#0072b2"
SKY: Final = "#56b4e9"
GREEN: Final = "#009e73"
VERMILION: Final = "#d55e00"
TEXT: Final = "#14283c"
PALE: Final = "#44546a"

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
    "grid.color": "#e3e7ec",
    "legend.frameon": False,
}


@contextmanager
def ink() -> Iterator[None]:
    """Let what is drawn and saved meanwhile look alike everywhere."""
    with style.context(["default", _SETTINGS]), warnings.catch_warnings():
        # A name in a script that the font lacks becomes boxes; the picture is still of use.
        warnings.filterwarnings("ignore", message="Glyph", category=UserWarning)
        yield


def save(figure: Figure, path: Path) -> None:
    """Write a figure as SVG, the same one to the same bytes, whatever the path ends in."""
    figure.savefig(path, format="svg", metadata={"Date": None})
