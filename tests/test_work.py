"""What a round is to each peer: its steps, and the forward passes and virtual time of a step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from runs import Options, run

from peer.config import experiment_from
from peer.data.encode import Encoded
from peer.first_order import FirstOrder
from peer.local_data import LocalData
from peer.methods import METHODS, Steps
from peer.work import passes_per_step, seconds_per_step, steps_per_round


@pytest.mark.parametrize(
    ("values", "passes"),
    [
        ({"method": "fedkseed"}, 2),
        ({"method": "fedkseed-infinite"}, 2),
        ({"method": "fedmezo", "accumulate": 4}, 2),
        ({"method": "fedzo", "directions": 8}, 9),
        ({"method": "fedavg"}, 3),
        ({"method": "fedit", "accumulate": 4}, 12),
        ({"method": "ferret"}, 3),
    ],
)
def test_a_step_takes_so_many_forward_passes(values: dict[str, Any], passes: int) -> None:
    experiment = experiment_from(values | {"step_seconds": 0.5})
    assert passes_per_step(experiment) == passes
    assert seconds_per_step(experiment) == 0.25 * passes


@given(st.sampled_from(list(METHODS)), st.lists(st.integers(1, 50), min_size=1))
def test_without_passes_through_the_rows_all_take_the_same_steps(
    method: str, rows: list[int]
) -> None:
    experiment = experiment_from({"method": method, "local_steps": 7})
    assert steps_per_round(experiment, rows) == [7] * len(rows)
    summing = not METHODS[method].averages
    epochs = experiment_from({"method": method, "local_steps": 7, "local_epochs": 2})
    assert (steps_per_round(epochs, rows) == [7] * len(rows)) or not summing


@given(st.integers(1, 40), st.integers(1, 3), st.integers(1, 7), st.integers(1, 4))
def test_passes_through_the_rows_make_as_many_steps_as_are_taken(
    rows: int, epochs: int, batch_size: int, accumulate: int
) -> None:
    order = [list(range(rows))] * epochs
    batches = [own[at : at + batch_size] for own in order for at in range(0, rows, batch_size)]
    taken = [batches[at : at + accumulate] for at in range(0, len(batches), accumulate)]
    values = {"local_epochs": epochs, "batch_size": batch_size, "accumulate": accumulate}
    for method, steps in (("fedavg", len(taken)), ("fedmezo", len(batches))):
        assert METHODS[method].steps in (Steps.FIRST_ORDER, Steps.MEZO)
        experiment = experiment_from(values | {"method": method})
        assert steps_per_round(experiment, [rows]) == [steps]


def test_the_trainer_takes_as_many(encoded: Encoded, tiny_model: Path) -> None:
    import torch

    from peer.model import load_model

    data = LocalData(encoded, {0: np.arange(11)}, 3)
    values = {"method": "fedavg", "local_epochs": 2, "batch_size": 2, "accumulate": 5}
    model = load_model(str(tiny_model), "float32", torch.device("cpu"))
    update = FirstOrder("sgd", 0.01, 5).run(model, data.epochs(0, 0, 2, 2))
    assert [len(update.losses)] == steps_per_round(experiment_from(values), [11]) == [3]


def test_virtual_time_goes_by_the_steps_of_the_peer_with_the_most_rows(
    tiny_options: Options, tmp_path: Path
) -> None:
    options = tiny_options | {"method": "fedavg", "rounds": 2, "local_epochs": 1, "alpha": 0.3}
    links = {"latency": "0", "tick": 0.1, "step_seconds": 2.0}
    summary = run(tmp_path / "run", options | links)
    most = max(summary["data"]["rows_per_peer"])
    assert min(summary["data"]["rows_per_peer"]) < most
    virtual = summary["seconds"]["virtual"]
    assert 2 * most * 3.0 <= virtual < 2 * most * 3.0 + 2.0
