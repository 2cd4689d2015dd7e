"""One record with named fields, from any source, made into an instruction row.

Data sets name the same three things differently. A record is read by the first family all of whose
fields it has; a family's context may be missing, provided no other family's field is there that
would then be ignored in silence.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from peer.errors import UserError


@dataclass(frozen=True)
class Row:
    """One example for instruction tuning. `context`, `category` and `task` may be empty."""

    instruction: str
    context: str
    response: str
    category: str
    task: str = ""
    """Finer than `category` where a source has both, as Natural Instructions does."""


@dataclass(frozen=True)
class Family:
    """The names under which one kind of data set keeps instruction, context and response."""

    instruction: str
    context: str | None
    response: str

    @property
    def required(self) -> frozenset[str]:
        """The fields without which a record is not of this family."""
        return frozenset((self.instruction, self.response))

    @property
    def fields(self) -> frozenset[str]:
        """All its fields."""
        return self.required | ({self.context} if self.context else frozenset())

    def __str__(self) -> str:
        return "/".join(
            name for name in (self.instruction, self.context, self.response) if name is not None
        )


FAMILIES = (
    Family("instruction", "context", "response"),
    Family("instruction", "input", "output"),
    Family("prompt", None, "completion"),
    Family("input", None, "output"),
)
CATEGORY_FIELDS = ("category", "task", "label")
"""Where a row's category is looked for; the first that holds text or a number counts."""

_RECOGNISED = frozenset().union(*(family.fields for family in FAMILIES))


def row_from_fields(fields: object, where: str) -> Row:
    """Return the row that a record stands for; its response may be blank.

    Args:
        fields: a mapping from field names to text, numbers or None.
        where: names the record in an error, e.g. "rows.jsonl, line 3".

    Raises:
        UserError: no mapping, no known family, or a field that is no text.
    """
    if not isinstance(fields, Mapping):
        raise UserError(f"{where}: {_kind(fields)} where an object with named fields is expected")
    family = _family(fields, where)
    return Row(
        instruction=_text(fields, family.instruction, where),
        context=_text(fields, family.context, where),
        response=_text(fields, family.response, where),
        category=next(filter(None, (_label(fields, name) for name in CATEGORY_FIELDS)), ""),
        task=_label(fields, "task"),
    )


def _family(fields: Mapping[str, object], where: str) -> Family:
    recognised = _RECOGNISED & fields.keys()
    for family in FAMILIES:
        if family.fields <= recognised:
            return family
    for family in FAMILIES:
        if family.required <= recognised <= family.fields:
            return family
    found = ", ".join(str(name) for name in fields) or "none"
    raise UserError(
        f"{where}: unknown fields: {found}; allowed: {', '.join(map(str, FAMILIES))}"
        " (context and the input beside an instruction may be missing)"
    )


def _text(fields: Mapping[str, object], name: str | None, where: str) -> str:
    value = None if name is None else fields.get(name)
    if value is None:
        return ""
    if isinstance(value, int | float):
        return str(value)
    if not isinstance(value, str):
        raise UserError(f"{where}: field {name!r} is {_kind(value)}; allowed: text or a number")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise UserError(f"{where}: field {name!r} holds half a surrogate pair, not text") from None
    return value


def _label(fields: Mapping[str, object], name: str) -> str:
    """Return a field as a label; one that holds anything but text or a number is no label."""
    value = fields.get(name)
    return str(value) if isinstance(value, str | int | float) else ""


def _kind(value: object) -> str:
    return f"a value of type {type(value).__name__}"
