"""`kseed bench rebuild`: from the accumulator to the weights, and a pass over the weights.

All works are done with the same weights, a Llama's of about the wanted size. The fields, times in
seconds and medians of the repeats:

    seconds                      a rebuild from one accumulator, sums of up to 2**30 units
    reference_seconds            the published program's: seed anew, torch.normal for each
                                 parameter, subtract in place; by one thread or by all, whichever is
                                 quicker; timed over `reference_seeds` seeds, and scaled to all
    ratio                        reference_seconds / seconds
    nanoseconds_per_weight_and_seed    of `seconds`
    limit                        seconds: of the two below the longer, named
                                 memory_seconds: w0 is read and the weights are written, at measured
                                 bandwidth; philox_seconds: Philox alone, without using its words
    ratio_to_limit               seconds / limit's seconds
    worst                        the same with sums near 2**50, the largest that occur
    many                         a rebuild from several different accumulators at once
                                 ratio_to_one: in rebuilds from one; ratio: the published program's
                                 time for as many / seconds
    perturb                      a pass in place; axpy_seconds: torch's w.add_(z, alpha=c) with a z
                                 that is there already; ratio_to_axpy: seconds / axpy_seconds;
                                 reference_seconds: the published pass, which is not in place
"""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np
import torch

from peer.model import resolve_device
from peer.perturbation import Perturbation, perturbation
from peer.perturbation.cpu import cores
from peer.seeds import candidate_seeds
from sim.bench import limits, published
from sim.bench.llama import llama_config, parameter_shapes
from sim.bench.load import ForeignLoad
from sim.bench.machine import check_room
from sim.bench.options import BenchOptions
from sim.bench.report import report
from sim.bench.timing import Samples, Work, measure, medians

REFERENCE_SEEDS: Final = 2
"""So many of the seeds are measured with the published program's loop."""

SUM_BITS: Final = 30
WORST_SUM_BITS: Final = 50
_EXPONENT: Final = -38
"""That of a run: learning rates below 2**-13, 24 bits behind the point."""

_COEFFICIENT: Final = 1e-6

_SUM_BYTES: Final = 100
"""What a sum takes in all its forms: the number, Python's integer of it, limbs and their floats."""


def bench_rebuild(options: BenchOptions) -> dict[str, Any]:
    """Measure rebuilds; see `sim.bench.bench` and this module's docstring."""
    device = resolve_device(options.device)
    threads = options.threads or cores()
    bench = _Rebuild(options, device, threads)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with ForeignLoad() as load, torch.random.fork_rng():
            samples, calls = measure("rebuilds", bench.works(), options.repeats, device)
    finally:
        torch.set_num_threads(before)
    results = {name: bench.result(name, samples) for name in options.perturbations}
    common = {
        "parameters": bench.size,
        "candidate_seeds": options.candidate_seeds,
        "dtype": options.dtype,
        "repeats": options.repeats,
        "sum_bits": SUM_BITS,
        "worst_sum_bits": WORST_SUM_BITS,
        "reference_seeds": len(bench.reference_seeds),
        "bandwidth_bytes_per_second": limits.bandwidth(samples),
        "bandwidth_array_bytes": limits.ARRAY_BYTES,
        "samples": samples,
        "calls_per_sample": calls,
    }
    return report("rebuild", options, device, threads, common, results, load)


