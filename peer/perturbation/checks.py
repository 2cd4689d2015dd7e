"""What the arguments of perturbations must be: each check raises UserError, in one line."""

from __future__ import annotations

import math
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from peer.errors import UserError
from peer.seeds import SEED_LIMIT
from peer.units import SUM_LIMIT

INDEX_LIMIT: Final = 2**62
"""Weights are numbered from 0 to below this, so that no index overflows when rounded up."""


def check_seed(seed: int) -> None:
    """Refuse a seed that is outside."""
    if not 0 <= seed < SEED_LIMIT:
        raise UserError(f"seed {seed} is outside [0, 2**64)")


def check_range(start: int, stop: int) -> None:
    """Refuse weights that no model can have."""
    if not 0 <= start <= stop <= INDEX_LIMIT:
        raise UserError(f"weights {start} to {stop} are not a range in [0, 2**62]")


def check_apart(outs: torch.Tensor, w0: torch.Tensor) -> None:
    """Refuse an out that overlaps w0 without being it."""
    first, other = outs.data_ptr(), w0.data_ptr()
    apart = first + outs.nbytes <= other or other + w0.nbytes <= first
    if not apart and (first, outs.nbytes) != (other, w0.nbytes):
        raise UserError(
            f"w0 begins {other - first} bytes from out and overlaps it: out must be apart or w0"
        )


def in_float32(coefficient: float) -> float:
    """Return a coefficient rounded; refuse one that is not finite then."""
    rounded = float(np.float32(coefficient))
    if not math.isfinite(rounded):
        raise UserError(f"coefficient {coefficient} is not finite in float32")
    return rounded


def check_blocks(offsets: NDArray[np.int64], blocks: int) -> None:
    """Refuse what does not say where blocks begin."""
    if offsets.dtype != np.int64 or offsets.shape != (blocks + 1,) or not blocks:
        raise UserError(
            f"offsets are {offsets.dtype} of shape {offsets.shape}: int64 are wanted, one more "
            f"than there are blocks, {blocks} and at least 1"
        )
    check_range(int(offsets[0]), int(offsets[-1]))
    if (offsets[1:] < offsets[:-1]).any():
        raise UserError(f"blocks cannot begin at {offsets.tolist()}: they must lie in a row")


def check_sums(seeds: NDArray[np.uint64], sums: NDArray[np.int64], replicas: int) -> None:
    """Refuse sums that are not those of each seed, or too large."""
    if seeds.dtype != np.uint64 or sums.dtype != np.int64:
        raise UserError(f"seeds are {seeds.dtype}, sums {sums.dtype}: uint64 and int64 are wanted")
    if seeds.ndim != 1 or sums.ndim != 3 or sums.shape[::2] != (replicas, len(seeds)):
        raise UserError(
            f"seeds have shape {seeds.shape}, sums of each block {sums.shape[::2]}: {replicas} "
            "sums for each seed are wanted"
        )
    if sums.size and not -SUM_LIMIT < sums.min() <= sums.max() < SUM_LIMIT:
        past = sums[(sums <= -SUM_LIMIT) | (sums >= SUM_LIMIT)]
        raise UserError(f"sum {past[0]} is past the limit of 2**51 units")
