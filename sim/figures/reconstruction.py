"""Ferret's appendix C.4, made again: how near reconstructions come to updates (Figures 3 and 4).

An update Delta of d numbers is projected on K random bases and reconstructed from its coordinates
(equations 7 and 8), with the kernels that peers use. For independent bases of signs the expected
squared length of the reconstruction is (K + d - 1) / K of the update's, and that of its part along
the update all of it, so the cosine of both must be near

    sqrt(K / (K + d))

and so it must with L blocks of d/L dimensions and K/L bases each. Beside it stands the zeroth-order
reconstruction of Theorem 3: g_k = (F(x + eps v_k) - F(x)) / eps in place of the inner product, with
v = z / sqrt(d) and losses in float32, as programs have them. Panels:

    bases        F = sum x_i^2 at a random x, d = 100,000, over K, for several eps; up to four
                 groups of a draw's bases give a cosine each
    steps        T steps of gradient descent on F = sum sin(x_i)^2, learning rate 0.1, d = 50,000,
                 K = 500. Zeroth order takes T steps of its own on the same bases, each along the
                 sum of g_k v_k / K where it is. Scaled as in equation 7 they would diverge at once,
                 for such a step is sqrt(d / K) times as long as the gradient's
    dimensions   the gradient of F = sum sin(x_i)^2 at a random x, K = 500, over d
    blocks       the same, d = 512,000 and K = 512, over L; and the time it takes

The report's fields:

    setting      the options; `threads` as used
    rows         a line each: panel; method: ferret or zeroth-order; epsilon (None: ferret);
                 dimensions, bases, steps, blocks; cosine, the mean of `draws`, and cosine_error,
                 its standard error; expected: the formula above, None for zeroth order; seconds:
                 of projecting, and rebuilding from the accumulator, once: the median of the draws,
                 in `blocks` alone
    ratio        mean of <reconstruction, Delta> / |Delta|^2 over `draws`, and its standard error:
                 1 if reconstructions are unbiased; for the gradient of sum sin(x_i)^2 as in `steps`
"""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import Any, Final, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from peer.block_draw import draw_blocks
from peer.blocks import block_offsets
from peer.perturbation import Perturbation, perturbation
from peer.perturbation.cpu import cores
from peer.projection import Update, project
from peer.seeds import candidate_seeds
from sim.bench.load import ForeignLoad
from sim.bench.machine import facts
from sim.bench.progress import BenchProgress
from sim.figures.options import ReconstructionOptions

FERRET: Final = "ferret"
ZEROTH_ORDER: Final = "zeroth-order"
PANELS: Final = ("bases", "steps", "dimensions", "blocks")

RATIO_DRAWS: Final = 200
BASES: Final = (125, 250, 500, 1000, 2000, 4000)
EPSILONS: Final = (10.0, 1.0, 0.1, 0.001)
STEPS: Final = (1, 2, 5, 10, 20)
DIMENSIONS: Final = (5_000, 10_000, 20_000, 50_000, 100_000, 200_000, 500_000)
BLOCKS: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)

FIXED_BASES: Final = 500
_GROUPS: Final = 4
_EPSILON: Final = 0.1
_LEARNING_RATE: Final = 0.1
_BASES_SIZE: Final = 100_000
_STEPS_SIZE: Final = 50_000
_BLOCKS_SIZE: Final = 512_000
_FRACTION_BITS: Final = 24

Loss = Callable[[torch.Tensor], float]


class Point(NamedTuple):
    """What a row is for: its fields but for what was measured."""

    panel: str
    method: str
    epsilon: float | None
    dimensions: int
    bases: int
    steps: int
    blocks: int


class Measured(NamedTuple):
    """One draw of a point: cosine, and seconds where they are taken."""

    point: Point
    cosine: float
    seconds: float | None = None


