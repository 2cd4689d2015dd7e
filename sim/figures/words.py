"""The reports of figures for people and for spreadsheets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from sim.bench.load import warning
from sim.figures import reconstruction_words
from sim.tables import aligned, rows_csv
from sim.words import bytes_in_words, seconds_in_words

LINES: Final[Mapping[str, str]] = {
    "replay": "every step replayed",
    "fedkseed": "FedKSeed, K = {candidate_seeds:,}",
    "fedkseed-pro": "FedKSeed-Pro, K = {pro_candidate_seeds:,}",
}
"""What the lines of `latest-model` are called."""

_COLUMNS: Final = {
    "replay": "replay",
    "fedkseed": "K = {candidate_seeds:,}",
    "fedkseed-pro": "K = {pro_candidate_seeds:,}",
}

COST_MODEL_ONLY: Final = (
    "The sum along a tree is a cost model only, not offered by the protocol: it is not idempotent. "
    "What comes twice counts twice, and what a broken branch has lost nobody can tell."
)

Report = Mapping[str, Any]


def in_words(report: Report) -> str:
    """Return a figure's report as a table with notes, without a newline at the end."""
    lines = {
        "latest-model": _latest_model,
        "break-even": _break_even,
        "reconstruction": reconstruction_words.in_lines,
    }[report["figure"]]
    return "\n".join(lines(report))


def in_csv(report: Report) -> str:
    """Return a figure's points, a line each, under a line of names; times in seconds, and bytes."""
    rows = {
        "latest-model": _point_rows,
        "break-even": _byte_rows,
        "reconstruction": reconstruction_words.in_rows,
    }[report["figure"]]
    return rows_csv(rows(report)).removesuffix("\n")


def setting_of_model(report: Report) -> str:
    """Return in one line what was measured in `latest-model`."""
    setting = report["setting"]
    return (
        f"{setting['peers']:,} peers with {setting['local_steps']:,} local steps a round, "
        f"{setting['parameters']:,} weights in {setting['dtype']}, {setting['perturbation']}"
    )


def machine_of_model(report: Report) -> str:
    """Return in one line on what `latest-model` was measured."""
    machine, threads = report["machine"], report["setting"]["threads"]
    where = machine["gpu"] or machine["cpu"]
    return (
        f"{where}, {threads:,} thread{'s' * (threads > 1)} on {machine['cores']:,} cores, "
        f"torch {machine['torch']}"
    )


def what_was_scaled(report: Report) -> Iterator[str]:
    """Yield a sentence for each measurement that `latest-model` scales, and for none if it is."""
    replay, published = report["replay"], report["published"]
    whole = [point["round"] for point in _points(report, "replay") if point["measured"] == "whole"]
    rounds = report["setting"]["rounds"]
    if not whole or whole[-1] < rounds:
        until = f"after round {whole[-1]:,}" if whole else "all of it"
        yield f"Replay {until} is scaled from the {replay['steps']:,} steps that were replayed."
    yield (
        f"The published loop is scaled from {published['steps']:,} steps; "
        f"{published['threads']:,} thread{'s' * (published['threads'] > 1)} did it best."
    )


def setting_of_bytes(report: Report) -> str:
    """Return in one line what `break-even` compares."""
    setting = report["setting"]
    return (
        f"{setting['peers']:,} peers on {setting['topology']}, K = {setting['candidate_seeds']:,}, "
        f"{setting['gradient_bytes']} bytes a scalar gradient"
    ).replace(" 1 bytes", " 1 byte")


def step_bytes(report: Report) -> dict[str, int]:
    """Return the bytes of a step in a history, with its seed index sent or derived."""
    setting = report["setting"]
    derived = setting["gradient_bytes"]
    return {"sent": derived + setting["index_bytes"], "derived": derived}


def _points(report: Report, line: str, by: str = "here") -> list[dict[str, Any]]:
    found = (each for each in report["lines"] if (each["line"], each["by"]) == (line, by))
    points: list[dict[str, Any]] = next(found)["points"]
    return points


