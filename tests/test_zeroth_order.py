"""Local steps to the bit (C10), and training that starts from a rebuild (C4)."""

from __future__ import annotations

import gc
import math
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from training import (
    CUT,
    DISTRIBUTIONS,
    SEEDS,
    STEP,
    UNITS,
    K,
    accumulator,
    global_model_of,
    trainer_of,
    whole,
)

from peer import zeroth_order
from peer.data.encode import Encoded, batch
from peer.data.order import rows_for
from peer.evaluation import evaluate, mean_loss
from peer.global_model import GlobalModel
from peer.local_data import LocalData, Rows
from peer.model import FlatModel
from peer.perturbation import reference
from peer.weights_digest import weights_digest
from peer.zeroth_order import Step, ZerothOrderTrainer


def losses_at(model: FlatModel, weights: torch.Tensor, rows: Rows) -> float:
    model.weights.copy_(weights)
    losses, tokens = model.losses(*rows)
    return sum(losses.tolist()) / sum(tokens.tolist())


def by_definition(
    global_model: GlobalModel,
    distribution: str,
    encoded: Encoded,
    shard: NDArray[np.int64],
    peer: int,
    round_: int,
    indices: list[int],
    step: Step = STEP,
    loss: Callable[[FlatModel, torch.Tensor, Rows], float] = losses_at,
) -> tuple[list[float], torch.Tensor]:
    """The scalar gradients of a round and the local weights at its end, from the definitions."""
    z, model = DISTRIBUTIONS[distribution], global_model.model
    eps = float(np.float32(step.epsilon))
    exponent = UNITS.exponent - UNITS.fraction_bits
    w = reference.rebuild(z, whole(global_model.w0), SEEDS, CUT.sums, exponent)
    order = rows_for(11, peer, round_, len(indices), step.batch_size, len(shard))
    gradients = []
    for index, places in zip(indices, order, strict=True):
        rows, seed = batch(encoded, shard[places], 0), int(SEEDS[index])
        w = reference.axpy(z, w, seed, eps)
        above = loss(model, w, rows)
        w = reference.axpy(z, w, seed, -2 * eps)
        below = loss(model, w, rows)
        w = reference.axpy(z, w, seed, eps)
        g = (above - below) / (2 * eps)
        if math.isfinite(g):
            g = max(-step.gradient_bound, min(step.gradient_bound, g))
            w = reference.axpy(z, w, seed, -(step.learning_rate * g))
        gradients.append(g if math.isfinite(g) else math.nan)
    return gradients, w


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
def test_a_round_of_steps_is_the_definition_bit_for_bit(
    distribution: str, dtype: str, tiny_model: Path, encoded: Encoded
) -> None:
    global_model = global_model_of(tiny_model, distribution, dtype)
    indices = [3, 0, 3, 15, 7, 1]
    made = trainer_of(global_model, encoded).train(3, 4, CUT, np.array(indices))
    after = global_model.model.weights.clone()
    shard = np.arange(20, 27)
    gradients, w = by_definition(global_model, distribution, encoded, shard, 3, 4, indices)
    assert made.gradients.dtype == np.float64
    assert made.gradients.tolist() == gradients
    assert weights_digest(after) == weights_digest(w)
    assert len(set(gradients)) == len(gradients)
    assert made.skipped == 0


def test_steps_move_the_weights_and_passes_leave_their_rounding(
    tiny_model: Path, encoded: Encoded
) -> None:
    # In 16 bits +eps, -2 eps, +eps does not come back to where it started: a step is four passes.
    global_model = global_model_of(tiny_model, dtype="bfloat16")
    global_model.go_to(CUT)
    start = global_model.model.weights.clone()
    w = start
    for coefficient in (1e-2, -2 * float(np.float32(1e-2)), 1e-2):
        w = reference.axpy(reference.GAUSSIAN, w, int(SEEDS[2]), coefficient)
    assert not torch.equal(w, start)
    trainer_of(global_model, encoded).train(0, 0, CUT, np.array([2]))
    assert not torch.equal(global_model.model.weights, start)