def measure_reconstruction(options: ReconstructionOptions) -> dict[str, Any]:
    """Measure, and return the report; see this module's docstring."""
    threads = options.threads or cores()
    kernel = perturbation(options.perturbation, "cpu", threads)
    kernel.warm_up(torch.float32)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    drawn: dict[Point, list[Measured]] = defaultdict(list)
    try:
        with (
            ForeignLoad() as load,
            BenchProgress("reconstructions", len(PANELS) * options.draws + 1) as progress,
        ):
            for draw in range(options.draws):
                for panel in (over_bases, over_steps, over_dimensions, over_blocks):
                    for measured in panel(kernel, options, draw):
                        drawn[measured.point].append(measured)
                    progress.advance()
            ratio = _ratio(kernel, options)
            progress.advance()
    finally:
        torch.set_num_threads(before)
    return {
        "figure": "reconstruction",
        "setting": asdict(options) | {"threads": threads},
        "rows": [_row(point, draws) for point, draws in sorted(drawn.items(), key=_order)],
        "ratio": ratio,
        **load.fields(),
        "machine": facts(torch.device("cpu"), threads),
    }


def expected_cosine(bases: int, dimensions: int) -> float:
    """Return the cosine of an update and its reconstruction on independent bases."""
    return math.sqrt(bases / (bases + dimensions))


def _order(item: tuple[Point, Any]) -> tuple[Any, ...]:
    point = item[0]
    at = PANELS.index(point.panel), point.method, -(point.epsilon or 0.0)
    return (*at, point.dimensions, point.bases, point.steps, point.blocks)


def _row(point: Point, draws: list[Measured]) -> dict[str, Any]:
    cosines = [each.cosine for each in draws]
    times = [each.seconds for each in draws if each.seconds is not None]
    ferret = point.method == FERRET
    return point._asdict() | {
        "cosine": float(np.mean(cosines)),
        "cosine_error": _standard_error(cosines),
        "expected": expected_cosine(point.bases, point.dimensions) if ferret else None,
        "seconds": float(np.median(times)) if times else None,
    }


def _standard_error(values: list[float]) -> float:
    """Return the standard error of a mean; 0 where one value tells nothing of it."""
    return float(np.std(values, ddof=1) / math.sqrt(len(values))) if len(values) > 1 else 0.0


def over_bases(
    kernel: Perturbation, options: ReconstructionOptions, draw: int
) -> Iterator[Measured]:
    """Yield one draw of the panel `bases`; see this module's docstring."""
    size = options.size(_BASES_SIZE)
    x, seeds = _drawn(options, draw, size, BASES[-1])
    update = 2 * x
    for epsilon in (None, *EPSILONS):
        if epsilon is None:
            method, of_seeds = FERRET, kernel.project(update, seeds)
        else:
            method = ZEROTH_ORDER
            of_seeds = _differences(kernel, _squares, x, seeds, epsilon)
        for bases in BASES:
            point = Point("bases", method, epsilon, size, bases, 1, 1)
            # Of few bases a cosine deviates by 1 / sqrt(2 K), so it is taken of several groups.
            for first in range(0, min(_GROUPS * bases, len(seeds)), bases):
                some, made = slice(first, first + bases), torch.zeros(size)
                _add(kernel, made, seeds[some], of_seeds[some])
                yield Measured(point, _cosine(made, update))


def over_steps(
    kernel: Perturbation, options: ReconstructionOptions, draw: int
) -> Iterator[Measured]:
    """Yield one draw of the panel `steps`; see this module's docstring."""
    size = options.size(_STEPS_SIZE)
    start, seeds = _drawn(options, draw, size, FIXED_BASES)
    x, zeroth = start.clone(), start.clone()
    for step in range(1, STEPS[-1] + 1):
        x -= _LEARNING_RATE * torch.sin(2 * x)
        differences = _differences(kernel, _sines, zeroth, seeds, _EPSILON)
        # The sum of g_k v_k / K, v being z / sqrt(d).
        _add(kernel, zeroth, seeds, -_LEARNING_RATE / (FIXED_BASES * math.sqrt(size)) * differences)
        if step in STEPS:
            update, made = start - x, torch.zeros(size)
            _add(kernel, made, seeds, kernel.project(update, seeds))
            for method, epsilon, of_method in (
                (FERRET, None, made),
                (ZEROTH_ORDER, _EPSILON, start - zeroth),
            ):
                point = Point("steps", method, epsilon, size, FIXED_BASES, step, 1)
                yield Measured(point, _cosine(of_method, update))


