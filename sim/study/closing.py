"""The closing words of a study: what was computed, what it cost, and where it is."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sim.study.attempt import DONE, FAILED, IMPOSSIBLE, Outcome
from sim.study.conduct import Conducted
from sim.study.setting import PROTOCOL, Setting
from sim.tables import labelled
from sim.words import bytes_in_words, seconds_in_words

_REASONS_SHOWN = 5


def closing_words(
    conducted: Conducted,
    table: Sequence[dict[str, Any]],
    tables: Sequence[Path],
    figures: Sequence[Path],
    seconds: float,
) -> str:
    """Return the words, without a newline at the end.

    Args:
        conducted: the study.
        table: its rows.
        tables: the files that have them.
        figures: its pictures.
        seconds: what it took, this time.
    """
    study, done = conducted.study, [row for row in table if row["status"] == DONE]
    what = "the protocol alone" if study.measure == PROTOCOL else "whole runs"
    varied = " x ".join(f"{len(values)} {key}" for key, values in study.sweep.items())
    counted = f"{len(done):,} of {len(table):,} done"
    if conducted.before:
        counted += f", {conducted.before:,} of them before"
    rows = [("study", f"{study.name}, {what}"), ("varied", varied), ("settings", counted)]
    for status, label in ((IMPOSSIBLE, "not possible"), (FAILED, "failed")):
        rows += _reasons(label, conducted.having(status))
    if done:
        least, most = (of(done, key=_bytes) for of in (min, max))
        for label, row in (("least traffic", least), ("most traffic", most)):
            where = ", ".join(f"{key} = {row[key]}" for key in study.sweep)
            rows.append((label, f"{bytes_in_words(_bytes(row))} per peer and round: {where}"))
    rows += [("table" if not place else "", str(path)) for place, path in enumerate(tables)]
    if figures:
        rows.append(("pictures", f"{len(figures)} in {figures[0].parent}"))
    rows.append(("time", seconds_in_words(seconds)))
    return labelled(rows)


def _reasons(label: str, found: Sequence[tuple[Setting, Outcome]]) -> list[tuple[str, str]]:
    """Return a line for each reason, with the first setting that it holds for."""
    settings = defaultdict(list)
    for setting, outcome in found:
        settings[outcome.reason].append(setting.name)
    texts = [
        f"{len(names):,}: {reason} (with {names[0]}{' and others' * (len(names) > 1)})"
        for reason, names in settings.items()
    ]
    if len(texts) > _REASONS_SHOWN:
        texts[_REASONS_SHOWN:] = ["and others for other reasons, see the table"]
    return [(label if not place else "", text) for place, text in enumerate(texts)]


def _bytes(row: dict[str, Any]) -> float:
    number: float = row["bytes_per_peer_round"]
    return number
