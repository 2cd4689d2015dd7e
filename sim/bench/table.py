"""A bench's report for people: each figure beside its limit, and the published program's if any."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from sim.bench.held_table import held_in_words
from sim.bench.load import warning
from sim.bench.options import BENCHES, CLUSTER, PROTOCOL
from sim.tables import aligned
from sim.words import bytes_in_words

_HEAD = ("", "here", "published", "published / here", "limit", "here / limit", "the limit is")


class _Figure(NamedTuple):
    """A line of the table.

    Attributes:
        name: what was measured.
        here: what this program takes, in seconds or bytes.
        published: what the published one takes.
        limit: what it is held against.
        limit_name: what that is.
    """

    name: str
    here: float
    published: float
    limit: float
    limit_name: str


def in_words(report: Mapping[str, Any]) -> str:
    """Return what `sim.bench.bench` has returned as text, without a newline at the end."""
    reports = [report] if "bench" in report else [report[name] for name in BENCHES]
    return "\n\n".join(_one(each) for each in reports)


def _one(report: Mapping[str, Any]) -> str:
    name = report["bench"]
    if name in (*PROTOCOL, CLUSTER):
        return held_in_words(report)
    words = bytes_in_words if name == "memory" else _seconds_in_words
    rows = [_HEAD]
    for distribution, result in report["results"].items():
        rows += [
            (
                f"{distribution}: {figure.name}",
                words(figure.here),
                words(figure.published),
                _number(figure.published / figure.here),
                words(figure.limit),
                _number(figure.here / figure.limit),
                figure.limit_name,
            )
            for figure in _FIGURES[name](report, result)
        ]
    return "\n".join([*_heading(report), *aligned(rows), *_notes(report)])


def _heading(report: Mapping[str, Any]) -> Iterator[str]:
    machine = report["machine"]
    where = machine["gpu"] or machine["cpu"]
    yield (
        f"{report['bench']}: {report['parameters']:,} weights in {report['dtype']}, "
        f"K = {report['candidate_seeds']:,}, medians of {report['repeats']}"
    )
    yield (
        f"{where}, {_threads(machine['threads'])} on {machine['cores']} cores, "
        f"torch {machine['torch']}, numba {machine['numba']}"
    )


def _rebuild(report: Mapping[str, Any], result: Mapping[str, Any]) -> Iterator[_Figure]:
    one, reference, limit = result["seconds"], result["reference_seconds"], result["limit"]
    worst, many, perturb = result["worst"], result["many"], result["perturb"]
    bound = {"memory": "memory's bandwidth", "philox": "Philox alone"}[limit["name"]]
    yield _Figure("rebuild", one, reference, limit["seconds"], bound)
    bits = report["worst_sum_bits"]
    yield _Figure(f"sums near 2^{bits}", worst["seconds"], reference, limit["seconds"], bound)
    yield _Figure(
        f"{many['replicas']} at once",
        many["seconds"],
        many["reference_seconds"],
        one,
        "one rebuild",
    )
    yield _Figure(
        "pass in place",
        perturb["seconds"],
        perturb["reference_seconds"],
        perturb["axpy_seconds"],
        "torch's axpy",
    )


def _step(_: Mapping[str, Any], result: Mapping[str, Any]) -> Iterator[_Figure]:
    here, reference = result["seconds"], result["reference_seconds"]
    forwards, losses = result["two_forwards_seconds"], result["two_losses_seconds"]
    yield _Figure("local step", here, reference, forwards, "two forward passes")
    yield _Figure("local step", here, reference, losses, "two with their loss")


def _memory(_: Mapping[str, Any], result: Mapping[str, Any]) -> Iterator[_Figure]:
    mine, inference, published = result["round"], result["inference"], result["published"]
    yield _Figure(
        "round without imports",
        result["bytes"],
        result["reference_bytes"],
        result["inference_bytes"],
        "plain inference",
    )
    for name, key in (("with imports", "peak_bytes"), ("loading", "loading_bytes")):
        yield _Figure(name, mine[key], published[key], inference[key], "plain inference")


_FIGURES = {"rebuild": _rebuild, "step": _step, "memory": _memory}


def _notes(report: Mapping[str, Any]) -> Iterator[str]:
    if report["bench"] == "rebuild":
        for distribution, result in report["results"].items():
            each = result["nanoseconds_per_weight_and_seed"]
            yield f"A rebuild with {distribution} takes {each:.4f} ns for each weight and seed."
        yield (
            f"The published loop was timed over {report['reference_seeds']} seeds"
            f" and scaled to all of them; {_threads(report['reference_threads'])} did it best."
        )
    if report["quiet"] is False:
        yield warning(report)


def _threads(number: int) -> str:
    return "1 thread" if number == 1 else f"{number:,} threads"


def _seconds_in_words(seconds: float) -> str:
    """Return a duration with three significant digits."""
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if seconds >= size * 0.9995:
            return f"{_number(seconds / size)} {unit}"
    return f"{_number(seconds * 1e6)} us"


def _number(number: float) -> str:
    """Return a number with three significant digits, or all those before the point."""
    decimals = sum(number < limit for limit in (0.09995, 0.9995, 9.995, 99.95))
    return f"{number:,.{decimals}f}"
