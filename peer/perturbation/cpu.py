"""The perturbations on a CPU: numba's kernels, threads over the flat weights, 16-bit types.

Each thread takes whole shares of the weights; kernels release the interpreter's lock. That neither
shares nor threads can change a bit follows from `reference`, and tests prove it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from peer.errors import UserError
from peer.perturbation import cpu_exact, cpu_gaussian, cpu_project, cpu_rademacher
from peer.perturbation.base import Pass, Perturbation
from peer.perturbation.limbs import split
from peer.perturbation.reference import Distribution
from peer.perturbation.table import point_table

_SHARES_PER_THREAD: Final = 4

_SHARE: Final = 2**20
"""Weights times seeds that a thread is woken for, at least."""

_COPY: Final = 32768
"""Weights that torch copies without starting threads of its own."""

_BITS: Final = {
    torch.float32: (torch.int32, 0x7F800000),
    torch.bfloat16: (torch.int16, 0x7F80),
    torch.float16: (torch.int16, 0x7C00),
}
"""The integer type of a weight's bits, and which of them are its exponent."""

Rebuild = Callable[[NDArray[np.float32], NDArray[np.float32], int], None]
"""Given (w0, outs, start), sets outs, shape (P, n), from w0, shape (n,), the weights from start."""


class CpuPerturbation(Perturbation):
    """The perturbations of one distribution on the CPU.

    Attributes:
        threads: how many share the weights.
    """

    def __init__(self, distribution: Distribution, threads: int | None = None) -> None:
        """Take a number of threads, at least 1; by default one for each core we may use."""
        super().__init__(distribution, torch.device("cpu"))
        self.threads = cores() if threads is None else threads
        if self.threads < 1:
            raise UserError(f"threads {threads}: at least 1 is wanted")
        self._pool = ThreadPoolExecutor(self.threads) if self.threads > 1 else None
        self._points = np.array(point_table()).view(np.uint32)[:, 0]

    def _units(self, seed: int, start: int, stop: int) -> torch.Tensor:
        out = np.empty(stop - start, np.int16)
        if self._is_gaussian:
            cpu_gaussian.units(self._points, np.uint64(seed), start, out)
        else:
            cpu_rademacher.units(np.uint64(seed), start, out)
        return torch.from_numpy(out)

    def _passes(self, weights: torch.Tensor, passes: list[Pass], start: int) -> None:
        seeds = np.array([seed for seed, _ in passes], np.uint64)
        coefficients = np.array([coefficient for _, coefficient in passes])
        scales = coefficients * 2.0**-self.unit_bits

        def take(values: NDArray[np.float32], first: int, which: slice) -> None:
            if self._is_gaussian:
                cpu_gaussian.passes(self._points, seeds[which], scales[which], first, values)
            else:
                signed = coefficients[which].astype(np.float32)
                cpu_rademacher.passes(seeds[which], signed, first, values)

        def run(share: range) -> None:
            part = weights[share.start - start : share.stop - start]
            if part.dtype == torch.float32:
                take(part.numpy(), share.start, slice(None))
                return
            for at in range(0, len(part), _COPY):
                some = part[at : at + _COPY]
                # Each pass ends with weights of their own type.
                for j in range(len(passes)):
                    values = some.float()
                    take(values.numpy(), share.start + at, slice(j, j + 1))
                    some.copy_(values)

        self._run(run, self._shares(start, start + len(weights), len(passes)))

    def _rebuild(
        self,
        outs: torch.Tensor,
        w0: torch.Tensor,
        seeds: NDArray[np.uint64],
        sums: NDArray[np.int64],
        scale: float,
        start: int,
    ) -> None:
        make = self._gaussian if self._is_gaussian else self._rademacher
        work = make(seeds, sums, scale)

        def run(share: range) -> None:
            part = slice(share.start - start, share.stop - start)
            if w0.dtype == torch.float32:
                work(w0[part].numpy(), outs[:, part].numpy(), share.start)
                return
            for at in range(part.start, part.stop, _COPY):
                some = slice(at, min(at + _COPY, part.stop))
                source = w0[some].float()
                values = torch.empty(len(outs), len(source))
                work(source.numpy(), values.numpy(), start + at)
                outs[:, some].copy_(values)

        self._run(run, self._shares(start, start + len(w0), len(seeds) * len(outs)))

    def _project(
        self, vector: torch.Tensor, seeds: NDArray[np.uint64], start: int
    ) -> NDArray[np.float64]:
        products = np.zeros(len(seeds))
        least = -(-_SHARE // max(len(vector), 1))
        length = max(least, -(-len(seeds) // (_SHARES_PER_THREAD * self.threads)))

        def run(share: range) -> None:
            some = slice(share.start, share.stop)
            if self._is_gaussian:
                cpu_project.gaussian(
                    self._points, seeds[some], start, vector.numpy(), products[some]
                )
            else:
                cpu_project.signs(seeds[some], start, vector.numpy(), products[some])

        everyone = range(len(seeds))
        self._run(run, [everyone[at : at + length] for at in everyone[::length]])
        return products

    def _gaussian(
        self, seeds: NDArray[np.uint64], sums: NDArray[np.int64], scale: float
    ) -> Rebuild:
        padding = -len(seeds) % cpu_gaussian.SEEDS_AT_ONCE
        padded = np.pad(seeds, (0, padding))
        rows = split(np.pad(sums, ((0, 0), (0, padding))), self.bound).astype(np.float64)

        def work(w0: NDArray[np.float32], outs: NDArray[np.float32], start: int) -> None:
            cpu_gaussian.rebuild(self._points, padded, rows, scale, start, w0, outs)

        return work

    def _rademacher(
        self, seeds: NDArray[np.uint64], sums: NDArray[np.int64], scale: float
    ) -> Rebuild:
        replicas = len(sums)
        if replicas == 1:
            padding = -len(seeds) % cpu_rademacher.SEEDS_AT_ONCE
            padded = np.pad(seeds, (0, padding))
            row = np.pad(sums[0], (0, padding))

            def work_one(w0: NDArray[np.float32], outs: NDArray[np.float32], start: int) -> None:
                cpu_rademacher.rebuild(padded, row, scale, start, w0, outs[0])

            return work_one
        at_once = cpu_rademacher.REPLICAS_AT_ONCE
        padding = -len(seeds) % cpu_rademacher.SEEDS_AT_ONCE_OF_MANY
        padded = np.pad(seeds, (0, padding))
        rows = np.pad(sums, ((0, -replicas % at_once), (0, padding)))
        # (slab, replica, seed) -> (slab, seed, replica)
        shape = (len(rows) // at_once, at_once, len(padded))
        slabs = np.ascontiguousarray(rows.reshape(shape).transpose(0, 2, 1))

        def work(w0: NDArray[np.float32], outs: NDArray[np.float32], start: int) -> None:
            cpu_rademacher.rebuild_many(padded, slabs, scale, start, w0, outs)

        return work

    def _first_not_finite(self, weights: torch.Tensor) -> int | None:
        integer, exponent = _BITS[weights.dtype]
        bits = weights.view(integer).numpy()
        at = int(cpu_exact.first_not_finite(bits, bits.dtype.type(exponent)))
        return None if at < 0 else at

    def _shares(self, start: int, stop: int, numbers: int) -> list[range]:
        """Cut [start, stop) into shares: a few for each thread, so that a slow one holds nobody up.

        A share begins where a period does: what lies before it would be made only to be left out.

        Args:
            start: the first weight.
            stop: the one after the last.
            numbers: how many numbers z each weight takes.
        """
        period = self.distribution.period
        least = _SHARE // max(numbers, 1)
        length = max(least, -(-(stop - start) // (_SHARES_PER_THREAD * self.threads)), 1)
        grid = range(start - start % period, stop, length + -length % period)
        return [range(max(at, start), min(at + grid.step, stop)) for at in grid]

    def _run(self, work: Callable[[range], None], shares: list[range]) -> None:
        if self._pool is None or len(shares) == 1:
            for share in shares:
                work(share)
        else:
            for _ in self._pool.map(work, shares):
                pass


def cores() -> int:
    """Return how many cores this process may use; macOS tells only how many there are."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
