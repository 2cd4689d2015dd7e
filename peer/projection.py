"""An update projected on random bases, block by block (Ferret, equations 6 and 8).

The base of candidate seed k and block l is the slice of z_k at the block, so blocks never share
numbers. Its coordinate is

    gamma = <z_k[block l], Delta_l> / (K_l eta)

with the inner product that `peer.perturbation.reference` defines, taken of float32 numbers. z has
variance 1; as the basis vector v = z / sqrt(d_l), of variance rho_l = 1 / d_l, it gives equation
8's (rho_l K_l)^-1 v v^T Delta_l. So the sum of eta gamma z over a block's bases is Delta_l in
expectation. eta, the local learning rate, is divided out, so that a coordinate is what it would be
of a gradient: its size does not hang on eta, and entries weigh what entries of steps do.

Signs have |v| = 1 exactly, as the paper asks for. Gaussian numbers have it in expectation, with a
relative deviation of sqrt(1 / (2 d_l)).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from peer.perturbation import Perturbation
from peer.perturbation.base import firsts_of

_PART: Final = 2**20
"""Weights whose update is made at once, unless a block has more."""


@dataclass(frozen=True)
class Update:
    """What local steps did to the weights: Delta = before - after, by blocks.

    Attributes:
        before: the weights at the start, shape (d,).
        after: the same weights at the end.
        offsets: where blocks begin, and d at the end: shape (L + 1,).
    """

    before: torch.Tensor
    after: torch.Tensor
    offsets: NDArray[np.int64]

    def parts(self) -> Iterator[tuple[slice, torch.Tensor]]:
        """Yield Delta in parts: which blocks, and their numbers, float32, shape (n,).

        Blocks in a row are taken together, for each part costs some microseconds, but not so many
        that a second model would have to be held.
        """
        blocks = len(self.offsets) - 1
        first = 0
        while first < blocks:
            end = np.searchsorted(self.offsets, self.offsets[first] + _PART, "right") - 1
            last = max(int(end), first + 1)
            some = slice(int(self.offsets[first]), int(self.offsets[last]))
            yield slice(first, last), self.before[some].float() - self.after[some].float()
            first = last

    def norms(self) -> NDArray[np.float64]:
        """Return |Delta_l| of each block, shape (L,); not finite where weights are not."""
        norm = torch.linalg.vector_norm
        return np.array(
            [
                float(norm(block, dtype=torch.float64))
                for some, delta in self.parts()
                for block in torch.split(delta, np.diff(self.offsets)[some].tolist())
            ]
        )


def project(
    kernel: Perturbation,
    update: Update,
    seeds: NDArray[np.uint64],
    counts: NDArray[np.int64],
    indices: NDArray[np.int64],
    learning_rate: float,
) -> NDArray[np.float64]:
    """Return the coordinates of an update, shape (B,).

    Args:
        kernel: makes the bases, on the device of the weights.
        update: what to project.
        seeds: candidate seeds, shape (K,).
        counts: K_l of each block, shape (L,).
        indices: flat indices l K + k, ascending, K_l of them for block l (`peer.block_draw`).
        learning_rate: eta of the local steps.
    """
    products = np.empty(len(indices))
    firsts = firsts_of(counts)
    bases = seeds[indices % len(seeds)]
    for blocks, delta in update.parts():
        some = slice(int(firsts[blocks.start]), int(firsts[blocks.stop]))
        offsets = update.offsets[blocks.start : blocks.stop + 1]
        products[some] = kernel.project_blocks(delta, bases[some], counts[blocks], offsets)
    return products / (np.repeat(counts, counts) * learning_rate)
