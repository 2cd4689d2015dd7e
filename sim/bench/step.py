"""`kseed bench step`: a local step as a trainer takes it, against two bare forward passes.

A Llama of about the wanted size with random weights and rows of exactly the wanted number of
tokens, one in a batch, the latter half of each to be predicted. The fields, times in seconds and
medians of the repeats:

    seconds                  one of the local steps that `ZerothOrderTrainer.train` takes in a row;
                             the way to the cut, measured apart, is left out
    two_forwards_seconds     two forward passes of the same model over the same rows by the same
                             threads, to the logits, without a loss
    ratio_to_two_forwards    seconds / two_forwards_seconds
    two_losses_seconds       the same with the model's own loss
    ratio_to_two_losses      seconds / two_losses_seconds
    reference_seconds        the published program's step: for each of four passes it seeds anew,
                             draws torch.normal for each parameter, and adds, not in place; and two
                             forward passes with the model's own loss
    ratio                    reference_seconds / seconds
"""

from __future__ import annotations

import copy
import statistics
from collections.abc import Callable
from typing import Any, Final

import numpy as np
import torch

from peer.accumulator import Accumulator
from peer.data.encode import batch
from peer.errors import RunFailed
from peer.evaluation import PADDING
from peer.global_model import GlobalModel
from peer.local_data import LocalData
from peer.model import FlatModel, resolve_device
from peer.perturbation import perturbation
from peer.perturbation.cpu import cores
from peer.seeds import candidate_seeds
from peer.units import Units
from peer.zeroth_order import Step, ZerothOrderTrainer
from sim.bench import published
from sim.bench.llama import llama_config, random_llama, random_rows
from sim.bench.load import ForeignLoad
from sim.bench.machine import check_room
from sim.bench.options import BenchOptions
from sim.bench.report import report
from sim.bench.timing import Samples, Work, measure, medians

STEPS: Final = 20
"""Local steps that are taken in a row."""

STEP: Final = Step(epsilon=5e-4, learning_rate=3e-7, gradient_bound=1024.0, batch_size=1)
"""The published rates: random weights stay near where they are."""

UNITS: Final = Units(exponent=-22, fraction_bits=24, magnitude_bits=24)
"""Those of a run with this learning rate."""

_ROWS: Final = 8


def bench_step(options: BenchOptions) -> dict[str, Any]:
    """Measure local steps; see `sim.bench.bench` and this module's docstring."""
    device = resolve_device(options.device)
    threads = options.threads or cores()
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        bench = _Step(options, device, threads)
        with ForeignLoad() as load, torch.random.fork_rng():
            samples, calls = measure("local steps", bench.works(), options.repeats, device)
    finally:
        torch.set_num_threads(before)
    results = {name: bench.result(name, samples) for name in options.perturbations}
    common = {
        "parameters": bench.size,
        "tokens": options.tokens,
        "steps_in_a_row": STEPS,
        "candidate_seeds": options.candidate_seeds,
        "dtype": options.dtype,
        "repeats": options.repeats,
        "samples": samples,
        "calls_per_sample": calls,
    }
    return report("step", options, device, threads, common, results, load)


class _Step:
    """A model with its trainers, and another one of the same weights for the published program."""

    def __init__(self, options: BenchOptions, device: torch.device, threads: int) -> None:
        config = llama_config(options.parameters, options.tokens)
        width = getattr(torch, options.dtype).itemsize
        # Two models, w0 and a rebuild for each distribution; activations come on top.
        check_room(device, (2 + 2 * len(options.perturbations)) * options.parameters * width)
        module = random_llama(config, options.dtype, device)
        self._other = copy.deepcopy(module)
        self._other_parameters = list(self._other.parameters())
        self._model = FlatModel(module, device)
        self.size = len(self._model.weights)
        encoded = random_rows(_ROWS, options.tokens, config.vocab_size)
        rows = batch(encoded, [0], PADDING)
        self._ids, self._labels = rows[0].to(device), rows[2].to(device)
        seeds = candidate_seeds(0, options.candidate_seeds)
        self._indices = np.arange(STEPS) % len(seeds)
        self._cut = Accumulator.empty(len(seeds), UNITS)
        self._globals = {
            name: GlobalModel(
                self._model, perturbation(name, device, threads), seeds, remember=True
            )
            for name in options.perturbations
        }
        data = LocalData(encoded, {0: np.arange(_ROWS)}, root_seed=0)
        self._trainers = {
            name: ZerothOrderTrainer(global_model, data, STEP)
            for name, global_model in self._globals.items()
        }

    def works(self) -> dict[str, Work]:
        """Return all works by name; those of a distribution have its name in front."""
        works: dict[str, Work] = {}
        for name, trainer in self._trainers.items():
            works[f"{name}_round"] = self._round(trainer)
            works[f"{name}_cut"] = self._way_to_the_cut(self._globals[name])
        works["forward"] = self._forward
        works["loss"] = lambda: self._loss(self._model.module)
        works["published"] = self._published_step
        return works

    def _round(self, trainer: ZerothOrderTrainer) -> Work:
        def work() -> None:
            local = trainer.train(0, 0, self._cut, self._indices)
            if not np.isfinite(local.gradients).all():
                raise RunFailed("a step was skipped, because its loss was not finite")

        return work

    def _way_to_the_cut(self, global_model: GlobalModel) -> Work:
        return lambda: global_model.go_to(self._cut)

    def _forward(self) -> None:
        with torch.inference_mode():
            self._model.module(input_ids=self._ids, use_cache=False)

    def _loss(self, module: Callable[..., Any]) -> float:
        with torch.inference_mode():
            output = module(input_ids=self._ids, labels=self._labels, use_cache=False)
            return float(output.loss)

    def _published_step(self) -> None:
        published.step(
            self._other_parameters,
            1,
            STEP.epsilon,
            STEP.learning_rate,
            lambda: self._loss(self._other),
        )

    def result(self, name: str, samples: Samples) -> dict[str, Any]:
        """Return the fields of one distribution."""
        rounds, cuts = samples[f"{name}_round"], samples[f"{name}_cut"]
        seconds = statistics.median(
            (round_ - cut) / STEPS for round_, cut in zip(rounds, cuts, strict=True)
        )
        typical = medians(samples)
        forwards, losses = 2 * typical["forward"], 2 * typical["loss"]
        return {
            "seconds": seconds,
            "two_forwards_seconds": forwards,
            "ratio_to_two_forwards": seconds / forwards,
            "two_losses_seconds": losses,
            "ratio_to_two_losses": seconds / losses,
            "reference_seconds": typical["published"],
            "ratio": typical["published"] / seconds,
        }