def _latest_model(report: Report) -> Iterator[str]:
    setting, equality = report["setting"], report["equality"]
    yield f"time to obtain the latest model: {setting_of_model(report)}"
    yield machine_of_model(report)
    by = [{"here": "here", "published": "published loop"}[x["by"]] for x in report["lines"]]
    names = [_COLUMNS[line["line"]].format(**setting) for line in report["lines"]]
    rows = [("", "", *by), ("round", "steps so far", *names)]
    for points in zip(*(line["points"] for line in report["lines"]), strict=True):
        times = (_approximately(point) for point in points)
        rows.append((f"{points[0]['round']:,}", f"{points[0]['steps']:,}", *times))
    yield from aligned(rows)
    yield "~ marks what was not measured whole:"
    yield from what_was_scaled(report)
    replayed = _points(report, "replay")[-1]
    for name in ("fedkseed", "fedkseed-pro"):
        rebuilt = _points(report, name)[-1]
        yield (
            f"After {replayed['round']:,} rounds {LINES[name].format(**setting)} takes "
            f"{replayed['seconds'] / rebuilt['seconds']:,.1f} times less than replay: "
            f"{rebuilt['passes']:,} seeds for {replayed['passes']:,} steps."
        )
    if equality is None:
        yield "No round was replayed whole, so replayed and rebuilt weights were not compared."
    else:
        yield (
            f"After {equality['round']:,} rounds replayed and rebuilt weights differ in "
            f"{100 * equality['share_differing']:.1f} % of places, by "
            f"{equality['rms_difference']:.1e} in the root mean square and by "
            f"{equality['largest_difference']:.1e} at most, where the weights "
            f"have moved by {equality['rms_change']:.1e}: a rebuild is exact and rounds once, a "
            "replay rounds after each step."
        )
    if report["quiet"] is False:
        yield warning(report)


def _approximately(point: Mapping[str, Any]) -> str:
    mark = "" if point["measured"] == "whole" else "~ "
    return mark + time_in_words(point["seconds"])


def time_in_words(seconds: float) -> str:
    """Return a duration, one below a second in milliseconds."""
    return f"{seconds * 1e3:.3g} ms" if seconds < 0.9995 else seconds_in_words(seconds)


def _break_even(report: Report) -> Iterator[str]:
    each = step_bytes(report)
    yield f"bytes of one round, all links together: {setting_of_bytes(report)}"
    head = (
        "local steps",
        *(f"histories, {b} B a step" for b in each.values()),
        "sums along a tree",
    )
    simulated = report["rows"][0]["sums_simulated"] is not None
    extra = ("simulated", "standard error") if simulated else ()
    rows: list[tuple[str, ...]] = [(*head, *extra)]
    for row in report["rows"]:
        keys = ["histories", "histories_derived", "sums"]
        keys += ["sums_simulated", "simulated_error"] if simulated else []
        rows.append((f"{row['local_steps']:,}", *(bytes_in_words(row[key]) for key in keys)))
    yield from aligned(rows)
    for name, how in (("sent", "indices sent"), ("derived", "indices derived")):
        found = report["break_even"][name]
        yield (
            f"Histories of {each[name]} bytes a step ({how}) break even at "
            f"{found['local_steps']:,.1f} local steps: N tau = {found['steps_per_seed']:.2f} K."
        )
    yield ""
    others = report["by_peers"]
    cells = [(f"{x['peers']:,}", f"{x['sent']:.2f}", f"{x['derived']:.2f}") for x in others]
    yield from aligned([("peers", *(f"N tau / K, {b} B" for b in each.values())), *cells])
    yield ""
    if simulated:
        yield (
            f"Simulated: {report['rounds_simulated']:,} rounds with the seeds that peers really "
            "draw."
        )
    apart = max(
        abs(bound / row["sums"] - 1) for row in report["rows"] for bound in row["sums_along_pushes"]
    )
    yield (
        "Headers and framing are left out. Along the trees that entries are pushed along, sums "
        f"differ by up to {100 * apart:.1f} %."
    )
    yield COST_MODEL_ONLY


def _point_rows(report: Report) -> Iterator[dict[str, Any]]:
    keys = ("round", "steps", "passes", "seconds", "measured")
    for line in report["lines"]:
        for point in line["points"]:
            yield {"line": line["line"], "by": line["by"]} | {key: point[key] for key in keys}


def _byte_rows(report: Report) -> Iterator[dict[str, Any]]:
    for row in report["rows"]:
        least, most = row["sums_along_pushes"]
        others = {key: value for key, value in row.items() if key != "sums_along_pushes"}
        yield others | {"sums_along_pushes_least": least, "sums_along_pushes_most": most}