def test_the_mean_loss_of_a_round_is_over_both_sides_of_each_step(
    tiny_model: Path, encoded: Encoded, monkeypatch: pytest.MonkeyPatch
) -> None:
    met: list[float] = []

    def recorded(model: FlatModel, rows: Rows) -> float:
        met.append(mean_loss(model, rows))
        return met[-1]

    monkeypatch.setattr(zeroth_order, "mean_loss", recorded)
    made = trainer_of(global_model_of(tiny_model), encoded).train(0, 0, CUT, np.array([1, 2, 3]))
    assert len(met) == 6
    assert made.loss == pytest.approx(sum(met) / 6, rel=1e-12)


def scripted(values: list[float]) -> Callable[[FlatModel, Rows], float]:
    """A loss that is told in advance."""
    told: Iterator[float] = iter(values)
    return lambda _model, _rows: next(told)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("side", [0, 1])
def test_a_step_whose_loss_is_not_finite_is_skipped(
    bad: float,
    side: int,
    tiny_model: Path,
    encoded: Encoded,
    monkeypatch: pytest.MonkeyPatch,
    dtype: str,
) -> None:
    losses = [2.0, 1.0, 3.0, 3.5, 1.0, 1.5]
    losses[2 + side] = bad
    indices = [1, 2, 1]
    global_model = global_model_of(tiny_model, dtype=dtype)
    monkeypatch.setattr(zeroth_order, "mean_loss", scripted(losses))
    made = trainer_of(global_model, encoded).train(0, 0, CUT, np.array(indices))
    after = global_model.model.weights.clone()
    told = iter(losses)
    gradients, w = by_definition(
        global_model, "gaussian", encoded, np.arange(20), 0, 0, indices, loss=lambda *_: next(told)
    )
    eps = float(np.float32(STEP.epsilon))
    assert made.gradients[[0, 2]].tolist() == [1.0 / (2 * eps), -0.5 / (2 * eps)]
    assert math.isnan(made.gradients[1])
    assert np.array_equal(made.gradients, gradients, equal_nan=True)
    assert weights_digest(after) == weights_digest(w)
    assert made.skipped == 1
    assert made.loss == pytest.approx((1.5 + 1.25) / 2)


