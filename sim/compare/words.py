"""The words that a comparison ends with: the table, and what there is to say about it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from sim.compare.conduct import Conducted
from sim.compare.definition import Contender
from sim.compare.table import Row, equal_to_twins, target_loss
from sim.study.attempt import DONE
from sim.study.whole_run import was_resumed
from sim.tables import aligned, labelled
from sim.words import bytes_in_words, count, seconds_in_words

_UNKNOWN = "–"


def closing_words(
    conducted: Conducted, table: Sequence[Row], written: Sequence[Path], seconds: float
) -> str:
    """Return the words, without a newline at the end.

    Args:
        conducted: the comparison.
        table: its rows.
        written: the files of table and figure.
        seconds: what it took, this time.
    """
    return "\n".join([*_table(table), "", labelled(_below(conducted, written, seconds))])


def _table(table: Sequence[Row]) -> list[str]:
    rouge = any(row["rouge_l_final"] is not None for row in table)
    reach = any(row["rounds_to_reach"] is not None for row in table)
    head = ["method", "loss before", "loss after", *["Rouge-L"] * rouge, "bytes"]
    head += ["rounds", *["to reach"] * reach, "wall", "local steps", "memory", "digests"]
    cells = [head]
    for row in table:
        line = [
            Contender(row["method"], row["server"]).title,
            _number(row, "eval_loss_initial", 4),
            _number(row, "eval_loss_final", 4),
            *[_number(row, "rouge_l_final", 4)] * rouge,
            _said(row["bytes_per_peer_round"], bytes_in_words),
            _said(row["rounds"], str),
            *[_said(row["rounds_to_reach"], str)] * reach,
            _said(row["wall_seconds"], seconds_in_words),
            _said(row["local_step_seconds"], seconds_in_words),
            _said(row["peak_memory_bytes"], bytes_in_words),
            _agreement(row),
        ]
        cells.append(line)
    return aligned(cells, [False, *[True] * (len(head) - 2), False])


def _number(row: Row, name: str, digits: int) -> str:
    mean, deviation = row[name], row[f"{name}_sd"]
    if mean is None:
        return _UNKNOWN
    spread = "" if deviation is None else f" ± {deviation:.{digits}f}"
    return f"{mean:.{digits}f}{spread}"


def _said(value: Any, words: Callable[[Any], str]) -> str:
    return _UNKNOWN if value is None else words(value)


def _agreement(row: Row) -> str:
    if row["digests_equal"]:
        return "equal"
    if row["consensus_relative"] is not None:
        return f"distance {row['consensus_relative']:.2g}"
    return _UNKNOWN if row["digests_equal"] is None else "differ"


def _below(conducted: Conducted, written: Sequence[Path], seconds: float) -> list[tuple[str, str]]:
    comparison = conducted.comparison
    over = "one seed each"
    if comparison.seeds > 1:
        over = f"means over {comparison.seeds} seeds, ± their standard deviation (n - 1)"
    lines = [
        ("spread", over),
        ("bytes", "per peer and round, sent plus received; memory is the greatest of the runs"),
    ]
    target = target_loss(conducted)
    if target is not None:
        text = f"rounds until the mean loss is at most FedKSeed's in the end, {target:.4f}"
        lines.append(("to reach", text))
    for method, equal in equal_to_twins(conducted).items():
        lines.append(("twin", _twin(Contender(method).title, comparison.seeds, equal)))
    pairs = list(zip(comparison.runs, conducted.outcomes, strict=True))
    for run, outcome in pairs:
        if outcome.status != DONE:
            lines.append((outcome.status, f"{run.name}: {outcome.reason}"))
    resumed = sum(
        outcome.status == DONE and was_resumed(conducted.folder.of_run(run))
        for run, outcome in pairs
    )
    if resumed:
        text = "interrupted: their times and memory are those of their last part"
        lines.append(("resumed", f"{count(resumed, 'run')} had been {text}"))
    lines += [("table" if not place else "", str(path)) for place, path in enumerate(written)]
    lines.append(("time", seconds_in_words(seconds)))
    return lines


def _twin(name: str, seeds: int, equal: bool) -> str:
    for_all = f"for {'each of ' * (seeds > 1)}{count(seeds, 'seed')}"
    if equal:
        return f"{name} ends with the digests of its twin with a server, {for_all}"
    return f"{name} does NOT end with the digests of its twin with a server"
