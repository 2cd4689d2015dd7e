"""Prediction and measurement side by side, for every way of spreading entries, or weights.

A row is a plain dictionary, the same for tables, JSON and CSV:

    gossip                 flood, tree or antientropy; where weights are averaged, averaging or
                           server, as `aggregation` says
    what                   an attribute of `Bytes`
    predicted, measured    the two numbers
    error                  (predicted - measured) / measured
    model                  `exact`: the two have to be equal; `times`: they follow from the times at
                           which entries come, and differ where two events fall on one instant;
                           `rough`: disturbed or slow links, or control is only greetings, digests
                           and farewells, or several entries in a message count one by one
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Final

from peer.config import Experiment
from peer.dissemination import MODES
from sim.volume.measured import measure
from sim.volume.prediction import Bytes, predict

_PAYLOAD: Final = ("payload_messages", "payload_bytes", "payload_framing_bytes")
_CONTROL: Final = ("control_messages", "control_bytes", "control_framing_bytes", "wire_bytes")
_TIMES: Final = ("seconds_to_last", "most_seconds_to_last", "ended_at")


def compare(experiment: Experiment) -> Iterator[list[dict[str, Any]]]:
    """Walk the rows of each mode; each is predicted and then run, which may take long.

    Args:
        experiment: the setting; its own mode is one of those compared.

    Raises:
        UserError, TopologyError: as the run itself would.
    """
    for way, wanted in ways(experiment).items():
        yield _rows(way, wanted, predict(wanted), measure(wanted))


def ways(experiment: Experiment) -> dict[str, Experiment]:
    """Return the experiment in each way of spreading that its method has, by name."""
    if experiment.averages:
        server = experiment.aggregation == "server"
        return {"server" if server else "averaging": experiment}
    return {mode: replace(experiment, gossip=mode) for mode in MODES}


def _rows(
    way: str, experiment: Experiment, predicted: Bytes, measured: Bytes
) -> list[dict[str, Any]]:
    payload = "exact" if predicted.exact else "rough"
    control = "times" if predicted.follows_times else "rough"
    models = dict.fromkeys(_PAYLOAD, payload) | dict.fromkeys(_CONTROL, control)
    models["handshake_bytes"] = "rough" if experiment.scenario else "exact"
    models |= {what: control for what in _TIMES if getattr(predicted, what) is not None}
    rows = []
    for what, model in models.items():
        here, there = getattr(predicted, what), getattr(measured, what)
        error = (here - there) / there if there else None
        rows.append(
            {
                "gossip": way,
                "what": what,
                "predicted": here,
                "measured": there,
                "error": error,
                "model": model,
            }
        )
    return rows
