"""The reports of the benches of the protocol for people: figures, and whether their limits hold."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from sim.bench.load import warning
from sim.bench.options import CLUSTER
from sim.tables import aligned

_PHASES = ("cold", "warm")
_SPREADING = (
    "graph: mode",
    "copies cold",
    "warm",
    "time cold",
    "warm",
    "worst cold",
    "warm",
    "control",
    "everywhere",
)


def held_in_words(report: Mapping[str, Any]) -> str:
    """Return a report of `sim.bench.held` as text, without a newline at the end."""
    machine = report["machine"]
    where = f"on one core of {machine['cpu']}"
    if report["bench"] == CLUSTER:
        where = f"{report['rounds']:,} rounds, on {machine['cores']} cores of {machine['cpu']}"
    lines = [f"{report['bench']}: {report['peers']:,} peers, {where}, Python {machine['python']}"]
    shown = report["figures"]
    if report["bench"] == "gossip":
        lines += [*aligned([_SPREADING, *_spreading(report["results"])]), ""]
        shown = [figure for figure in shown if "bytes" in figure["name"]]
    rows = [("", "here", "limit", ""), *map(_row, shown)]
    lines += aligned(rows)
    limited = [figure for figure in report["figures"] if figure["limit"] is not None]
    failed = [figure for figure in limited if not figure["holds"]]
    lines.append(f"{len(limited) - len(failed)} of {len(limited)} limits hold.")
    lines += [f"{f['name']}: {number(f['here'])}, {_bound(f)}" for f in failed if f not in shown]
    if report["quiet"] is False:
        lines.append(warning(report))
    return "\n".join(lines)


def number(value: float) -> str:
    """Return a figure with three decimals if it is small, else as a whole number."""
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3f}"


def _spreading(results: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[str, ...]]:
    for graph, runs in results.items():
        for run, fields in runs.items():
            keys = ("redundancy", "time_to_flooding", "worst_time_to_flooding")
            cells = [number(fields[phase][key]) for key in keys for phase in _PHASES]
            everywhere = "yes" if fields["everywhere"] else "NO"
            yield (f"{graph}: {run}", *cells, number(fields["control"]), everywhere)


def _row(figure: Mapping[str, Any]) -> tuple[str, ...]:
    if figure["limit"] is None:
        return figure["name"], number(figure["here"]), "", ""
    verdict = "holds" if figure["holds"] else "DOES NOT HOLD"
    return figure["name"], number(figure["here"]), _bound(figure), verdict


def _bound(figure: Mapping[str, Any]) -> str:
    return f"{'at least' if figure['least'] else 'at most'} {number(figure['limit'])}"
