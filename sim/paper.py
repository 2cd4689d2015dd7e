"""What pictures of a run are drawn on: a file of their own, or a page of a report."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from topology.drawing import VECTOR_LIMIT


@dataclass(frozen=True)
class Paper:
    """What pictures are drawn on; lengths in inches.

    Attributes:
        curves: width and height of those over rounds.
        longer_side: of a graph, at least and at most.
        least_width: of the picture of a graph.
        head: room above a graph for a title; 0: pictures have none.
        foot: room below a graph for what colours mean; 0: it is not told.
        columns: of a legend.
        most_lines: links beyond this number become one image, to keep files small.
    """

    curves: tuple[float, float]
    longer_side: tuple[float, float]
    least_width: float
    head: float
    foot: float
    columns: int
    most_lines: int


FILE: Final = Paper((7.0, 4.2), (7.0, 11.0), 6.0, 0.75, 0.85, 2, VECTOR_LIMIT)
PAGE: Final = Paper((4.2, 3.3), (3.5, 11.0), 0.0, 0.0, 0.0, 1, 3_000)
"""As wide as a phone, so that texts are of a size to be read there."""
