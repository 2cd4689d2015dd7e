"""The one interface of every backend, and the checks that all of them share.

A public method checks its arguments, and only then calls the backend's own part. So whatever is
refused has changed nothing.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from peer.errors import UserError
from peer.perturbation.checks import (
    check_apart,
    check_blocks,
    check_range,
    check_seed,
    check_sums,
    in_float32,
)
from peer.perturbation.reference import GAUSSIAN, Distribution
from peer.tensors import all_finite

WEIGHT_DTYPES: Final = (torch.float32, torch.bfloat16, torch.float16)

EXPONENT_LIMIT: Final = 900
"""|exponent| up to here leaves every product with a power of two exact in float64."""


Pass = tuple[int, float]
"""A seed and a coefficient: w <- w + coefficient * z(seed)."""

_LOOK: Final = 2**20


class BlockSums(NamedTuple):
    """Which sums of which seeds move which of the weights at hand.

    Attributes:
        offsets: where, in the model, blocks of them begin, and the end: ascending, shape (L + 1,).
        firsts: where in the seeds those of a block begin, and their number: shape (L + 1,).
        seeds: shape (m,).
        sums: shape (P, m), of P accumulators.
    """

    offsets: NDArray[np.int64]
    firsts: NDArray[np.int64]
    seeds: NDArray[np.uint64]
    sums: NDArray[np.int64]


class Perturbation(ABC):
    """The perturbations of one distribution, made on one kind of device.

    Attributes:
        distribution: which one; its name, `unit_bits` and `bound`.
        device: where tensors must lie.
    """

    def __init__(self, distribution: Distribution, device: torch.device) -> None:
        self.distribution = distribution
        self.device = device

    @property
    def unit_bits(self) -> int:
        """z is a multiple of 2**-unit_bits."""
        return self.distribution.unit_bits

    @property
    def bound(self) -> int:
        """The largest |z|, in units."""
        return self.distribution.bound

    @property
    def _is_gaussian(self) -> bool:
        return self.distribution is GAUSSIAN

    def warm_up(self, dtype: torch.dtype) -> None:
        """Take a pass over a weight, rebuild and project it: what they need is compiled and kept.

        Compiling takes half a minute of one processor. So it is done before many processes start
        that would all have to do it.
        """
        weight = torch.zeros(1, dtype=dtype, device=self.device)
        self.axpy_(weight, 0, 0.0)
        self.rebuild(weight, weight, np.zeros(1, np.uint64), np.ones(1, np.int64), 0)
        self.project(weight.float(), np.zeros(1, np.uint64))

    def units(self, seed: int, start: int, stop: int) -> torch.Tensor:
        """Return numbers start to stop of a perturbation, in units.

        Returns:
            int16, shape (stop - start,), on `device`.

        Raises:
            UserError: a seed or a range that is outside.
        """
        check_seed(seed)
        check_range(start, stop)
        return self._units(int(seed), start, stop)

    def axpy_(self, weights: torch.Tensor, seed: int, coefficient: float, start: int = 0) -> None:
        """Add coefficient * z to weights in place: one pass; see `passes_`."""
        self.passes_(weights, [(seed, coefficient)], start)

    def passes_(self, weights: torch.Tensor, passes: Sequence[Pass], start: int = 0) -> None:
        """Take passes over weights in place, one after the other, as `reference` defines them.

        The weights cross memory once, however many passes there are, and neighbouring passes of one
        seed share its perturbation.

        Args:
            weights: float32, bfloat16 or float16, shape (n,), contiguous, on `device`. They are not
                looked at first: one that is not finite stays so, and changes no other.
            passes: seed and coefficient of each; 0 <= seed < 2**64, and the coefficient finite
                after it is rounded to float32.
            start: index, in the model, of the first of these weights.

        Raises:
            UserError: an argument is not as above. Nothing has changed.
        """
        self._check_weights("weights", weights)
        check_range(start, start + len(weights))
        rounded = []
        with np.errstate(over="ignore"):
            for seed, coefficient in passes:
                check_seed(seed)
                rounded.append((int(seed), in_float32(coefficient)))
        if rounded:
            self._passes(weights.detach(), rounded, start)

    def rebuild(
        self,
        out: torch.Tensor,
        w0: torch.Tensor,
        seeds: NDArray[np.uint64],
        sums: NDArray[np.int64],
        exponent: int,
        start: int = 0,
    ) -> None:
        """Set out to w0 - 2**exponent * sum_j sums_j z_j: the rebuild that `reference` defines.

        Args:
            out: like w0; may be w0 itself, but not overlap it in another way.
            w0: finite float32, bfloat16 or float16, shape (n,), contiguous, on `device`.
            seeds: uint64, shape (K,).
            sums: int64, shape (K,), |sums| < 2**51; a seed whose sum is 0 costs nothing.
            exponent: the unit of the sums is 2**exponent; |exponent| <= 900.
            start: index, in the model, of the first of these weights.

        Raises:
            UserError: an argument is not as above. Nothing has changed.
        """
        self._check_weights("out", out)
        self.rebuild_many(out[None], w0, seeds, sums[None], exponent, start)

    def rebuild_many(
        self,
        outs: torch.Tensor,
        w0: torch.Tensor,
        seeds: NDArray[np.uint64],
        sums: NDArray[np.int64],
        exponent: int,
        start: int = 0,
    ) -> None:
        """Rebuild from several accumulators over the same seeds; each z is made once.

        Args:
            outs: like w0, shape (P, n), contiguous; may be w0 itself where P = 1.
            w0: as in `rebuild`.
            seeds: uint64, shape (K,).
            sums: int64, shape (P, K), |sums| < 2**51; a seed whose sums are all 0 costs nothing.
            exponent: as in `rebuild`.
            start: as in `rebuild`.

        Raises:
            UserError: an argument is not as above. Nothing has changed.
        """
        offsets = np.array([start, start + len(w0)])
        self.rebuild_blocks(outs, w0, seeds, sums[:, None], offsets, exponent, start)

    def rebuild_blocks(
        self,
        outs: torch.Tensor,
        w0: torch.Tensor,
        seeds: NDArray[np.uint64],
        sums: NDArray[np.int64],
        offsets: NDArray[np.int64],
        exponent: int,
        start: int = 0,
    ) -> None:
        """Rebuild weights that lie in blocks, each from sums of its own over the same seeds.

        Args:
            outs: as in `rebuild_many`, shape (P, n).
            w0: as in `rebuild`. Its ends may lie within blocks.
            seeds: uint64, shape (K,).
            sums: int64, shape (P, L, K), |sums| < 2**51. Those of blocks that have none of these
                weights are not looked at; a seed whose sums of a block are all 0 costs nothing.
            offsets: where, in the model, blocks begin, and the last one ends: int64, shape
                (L + 1,), ascending.
            exponent: as in `rebuild`.
            start: as in `rebuild`.

        Raises:
            UserError: an argument is not as above. Nothing has changed.
        """
        self._check_weights("w0", w0)
        if outs.dtype != w0.dtype or outs.dim() != 2 or outs.shape[1] != len(w0):
            raise UserError(
                f"out is {outs.dtype} of {outs.shape[-1]} weights, w0 {w0.dtype} of {len(w0)}: "
                "they must be alike"
            )
        self._check_weights("out", outs.reshape(-1) if outs.is_contiguous() else outs)
        check_apart(outs, w0)
        stop = start + len(w0)
        check_range(start, stop)
        check_blocks(offsets, sums.shape[-2])
        if not offsets[0] <= start <= stop <= offsets[-1]:
            raise UserError(
                f"blocks reach from weight {offsets[0]} to {offsets[-1]}: weights {start} to "
                f"{stop} do not lie in them"
            )
        first = min(int(np.searchsorted(offsets, start, "right")), len(offsets) - 1) - 1
        last = max(int(np.searchsorted(offsets, stop, "left")), first + 1)
        sums = sums[:, first:last]
        check_sums(seeds, sums, len(outs))
        if abs(exponent) > EXPONENT_LIMIT:
            raise UserError(f"exponent {exponent} is outside [-{EXPONENT_LIMIT}, {EXPONENT_LIMIT}]")
        at = self._first_not_finite(w0.detach())
        if at is not None:
            raise UserError(f"weight {start + at} of w0 is {float(w0[at])}, which is not finite")
        # Over all blocks at once: sum l K + k is that of seed k in block l.
        flat = sums.reshape(len(sums), -1)
        used = np.flatnonzero((flat != 0).any(axis=0))
        blocks = BlockSums(
            offsets[first : last + 1].clip(start, stop),
            np.searchsorted(used, np.arange(last - first + 1) * len(seeds)),
            seeds[used % max(len(seeds), 1)],
            flat[:, used],
        )
        scale = 2.0 ** (exponent - self.unit_bits)
        self._rebuild_blocks(outs.detach(), w0.detach(), blocks, scale)

    def project(
        self, vector: torch.Tensor, seeds: NDArray[np.uint64], start: int = 0
    ) -> NDArray[np.float64]:
        """Return the inner product of a vector and each perturbation, as `reference` defines it.

        Args:
            vector: float32, shape (n,), contiguous, on `device`.
            seeds: uint64, shape (m,).
            start: index, in the model, of the weight that the first number belongs to.

        Returns:
            Shape (m,).

        Raises:
            UserError: an argument is not as above.
        """
        check_range(start, start + len(vector))
        offsets = np.array([start, start + len(vector)])
        return self.project_blocks(vector, seeds, np.array([len(seeds)]), offsets)

    def project_blocks(
        self,
        vector: torch.Tensor,
        seeds: NDArray[np.uint64],
        counts: NDArray[np.int64],
        offsets: NDArray[np.int64],
    ) -> NDArray[np.float64]:
        """Project each block of a vector, alone, on perturbations of its own.

        Args:
            vector: float32, shape (n,), contiguous, on `device`.
            seeds: uint64, shape (m,), those of one block after those of the other.
            counts: how many of them each block has: shape (L,).
            offsets: where, in the model, blocks begin, and the last one ends: int64, shape
                (L + 1,), ascending. The vector is all of them.

        Returns:
            Shape (m,).

        Raises:
            UserError: an argument is not as above.
        """
        self._check_weights("vector", vector)
        if vector.dtype != torch.float32 or seeds.dtype != np.uint64 or seeds.ndim != 1:
            raise UserError(
                f"vector is {vector.dtype}, seeds are {seeds.dtype} of shape {seeds.shape}: "
                "float32 and one dimension of uint64 are wanted"
            )
        check_blocks(offsets, len(counts))
        firsts = firsts_of(counts)
        if (offsets[-1] - offsets[0], firsts[-1]) != (len(vector), len(seeds)):
            raise UserError(
                f"blocks of {offsets[-1] - offsets[0]} numbers with {firsts[-1]} seeds are not "
                f"those of {len(vector)} numbers with {len(seeds)}"
            )
        products = self._project_blocks(vector.detach(), seeds, firsts, offsets)
        return products * 2.0**-self.unit_bits

    @abstractmethod
    def _units(self, seed: int, start: int, stop: int) -> torch.Tensor: ...

    @abstractmethod
    def _passes(self, weights: torch.Tensor, passes: list[Pass], start: int) -> None: ...

    @abstractmethod
    def _rebuild_blocks(
        self, outs: torch.Tensor, w0: torch.Tensor, blocks: BlockSums, scale: float
    ) -> None: ...

    @abstractmethod
    def _project_blocks(
        self,
        vector: torch.Tensor,
        seeds: NDArray[np.uint64],
        firsts: NDArray[np.int64],
        offsets: NDArray[np.int64],
    ) -> NDArray[np.float64]: ...

    def _first_not_finite(self, weights: torch.Tensor) -> int | None:
        """Return the index of the first weight that is not finite."""
        if not len(weights) or all_finite(weights):
            return None
        for at in range(0, len(weights), _LOOK):
            finite = weights[at : at + _LOOK].isfinite()
            if not finite.all():
                return at + int(finite.logical_not().nonzero()[0])
        return None

    def _check_weights(self, name: str, weights: torch.Tensor) -> None:
        if weights.dtype not in WEIGHT_DTYPES:
            raise UserError(f"{name} is {weights.dtype}: float32, bfloat16 or float16 is wanted")
        if weights.dim() != 1 or not weights.is_contiguous():
            raise UserError(
                f"{name} has shape {tuple(weights.shape)} and strides {weights.stride()}: "
                "one contiguous dimension is wanted"
            )
        if weights.device.type != self.device.type:
            raise UserError(f"{name} is on {weights.device}, the perturbation on {self.device}")


def firsts_of(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return where each of some groups that lie in a row begins, and the end: shape (L + 1,)."""
    return np.concatenate([[0], np.cumsum(counts)])
