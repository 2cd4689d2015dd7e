"""The perturbations on a CPU: numba's kernels, threads over the flat weights, 16-bit types.

Each thread takes whole shares of the weights; kernels release the interpreter's lock. That neither
shares nor threads can change a bit follows from `reference`, and tests prove it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from peer.errors import UserError
from peer.perturbation import cpu_exact, cpu_gaussian, cpu_project, cpu_rademacher
from peer.perturbation.base import BlockSums, Pass, Perturbation, firsts_of
from peer.perturbation.limbs import split_blocks
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

        offsets = np.array([start, start + len(weights)])
        self._run(run, self._shares(offsets, np.array([len(passes)])))

    def _rebuild_blocks(
        self, outs: torch.Tensor, w0: torch.Tensor, blocks: BlockSums, scale: float
    ) -> None:
        make = self._gaussian if self._is_gaussian else self._rademacher
        work = make(blocks, scale)
        start = int(blocks.offsets[0])

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

        self._run(run, self._shares(blocks.offsets, np.diff(blocks.firsts) * len(outs)))

    def _project_blocks(
        self,
        vector: torch.Tensor,
        seeds: NDArray[np.uint64],
        firsts: NDArray[np.int64],
        offsets: NDArray[np.int64],
    ) -> NDArray[np.float64]:
        products = np.zeros(len(seeds))
        numbers = vector.numpy()
        # A share is seeds, of however many blocks: each product is one thread's.
        ends = np.repeat(np.diff(offsets), np.diff(firsts)).cumsum()
        total = int(ends[-1]) if len(ends) else 0
        shares = max(min(total // _SHARE, _SHARES_PER_THREAD * self.threads), 1)
        cuts = np.searchsorted(ends, np.arange(1, shares) * (total // shares)).tolist()

        def run(share: range) -> None:
            some = (share.start, share.stop, numbers, products)
            if self._is_gaussian:
                cpu_project.gaussian(self._points, offsets, firsts, seeds, *some)
            else:
                cpu_project.signs(offsets, firsts, seeds, *some)

        self._run(run, [range(a, b) for a, b in pairwise([0, *cuts, len(seeds)])])
        return products

    def _gaussian(self, blocks: BlockSums, scale: float) -> Rebuild:
        if len(blocks.sums) > 1:
            blocks = _padded(blocks, cpu_gaussian.SEEDS_AT_ONCE)
        offsets, firsts, seeds, sums = blocks
        limbs, counts = split_blocks(sums, firsts, self.bound)
        rows = limbs.astype(np.float64)

        def work(w0: NDArray[np.float32], outs: NDArray[np.float32], start: int) -> None:
            cpu_gaussian.rebuild(
                self._points, offsets, firsts, seeds, rows, counts, scale, start, w0, outs
            )

        return work

    def _rademacher(self, blocks: BlockSums, scale: float) -> Rebuild:
        replicas = len(blocks.sums)
        if replicas == 1:
            offsets, firsts, seeds, (row,) = blocks

            def work_one(w0: NDArray[np.float32], outs: NDArray[np.float32], start: int) -> None:
                cpu_rademacher.rebuild(offsets, firsts, seeds, row, scale, start, w0, outs[0])

            return work_one
        offsets, firsts, seeds, sums = _padded(blocks, cpu_rademacher.SEEDS_AT_ONCE_OF_MANY)
        at_once = cpu_rademacher.REPLICAS_AT_ONCE
        rows = np.pad(sums, ((0, -replicas % at_once), (0, 0)))
        # (slab, replica, seed) -> (slab, seed, replica)
        shape = (len(rows) // at_once, at_once, len(seeds))
        slabs = np.ascontiguousarray(rows.reshape(shape).transpose(0, 2, 1))

        def work(w0: NDArray[np.float32], outs: NDArray[np.float32], start: int) -> None:
            cpu_rademacher.rebuild_many(offsets, firsts, seeds, slabs, scale, start, w0, outs)

        return work

    def _first_not_finite(self, weights: torch.Tensor) -> int | None:
        integer, exponent = _BITS[weights.dtype]
        bits = weights.view(integer).numpy()
        at = int(cpu_exact.first_not_finite(bits, bits.dtype.type(exponent)))
        return None if at < 0 else at

    def _shares(self, offsets: NDArray[np.int64], numbers: NDArray[np.int64]) -> list[range]:
        """Cut weights into shares: a few for each thread, so that a slow one holds nobody up.

        All have about as many numbers z to make. A share begins where a period does: what lies
        before it would be made only to be left out.

        Args:
            offsets: where blocks begin, and the last one ends: shape (L + 1,).
            numbers: how many numbers z each weight of a block takes: shape (L,).
        """
        start, stop = int(offsets[0]), int(offsets[-1])
        work = np.concatenate([[0], np.cumsum(np.diff(offsets) * (numbers + 1))])
        shares = max(min(int(work[-1]) // _SHARE, _SHARES_PER_THREAD * self.threads), 1)
        even = np.linspace(0, int(work[-1]), shares + 1)[1:-1]
        cuts = start + np.interp(even, work, offsets - start).astype(np.int64)
        cuts -= cuts % self.distribution.period
        inner = sorted({cut for cut in cuts.tolist() if start < cut < stop})
        return [range(a, b) for a, b in pairwise([start, *inner, stop])]

    def _run(self, work: Callable[[range], None], shares: list[range]) -> None:
        if self._pool is None or len(shares) == 1:
            for share in shares:
                work(share)
        else:
            for _ in self._pool.map(work, shares):
                pass


def _padded(blocks: BlockSums, multiple: int) -> BlockSums:
    """Fill the seeds of each block up to a multiple, with seeds whose sums are 0."""
    offsets, firsts, seeds, sums = blocks
    counts = np.diff(firsts)
    padded = firsts_of(counts + -counts % multiple)
    to = np.arange(len(seeds)) + np.repeat(padded[:-1] - firsts[:-1], counts)
    all_seeds, all_sums = np.zeros(padded[-1], np.uint64), np.zeros((len(sums), padded[-1]), int)
    all_seeds[to] = seeds
    all_sums[:, to] = sums
    return BlockSums(offsets, padded, all_seeds, all_sums)


def cores() -> int:
    """Return how many cores this process may use; macOS tells only how many there are."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
