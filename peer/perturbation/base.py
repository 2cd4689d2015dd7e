"""The one interface of every backend, and the checks that all of them share.

A public method checks its arguments, and only then calls the backend's own part. So whatever is
refused has changed nothing.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from peer.errors import UserError
from peer.perturbation.reference import GAUSSIAN, Distribution
from peer.seeds import SEED_LIMIT
from peer.units import SUM_LIMIT

WEIGHT_DTYPES: Final = (torch.float32, torch.bfloat16, torch.float16)

INDEX_LIMIT: Final = 2**62
"""Weights are numbered from 0 to below this, so that no index overflows when rounded up."""

EXPONENT_LIMIT: Final = 900
"""|exponent| up to here leaves every product with a power of two exact in float64."""


Pass = tuple[int, float]
"""A seed and a coefficient: w <- w + coefficient * z(seed)."""

_LOOK: Final = 2**20


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
        _check_seed(seed)
        _check_range(start, stop)
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
        _check_range(start, start + len(weights))
        rounded = []
        with np.errstate(over="ignore"):
            for seed, coefficient in passes:
                _check_seed(seed)
                rounded.append((int(seed), _in_float32(coefficient)))
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
        self._check_weights("w0", w0)
        if outs.dtype != w0.dtype or outs.dim() != 2 or outs.shape[1] != len(w0):
            raise UserError(
                f"out is {outs.dtype} of {outs.shape[-1]} weights, w0 {w0.dtype} of {len(w0)}: "
                "they must be alike"
            )
        self._check_weights("out", outs.reshape(-1) if outs.is_contiguous() else outs)
        _check_apart(outs, w0)
        _check_range(start, start + len(w0))
        _check_sums(seeds, sums, len(outs))
        if abs(exponent) > EXPONENT_LIMIT:
            raise UserError(f"exponent {exponent} is outside [-{EXPONENT_LIMIT}, {EXPONENT_LIMIT}]")
        at = self._first_not_finite(w0.detach())
        if at is not None:
            raise UserError(f"weight {start + at} of w0 is {float(w0[at])}, which is not finite")
        used = (sums != 0).any(axis=0)
        scale = 2.0 ** (exponent - self.unit_bits)
        sums_used = np.ascontiguousarray(sums[:, used])
        self._rebuild(outs.detach(), w0.detach(), seeds[used], sums_used, scale, start)

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
        self._check_weights("vector", vector)
        if vector.dtype != torch.float32 or seeds.dtype != np.uint64 or seeds.ndim != 1:
            raise UserError(
                f"vector is {vector.dtype}, seeds are {seeds.dtype} of shape {seeds.shape}: "
                "float32 and one dimension of uint64 are wanted"
            )
        _check_range(start, start + len(vector))
        return self._project(vector.detach(), seeds, start) * 2.0**-self.unit_bits

    def _project(
        self, vector: torch.Tensor, seeds: NDArray[np.uint64], start: int
    ) -> NDArray[np.float64]:
        """Return the products in units; here with torch's sums, whose order it does not tell."""
        products = np.zeros(len(seeds))
        for at in range(0, len(vector), _LOOK):
            part = vector[at : at + _LOOK].double()
            for j, seed in enumerate(seeds.tolist()):
                z = self._units(seed, start + at, start + at + len(part))
                products[j] += float(torch.dot(part, z.double()))
        return products

    @abstractmethod
    def _units(self, seed: int, start: int, stop: int) -> torch.Tensor: ...

    @abstractmethod
    def _passes(self, weights: torch.Tensor, passes: list[Pass], start: int) -> None: ...

    @abstractmethod
    def _rebuild(
        self,
        outs: torch.Tensor,
        w0: torch.Tensor,
        seeds: NDArray[np.uint64],
        sums: NDArray[np.int64],
        scale: float,
        start: int,
    ) -> None: ...

    def _first_not_finite(self, weights: torch.Tensor) -> int | None:
        """Return the index of the first weight that is not finite."""
        # Both ends are NaN if any weight is.
        if not len(weights) or all(math.isfinite(end) for end in weights.aminmax()):
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


def _check_seed(seed: int) -> None:
    if not 0 <= seed < SEED_LIMIT:
        raise UserError(f"seed {seed} is outside [0, 2**64)")


def _check_range(start: int, stop: int) -> None:
    if not 0 <= start <= stop <= INDEX_LIMIT:
        raise UserError(f"weights {start} to {stop} are not a range in [0, 2**62]")


def _check_apart(outs: torch.Tensor, w0: torch.Tensor) -> None:
    first, other = outs.data_ptr(), w0.data_ptr()
    apart = first + outs.nbytes <= other or other + w0.nbytes <= first
    if not apart and (first, outs.nbytes) != (other, w0.nbytes):
        raise UserError(
            f"w0 begins {other - first} bytes from out and overlaps it: out must be apart or w0"
        )


def _in_float32(coefficient: float) -> float:
    rounded = float(np.float32(coefficient))
    if not math.isfinite(rounded):
        raise UserError(f"coefficient {coefficient} is not finite in float32")
    return rounded


def _check_sums(seeds: NDArray[np.uint64], sums: NDArray[np.int64], replicas: int) -> None:
    if seeds.dtype != np.uint64 or sums.dtype != np.int64:
        raise UserError(f"seeds are {seeds.dtype}, sums {sums.dtype}: uint64 and int64 are wanted")
    if seeds.ndim != 1 or sums.shape != (replicas, len(seeds)):
        raise UserError(
            f"seeds have shape {seeds.shape}, sums {sums.shape}: {replicas} sums for each seed are "
            "wanted"
        )
    past = (sums <= -SUM_LIMIT) | (sums >= SUM_LIMIT)
    if past.any():
        raise UserError(f"sum {sums[past][0]} is past the limit of 2**51 units")
