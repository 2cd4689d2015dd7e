"""The papers' tables: what they print, beside what the formulas give."""

import re
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peer.errors import UserError
from sim.volume.papers import PAPERS, _like, paper_table, printed_value
from sim.volume.table import WIDTH, paper_in_words, paper_json, rows_csv


def figures(name):
    """(approach, model, quantity) -> row."""
    rows = paper_table(name).rows
    found = {(row["approach"], row["model"], row["quantity"]): row for row in rows}
    assert len(found) == len(rows)
    return found


@pytest.mark.parametrize(
    ("approach", "model", "printed", "count"),
    [
        ("FedKSeed", "DataJuicer-1.3B", "17,988 Bytes", 17_988),
        ("FedKSeed", "LLaMA-3B", "17,988 Bytes", 17_988),
        ("FedKSeed-Pro", "DataJuicer-1.3B", "9,796 Bytes", 9_796),
        ("FedKSeed-Pro", "LLaMA-3B", "17,988 Bytes", 17_988),
        ("FedPTuning", "DataJuicer-1.3B", "96.36 MB", 101_040_128),
        ("FedPTuning", "LLaMA-3B", "234.94 MB", 246_348_800),
        ("FedPrompt", "DataJuicer-1.3B", "320.0 KB", 327_680),
        ("FedPrompt", "LLaMA-3B", "500.0 KB", 512_000),
        ("FedIT", "DataJuicer-1.3B", "12.00 MB", 12_582_912),
        ("FedIT", "LLaMA-3B", "20.31 MB", 21_299_200),
        ("FedIT-SGD", "DataJuicer-1.3B", "12.00 MB", 12_582_912),
        ("FedIT-SGD", "LLaMA-3B", "20.31 MB", 21_299_200),
    ],
)
def test_fedkseeds_communication_to_the_byte_or_the_printed_digit(approach, model, printed, count):
    row = figures("fedkseed-table3")[approach, model, "communication"]
    assert (row["printed"], row["ours"], row["count"]) == (printed, printed, count)
    assert row["difference"] == 0


@pytest.mark.parametrize(
    ("model", "printed"),
    [
        ("DataJuicer-1.3B", ["12.63 M", "40.96 K", "1.57 M", "1.57 M", "1.35 B", "1.35 B"]),
        ("LLaMA-3B", ["30.79 M", "64.00 K", "2.66 M", "2.66 M", "3.43 B", "3.43 B"]),
    ],
)
def test_fedkseeds_trainable_parameters_to_the_printed_digit(model, printed):
    rows = [
        row
        for row in paper_table("fedkseed-table3").rows
        if (row["model"], row["quantity"]) == (model, "trainable parameters")
    ]
    assert [row["printed"] for row in rows] == printed
    assert [row["ours"] for row in rows] == printed


@pytest.mark.parametrize(
    ("approach", "a_round", "run", "count", "exact"),
    [
        ("FedZO", "6.0e9", "2.4e11", 6_000_000_000, 6_852_947_200),
        ("FedKSeed", "8.2e3", "3.2e5", 8_192, 4_497),
        ("FedAvg", "6.0e9", "7.2e10", 6_000_000_000, 6_852_947_200),
        ("Ferret", "7.8e3", "9.4e4", 7_800, None),
    ],
)
def test_ferrets_communication_to_the_printed_digits(approach, a_round, run, count, exact):
    rows = figures("ferret-table3")
    one = rows[approach, "LLaMA-3B", "numbers a round"]
    whole = rows[approach, "LLaMA-3B", "numbers a run"]
    rounds = 40 if approach in ("FedZO", "FedKSeed") else 12
    assert (one["printed"], one["ours"], one["count"]) == (a_round, a_round, count)
    assert (whole["printed"], whole["ours"], whole["count"]) == (run, run, rounds * count)
    assert one["exact"] == exact
    assert whole["exact"] == (exact and rounds * exact)
    assert one["difference"] == whole["difference"] == 0


def test_one_figure_alone_is_cut_and_rounding_would_not_give_it():
    cut = [row for name in PAPERS for row in paper_table(name).rows if row["rounding"] == "cut"]
    assert [(row["approach"], row["printed"]) for row in cut] == [("FedKSeed", "3.2e5")]
    # Whatever rounds to 8.2e3 a round rounds to 3.3e5 in 40 of them.
    assert {_like("3.2e5", 40 * n) for n in range(8_150, 8_250)} == {"3.3e5"}
    assert _like("8.2e3", 8_149) == "8.1e3"
    assert _like("8.2e3", 8_250) == "8.3e3"


