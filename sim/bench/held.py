"""Figures that are held against limits: what the benches of the protocol report.

Each is a dictionary, for JSON: "name", "here", "limit" (null: only shown), "least" (whether the
limit is the least allowed and not the most) and "holds" (null without a limit).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch

from sim.bench.load import ForeignLoad
from sim.bench.machine import facts

Figure = dict[str, Any]


def held(name: str, here: float, limit: float | None = None, *, least: bool = False) -> Figure:
    """Return a figure beside its limit."""
    holds = None if limit is None else bool(here >= limit if least else here <= limit)
    return {"name": name, "here": here, "limit": limit, "least": least, "holds": holds}


def held_report(
    name: str, figures: Iterable[Figure], common: Mapping[str, Any], load: ForeignLoad | None
) -> dict[str, Any]:
    """Return a report; see `sim.bench.bench`.

    Args:
        name: of the bench.
        figures: all of them, in the order of the table.
        common: what else is told.
        load: of others, meanwhile; None: figures are counted, which it does not change, or it is
            not known.
    """
    figures = list(figures)
    return {
        "bench": name,
        **common,
        "figures": figures,
        "holds": all(figure["holds"] is not False for figure in figures),
        **(ForeignLoad() if load is None else load).fields(),
        "machine": facts(torch.device("cpu"), 1),
    }
