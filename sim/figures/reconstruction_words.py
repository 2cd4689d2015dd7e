"""The report of `reconstruction` for people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from sim.bench.load import warning
from sim.tables import aligned

_OVER: Final = {"bases": "K", "steps": "T", "dimensions": "d", "blocks": "L"}

Report = Mapping[str, Any]
Rows = list[dict[str, Any]]


def over(panel: str, rows: Rows) -> str:
    """Return in one line what a panel shows, from its rows."""
    first = rows[0]
    function = "sum x_i^2" if panel == "bases" else "sum sin(x_i)^2"
    fixed = [f"{_OVER[key]} = {first[key]:,}" for key in ("dimensions", "bases") if key != panel]
    return f"over {_OVER[panel]}: {function}, {', '.join(fixed)}"


def rows_of(report: Report, panel: str) -> Rows:
    """Return the rows of a panel."""
    return [row for row in report["rows"] if row["panel"] == panel]


def lines_of(rows: Rows) -> dict[str, Rows]:
    """Return the rows of a panel by what made them, Ferret first."""
    lines: dict[str, Rows] = {}
    for row in rows:
        epsilon = row["epsilon"]
        name = "Ferret" if epsilon is None else f"zeroth order, eps = {epsilon:g}"
        lines.setdefault(name, []).append(row)
    return lines


def setting(report: Report) -> str:
    """Return in one line what was measured."""
    draws, distribution = report["setting"]["draws"], report["setting"]["perturbation"]
    return f"bases: {distribution}; means of {draws:,} draw{'s' * (draws > 1)}"


def farthest(report: Report) -> float:
    """Return by which share a cosine of Ferret's differs from the expected one, at most."""
    apart: list[float] = [
        abs(row["cosine"] / row["expected"] - 1)
        for row in report["rows"]
        if row["expected"] is not None
    ]
    return max(apart)


def uncertain(report: Report) -> float:
    """Return the standard error of a cosine of Ferret's as a share of the expected one, at most."""
    errors: list[float] = [
        row["cosine_error"] / row["expected"]
        for row in report["rows"]
        if row["expected"] is not None
    ]
    return max(errors)


def unbiased(report: Report) -> str:
    """Return in one sentence how near reconstructions are to being unbiased."""
    ratio = report["ratio"]
    return (
        f"<reconstruction, update> / |update|^2 = {ratio['mean']:.4f} in the mean of "
        f"{ratio['draws']:,} draws, standard error {ratio['standard_error']:.4f}; "
        "1 means unbiased."
    )


def speedup(report: Report) -> str:
    """Return in one sentence what blocks gain."""
    rows = rows_of(report, "blocks")
    best = min(rows, key=lambda row: float(row["seconds"]))
    return (
        f"L = {best['blocks']:,} takes {rows[0]['seconds'] / best['seconds']:.1f} times less than "
        "one block. Numbers to make fall as 1 / L, what each weight and block takes does not."
    )


def in_rows(report: Report) -> Iterator[dict[str, Any]]:
    """Yield the points, for CSV."""
    yield from report["rows"]


def in_lines(report: Report) -> Iterator[str]:
    """Yield the report as tables with notes."""
    yield f"cosine of an update and its reconstruction: {setting(report)}"
    for panel in _OVER:
        rows = rows_of(report, panel)
        lines = lines_of(rows)
        yield ""
        yield over(panel, rows)
        timed = rows[0]["seconds"] is not None
        extra = ("projected and reconstructed in",) if timed else ()
        cells: list[tuple[str, ...]] = [(_OVER[panel], "expected", *lines, *extra)]
        for at in zip(*lines.values(), strict=True):
            ferret = at[0]
            times = (f"{ferret['seconds'] * 1e3:,.1f} ms",) if timed else ()
            cosines = (f"{row['cosine']:.4f}" for row in at)
            cells.append((f"{ferret[panel]:,}", f"{ferret['expected']:.4f}", *cosines, *times))
        yield from aligned(cells, [True] * len(cells[0]))
    yield ""
    yield (
        f"Ferret's cosines are within {100 * farthest(report):.1f} % of sqrt(K / (K + d)), which "
        "independent bases make expected; their standard errors are up to "
        f"{100 * uncertain(report):.1f} %."
    )
    yield unbiased(report)
    yield speedup(report)
    if report["quiet"] is False:
        yield warning(report)
