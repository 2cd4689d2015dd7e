"""Local rounds of several replicas at once: plain ones, but for the last bits of their losses."""

from __future__ import annotations

import hashlib
import itertools
import math
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from runs import SYNTHETIC, Options, lines, run, without_costs
from training import CUT, DISTRIBUTIONS, STEP, accumulator, global_model_of

from peer import side_by_side
from peer.accumulator import Accumulator
from peer.config import experiment_from
from peer.data.encode import Encoded
from peer.errors import UserError
from peer.evaluation import mean_loss
from peer.local_data import LocalData
from peer.model import FlatModel
from peer.setup import prepare
from peer.side_by_side import SideBySideTrainer, _batches
from peer.stacked import Rows
from peer.trainer import LocalRound, SyntheticTrainer
from peer.training import build_trainer
from peer.zeroth_order import Step, ZerothOrderTrainer
from sim.estimate import estimate
from sim.runner import simulate

SHARDS = {0: np.arange(0, 20), 3: np.arange(20, 27), 4: np.arange(30, 31), 9: np.arange(40, 70)}
DRAWN = {0: [3, 0, 3, 15], 3: [7, 1, 2, 3], 4: [0, 3, 5, 5], 9: [9, 8, 15, 3]}
"""The seed indices of each peer's local round; some take one seed at one step."""


class Trainers:
    """A plain trainer and one that takes so many replicas at once, over equal models."""

    def __init__(
        self,
        folder: Path,
        encoded: Encoded,
        most: int = 4,
        step: Step = STEP,
        distribution: str = "gaussian",
        dtype: str = "float32",
    ) -> None:
        models = [global_model_of(folder, distribution, dtype) for _ in range(2)]
        data = LocalData(encoded, SHARDS, root_seed=11)
        self.plain = ZerothOrderTrainer(models[0], data, step)
        self.beside = SideBySideTrainer(models[1], data, step, most)

    def each_alone(self, round_: int = 2) -> dict[int, LocalRound]:
        return {
            peer: self.plain.train(peer, round_, CUT, np.array(drawn))
            for peer, drawn in DRAWN.items()
        }

    def all_together(self, round_: int = 2) -> dict[int, LocalRound]:
        for peer, drawn in DRAWN.items():
            self.beside.announce(peer, round_, CUT, np.array(drawn))
        return {
            peer: self.beside.train(peer, round_, CUT, np.array(drawn))
            for peer, drawn in DRAWN.items()
        }


def of_each_alone(model: FlatModel, weights: torch.Tensor, rows: list[Rows]) -> list[float]:
    """What `stacked_losses` approximates: passes one by one."""
    losses = []
    for own, batch in zip(weights, rows, strict=True):
        model.weights.copy_(own)
        losses.append(mean_loss(model, batch))
    return losses


def bits(weights: torch.Tensor) -> bytes:
    return hashlib.blake2b(weights.view(torch.uint8).numpy().tobytes()).digest()


