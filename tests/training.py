"""A tiny model at an accumulator, and who trains it, for tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from peer.accumulator import Accumulator
from peer.data.encode import Encoded
from peer.global_model import GlobalModel
from peer.local_data import LocalData
from peer.model import load_model
from peer.perturbation import perturbation, reference
from peer.pretrained import Pretrained
from peer.seeds import candidate_seeds
from peer.units import Units
from peer.zeroth_order import Step, ZerothOrderTrainer

K = 16
UNITS = Units(exponent=-10, fraction_bits=24, magnitude_bits=24)
SEEDS = candidate_seeds(5, K)
DISTRIBUTIONS = {"gaussian": reference.GAUSSIAN, "rademacher": reference.RADEMACHER}
STEP = Step(epsilon=1e-2, learning_rate=1e-2, gradient_bound=1024.0, batch_size=2)


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
    return ZerothOrderTrainer(global_model, LocalData(encoded, shards, root_seed=11), step)


def whole(w0: Pretrained) -> torch.Tensor:
    """All of w0 in one tensor, in the type of the model."""
    return torch.cat([weights.to(w0.dtype) for _, weights in w0.segments])
