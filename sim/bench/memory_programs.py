"""The three programs whose memory `kseed bench memory` measures, each in a process of its own.

A process first does all of it with a tiny model, so that what it imports, compiles and starts is in
memory before anything is measured.
"""

from __future__ import annotations

import copy
import gc
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch

from peer.accumulator import Accumulator
from peer.data.encode import batch
from peer.evaluation import PADDING
from peer.global_model import GlobalModel
from peer.local_data import LocalData
from peer.model import load_model
from peer.perturbation import perturbation
from peer.seeds import candidate_seeds
from peer.zeroth_order import ZerothOrderTrainer
from sim.bench import published
from sim.bench.llama import random_rows
from sim.bench.private_memory import PrivateMemory, largest_resident, private_now
from sim.bench.step import STEP, UNITS

PROGRAMS: Final = ("inference", "published", "round")

_STEPS: Final = 4
_SUM_BITS: Final = 30


@dataclass(frozen=True)
class Program:
    """What a process does.

    Attributes:
        name: one of `PROGRAMS`.
        perturbation: of a round.
        candidate_seeds: K, of a round.
        tokens: of the row.
        dtype: of the weights.
        device: where they are.
        threads: of all work.
    """

    name: str
    perturbation: str
    candidate_seeds: int
    tokens: int
    dtype: str
    device: str
    threads: int


def run(program: Program, tiny: Path, folder: Path) -> dict[str, int]:
    """Return the bytes that a program takes with the model of a folder; see `sim.bench.memory`.

    Args:
        program: what to do.
        tiny: a folder with a tiny model.
        folder: one with the model.
    """
    device = torch.device(program.device)
    torch.set_num_threads(program.threads)
    _load_and_work(program, tiny, device)
    gc.collect()
    imports = private_now(device)
    loading, peak = _load_and_work(program, folder, device)
    return {
        "import_bytes": imports,
        "loading_bytes": loading,
        "peak_bytes": peak,
        "resident_bytes": largest_resident(),
    }


def _load_and_work(program: Program, folder: Path, device: torch.device) -> tuple[int, int]:
    """Return the peaks of private memory while loading, and while working."""
    prepare = {"inference": _inference, "published": _published, "round": _round}[program.name]
    with PrivateMemory(device) as loading:
        work = prepare(program, folder, device)
    gc.collect()
    with PrivateMemory(device) as working:
        work()
    return loading.peak, working.peak


def _inference(program: Program, folder: Path, device: torch.device) -> Callable[[], None]:
    model = load_model(str(folder), program.dtype, device)
    encoded = random_rows(1, program.tokens, model.module.config.vocab_size)
    ids = batch(encoded, [0], PADDING)[0].to(device)

    def work() -> None:
        with torch.inference_mode():
            for _ in range(_STEPS):
                model.module(input_ids=ids, use_cache=False)

    return work


def _round(program: Program, folder: Path, device: torch.device) -> Callable[[], None]:
    model = load_model(str(folder), program.dtype, device)
    kernel = perturbation(program.perturbation, device, program.threads)
    seeds = candidate_seeds(0, program.candidate_seeds)
    encoded = random_rows(1, program.tokens, model.module.config.vocab_size)
    global_model = GlobalModel(model, kernel, seeds)
    data = LocalData(encoded, {0: np.arange(1)}, root_seed=0)
    trainer = ZerothOrderTrainer(global_model, data, STEP)
    cut = Accumulator.empty(len(seeds), UNITS)
    cut.sums[:] = np.random.default_rng(0).integers(-(2**_SUM_BITS), 2**_SUM_BITS, len(seeds))
    indices = np.arange(_STEPS) % len(seeds)

    def work() -> None:
        trainer.train(0, 0, cut, indices)

    return work


def _published(program: Program, folder: Path, device: torch.device) -> Callable[[], None]:
    w0 = load_model(str(folder), program.dtype, device).module
    encoded = random_rows(1, program.tokens, w0.config.vocab_size)
    ids, _, labels = (tensor.to(device) for tensor in batch(encoded, [0], PADDING))

    def work() -> None:
        model = copy.deepcopy(w0)
        parameters = list(model.parameters())

        def loss() -> float:
            with torch.inference_mode():
                return float(model(input_ids=ids, labels=labels, use_cache=False).loss)

        published.rebuild_(parameters, [1, 2], [1e-6, 1e-6])
        published.step(parameters, 1, STEP.epsilon, STEP.learning_rate, loss)

    return work
