"""Rows of systems and of papers' tables for people, and as JSON."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any, Final

from sim.tables import aligned
from sim.volume.papers import PaperTable
from sim.volume.setting import Setting
from sim.words import bytes_in_words

WIDTH: Final = 118
"""Of lines for people, in characters."""

_EXACT_BELOW: Final = 10**6
_UNKNOWN: Final = "?"


def systems_in_words(setting: Setting, rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the rows of `sim.volume.systems` as text, without a newline at the end.

    Bytes below a megabyte are exact.
    """
    served = [row for row in rows if row["via"] == "server"]
    spread = [row for row in rows if row["via"] == "gossip" and row["round_sends"] is not None]
    lines = [*_setting_in_words(setting), ""]
    if served:
        lines += [
            "With a server: bytes of an active client, of a mean peer and its link, and of all",
            *_aligned(_SERVER, served),
            "",
        ]
    if spread:
        lines += [
            "Without a server: bytes of a mean peer (sent plus received), a mean link, and all",
            *_aligned(_GOSSIP, spread),
            "",
        ]
    lines += [
        "latest: multiply-adds to obtain the latest model. memory: at least, without activations.",
        *_notes(rows),
    ]
    return "\n".join(lines)


def systems_json(setting: Setting, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return what `--json` prints: the setting, and the rows as they are."""
    plain = asdict(setting)
    # One number for each peer would be most of what is printed.
    del plain["subtrees"]
    return {"setting": plain, "rows": [dict(row) for row in rows]}


def paper_in_words(table: PaperTable) -> str:
    """Return a paper's table beside ours as text, without a newline at the end."""
    known = [row for row in table.rows if row["ours"] is not None]
    theirs = [row for row in table.rows if row["ours"] is None]
    numbers: dict[str, int] = {}
    for row in known:
        if row["note"]:
            numbers.setdefault(row["note"], len(numbers) + 1)
    columns: _Columns = (
        *_PLACE,
        ("ours", lambda row: row["ours"] + (" (cut)" if row["rounding"] == "cut" else "")),
        ("difference", lambda row: f"{row['difference']:g}"),
        ("in full", lambda row: f"{row['count']:,}"),
        ("exactly", lambda row: "" if row["exact"] is None else f"{row['exact']:,}"),
        ("note", lambda row: f"[{numbers[row['note']]}]" if row["note"] else ""),
    )
    lines = [table.title, *_aligned(columns, known), ""]
    lines += ["Measured by the authors, none of ours:", *_aligned(_PLACE, theirs), ""]
    for note, number in numbers.items():
        lines += _wrapped(f"[{number}] {note}.")
    for note in table.notes:
        lines += _wrapped(note)
    return "\n".join(lines)


def paper_json(table: PaperTable) -> dict[str, Any]:
    """Return what `--json` prints of a paper's table."""
    return {
        "paper": table.name,
        "title": table.title,
        "rows": [dict(row) for row in table.rows],
        "notes": list(table.notes),
    }


def comparison_in_words(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the rows of `sim.volume.comparison` as text, without a newline at the end."""
    return "\n".join([*_aligned(_COMPARISON, rows), "", *_wrapped(_MODELS)])


_Columns = Sequence[tuple[str, Callable[[Mapping[str, Any]], str]]]


def _bytes(number: float | None) -> str:
    """Return bytes exactly below a megabyte, else with three digits."""
    if number is None:
        return _UNKNOWN
    if number >= _EXACT_BELOW:
        return bytes_in_words(number)
    return f"{number:,} B" if isinstance(number, int) else f"{number:,.1f} B"


def _count(number: int) -> str:
    return f"{number:,}" if number < _EXACT_BELOW else f"{number:.2e}"


def _number(number: float) -> str:
    return f"{number:,}" if isinstance(number, int) else f"{number:,.3f} s"


def _work(number: float | None) -> str:
    if number is None:
        return _UNKNOWN
    return "download" if number == 0 else f"{number:.2e}"


_SERVER: Final[_Columns] = (
    ("system", lambda row: row["system"]),
    ("up", lambda row: _bytes(row["up_bytes"])),
    ("down", lambda row: _bytes(row["down_bytes"])),
    ("peer, link", lambda row: _bytes(row["peer_round_bytes"])),
    ("round", lambda row: _bytes(row["round_bytes"])),
    ("run", lambda row: _bytes(row["run_bytes"])),
    ("sends a round", lambda row: _count(row["round_sends"])),
    ("latest", lambda row: _work(row["latest_multiply_adds"])),
    ("memory", lambda row: _bytes(row["memory_bytes"])),
)
_GOSSIP: Final[_Columns] = (
    ("system", lambda row: row["system"]),
    ("how", lambda row: row["how"]),
    ("peer", lambda row: _bytes(row["peer_round_bytes"])),
    ("link", lambda row: _bytes(row["edge_round_bytes"])),
    ("round", lambda row: _bytes(row["round_bytes"])),
    ("run", lambda row: _bytes(row["run_bytes"])),
    ("sends a round", lambda row: _count(row["round_sends"])),
    ("latest", lambda row: _work(row["latest_multiply_adds"])),
    ("memory", lambda row: _bytes(row["memory_bytes"])),
)
_COMPARISON: Final[_Columns] = (
    ("gossip", lambda row: row["gossip"]),
    ("what", lambda row: row["what"].replace("_", " ")),
    ("predicted", lambda row: _number(row["predicted"])),
    ("measured", lambda row: _number(row["measured"])),
    ("error", lambda row: f"{100 * row['error']:.2f} %" if row["error"] else "0"),
    ("model", lambda row: row["model"]),
)
_MODELS: Final = (
    "exact: has to be equal. times: follows from when entries come, and differs where two events "
    "fall on one instant. rough: of disturbed or slow links; greetings, digests and farewells "
    "alone; and anti-entropy's messages, which carry several entries each, one by one."
)
_PLACE: Final[_Columns] = (
    ("approach", lambda row: row["approach"]),
    ("model", lambda row: row["model"]),
    ("quantity", lambda row: row["quantity"]),
    ("printed", lambda row: row["printed"]),
)


def _aligned(columns: _Columns, rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return a table's lines: texts to the left, numbers to the right, empty columns left out."""
    made = [(title, [cell(row) for row in rows]) for title, cell in columns]
    shown = [(title, cells) for title, cells in made if any(cells)]
    right = [
        all(not c or c[0] in "-?0123456789" or c == "download" for c in cells) for _, cells in shown
    ]
    lines = zip(*([title, *cells] for title, cells in shown), strict=True)
    return aligned(list(lines), right)


def _setting_in_words(setting: Setting) -> list[str]:
    model = setting.model
    return [
        f"{model.name}: {model.parameters:,} parameters of {setting.weight_bytes} bytes; "
        f"{setting.peers:,} peers, {setting.active:,} of them active in a round; "
        f"{setting.rounds:,} rounds,",
        f"tau = {setting.local_steps:,}, K = {setting.candidate_seeds:,}; "
        f"{setting.edges:,} links, gossip {setting.gossip}",
    ]


def _notes(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Yield what is to be known of each system, once: its source, reasons and assumptions."""
    for system in dict.fromkeys(row["system"] for row in rows):
        mine = [row for row in rows if row["system"] == system]
        parts = [mine[0]["title"], f"sends {mine[0]['sent']} ({mine[0]['source']})"]
        reasons = [row["how"] for row in mine if row["round_sends"] is None]
        parts += [f"not without a server: {reason}" for reason in reasons]
        if mine[0]["note"]:
            parts.append(mine[0]["note"])
        yield from _wrapped("; ".join(parts) + ".")


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, subsequent_indent="    ")
