"""Ferret's local round: what it sends is its update in coordinates, to the formula."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from test_blockwise_rebuild import BLOCKS, accumulator, drawn_sums, model_in_blocks
from training import SEEDS, UNITS, K

from peer.accumulator import Accumulator
from peer.allocation import allot, sign_variances
from peer.block_draw import draw_blocks
from peer.data.encode import Encoded
from peer.ferret_trainer import FerretTrainer, Projecting
from peer.local_data import LocalData, Rows
from peer.local_steps import LocalSteps, LocalUpdate
from peer.model import FlatModel
from peer.projection import Update, project

ROOT = 11
PROJECTING = Projecting(
    local_steps=3,
    accumulate=2,
    batch_size=2,
    coordinates=40,
    learning_rate=0.125,
    gradient_bound=1024.0,
)
NOTHING = np.zeros(0, np.int64)


class Moving:
    """Moves weights by what rows hold: a stand-in for an optimiser that can be told apart."""

    def __init__(self, scale: float = 1e-3, last: float = 0.0) -> None:
        self.scale, self.last = scale, last
        self.seen: list[torch.Tensor] = []

    def run(self, model: FlatModel, batches: Iterable[Rows], peer: int, round_: int) -> LocalUpdate:
        self.asked = peer, round_
        for step, (input_ids, _, _) in enumerate(batches):
            self.seen.append(input_ids)
            wave = torch.arange(len(model.weights)) % (7 + step)
            model.weights.sub_(self.scale * float(input_ids.sum() % 5 + 1) * wave)
        model.weights[-1] += self.last
        return LocalUpdate(np.array([0.5]))


def trainer_of(
    folder: Path, encoded: Encoded, steps: LocalSteps, with_: Projecting = PROJECTING
) -> FerretTrainer:
    shards = {0: np.arange(0, 20), 3: np.arange(20, 27)}
    made = model_in_blocks(folder, "rademacher")
    return FerretTrainer(made, LocalData(encoded, shards, ROOT), steps, with_)


def test_a_round_is_the_update_from_the_cut_as_coordinates(
    tiny_model: Path, encoded: Encoded
) -> None:
    moving, cut = Moving(), drawn_sums(3)
    made = trainer_of(tiny_model, encoded, moving).train(3, 5, cut, NOTHING)
    data = LocalData(encoded, {3: np.arange(20, 27)}, ROOT)
    rows = [ids for ids, _, _ in data.batches(3, 5, 6, 2)]
    assert moving.asked == (3, 5)
    assert len(moving.seen) == len(rows) == 6
    assert all(map(torch.equal, moving.seen, rows))

    model = model_in_blocks(tiny_model, "rademacher")
    model.go_to(cut)
    before = model.model.weights.clone()
    Moving().run(model.model, data.batches(3, 5, 6, 2), 3, 5)
    update = Update(before, model.model.weights, model.offsets)
    counts = allot(update.norms(), sign_variances(np.diff(model.offsets)), 40, K)
    indices = draw_blocks(ROOT, 3, 5, counts, K)
    wanted = project(model.kernel, update, SEEDS, counts, indices, 0.125)
    assert made.counts is not None
    assert made.counts.tolist() == counts.tolist()
    assert made.gradients.tolist() == wanted.tolist()
    assert np.abs(wanted).max() > 0
    assert (made.loss, made.skipped) == (0.5, 0)


def test_a_cut_with_the_round_is_nearer_to_what_the_peer_has_learned(
    tiny_model: Path, encoded: Encoded
) -> None:
    """Adding eta gamma z takes a model from the cut towards the end of the local steps."""
    start = accumulator(np.zeros(BLOCKS * K, np.int64))
    with_ = replace(PROJECTING, coordinates=BLOCKS * K)
    made = trainer_of(tiny_model, encoded, Moving(), with_).train(0, 0, start, NOTHING)
    assert made.counts is not None
    after = Accumulator.empty(BLOCKS * K, UNITS)
    indices = draw_blocks(ROOT, 0, 0, made.counts, K)
    weight = math.ldexp(with_.learning_rate, -UNITS.exponent)
    after.add(indices, made.gradients.astype(np.float32), weight, importance=False)
    model = model_in_blocks(tiny_model, "rademacher")
    model.go_to(after)
    reconstruction = model.model.weights.double()
    model.go_to(start)
    before = model.model.weights.clone()
    reconstruction = before.double() - reconstruction
    data = LocalData(encoded, {0: np.arange(0, 20)}, ROOT)
    Moving().run(model.model, data.batches(0, 0, 6, 2), 0, 0)
    update = before.double() - model.model.weights.double()
    cosine = torch.nn.functional.cosine_similarity(update, reconstruction, dim=0)
    size = len(before) / BLOCKS
    assert float(cosine) == pytest.approx(math.sqrt(K / (K + size)), rel=0.2)


def test_coordinates_are_clipped_at_the_origin(tiny_model: Path, encoded: Encoded) -> None:
    cut = drawn_sums(1)
    free = trainer_of(tiny_model, encoded, Moving()).train(0, 0, cut, NOTHING).gradients
    bound = float(np.median(np.abs(free)))
    with_ = replace(PROJECTING, gradient_bound=bound)
    clipped = trainer_of(tiny_model, encoded, Moving(), with_).train(0, 0, cut, NOTHING)
    assert clipped.gradients.tolist() == np.clip(free, -bound, bound).tolist()


@pytest.mark.parametrize("last", [math.nan, math.inf, -math.inf])
def test_an_update_that_is_not_finite_is_skipped_whole(
    last: float, tiny_model: Path, encoded: Encoded
) -> None:
    made = trainer_of(tiny_model, encoded, Moving(last=last)).train(0, 0, drawn_sums(1), NOTHING)
    assert made.skipped == 40
    assert made.counts is not None
    assert made.counts.sum() == 40


def test_an_update_that_is_nothing_is_sent_as_nothing(tiny_model: Path, encoded: Encoded) -> None:
    made = trainer_of(tiny_model, encoded, Moving(0.0)).train(0, 0, drawn_sums(1), NOTHING)
    assert made.counts is not None
    assert made.counts.sum() == 40
    assert made.gradients.tolist() == [0.0] * 40