def over_dimensions(
    kernel: Perturbation, options: ReconstructionOptions, draw: int
) -> Iterator[Measured]:
    """Yield one draw of the panel `dimensions`; see this module's docstring."""
    for size in map(options.size, DIMENSIONS):
        x, seeds = _drawn(options, draw, size, FIXED_BASES)
        update = torch.sin(2 * x)
        for method, epsilon, factors in (
            (FERRET, None, kernel.project(update, seeds)),
            (ZEROTH_ORDER, _EPSILON, _differences(kernel, _sines, x, seeds, _EPSILON)),
        ):
            made = torch.zeros(size)
            _add(kernel, made, seeds, factors)
            point = Point("dimensions", method, epsilon, size, FIXED_BASES, 1, 1)
            yield Measured(point, _cosine(made, update))


def over_blocks(
    kernel: Perturbation, options: ReconstructionOptions, draw: int
) -> Iterator[Measured]:
    """Yield one draw of the panel `blocks`; see this module's docstring."""
    size, candidates = options.size(_BLOCKS_SIZE), BLOCKS[-1]
    x, seeds = _drawn(options, draw, size, candidates)
    gradient = torch.sin(2 * x)
    for blocks in BLOCKS:
        offsets = block_offsets([size], blocks)
        update = Update(gradient, torch.zeros(size), offsets)
        counts = np.full(blocks, candidates // blocks)
        indices = draw_blocks(options.seed, draw, 0, counts, candidates)
        sums = np.zeros((1, blocks, candidates), np.int64)
        made, nothing = torch.empty(1, size), torch.zeros(size)
        began = time.perf_counter()
        coordinates = project(kernel, update, seeds, counts, indices, 1.0)
        # w0 is 0, and a rebuild subtracts.
        sums.reshape(-1)[indices] = np.rint(np.ldexp(-coordinates, _FRACTION_BITS))
        kernel.rebuild_blocks(made, nothing, seeds, sums, offsets, -_FRACTION_BITS)
        seconds = time.perf_counter() - began
        point = Point("blocks", FERRET, None, size, candidates, 1, blocks)
        yield Measured(point, _cosine(made[0], gradient), seconds)


def _ratio(kernel: Perturbation, options: ReconstructionOptions) -> dict[str, Any]:
    ratios = []
    for draw in range(RATIO_DRAWS):
        x, seeds = _drawn(options, draw, options.size(_STEPS_SIZE), FIXED_BASES)
        update = torch.sin(2 * x)
        products = kernel.project(update, seeds)
        # <z z^T Delta / K, Delta>, summed over the bases.
        squares = float(update.double().square().sum())
        ratios.append(float(products @ products) / FIXED_BASES / squares)
    return {
        "draws": RATIO_DRAWS,
        "mean": float(np.mean(ratios)),
        "standard_error": _standard_error(ratios),
    }


def _drawn(
    options: ReconstructionOptions, draw: int, size: int, bases: int
) -> tuple[torch.Tensor, NDArray[np.uint64]]:
    """Return a random x of N(0, 1), shape (size,), and the seeds of a draw, shape (bases,)."""
    x = np.random.default_rng([options.seed, draw]).standard_normal(size, dtype=np.float32)
    return torch.from_numpy(x), candidate_seeds(options.seed + draw, bases)


def _differences(
    kernel: Perturbation,
    loss: Loss,
    x: torch.Tensor,
    seeds: NDArray[np.uint64],
    epsilon: float,
) -> NDArray[np.float64]:
    """Return (F(x + eps v) - F(x)) / eps for each seed's v = z / sqrt(d): shape (K,)."""
    before, scale = loss(x), epsilon / math.sqrt(len(x))
    moved = torch.empty_like(x)
    differences = np.empty(len(seeds))
    for j, seed in enumerate(seeds.tolist()):
        moved.copy_(x)
        kernel.axpy_(moved, seed, scale)
        differences[j] = (loss(moved) - before) / epsilon
    return differences


def _squares(x: torch.Tensor) -> float:
    return float(np.float32(float(x.double().square().sum())))


def _sines(x: torch.Tensor) -> float:
    return float(np.float32(float(torch.sin(x).double().square().sum())))


def _add(
    kernel: Perturbation,
    vector: torch.Tensor,
    seeds: NDArray[np.uint64],
    factors: NDArray[np.float64],
    start: int = 0,
) -> None:
    """Add factor * z of each seed to a vector in place."""
    kernel.passes_(vector, list(zip(seeds.tolist(), factors.tolist(), strict=True)), start)


def _cosine(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(torch.nn.functional.cosine_similarity(a.double(), b.double(), dim=0))
