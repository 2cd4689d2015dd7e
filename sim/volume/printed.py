"""A figure that a paper prints beside ours, to as many digits, in its own unit.

The row of a figure:

    approach, model, quantity    where it is printed
    printed                      as it is
    ours                         by the paper's own counting, to as many digits; None where they
                                 measured
    rounding                     half up, or cut
    difference                   ours less printed, in the printed unit
    count                        ours in full, numbers or bytes
    exact                        by what the systems and models really are, where that is another
                                 number
    exact_difference_percent     of exact, or else of count, from what is printed
    note                         why the printed figure does not follow from the paper's setting,
                                 if so
"""

from __future__ import annotations

import re
from decimal import ROUND_DOWN, ROUND_HALF_UP, Decimal
from typing import Any, Final

_PRINTED: Final = re.compile(r"([0-9][0-9,]*(?:\.[0-9]+)?)(?:e([0-9]+))?(?: ([A-Za-z]+))?")
_UNITS: Final = {"K": 10**3, "M": 10**6, "B": 10**9, "Bytes": 1, "KB": 2**10, "MB": 2**20}


def printed_value(printed: str) -> Decimal:
    """Return the number that a printed figure is, in numbers or bytes: 12.00 MB is 12,582,912."""
    mantissa, unit = _parts(printed)
    return mantissa * unit


def _parts(printed: str) -> tuple[Decimal, int]:
    found = _PRINTED.fullmatch(printed)
    assert found is not None, printed
    number, exponent, unit = found.groups()
    return Decimal(number.replace(",", "")), 10 ** int(exponent or 0) * _UNITS.get(unit or "", 1)


def like(printed: str, number: int, rounding: str = "half up") -> str:
    """Return a number as the figure is printed: with its digits, exponent and unit.

    Args:
        printed: the figure.
        number: in numbers or bytes.
        rounding: half up, or cut.
    """
    mantissa, unit = _parts(printed)
    how = ROUND_DOWN if rounding == "cut" else ROUND_HALF_UP
    rounded = (Decimal(number) / unit).quantize(mantissa, rounding=how)
    found = _PRINTED.fullmatch(printed)
    assert found is not None
    return f"{rounded:,}" + printed[found.end(1) :]


def figure(
    approach: str,
    model: str,
    quantity: str,
    printed: str,
    count: int | None,
    *,
    exact: int | None = None,
    rounding: str = "half up",
    note: str = "",
) -> dict[str, Any]:
    """Return the row of a printed figure; the module's legend says what is in it.

    Args:
        approach: see the legend, as are those that are not here.
        model: of which it is printed.
        quantity: what it is.
        printed: as it is.
        count: ours; None: they measured.
        exact: by what systems and models really are, where that is another number.
        rounding: half up, or cut.
        note: why it does not follow from the paper's setting, if so.
    """
    row: dict[str, Any] = {
        "approach": approach,
        "model": model,
        "quantity": quantity,
        "printed": printed,
        "ours": None,
        "rounding": None,
        "difference": None,
        "count": count,
        "exact": exact,
        "exact_difference_percent": None,
        "note": note,
    }
    if count is None:
        return row
    row["rounding"] = rounding
    row["ours"] = like(printed, count, rounding)
    row["difference"] = float(_parts(row["ours"])[0] - _parts(printed)[0])
    theirs = printed_value(printed)
    best = Decimal(count if exact is None else exact)
    row["exact_difference_percent"] = round(float((best - theirs) / theirs * 100), 3)
    return row
