"""From given weights to those after a round: what is started from, how far, and what comes back."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from training import STEP

from peer.adapters import AdaptedModel, Adapter
from peer.averaged_model import put, taken
from peer.averaging_trainer import AveragingTrainer, Schedule
from peer.data.encode import Encoded, batch
from peer.first_order import FirstOrder
from peer.forward_steps import FedZO, MeZO
from peer.local_data import LocalData, Rows
from peer.local_steps import LocalSteps, LocalUpdate
from peer.model import FlatModel, load_model
from peer.perturbation import perturbation

CPU = torch.device("cpu")
ROOT = 11
SHARDS = {0: np.arange(0, 20), 3: np.arange(20, 27)}


def loaded(folder: Path, dtype: str = "float32") -> FlatModel:
    return load_model(str(folder), dtype, CPU)


def kinds_of_steps(model: FlatModel) -> dict[str, LocalSteps]:
    kernel = perturbation("rademacher", "cpu", 1)
    return {
        "first-order": FirstOrder("sgd", 0.1, dtype=model.weights.dtype),
        "mezo": MeZO(kernel, STEP, ROOT),
        "fedzo": FedZO(kernel, STEP, 3, ROOT),
    }


class Made(NamedTuple):
    """What a trainer made, as tensors."""

    weights: torch.Tensor
    loss: float
    skipped: int


def trained(trainer: AveragingTrainer, peer: int, round_: int, start: torch.Tensor) -> Made:
    made = trainer.train(peer, round_, taken(start), np.empty(0, np.int64))
    weights = torch.empty_like(start)
    put(made.weights, weights)
    return Made(weights, made.loss, made.skipped)


def trainer_of(
    model: FlatModel, encoded: Encoded, kind: str = "first-order", **schedule: Any
) -> AveragingTrainer:
    given = Schedule(**({"steps": 3, "epochs": 0, "batch_size": 2} | schedule))
    data = LocalData(encoded, SHARDS, ROOT)
    return AveragingTrainer(model, data, kinds_of_steps(model)[kind], given)


@pytest.mark.parametrize("kind", ["first-order", "mezo", "fedzo"])
def test_a_round_is_a_function_of_peer_round_and_weights(
    kind: str, dtype: str, tiny_model: Path, encoded: Encoded
) -> None:
    model = loaded(tiny_model, dtype)
    start = model.weights.clone()
    trainer = trainer_of(model, encoded, kind)
    once = trained(trainer, 0, 2, start)
    kept = once.weights.clone()
    others = [
        trained(trainer, 3, 2, start).weights,
        trained(trainer, 0, 3, start).weights,
        trained(trainer, 0, 2, kept).weights,
    ]
    again = trained(trainer, 0, 2, start)
    assert torch.equal(again.weights, kept)
    assert torch.equal(once.weights, kept)
    assert torch.equal(start, loaded(tiny_model, dtype).weights)
    assert all(not torch.equal(other, kept) for other in [start, *others])
    assert (again.loss, again.skipped) == (once.loss, 0)
    assert math.isfinite(once.loss)


@pytest.mark.parametrize("kind", ["first-order", "mezo", "fedzo"])
def test_an_adapter_is_trained_like_a_model(kind: str, tiny_model: Path, encoded: Encoded) -> None:
    model = AdaptedModel(loaded(tiny_model), Adapter("lora"), ROOT)
    start = model.weights.clone()
    made = trained(trainer_of(model, encoded, kind), 3, 0, start)
    assert made.weights.shape == start.shape
    assert not torch.equal(made.weights, start)


@pytest.mark.parametrize(
    ("schedule", "steps"),
    [
        ({"steps": 5}, {0: 5, 3: 5}),
        ({"epochs": 1}, {0: 10, 3: 4}),
        ({"epochs": 2, "batch_size": 8}, {0: 6, 3: 2}),
    ],
)
def test_steps_are_given_or_go_by_the_rows_of_a_peer(
    schedule: dict[str, int], steps: dict[int, int], tiny_model: Path, encoded: Encoded
) -> None:
    model = loaded(tiny_model)
    data = LocalData(encoded, SHARDS, ROOT)
    given = Schedule(**({"steps": 3, "epochs": 0, "batch_size": 2} | schedule))
    start = model.weights.clone()
    trainer = AveragingTrainer(model, data, Diverging(math.nan), given)
    assert {peer: trained(trainer, peer, 1, start).skipped for peer in SHARDS} == steps


def test_so_many_batches_are_drawn_as_all_steps_accumulate(encoded: Encoded) -> None:
    data = LocalData(encoded, SHARDS, ROOT)
    assert len(list(Schedule(5, 0, 2, accumulate=4).batches(data, 0, 1))) == 20
    assert len(list(Schedule(5, 1, 2, accumulate=4).batches(data, 0, 1))) == 10


@pytest.mark.parametrize("size", [1, 3, 7, 20])
def test_a_pass_has_each_row_once_in_an_order_of_its_own(size: int, encoded: Encoded) -> None:
    data = LocalData(encoded, SHARDS, ROOT)
    alone = {tuple(batch(encoded, [row], 0)[0][0].tolist()): row for row in SHARDS[3].tolist()}
    orders = []
    for round_ in range(2):
        batches = list(data.epochs(3, round_, 2, size))
        assert len(batches) == 2 * math.ceil(7 / size)
        rows = [
            alone[tuple(ids[: int(length)].tolist())]
            for input_ids, mask, _ in batches
            for ids, length in zip(input_ids, mask.sum(dim=1), strict=True)
        ]
        orders += [rows[:7], rows[7:]]
    assert all(sorted(order) == SHARDS[3].tolist() for order in orders)
    assert len({tuple(order) for order in orders}) == 4


class Diverging:
    """Steps after which a weight is no number."""

    def __init__(self, value: float) -> None:
        self._value = value

    def run(self, model: FlatModel, batches: Iterable[Rows], peer: int, round_: int) -> LocalUpdate:
        del peer, round_
        model.weights[5] = self._value
        return LocalUpdate(np.array([1.5 for _ in batches]))


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_weights_that_leave_the_numbers_are_not_passed_on(
    bad: float, tiny_model: Path, encoded: Encoded
) -> None:
    model = loaded(tiny_model)
    start = model.weights.clone()
    data = LocalData(encoded, SHARDS, ROOT)
    made = trained(AveragingTrainer(model, data, Diverging(bad), Schedule(4, 0, 2)), 0, 0, start)
    assert torch.equal(made.weights, start)
    assert (made.loss, made.skipped) == (1.5, 4)
