"""MeZO is FedKSeed's step along new directions, and FedZO nears the gradient as they get many."""

from __future__ import annotations

import math
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from training import DISTRIBUTIONS, STEP, K, accumulator

from peer import forward_steps
from peer.data.encode import Encoded, batch
from peer.evaluation import mean_loss
from peer.forward_steps import FedZO, MeZO, direction_seeds
from peer.global_model import GlobalModel
from peer.local_data import LocalData, Rows
from peer.model import FlatModel, load_model
from peer.perturbation import perturbation, reference
from peer.zeroth_order import Step, ZerothOrderTrainer

CPU = torch.device("cpu")
ROOT = 11


def loaded(folder: Path, dtype: str) -> FlatModel:
    return load_model(str(folder), dtype, CPU)


def data_of(encoded: Encoded) -> LocalData:
    return LocalData(encoded, {3: np.arange(20, 27)}, ROOT)


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
def test_mezo_takes_fedkseeds_steps_bit_for_bit(
    distribution: str, dtype: str, tiny_model: Path, encoded: Encoded
) -> None:
    kernel, data = perturbation(distribution, "cpu", 1), data_of(encoded)
    model, other = (loaded(tiny_model, dtype) for _ in range(2))
    batches = data.batches(3, 4, 5, STEP.batch_size)
    update = MeZO(kernel, STEP, ROOT).run(model, batches, 3, 4)
    seeds = direction_seeds(ROOT, 3, 4, K)
    trainer = ZerothOrderTrainer(GlobalModel(other, kernel, seeds), data, STEP)
    made = trainer.train(3, 4, accumulator([]), np.arange(5))
    assert torch.equal(model.weights, other.weights)
    assert update.loss == pytest.approx(made.loss, rel=1e-12)
    assert len(update.losses) == 5
    assert update.skipped == 0


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
def test_fedzo_is_its_definition_bit_for_bit(
    distribution: str, dtype: str, tiny_model: Path, encoded: Encoded
) -> None:
    z, model, other = DISTRIBUTIONS[distribution], *(loaded(tiny_model, dtype) for _ in range(2))
    eps, batches = float(np.float32(STEP.epsilon)), list(data_of(encoded).batches(3, 1, 3, 2))
    steps = FedZO(perturbation(distribution, "cpu", 1), STEP, 4, ROOT)
    update = steps.run(model, batches, 3, 1)
    w, losses = other.weights.clone(), []
    seeds = direction_seeds(ROOT, 3, 1, 12).reshape(3, 4)
    for row, rows in zip(seeds.tolist(), batches, strict=True):
        other.weights.copy_(w)
        losses.append(mean_loss(other, rows))
        moved = w.float()
        for seed in row:
            other.weights.copy_(reference.axpy(z, w, seed, eps))
            g = (mean_loss(other, rows) - losses[-1]) / eps
            moved = reference.axpy(z, moved, seed, -STEP.learning_rate / 4 * g)
        w = moved.to(w.dtype)
    assert torch.equal(model.weights, w)
    assert update.losses.tolist() == losses


def test_in_chunks_the_sum_of_directions_is_the_same(
    tiny_model: Path, encoded: Encoded, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    for chunk in (2**20, 1000):
        monkeypatch.setattr(forward_steps, "_CHUNK", chunk)
        model = loaded(tiny_model, "bfloat16")
        steps = FedZO(perturbation("gaussian", "cpu", 1), STEP, 3, ROOT)
        steps.run(model, data_of(encoded).batches(3, 0, 2, 2), 3, 0)
        found.append(model.weights.clone())
    assert torch.equal(*found)


def test_many_directions_near_the_gradient(tiny_model: Path, encoded: Encoded) -> None:
    from peer.adapters import AdaptedModel, Adapter

    model = AdaptedModel(loaded(tiny_model, "float32"), Adapter("soft-prompt", virtual_tokens=2), 1)
    rows = batch(encoded, np.arange(6), 0)
    with model.gradient() as gradient:
        losses, tokens = model.traced_losses(*rows)
        (losses.sum() / int(tokens.sum())).backward()
        wanted = gradient.clone()
    start, cosines = model.weights.clone(), []
    for directions in (16, 128):
        model.weights.copy_(start)
        step = Step(epsilon=1e-3, learning_rate=1e-2, gradient_bound=1024.0, batch_size=6)
        FedZO(perturbation("gaussian", "cpu", 1), step, directions, ROOT).run(model, [rows], 0, 0)
        moved = start - model.weights
        cosines.append(float(torch.cosine_similarity(moved, wanted, dim=0)))
    # For independent directions it is about sqrt(K / (K + d)).
    expected = [math.sqrt(k / (k + len(start))) for k in (16, 128)]
    assert cosines == pytest.approx(expected, abs=0.15)
    # The mean of z z^T is the identity: along the gradient a step is as long as it, not d times.
    along = float(moved @ wanted / (wanted @ wanted))
    assert along == pytest.approx(1e-2, rel=3 * math.sqrt(2 / 128))


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("at", [0, 1, 2])
def test_a_step_with_a_loss_that_is_not_finite_leaves_the_weights(
    bad: float,
    at: int,
    dtype: str,
    tiny_model: Path,
    encoded: Encoded,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told = iter([*([2.0] * at), bad, *([2.0] * (2 - at))])
    model = loaded(tiny_model, dtype)
    start = model.weights.clone()
    monkeypatch.setattr(forward_steps, "mean_loss", lambda _model, _rows: next(told))
    steps = FedZO(perturbation("gaussian", "cpu", 1), STEP, 2, ROOT)
    update = steps.run(model, data_of(encoded).batches(3, 0, 1, 2), 3, 0)
    assert update.skipped == 1
    assert torch.equal(model.weights, start)


def test_forward_differences_are_clipped(
    tiny_model: Path, encoded: Encoded, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = loaded(tiny_model, "float32")
    start, step = model.weights.clone(), Step(2.0**-7, 1e-3, 8.0, 1)
    losses = iter([0.0, 1e300, -1e300])
    monkeypatch.setattr(forward_steps, "mean_loss", lambda _model, _rows: next(losses))
    steps = FedZO(perturbation("gaussian", "cpu", 1), step, 2, ROOT)
    steps.run(model, data_of(encoded).batches(3, 0, 1, 1), 3, 0)
    for seed, g in zip(direction_seeds(ROOT, 3, 0, 2).tolist(), (8.0, -8.0), strict=True):
        start = reference.axpy(reference.GAUSSIAN, start, seed, -1e-3 / 2 * g)
    assert torch.equal(model.weights, start)


def test_no_two_steps_share_a_direction() -> None:
    seeds = [
        direction_seeds(root, peer, round_, 40)
        for root, peer, round_ in product(range(3), repeat=3)
    ]
    assert len(np.unique(np.concatenate(seeds))) == 27 * 40
    assert direction_seeds(1, 2, 0, 7).tolist() == direction_seeds(1, 2, 0, 40)[:7].tolist()


def test_both_learn(tiny_model: Path, encoded: Encoded) -> None:
    rows: Rows = batch(encoded, np.arange(8), 0)
    step = Step(epsilon=1e-3, learning_rate=2e-3, gradient_bound=1024.0, batch_size=8)
    kernel = perturbation("rademacher", "cpu", 1)
    for steps, count in ((MeZO(kernel, step, ROOT), 100), (FedZO(kernel, step, 4, ROOT), 40)):
        model = loaded(tiny_model, "float32")
        before = mean_loss(model, rows)
        steps.run(model, [rows] * count, 0, 0)
        assert mean_loss(model, rows) < before - 0.1
