"""What a summary.json of schema 1 has to look like to be believed, and a line of rounds.jsonl.

Not every key is shown by a report. But each of these is written by every run, so a file that lacks
one, or has something else there, was not left by a run as it stands, and all of it is in doubt.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

_NUMBER: Final = (int, float)
_COUNTS: Final = [int]

SUMMARY: Final[dict[str, Any]] = {
    "schema": int,
    "engine": str,
    "method": str,
    "peers": int,
    "rounds": int,
    "local_steps": int,
    "topology": {"name": str, "nodes": int, "edges": int, "diameter": int},
    "model": ({"name": str, "parameters": int, "dtype": str}, None),
    "data": ({"rows_per_peer": _COUNTS, "eval_rows": int, "unusable_rows": int}, None),
    "eval_loss": (
        {
            "initial": (*_NUMBER, None),
            "final": (*_NUMBER, None),
            "per_round": [(*_NUMBER, None)],
        },
        None,
    ),
    "digests": {"accumulator": [str], "model": ([str], None), "all_equal": bool},
    "entries": {"published": int, "received_per_peer": _COUNTS},
    "rejected_messages": int,
    "liars": [{"peer": int, "named_by": _COUNTS, "reasons": [str]}],
    "skipped_steps": int,
    "missing_peers": _COUNTS,
    "absent_peers": _COUNTS,
    "timeouts_fired": int,
    "faults": {
        "crashes": int,
        "restarts": int,
        "joins": int,
        "leaves": int,
        "evictions": int,
        "partitions": int,
        "holds": int,
        "exit_signals": _COUNTS,
    },
    "bytes": {
        "payload_total": int,
        "control_total": int,
        "framing_total": int,
        "handshake_total": int,
        "wire_total": int,
        "per_peer_round_mean": _NUMBER,
        "lower_bound_payload_total": int,
        "redundancy": (*_NUMBER, None),
    },
    "seconds": {"wall": _NUMBER, "local_steps": _NUMBER, "rebuild": _NUMBER, "evaluation": _NUMBER},
    "peak_memory_bytes": int,
}
"""A type; a dictionary with at least these keys; [a shape of all items]; or (any of these)."""

ROUND: Final[dict[str, Any]] = {
    "round": int,
    "eval_loss": (*_NUMBER, None),
    "train_loss": (*_NUMBER, None),
    "skipped_steps": int,
    "payload_bytes": int,
    "control_bytes": int,
    "wire_bytes": int,
    "accumulator": str,
}
"""The same of a line of rounds.jsonl."""

_ENDS: Final = {"initial": (*_NUMBER, None), "final": (*_NUMBER, None)}

LATER_SUMMARY: Final[dict[str, Any]] = {
    "rouge_l": (_ENDS, None),
    "aggregation": str,
    "local_epochs": int,
    "consensus": {
        "distance": _NUMBER,
        "relative": (*_NUMBER, None),
        "per_round": [_NUMBER],
    },
    "rebuild": {"perturbations": [(int, None)], "seconds": [(*_NUMBER, None)]},
    "cluster": {"workers": int, "nodes": int, "lost": int},
    "tasks": [{"task": str, "rows": int, "loss": _ENDS, "rouge_l": (_ENDS, None)}],
}
"""The same of keys that runs of earlier versions have not written."""

LATER_ROUND: Final[dict[str, Any]] = {
    "rouge_l": (*_NUMBER, None),
    "consensus_distance": (*_NUMBER, None),
    "consensus_relative": (*_NUMBER, None),
    "perturbations": (int, None),
}
"""The same of a line of rounds.jsonl."""


def misfit(value: Any, shape: Any, where: str = "") -> str | None:
    """Return where a value is not of a shape, as the path of its key; None: it is."""
    if isinstance(shape, dict):
        if not isinstance(value, dict):
            return where
        paths = {key: f"{where}.{key}" if where else key for key in shape}
        wrong = (
            misfit(value[key], inner, paths[key]) if key in value else paths[key]
            for key, inner in shape.items()
        )
        return next((path for path in wrong if path is not None), None)
    if isinstance(shape, list):
        if not isinstance(value, list):
            return where
        return next((where for item in value if misfit(item, shape[0], where) is not None), None)
    if isinstance(shape, tuple):
        found = [misfit(value, one, where) for one in shape]
        # The nearest to what was meant: the one that looked the deepest.
        return None if None in found else max((path or "" for path in found), key=len)
    return None if value is shape or type(value) is shape else where


def misfit_if_there(value: Mapping[str, Any], shape: Mapping[str, Any]) -> str | None:
    """Return what `misfit` does, but let keys be missing."""
    return misfit(value, {key: inner for key, inner in shape.items() if key in value})