def test_what_is_said_of_ferrets_coordinates_holds():
    # All sums of K_l that both figures allow: 194 blocks of 20 are not among them.
    allowed = [
        k
        for k in range(3_000, 5_000)
        if (_like("7.8e3", 2 * k), _like("9.4e4", 24 * k)) == ("7.8e3", "9.4e4")
    ]
    assert allowed == list(range(3_896, 3_925))
    assert _like("9.4e4", 24 * 194 * 20) == "9.3e4"


def test_every_figure_that_does_not_follow_from_the_papers_setting_says_so():
    for name in PAPERS:
        for row in paper_table(name).rows:
            differs = row["exact"] is not None or row["rounding"] == "cut"
            assert bool(row["note"]) >= differs, row
    notes = {key[0]: row["note"] for key, row in figures("ferret-table3").items() if row["note"]}
    assert notes.keys() == {"FedZO", "FedKSeed", "FedAvg", "Ferret"}


def test_the_formula_that_ferret_prints_for_a_run_gives_twice_what_it_prints():
    for (_, _, quantity), row in figures("ferret-table3").items():
        if quantity == "numbers a run":
            assert printed_value(_like(row["printed"], 2 * row["count"])) > 1.9 * float(
                printed_value(row["printed"])
            )
    assert any("2 x Per-Round x R" in note for note in paper_table("ferret-table3").notes)


def test_what_was_measured_is_theirs_alone_and_ferrets_sums_are_right():
    rows = figures("ferret-table3")
    for approach, rounds in (("FedZO", 40), ("FedKSeed", 40), ("FedAvg", 12), ("Ferret", 12)):
        local, aggregation, overall = (
            rows[approach, "LLaMA-3B", quantity]
            for quantity in ("local update, s", "global aggregation, s", "overall, s")
        )
        seconds = rounds * (Decimal(local["printed"]) + Decimal(aggregation["printed"]))
        mantissa, _, exponent = overall["printed"].partition("e")
        scaled = seconds / 10 ** int(exponent or 0)
        assert scaled.quantize(Decimal(mantissa)) == Decimal(mantissa)
        assert {local["ours"], aggregation["ours"], overall["ours"]} == {None}
    measured = [
        row["quantity"] for row in paper_table("fedkseed-table3").rows if row["ours"] is None
    ]
    assert set(measured) == {"GPU memory", "seconds a step"}
    assert len(measured) == 24


@pytest.mark.parametrize(
    ("printed", "number", "text"),
    [
        ("96.36 MB", 101_040_128, "96.36 MB"),
        ("96.36 MB", 2**20, "1.00 MB"),
        ("17,988 Bytes", 1234567, "1,234,567 Bytes"),
        ("6.0e9", 6_050_000_000, "6.1e9"),
        ("40.96 K", 40_960, "40.96 K"),
    ],
)
def test_a_number_is_written_as_the_figure_is_printed(printed, number, text):
    assert _like(printed, number) == text


@given(st.integers(0, 10**13))
def test_cutting_never_rounds_up_and_is_less_than_a_digit_away(number):
    cut = printed_value(_like("3.2e5", number, "cut"))
    assert cut <= number < cut + 10**4


@pytest.mark.parametrize("name", ["ferret-table2", "fedkseed", "", "nothing\nlike it"])
def test_an_unknown_paper_is_told_with_those_there_are(name):
    with pytest.raises(UserError, match="there are fedkseed-table3, ferret-table3") as caught:
        paper_table(name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", PAPERS)
def test_the_table_for_people_shows_every_figure_and_fits(name):
    table = paper_table(name.upper())
    text = paper_in_words(table)
    assert max(map(len, text.splitlines())) <= WIDTH
    for row in table.rows:
        ours = re.escape(row["ours"] or "")
        ours += r" \(cut\)\s" if row["rounding"] == "cut" else r"\s"
        pattern = rf"{row['approach']} .*{re.escape(row['quantity'])} +{row['printed']} +{ours}"
        assert re.search(pattern, text) or row["ours"] is None, row
    for row in table.rows:
        assert " ".join(row["note"].split()) in " ".join(text.split())


@pytest.mark.parametrize("name", PAPERS)
def test_json_and_csv_hold_all_rows(name):
    table = paper_table(name)
    assert paper_json(table)["rows"] == list(table.rows)
    lines = rows_csv(table.rows).splitlines()
    assert len(lines) == 1 + len(table.rows)
    assert lines[0].startswith("approach,model,quantity,printed,ours")
