"""Local steps to the bit (C10), training that starts from a rebuild (C4), and evaluation."""

from __future__ import annotations

import gc
import math
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from peer import evaluation, zeroth_order
from peer.accumulator import Accumulator
from peer.data.encode import Encoded, batch, encode
from peer.data.order import rows_for
from peer.data.rows import load_rows
from peer.evaluation import evaluate, mean_loss
from peer.global_model import GlobalModel
from peer.model import FlatModel, load_model, load_tokenizer
from peer.perturbation import perturbation, reference
from peer.rebuild import weights_digest
from peer.seeds import candidate_seeds
from peer.units import Units
from peer.zeroth_order import Step, ZerothOrderTrainer

K = 16
UNITS = Units(exponent=-10, fraction_bits=24, magnitude_bits=24)
SEEDS = candidate_seeds(5, K)
DISTRIBUTIONS = {"gaussian": reference.GAUSSIAN, "rademacher": reference.RADEMACHER}
STEP = Step(epsilon=1e-2, learning_rate=1e-2, gradient_bound=1024.0, batch_size=2)
DTYPES = ("float32", "bfloat16", "float16")

Rows = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


@pytest.fixture(scope="module")
def encoded(tiny_model: Path, tiny_data: Path) -> Encoded:
    return encode(load_rows(str(tiny_data)).rows, load_tokenizer(str(tiny_model)), 128)