def test_two_infinite_losses_are_no_gradient(
    tiny_model: Path, encoded: Encoded, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(zeroth_order, "mean_loss", scripted([math.inf] * 4))
    made = trainer_of(global_model_of(tiny_model), encoded).train(0, 0, CUT, np.array([1, 2]))
    assert np.isnan(made.gradients).all()
    assert math.isnan(made.loss)
    assert made.skipped == 2


def test_weights_that_overflow_skip_every_later_step(tiny_model: Path, encoded: Encoded) -> None:
    step = Step(epsilon=1e-2, learning_rate=1e3, gradient_bound=32768.0, batch_size=1)
    global_model = global_model_of(tiny_model, dtype="float16")
    made = trainer_of(global_model, encoded, step).train(0, 0, CUT, np.array([1, 2, 3, 4]))
    assert math.isfinite(made.gradients[0])
    assert np.isnan(made.gradients[1:]).all()
    # The next round starts from the rebuild, not from what has overflown.
    again = trainer_of(global_model, encoded, step).train(0, 0, CUT, np.array([1, 2, 3, 4]))
    assert np.array_equal(again.gradients, made.gradients, equal_nan=True)


@pytest.mark.parametrize("bound", [1.0, 8.0, 1024.0])
@pytest.mark.parametrize("sign", [1, -1])
def test_a_scalar_gradient_is_clipped_at_the_bound(
    bound: float, sign: int, tiny_model: Path, encoded: Encoded, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = Step(epsilon=2.0**-7, learning_rate=1e-3, gradient_bound=bound, batch_size=1)
    # Differences that lead to just the bound, to half of it, and past it.
    differences = [sign * bound / 64, sign * bound / 128, sign * bound, sign * 1e300]
    losses = [loss for difference in differences for loss in (difference, 0.0)]
    global_model = global_model_of(tiny_model)
    monkeypatch.setattr(zeroth_order, "mean_loss", scripted(losses))
    made = trainer_of(global_model, encoded, step).train(0, 0, CUT, np.array([1, 2, 3, 4]))
    assert made.gradients.tolist() == [sign * bound, sign * bound / 2, sign * bound, sign * bound]
    after = global_model.model.weights.clone()
    told = iter(losses)
    _, w = by_definition(
        global_model,
        "gaussian",
        encoded,
        np.arange(20),
        0,
        0,
        [1, 2, 3, 4],
        step,
        loss=lambda *_: next(told),
    )
    assert weights_digest(after) == weights_digest(w)


def test_training_starts_from_a_rebuild_whatever_the_weights_are(
    tiny_model: Path, encoded: Encoded, dtype: str
) -> None:
    global_model = global_model_of(tiny_model, dtype=dtype)
    trainer = trainer_of(global_model, encoded)
    indices = np.array([4, 9, 4])
    before = (CUT.digest(), indices.copy())
    once = trainer.train(0, 2, CUT, indices)
    weights = global_model.model.weights.clone()
    global_model.model.weights.fill_(math.nan)
    trainer.train(3, 0, accumulator([-7]), np.array([0]))
    twice = trainer.train(0, 2, CUT, indices)
    assert once.gradients.tobytes() == twice.gradients.tobytes()
    assert once.loss == twice.loss
    assert torch.equal(global_model.model.weights, weights)
    assert (CUT.digest(), indices.tolist()) == (before[0], before[1].tolist())


def test_the_gradients_hang_on_peer_round_cut_and_seeds(tiny_model: Path, encoded: Encoded) -> None:
    trainer = trainer_of(global_model_of(tiny_model), encoded)
    calls = [
        (0, 2, CUT, [4, 9]),
        (3, 2, CUT, [4, 9]),
        (0, 3, CUT, [4, 9]),
        (0, 2, accumulator([1, 2**23]), [4, 9]),
        (0, 2, CUT, [4, 10]),
    ]
    found = {
        trainer.train(peer, round_, cut, np.array(indices)).gradients.tobytes()
        for peer, round_, cut, indices in calls
    }
    assert len(found) == len(calls)


def large_tensors(least: int) -> int:
    """How many storages of at least so many bytes are alive."""
    gc.collect()
    found = [item for item in gc.get_objects() if type(item) is torch.Tensor]
    storages = {item.untyped_storage().data_ptr(): item.untyped_storage() for item in found}
    return sum(storage.nbytes() >= least for storage in storages.values())


def test_training_keeps_no_graph_no_gradients_and_no_further_copy(
    tiny_model: Path, encoded: Encoded, monkeypatch: pytest.MonkeyPatch
) -> None:
    global_model = global_model_of(tiny_model, remember=True)
    trainer = trainer_of(global_model, encoded)
    trainer.train(0, 0, CUT, np.array([1]))
    size = global_model.model.weights.nbytes
    alive, seen = large_tensors(size), []

    def watched(model: FlatModel, rows: Rows) -> float:
        loss = mean_loss(model, rows)
        seen.append(large_tensors(size))
        return loss

    monkeypatch.setattr(zeroth_order, "mean_loss", watched)
    trainer.train(3, 0, CUT, np.array([1]))
    assert seen == [alive] * 2
    parameters = list(global_model.model.module.parameters())
    assert not any(p.requires_grad or p.grad is not None for p in parameters)
    assert not global_model.model.weights.requires_grad


@pytest.mark.slow
def test_steps_lower_the_loss_of_what_they_are_taken_on(tiny_model: Path, encoded: Encoded) -> None:
    global_model = global_model_of(tiny_model, "rademacher")
    step = Step(epsilon=1e-3, learning_rate=1e-3, gradient_bound=1024.0, batch_size=8)
    shards = {0: np.arange(8)}
    trainer = ZerothOrderTrainer(global_model, LocalData(encoded, shards, root_seed=1), step)
    seeds = np.tile(np.arange(K), 40)
    before = global_model.evaluate(accumulator([]), encoded, shards[0])
    global_model.go_to(accumulator([]))
    trainer.train(0, 0, accumulator([]), seeds)
    assert evaluate(global_model.model, encoded, shards[0]) < before - 0.1
