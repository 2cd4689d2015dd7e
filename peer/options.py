"""What an option is: its declaration as a field of a dataclass, and what that allows."""

from __future__ import annotations

from dataclasses import Field, field
from typing import Any, NoReturn

from peer.errors import UserError


def option(
    default: Any,
    help_: str,
    *,
    choices: tuple[Any, ...] = (),
    least: float | None = None,
    above: float | None = None,
    most: float | None = None,
    defines_run: bool = True,
    begins: str = "",
) -> Any:
    """Declare an option.

    Args:
        default: also gives its type.
        help_: what it is, in a few words.
        choices: all values that it may have, if they are few.
        least: the smallest number allowed.
        above: a number that it has to be above.
        most: the greatest number allowed.
        defines_run: whether a resumed run must have the same value.
        begins: the group of options that it is the first of.
    """
    limits = {"choices": choices, "least": least, "above": above, "most": most}
    about = {"help": help_, "defines_run": defines_run, "begins": begins}
    return field(default=default, metadata=about | limits)


def kind(item: Field[Any]) -> type:
    """Return an option's type: str, int, float or bool."""
    return type(item.default)


def allowed(item: Field[Any]) -> str:
    """Return in words which values an option may have."""
    limits = item.metadata
    if limits["choices"]:
        return "one of " + ", ".join(str(choice) for choice in limits["choices"])
    if kind(item) in (str, bool):
        return {str: "a text", bool: "true or false"}[kind(item)]
    bounds = [
        f"{word} {limits[key] if kind(item) is int else format(limits[key], 'g')}"
        for key, word in (("above", "above"), ("least", "at least"), ("most", "at most"))
        if limits[key] is not None
    ]
    noun = "a whole number" if kind(item) is int else "a number"
    return " ".join([noun, " and ".join(bounds)]).strip()


def refuse(key: str, value: Any, allowed_: str) -> NoReturn:
    """Raise the error that names a key, its value and what is allowed."""
    raise UserError(f"{key} = {shown(value)} is not allowed: {allowed_}")


def shown(value: Any) -> str:
    """Return a value as a message shows it."""
    try:
        return repr(value)
    except ValueError:
        return "a number of thousands of digits"


def check(item: Field[Any], value: Any) -> None:
    """Hold a value against its option's type and limits.

    Raises:
        UserError: it is not allowed.
    """
    limits = item.metadata
    right_type = type(value) is kind(item) or (kind(item) is float and type(value) is int)
    in_choices = not limits["choices"] or value in limits["choices"]
    if not right_type or not in_choices:
        refuse(item.name, value, f"must be {allowed(item)}")
    if kind(item) is str and any(c == "\0" or "\ud800" <= c <= "\udfff" for c in value):
        refuse(item.name, value, "must be a text without NUL and half surrogate pairs")
    if kind(item) in (int, float) and not in_range(item, value):
        refuse(item.name, value, f"must be {allowed(item)}")


def in_range(item: Field[Any], value: float) -> bool:
    """Return whether a number is within the limits of its option; NaN is not."""
    limits = item.metadata
    above = limits["above"] is None or value > limits["above"]
    least = limits["least"] is None or value >= limits["least"]
    most = limits["most"] is None or value <= limits["most"]
    return bool(above and least and most)
