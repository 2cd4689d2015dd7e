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
from peer.perturbation import cpu_kernels
from peer.perturbation.base import Perturbation
from peer.perturbation.limbs import split
from peer.perturbation.reference import GAUSSIAN, Distribution
from peer.perturbation.table import quantile_table

_SHARES_PER_THREAD: Final = 4

_SHARE: Final = 2**20
"""Weights times seeds that a thread is woken for, at least."""

_COPY: Final = 32768
"""Weights that torch copies without starting threads of its own."""

Work = Callable[[NDArray[np.float32], int], None]
"""Changes some values in place, which are the weights from an index."""


class CpuPerturbation(Perturbation):
    """The perturbations of one distribution on the CPU.

    Attributes:
        threads: how many share the weights.
    """

    def __init__(self, distribution: Distribution, threads: int | None = None) -> None:
        """Take a number of threads, at least 1; by default one for each core we may use."""
        super().__init__(distribution, torch.device("cpu"))
        self.threads = _cores() if threads is None else threads
        if self.threads < 1:
            raise UserError(f"threads {threads}: at least 1 is wanted")
        self._pool = ThreadPoolExecutor(self.threads) if self.threads > 1 else None
        gaussian = distribution is GAUSSIAN
        self._table = np.array(quantile_table()) if gaussian else _signs_of_bytes()

    def _units(self, seed: int, start: int, stop: int) -> torch.Tensor:
        out = np.empty(stop - start, np.int16)
        cpu_kernels.units(self.distribution.tag, self._table, np.uint64(seed), start, out)
        return torch.from_numpy(out)

    def _axpy(self, weights: torch.Tensor, seed: int, coefficient: float, start: int) -> None:
        tag, table, key = self.distribution.tag, self._table, np.uint64(seed)
        scale = coefficient * 2.0**-self.unit_bits

        def work(values: NDArray[np.float32], first: int) -> None:
            cpu_kernels.axpy(tag, table, key, scale, first, values)

        self._share(weights, weights, start, 1, work)

    def _rebuild(
        self,
        out: torch.Tensor,
        w0: torch.Tensor,
        seeds: NDArray[np.uint64],
        sums: NDArray[np.int64],
        scale: float,
        start: int,
    ) -> None:
        limbs = split(sums, self.bound).astype(np.float64)

        def gaussian(values: NDArray[np.float32], first: int) -> None:
            cpu_kernels.rebuild_gaussian(self._table, seeds, limbs, scale, first, values)

        def rademacher(values: NDArray[np.float32], first: int) -> None:
            cpu_kernels.rebuild_rademacher(seeds, sums, scale, first, values)

        work = gaussian if self.distribution is GAUSSIAN else rademacher
        self._share(out, w0, start, len(seeds), work)

    def _share(
        self, out: torch.Tensor, source: torch.Tensor, start: int, seeds: int, work: Work
    ) -> None:
        """Set out to source, the weights from start, changed by work for some number of seeds."""
        shares = _shares(start, start + len(out), seeds, self.threads)

        def run(share: range) -> None:
            part = slice(share.start - start, share.stop - start)
            _through_float32(out[part], source[part], share.start, work)

        if self._pool is None or len(shares) == 1:
            for share in shares:
                run(share)
        else:
            for _ in self._pool.map(run, shares):
                pass


def _cores() -> int:
    """Return how many cores this process may use; macOS tells only how many there are."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _shares(start: int, stop: int, seeds: int, threads: int) -> list[range]:
    """Cut [start, stop) into shares: a few for each thread, so that a slow one holds nobody up.

    Cuts lie at multiples of 128, where no kernel makes a number only to leave it out.
    """
    least = _SHARE // max(seeds, 1)
    length = max(least, -(-(stop - start) // (_SHARES_PER_THREAD * threads)), 1)
    grid = range(start - start % 128, stop, length + -length % 128)
    return [range(max(at, start), min(at + grid.step, stop)) for at in grid]


def _through_float32(out: torch.Tensor, source: torch.Tensor, start: int, work: Work) -> None:
    """Set out to source, changed by work, rounded from float32 to the type of out."""
    if out.dtype == torch.float32 and out.data_ptr() == source.data_ptr():
        work(out.numpy(), start)
        return
    for at in range(0, len(out), _COPY):
        values = source[at : at + _COPY].to(torch.float32, copy=True)
        work(values.numpy(), start + at)
        out[at : at + _COPY].copy_(values)


def _signs_of_bytes() -> NDArray[np.int16]:
    """Return the eight signs of each byte, lowest bit first: shape (2048,)."""
    bits = np.arange(256)[:, None] >> np.arange(8) & 1
    return (2 * bits - 1).astype(np.int16).reshape(-1)
