"""A peer's status out of bytes that may have come from anybody: with limits, and by its shape."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, Final

from peer.errors import in_one_line
from peer.participant import Phase
from peer.status import SCHEMA, Accusation, NeighbourStatus, PeerStatus
from sim.schema import misfit

LARGEST: Final = 2**53
"""The most that a number may be: what JSON's readers agree on, and more than any count here."""

LONGEST: Final = 200
"""Characters of a text."""

_NUMBER: Final = (int, float)

STATUS: Final[dict[str, Any]] = {
    "schema": int,
    "peer": int,
    "peers": int,
    "method": str,
    "topology": str,
    "agreement": str,
    "phase": str,
    "round": int,
    "rounds": int,
    "digest": str,
    "cut_round": (int, None),
    "loss": (*_NUMBER, None),
    "held": int,
    "received": int,
    "timeouts": int,
    "rejected": int,
    "garbage": int,
    "dropped": int,
    "accused": [{"peer": int, "reason": str}],
    "waiting_for": [int],
    "started_at": _NUMBER,
    "now": _NUMBER,
    "peak_memory_bytes": int,
    "neighbours": [
        {
            "peer": int,
            "reached": bool,
            "open": bool,
            "banned": bool,
            "silent_seconds": (*_NUMBER, None),
            "payload_messages": int,
            "payload_bytes": int,
            "control_messages": int,
            "control_bytes": int,
            "framing_bytes": int,
            "handshake_bytes": int,
        }
    ],
}
"""What it has to look like; see `sim.schema`."""


class NotAStatus(Exception):
    """Bytes that are no status of a peer; why, in one line."""


def read_status(data: bytes) -> PeerStatus:
    """Return the status that these bytes are; what is in it beyond that is left out.

    Raises:
        NotAStatus: they are none.
    """
    try:
        values = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise NotAStatus(f"no JSON: {in_one_line(error)}") from None
    wrong = misfit(values, STATUS)
    if wrong is not None:
        raise NotAStatus(f"no status: {wrong or 'it is no object'} is missing or misshapen")
    if values["schema"] != SCHEMA:
        raise NotAStatus(f"no status of schema {SCHEMA}")
    try:
        _check(values, STATUS)
    except ValueError as error:
        raise NotAStatus(f"no status: {error}") from None
    return PeerStatus(
        **{
            **{name: values[name] for name in STATUS},
            "accused": tuple(_made(Accusation, one) for one in values["accused"]),
            "waiting_for": tuple(values["waiting_for"]),
            "neighbours": tuple(_made(NeighbourStatus, one) for one in values["neighbours"]),
        }
    )


def _check(values: Mapping[str, Any], shape: Mapping[str, Any]) -> None:
    """Refuse numbers and texts that no peer would tell, and that would not fit on a line.

    Raises:
        ValueError: there is one; where.
    """
    for name in shape:
        value = values[name]
        for item in value if isinstance(value, list) else (value,):
            if isinstance(item, dict):
                _check(item, shape[name][0])
            elif isinstance(item, str):
                if len(item) > LONGEST:
                    raise ValueError(f"{name} is too long")
            elif item is not None and not _plausible(item, signed=name == "loss"):
                raise ValueError(f"{name} is out of range")
    if "phase" in shape:
        _check_meaning(values)


def _plausible(number: float, *, signed: bool) -> bool:
    # Whole numbers may have thousands of digits, which no float has.
    return (-LARGEST if signed else 0) <= number <= LARGEST and math.isfinite(number)


def _check_meaning(values: Mapping[str, Any]) -> None:
    if values["phase"] not in set(Phase):
        raise ValueError("phase is none")
    try:
        bytes.fromhex(values["digest"] + values["agreement"])
    except ValueError:
        raise ValueError("digest or agreement is not hexadecimal") from None
    neighbours = [one["peer"] for one in values["neighbours"]]
    if neighbours != sorted(set(neighbours)):
        raise ValueError("neighbours are not in order")


def _made(type_: Any, values: Mapping[str, Any]) -> Any:
    return type_(**{item.name: values[item.name] for item in fields(type_)})