class _Rebuild:
    """Weights, seeds and sums, and what is done with them."""

    def __init__(self, options: BenchOptions, device: torch.device, threads: int) -> None:
        self._options = options
        self._device = device
        self._threads = threads
        config = llama_config(options.parameters, options.tokens)
        shapes = parameter_shapes(config)
        self.size = sum(map(math.prod, shapes))
        dtype: torch.dtype = getattr(torch, options.dtype)
        # w0, weights, z and twice the parameters beside the replicas, and the arrays of `limits`.
        room = (options.replicas + 5) * self.size * dtype.itemsize + 3 * limits.ARRAY_BYTES
        check_room(device, room)
        check_room(torch.device("cpu"), options.replicas * options.candidate_seeds * _SUM_BYTES)
        generator = np.random.default_rng(0)
        self._seeds = candidate_seeds(0, options.candidate_seeds)
        self.reference_seeds = self._seeds[:REFERENCE_SEEDS]
        shape = (options.replicas, options.candidate_seeds)
        self._sums = generator.integers(-(2**SUM_BITS), 2**SUM_BITS, shape)
        self._worst = self._sums[0] << (WORST_SUM_BITS - SUM_BITS)
        normal = torch.randn(self.size, generator=torch.Generator().manual_seed(0))
        self._z = normal.to(device=device, dtype=dtype)
        self._w0 = (normal * 0.02).to(device=device, dtype=dtype)
        self._out = self._w0.clone()
        self._outs = self._w0.repeat(options.replicas, 1)
        self._parameters = _views(self._w0.clone(), shapes)
        self._kernels = {
            name: perturbation(name, device, threads) for name in options.perturbations
        }

    def works(self) -> dict[str, Work]:
        """Return all works by name; those of a distribution have its name in front."""
        works = {
            name: work
            for kernel in self._kernels.values()
            for name, work in self._works_of(kernel).items()
        }
        works["axpy"] = lambda: self._out.add_(self._z, alpha=_COEFFICIENT)
        works["published_pass"] = lambda: published.perturb(self._parameters, 1, _COEFFICIENT)
        for threads in self._reference_threads():
            works[f"published_{threads}"] = self._published(threads)
        return works | limits.memory_works(self._device) | limits.philox_works(self._device)

    def _works_of(self, kernel: Perturbation) -> dict[str, Work]:
        name, w0, out, seeds = kernel.distribution.name, self._w0, self._out, self._seeds
        worst_exponent = _EXPONENT - (WORST_SUM_BITS - SUM_BITS)
        return {
            f"{name}_one": lambda: kernel.rebuild(out, w0, seeds, self._sums[0], _EXPONENT),
            f"{name}_worst": lambda: kernel.rebuild(out, w0, seeds, self._worst, worst_exponent),
            f"{name}_many": lambda: kernel.rebuild_many(
                self._outs, w0, seeds, self._sums, _EXPONENT
            ),
            f"{name}_pass": lambda: kernel.axpy_(out, int(seeds[0]), _COEFFICIENT),
        }

    def _reference_threads(self) -> list[int]:
        return sorted({1, self._threads}) if self._device.type == "cpu" else [self._threads]

    def _published(self, threads: int) -> Work:
        seeds = self.reference_seeds.tolist()
        coefficients = [_COEFFICIENT] * len(seeds)

        def work() -> None:
            torch.set_num_threads(threads)
            published.rebuild_(self._parameters, seeds, coefficients)
            torch.set_num_threads(self._threads)

        return work

    def result(self, name: str, samples: Samples) -> dict[str, Any]:
        """Return the fields of one distribution."""
        options, seconds = self._options, medians(samples)
        replicas, kernel = options.replicas, self._kernels[name]
        one, worst = seconds[f"{name}_one"], seconds[f"{name}_worst"]
        many, pass_ = seconds[f"{name}_many"], seconds[f"{name}_pass"]
        factor = options.candidate_seeds / len(self.reference_seeds)
        by_threads = {t: seconds[f"published_{t}"] * factor for t in self._reference_threads()}
        reference_threads = min(by_threads, key=by_threads.__getitem__)
        reference = by_threads[reference_threads]
        limit = self._limit(kernel, samples)
        return {
            "seconds": one,
            "reference_seconds": reference,
            "reference_threads": reference_threads,
            "ratio": reference / one,
            "nanoseconds_per_weight_and_seed": one / self.size / options.candidate_seeds * 1e9,
            "limit": limit,
            "ratio_to_limit": one / limit["seconds"],
            "worst": {"seconds": worst, "ratio": reference / worst},
            "many": {
                "replicas": replicas,
                "seconds": many,
                "ratio_to_one": many / one,
                "reference_seconds": reference * replicas,
                "ratio": reference * replicas / many,
            },
            "perturb": {
                "seconds": pass_,
                "axpy_seconds": seconds["axpy"],
                "ratio_to_axpy": pass_ / seconds["axpy"],
                "reference_seconds": seconds["published_pass"],
                "ratio": seconds["published_pass"] / pass_,
            },
        }

    def _limit(self, kernel: Perturbation, samples: Samples) -> dict[str, Any]:
        memory = 2 * self._w0.nbytes / limits.bandwidth(samples)
        each = limits.philox_seconds_per_block(samples, self._threads)
        philox = None
        if each is not None:
            blocks = self.size / kernel.distribution.weights_per_block
            philox = each * blocks * self._options.candidate_seeds
        bound = "philox" if philox is not None and philox > memory else "memory"
        return {
            "name": bound,
            "seconds": philox if bound == "philox" else memory,
            "memory_seconds": memory,
            "philox_seconds": philox,
        }


def _views(flat: torch.Tensor, shapes: list[tuple[int, ...]]) -> list[torch.Tensor]:
    """Return parameters of these shapes, one after the other in a flat buffer."""
    views, offset = [], 0
    for shape in shapes:
        size = math.prod(shape)
        views.append(flat[offset : offset + size].view(shape))
        offset += size
    return views