@pytest.fixture(scope="module", params=DTYPES)
def dtype(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def global_model_of(
    folder: Path, distribution: str = "gaussian", dtype: str = "float32", *, remember: bool = False
) -> GlobalModel:
    model = load_model(str(folder), dtype, torch.device("cpu"))
    return GlobalModel(model, perturbation(distribution, "cpu", 1), SEEDS, remember=remember)


def accumulator(sums: list[int]) -> Accumulator:
    empty = Accumulator.empty(K, UNITS)
    empty.sums[: len(sums)] = sums
    return empty


CUT = accumulator([2**24, -(2**22), 0, 12345678, 3])


def trainer_of(
    global_model: GlobalModel, encoded: Encoded, step: Step = STEP
) -> ZerothOrderTrainer:
    shards = {0: np.arange(0, 20), 3: np.arange(20, 27)}
    return ZerothOrderTrainer(global_model, encoded, shards, root_seed=11, step=step)


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
    w = reference.rebuild(z, global_model.w0, SEEDS, CUT.sums, exponent)
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


sums_of_a_run = st.lists(
    st.integers(-(2**51) + 1, 2**51 - 1) | st.integers(-(2**26), 2**26), min_size=K, max_size=K
)


@given(
    cuts=st.lists(sums_of_a_run, min_size=1, max_size=4),
    distribution=st.sampled_from([*DISTRIBUTIONS]),
)
@settings(deadline=None, max_examples=8)
def test_going_to_a_cut_is_the_reference_rebuild(
    cuts: list[list[int]], distribution: str, dtype: str, tiny_model: Path
) -> None:
    plain = global_model_of(tiny_model, distribution, dtype)
    keeping = global_model_of(tiny_model, distribution, dtype, remember=True)
    part = slice(1000, 1300)
    for sums in (*cuts, cuts[0], cuts[0]):
        cut = accumulator(sums)
        for global_model in (plain, keeping):
            global_model.go_to(cut)
            exact = reference.rebuild(
                DISTRIBUTIONS[distribution],
                global_model.w0[part],
                SEEDS,
                cut.sums,
                UNITS.exponent - UNITS.fraction_bits,
                start=part.start,
            )
            assert weights_digest(global_model.model.weights[part]) == weights_digest(exact)
            # What local steps leave behind must not be what is remembered.
            global_model.model.weights.add_(1.0)
        assert plain.digest(cut) == keeping.digest(cut)


def test_remembering_changes_no_bit_and_notices_a_cut_that_grew(
    tiny_model: Path, encoded: Encoded
) -> None:
    plain, keeping = (global_model_of(tiny_model, remember=each) for each in (False, True))
    cut = CUT.copy()
    for _ in range(3):
        for peer in (0, 3):
            some, others = (
                trainer_of(global_model, encoded).train(peer, 0, cut, np.array([1, 5]))
                for global_model in (plain, keeping)
            )
            assert some.gradients.tobytes() == others.gradients.tobytes()
            assert torch.equal(plain.model.weights, keeping.model.weights)
        cut.add(np.array([3, 5]), np.array([0.5, -4.0], dtype=np.float32), 1.5)
    assert plain.digest(cut) == keeping.digest(cut) != keeping.digest(CUT)


def test_the_pre_trained_weights_stay_as_they_were_loaded(
    tiny_model: Path, encoded: Encoded
) -> None:
    fresh = load_model(str(tiny_model), "float32", torch.device("cpu"))
    for remember in (False, True):
        global_model = global_model_of(tiny_model, remember=remember)
        empty = accumulator([])
        trainer_of(global_model, encoded).train(0, 0, empty, np.array([1, 2]))
        global_model.go_to(CUT)
        trainer_of(global_model, encoded).train(0, 1, CUT, np.array([3]))
        assert torch.equal(global_model.w0, fresh.weights)
        assert global_model.digest(empty) == weights_digest(fresh.weights)


def test_digests_are_equal_when_accumulators_are_and_the_rebuild_says_which(
    tiny_model: Path,
) -> None:
    global_model = global_model_of(tiny_model)
    assert (
        global_model.digest(CUT)
        == global_model.digest(CUT.copy())
        == weights_digest(global_model.model.weights)
    )
    other = CUT.copy()
    other.sums[2] = 2**20
    assert global_model.digest(other) != global_model.digest(CUT)


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
    size = global_model.w0.nbytes
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


def test_evaluation_is_the_mean_over_all_response_tokens(
    tiny_model: Path, encoded: Encoded
) -> None:
    model = load_model(str(tiny_model), "float32", torch.device("cpu"))
    rows = np.array([5, 0, 33, 12, 70, 71, 8])
    total, tokens = 0.0, 0
    for row in rows:
        losses, counts = model.losses(*batch(encoded, [row], 0))
        total += float(losses[0])
        tokens += int(counts[0])
    assert tokens == sum(np.diff(encoded.offsets)[rows] - encoded.prompt_lengths[rows])
    loss = evaluate(model, encoded, rows)
    assert loss == pytest.approx(total / tokens, rel=1e-6)
    assert loss != pytest.approx(
        np.mean([evaluate(model, encoded, rows[i : i + 1]) for i in range(7)])
    )
    assert evaluate(model, encoded, rows[::-1].copy()) == pytest.approx(loss, rel=1e-6)


@given(lengths=st.lists(st.integers(2, 40), min_size=1, max_size=30), limit=st.integers(1, 200))
@settings(deadline=None)
def test_evaluation_takes_every_row_once_in_batches_of_a_limited_size(
    lengths: list[int], limit: int
) -> None:
    n = len(lengths)
    offsets = np.cumsum([0, *lengths])
    zeros = np.zeros(n, dtype=np.int32)
    # A row's tokens are all its own number.
    tokens = np.repeat(np.arange(n, dtype=np.int32), lengths)
    ones = np.ones(n, dtype=np.int32)
    rows = Encoded(tokens, offsets, ones, zeros, ("",), zeros, ("",), 0)
    met = []

    class Counting:
        def losses(
            self, input_ids: torch.Tensor, mask: torch.Tensor, labels: torch.Tensor
        ) -> tuple[torch.Tensor, torch.Tensor]:
            assert input_ids.numel() <= limit or len(input_ids) == 1
            assert mask.sum() > 0
            met.extend(input_ids[:, 0].tolist())
            counts = (labels[:, 1:] != -100).sum(dim=1)
            return counts.double() * (input_ids[:, 0] + 1), counts

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluation, "EVALUATION_TOKENS", limit)
        loss = evaluate(Counting(), rows, np.arange(n))  # type: ignore[arg-type]
    assert sorted(met) == list(range(n))
    weights = np.array(lengths) - 1
    assert loss == pytest.approx(float(weights @ (np.arange(n) + 1)) / weights.sum())


def test_evaluating_at_a_cut_rebuilds_first(tiny_model: Path, encoded: Encoded) -> None:
    global_model = global_model_of(tiny_model)
    rows = np.arange(6)
    global_model.model.weights.fill_(math.nan)
    at_start = global_model.evaluate(accumulator([]), encoded, rows)
    assert at_start == evaluate(
        load_model(str(tiny_model), "float32", torch.device("cpu")), encoded, rows
    )
    assert global_model.evaluate(CUT, encoded, rows) != at_start


@pytest.mark.slow
def test_steps_lower_the_loss_of_what_they_are_taken_on(tiny_model: Path, encoded: Encoded) -> None:
    global_model = global_model_of(tiny_model, "rademacher")
    step = Step(epsilon=1e-3, learning_rate=1e-3, gradient_bound=1024.0, batch_size=8)
    shards = {0: np.arange(8)}
    trainer = ZerothOrderTrainer(global_model, encoded, shards, 1, step)
    seeds = np.tile(np.arange(K), 40)
    before = global_model.evaluate(accumulator([]), encoded, shards[0])
    global_model.go_to(accumulator([]))
    trainer.train(0, 0, accumulator([]), seeds)
    assert evaluate(global_model.model, encoded, shards[0]) < before - 0.1
