"""Numbers and lists in words."""

from __future__ import annotations

from collections.abc import Iterable

_SHOWN = 12
"""The most ranges of peers in a line."""


def count(number: int, noun: str) -> str:
    """Return so many of them, in words."""
    return f"{number:,} {noun}{'s' * (number != 1)}"


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