@pytest.fixture
def met(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Forward passes are taken one by one, and the weights of each are kept; some are not finite.

    Which are is decided by bits of the weights, so alike for every trainer.
    """
    seen: list[bytes] = []
    losses = FlatModel.losses

    def watched(model: FlatModel, *rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        seen.append(bits(model.weights))
        each, tokens = losses(model, *rows)
        bad = {0: math.nan, 1: math.inf, 2: -math.inf}.get(seen[-1][0] % 24, 0.0)
        return each + bad, tokens

    monkeypatch.setattr(FlatModel, "losses", watched)
    monkeypatch.setattr(side_by_side, "stacked_losses", of_each_alone)
    return seen


@pytest.mark.parametrize("batch_size", [1, 3])
@pytest.mark.parametrize("most", [2, 3, 7])
@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_all_but_the_forward_passes_is_plain_training_bit_for_bit(
    dtype: str,
    distribution: str,
    most: int,
    batch_size: int,
    tiny_model: Path,
    encoded: Encoded,
    met: list[bytes],
) -> None:
    step = replace(STEP, batch_size=batch_size, gradient_bound=2.0)
    trainers = Trainers(tiny_model, encoded, most, step, distribution, dtype)
    expected = trainers.each_alone()
    plain = Counter(met)
    met.clear()
    made = trainers.all_together()
    for peer, one in expected.items():
        assert made[peer].gradients.tobytes() == one.gradients.tobytes()
        assert np.array_equal(made[peer].loss, one.loss, equal_nan=True)
    assert Counter(met) == plain
    assert len(plain) == len(DRAWN) * 4 * 2
    gradients = np.stack([one.gradients for one in expected.values()])
    assert (abs(gradients) == 2.0).any()


def test_some_of_these_steps_are_skipped(
    tiny_model: Path, encoded: Encoded, met: list[bytes]
) -> None:
    made = Trainers(tiny_model, encoded).each_alone()
    skipped = sum(one.skipped for one in made.values())
    assert 0 < skipped < len(met) // 2


@pytest.mark.parametrize("spread", [0, 5, math.inf])
@pytest.mark.parametrize("most", [2, 4])
@pytest.mark.parametrize("batch_size", [1, 2])
def test_histories_are_close_to_plain_ones(
    batch_size: int,
    most: int,
    spread: float,
    tiny_model: Path,
    encoded: Encoded,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(side_by_side, "_CPU_SPREAD", spread)
    trainers = Trainers(tiny_model, encoded, most, replace(STEP, batch_size=batch_size))
    expected, made = trainers.each_alone(), trainers.all_together()
    for peer, one in expected.items():
        assert np.allclose(made[peer].gradients, one.gradients, rtol=1e-3, atol=1e-3)
        assert made[peer].loss == pytest.approx(one.loss, rel=1e-5)
        assert np.median(abs(one.gradients)) > 0.1


def test_the_same_jobs_give_the_same_bits(tiny_model: Path, encoded: Encoded) -> None:
    one, other = (Trainers(tiny_model, encoded).all_together() for _ in range(2))
    for peer in DRAWN:
        assert one[peer].gradients.tobytes() == other[peer].gradients.tobytes()
        assert one[peer].loss == other[peer].loss


def test_sixteen_bits_that_overflow_ruin_only_their_own_replica(
    tiny_model: Path, encoded: Encoded
) -> None:
    step = Step(epsilon=1e-2, learning_rate=1e3, gradient_bound=32768.0, batch_size=1)
    made = Trainers(tiny_model, encoded, step=step, dtype="float16").all_together()
    assert all(math.isfinite(one.gradients[0]) for one in made.values())
    assert any(one.skipped for one in made.values())
    again = Trainers(tiny_model, encoded, step=step, dtype="float16").all_together()
    for peer, one in made.items():
        assert np.array_equal(one.gradients, again[peer].gradients, equal_nan=True)


# Who trains with whom


@pytest.fixture
def widths(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many replicas took each step; the losses are made up."""
    seen: list[int] = []

    def losses(_model: FlatModel, weights: torch.Tensor, _rows: list[Rows]) -> list[float]:
        seen.append(len(weights) // 2)
        return [1.0 + float(own[:7].sum()) for own in weights]

    monkeypatch.setattr(side_by_side, "stacked_losses", losses)
    monkeypatch.setattr(side_by_side, "_CPU_SPREAD", math.inf)
    return seen


@pytest.mark.parametrize(("most", "expected"), [(2, [2, 2]), (3, [3, 1]), (4, [4]), (7, [4])])
def test_as_many_train_together_as_may(
    most: int, expected: list[int], tiny_model: Path, encoded: Encoded, widths: list[int]
) -> None:
    Trainers(tiny_model, encoded, most).all_together()
    assert widths == [width for width in expected for _ in range(4)]


def test_only_those_of_one_round_and_cut_train_together(
    tiny_model: Path, encoded: Encoded, widths: list[int]
) -> None:
    trainer, drawn = Trainers(tiny_model, encoded).beside, np.array([1])
    jobs: list[tuple[int, int, Accumulator]] = [
        (0, 2, CUT),
        (3, 2, CUT.copy()),
        (4, 3, CUT),
        (9, 2, accumulator([1])),
    ]
    for peer, round_, cut in jobs:
        trainer.announce(peer, round_, cut, drawn)
    for peer, round_, cut in jobs:
        trainer.train(peer, round_, cut, drawn)
    assert widths == [2, 1, 1]


def test_a_job_that_nobody_announced_is_done(
    tiny_model: Path, encoded: Encoded, widths: list[int]
) -> None:
    trainers = Trainers(tiny_model, encoded)
    expected = trainers.all_together()
    widths.clear()
    trainer = Trainers(tiny_model, encoded).beside
    for peer in (9, 0):
        made = trainer.train(peer, 2, CUT, np.array(DRAWN[peer]))
        assert made.gradients.tobytes() == expected[peer].gradients.tobytes()
    assert widths == [1] * 8


@pytest.mark.parametrize(
    "asked",
    [(3, 2, CUT, [7, 1, 2, 4]), (3, 3, CUT, DRAWN[3]), (3, 2, accumulator([2**23]), DRAWN[3])],
    ids=["indices", "round", "cut"],
)
def test_a_history_made_for_something_else_is_not_given(
    asked: Any, tiny_model: Path, encoded: Encoded, widths: list[int]
) -> None:
    trainer = Trainers(tiny_model, encoded).beside
    fresh = Trainers(tiny_model, encoded).beside
    for peer in (0, 3):
        trainer.announce(peer, 2, CUT, np.array(DRAWN[peer]))
    trainer.train(0, 2, CUT, np.array(DRAWN[0]))
    assert widths == [2] * 4
    peer, round_, cut, drawn = asked
    made = trainer.train(peer, round_, cut, np.array(drawn))
    assert widths[4:] == [1] * 4
    expected = fresh.train(peer, round_, cut, np.array(drawn))
    assert made.gradients.tobytes() == expected.gradients.tobytes()


def test_a_new_announcement_ends_the_old_one(
    tiny_model: Path, encoded: Encoded, widths: list[int]
) -> None:
    trainer, drawn = Trainers(tiny_model, encoded).beside, np.array([1])
    # Replaced before it is made, and after.
    trainer.announce(3, 1, CUT, drawn)
    trainer.announce(3, 2, CUT, drawn)
    trainer.train(0, 1, CUT, drawn)
    trainer.train(0, 2, CUT, drawn)
    trainer.announce(3, 2, CUT, drawn)
    trainer.train(3, 2, CUT, drawn)
    assert widths == [1, 2, 1]


@given(
    st.lists(st.integers(1, 60), min_size=1, max_size=12).map(lambda x: sorted(x, reverse=True)),
    st.integers(0, 20) | st.just(math.inf),
)
def test_batches_are_as_few_as_the_padding_allows(tokens: list[int], spread: float) -> None:
    parts = [tokens[part] for part in _batches(tokens, spread)]
    assert [number for part in parts for number in part] == tokens
    assert all(part[0] - part[-1] <= spread for part in parts)
    assert all(before[0] - after[0] > spread for before, after in itertools.pairwise(parts))


# In the simulator


def calls(patch: pytest.MonkeyPatch, start: Callable[[], object]) -> list[int]:
    """Let something run; return how many replicas each forward pass had."""
    seen: list[int] = []
    stacked_losses = side_by_side.stacked_losses

    def counted(model: FlatModel, weights: torch.Tensor, rows: list[Rows]) -> list[float]:
        seen.append(len(weights) // 2)
        return stacked_losses(model, weights, rows)

    with patch.context() as here:
        here.setattr(side_by_side, "stacked_losses", counted)
        start()
    return seen


@pytest.fixture(scope="module")
def finished(tiny_options: Options, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return run(tmp_path_factory.mktemp("runs") / "plain", tiny_options)


@pytest.mark.parametrize(("most", "widths"), [(1, []), (2, [2, 2]), (3, [3, 1]), (99, [4])])
def test_a_round_s_peers_train_together_and_end_about_where_they_would_alone(
    most: int,
    widths: list[int],
    finished: dict[str, Any],
    tiny_options: Options,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made: dict[str, Any] = {}
    # On a line the peers do not start a round at the same moment.
    changes = {"side_by_side": most, "topology": "line"}
    seen = calls(monkeypatch, lambda: made.update(run(tmp_path / "run", tiny_options, **changes)))
    assert seen == [width for _ in range(3) for width in widths for _ in range(3)]
    assert made["digests"]["all_equal"]
    assert made["eval_loss"]["initial"] == finished["eval_loss"]["initial"]
    assert made["eval_loss"]["per_round"] == pytest.approx(
        finished["eval_loss"]["per_round"], rel=1e-5
    )
    assert made["entries"] == finished["entries"]
    records, before = lines(tmp_path / "run"), lines(Path(finished["folder"]))
    for one, other in zip(records[1:], before[1:], strict=True):
        assert one["train_loss"] == pytest.approx(other["train_loss"], rel=1e-5)
    if most == 1:
        assert made["digests"] == finished["digests"]


def test_the_same_experiment_gives_the_same_run(tiny_options: Options, tmp_path: Path) -> None:
    changes = {"side_by_side": 3, "participation": 0.7, "method": "fedkseed-pro"}
    one, other = (run(tmp_path / name, tiny_options, **changes) for name in "ab")
    assert without_costs(one) == without_costs(other)
    assert lines(tmp_path / "a") == lines(tmp_path / "b")


def test_a_longer_run_goes_on_to_the_same_end(tiny_options: Options, tmp_path: Path) -> None:
    whole = run(tmp_path / "whole", tiny_options, side_by_side=4)
    run(tmp_path / "run", tiny_options, side_by_side=4, rounds=1)
    resumed = run(tmp_path / "run", tiny_options, side_by_side=4, resume=True)
    assert resumed["digests"] == whole["digests"]


def test_a_run_killed_within_a_round_is_gone_on_with(
    finished: dict[str, Any],
    tiny_options: Options,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    train, taken = SideBySideTrainer.train, 0

    def fragile(trainer: SideBySideTrainer, *job: Any) -> LocalRound:
        nonlocal taken
        if taken == 6:
            raise KeyboardInterrupt
        taken += 1
        return train(trainer, *job)

    with monkeypatch.context() as here:
        here.setattr(SideBySideTrainer, "train", fragile)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path, tiny_options, side_by_side=4)
    made: dict[str, Any] = {}
    again = {"side_by_side": 4, "resume": True}
    seen = calls(monkeypatch, lambda: made.update(run(tmp_path, tiny_options, **again)))
    # Of round 1 two histories were on disk, and are not made again.
    assert seen == [2] * 3 + [4] * 3
    assert made["digests"]["all_equal"]
    assert made["entries"] == finished["entries"]
    assert made["eval_loss"]["per_round"] == pytest.approx(
        finished["eval_loss"]["per_round"], rel=1e-5
    )


def test_a_run_is_resumed_with_as_many_side_by_side(
    finished: dict[str, Any], tiny_options: Options
) -> None:
    with pytest.raises(UserError, match="side_by_side is 1 there and 2 here"):
        run(Path(finished["folder"]), tiny_options, side_by_side=2, resume=True)


def test_a_model_that_cannot_be_stacked_is_refused_before_anything_is_written(
    tiny_options: Options, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers.models.llama import modeling_llama

    forward = modeling_llama.LlamaMLP.forward

    def undecided(layer: Any, hidden: torch.Tensor) -> torch.Tensor:
        made: torch.Tensor = forward(layer, hidden)
        return made if float(made.sum()) < math.inf else hidden

    monkeypatch.setattr(modeling_llama.LlamaMLP, "forward", undecided)
    with pytest.raises(UserError, match="side_by_side above 1 is not allowed with this model"):
        run(tmp_path / "run", tiny_options, side_by_side=2)
    assert not (tmp_path / "run").exists()
    assert run(tmp_path / "run", tiny_options, rounds=1)["digests"]["all_equal"]


def test_more_replicas_than_memory_holds_are_refused_before_anything_is_written(
    tiny_options: Options, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = tiny_options | {"side_by_side": 99, "out": str(tmp_path / "run")}
    monkeypatch.setattr(side_by_side, "_COPIES", 2**40)
    for start in (simulate, lambda experiment: estimate(experiment, "sim")):
        with pytest.raises(UserError, match=r"side_by_side is too large: .* of 4 replicas are "):
            start(experiment_from(options))
    assert not (tmp_path / "run").exists()


def test_the_option_asks_for_the_trainer(tiny_options: Options) -> None:
    prepared = prepare(experiment_from(tiny_options | {"side_by_side": 2}), "sim")
    parts = (prepared.experiment, prepared.corpus, prepared.global_model)
    assert isinstance(build_trainer(*parts, 2), SideBySideTrainer)
    assert isinstance(build_trainer(*parts, 1), ZerothOrderTrainer)
    # A peer of its own has nobody beside it, whatever the experiment says.
    assert isinstance(build_trainer(*parts), ZerothOrderTrainer)
    synthetic = experiment_from(SYNTHETIC | {"side_by_side": 2})
    assert isinstance(build_trainer(synthetic, None, None, 2), SyntheticTrainer)


@pytest.mark.parametrize(("engine", "widths"), [("sim", [2] * 4), ("launch", [])])
def test_an_estimate_is_of_what_the_engine_will_do(
    engine: str, widths: list[int], tiny_options: Options, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment = experiment_from(tiny_options | {"side_by_side": 2})
    cost: dict[str, Any] = {}
    assert calls(monkeypatch, lambda: cost.update(estimate(experiment, engine))) == widths
    assert cost["seconds"]["local_step"] > 0
