"""Numbers, bytes, times, lists, engines and texts of others in words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

_MADE: Final[Mapping[str | None, str]] = {
    "sim": "simulated",
    "launch": "one process a peer",
    "peer": "one peer, started by hand",
    None: "by an engine that the folder does not tell",
}
"""How a run was made, by the engine of its summary or its folder."""

_BYTE_UNITS = ("B", "kB", "MB", "GB", "TB", "PB")
_SHOWN = 12
"""The most ranges of peers in a line."""


def made_in_words(engine: str | None, summary: Mapping[str, Any] | None) -> str:
    """Return how a run was made, by its engine and, if it has ended, its summary."""
    if engine != "sim" or summary is None:
        return _MADE[engine]
    where = "on a cluster" if "cluster" in summary else "in one process"
    return f"{_MADE[engine]} {where}"


def count(number: int, noun: str) -> str:
    """Return so many of them, in words."""
    return f"{number:,} {noun}{'s' * (number != 1)}"


def byte_unit(largest: float) -> tuple[str, int]:
    """Return a decimal unit for numbers of bytes up to `largest`, and how many bytes it is."""
    # Where three digits would round up to 1000, the next unit is taken.
    power = sum(largest >= 999.5 * 1000**power for power in range(len(_BYTE_UNITS) - 1))
    return _BYTE_UNITS[power], 1000**power


def bytes_in_words(number: float) -> str:
    """Return a number of bytes with three significant digits and a decimal unit."""
    unit, size = byte_unit(number)
    if size == 1:
        return f"{number:.0f} B"
    scaled = number / size
    decimals = sum(scaled < limit for limit in (9.995, 99.95))
    return f"{scaled:,.{decimals}f} {unit}"


def seconds_in_words(seconds: float) -> str:
    """Return a duration, the more coarsely the longer it is."""
    if seconds < 59.95:
        return f"{seconds:.2f} s" if seconds < 9.995 else f"{seconds:.1f} s"
    whole_minutes, rest = divmod(round(seconds), 60)
    if whole_minutes < 60:
        return f"{whole_minutes} min {rest:02d} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours:,} h {minutes:02d} min"


def ratio_in_words(ratio: float) -> str:
    """Return how many times as much something is, as a whole number where that is large."""
    return f"{ratio:,.0f}" if ratio >= 99.5 else f"{ratio:.2g}"


def rouge_in_words(value: float | None) -> str:
    """Return a Rouge-L in per cent, as papers print it; None: it is not known."""
    return "unknown" if value is None else f"{100 * value:.2f} %"


def ranges(peers: Iterable[int]) -> str:
    """Return numbers of peers in ascending order, neighbouring ones as a range: 0-3, 7."""
    runs: list[list[int]] = []
    for peer in sorted(set(peers)):
        if runs and peer == runs[-1][1] + 1:
            runs[-1][1] = peer
        else:
            runs.append([peer, peer])
    texts = [
        str(first) if first == last else f"{first}{', ' if last == first + 1 else '–'}{last}"
        for first, last in runs[:_SHOWN]
    ]
    rest = sum(last - first + 1 for first, last in runs[_SHOWN:])
    return ", ".join(texts) + (f" and {rest:,} more" if rest else "")


def which(peers: Iterable[int]) -> str:
    """Return peers by their numbers: peer 3, or peers 0-3, 7."""
    numbers = set(peers)
    return f"peer{'s' * (len(numbers) > 1)} {ranges(numbers)}"


def signed_change(before: float, after: float) -> str:
    """Return by how much a positive number has changed, in per cent."""
    if after == before:
        return "as before"
    return f"{100 * abs(after - before) / before:.1f} % {'lower' if after < before else 'higher'}"


def printable(text: str) -> str:
    """Return a text with escapes for what would break its line or change a terminal.

    Names of files may hold such signs, and so may whatever strangers say.
    """
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
