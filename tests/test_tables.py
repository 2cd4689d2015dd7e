"""Tables as text."""

from __future__ import annotations

from sim.tables import aligned, labelled, rows_csv


def test_columns_are_as_wide_as_their_widest_cell() -> None:
    rows = [("name", "bytes"), ("ring", "7"), ("torus", "1,234")]
    assert aligned(rows) == ["name   bytes", "ring   7", "torus  1,234"]
    assert aligned(rows, [False, True]) == ["name   bytes", "ring       7", "torus  1,234"]
    assert aligned([("", "a"), ("", "bb")], [True, True]) == ["   a", "  bb"]


def test_labels_stand_above_each_other() -> None:
    assert labelled([("run", "one"), ("", "more"), ("time", "two")]) == (
        "run   one\n      more\ntime  two"
    )


def test_what_is_not_known_is_an_empty_cell() -> None:
    rows = [{"a": 1, "b": None}, {"a": "x, y", "b": 2.5}]
    assert rows_csv(rows) == 'a,b\n1,\n"x, y",2.5\n'
    assert rows_csv([]) == "\n"
