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

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from peer.perturbation import Perturbation


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

    def block(self, block: int) -> torch.Tensor:
        """Return Delta_l, float32, shape (d_l,)."""
        some = slice(int(self.offsets[block]), int(self.offsets[block + 1]))
        return self.before[some].float() - self.after[some].float()

    def norms(self) -> NDArray[np.float64]:
        """Return |Delta_l| of each block, shape (L,); not finite where weights are not."""
        norm = torch.linalg.vector_norm
        blocks = map(self.block, range(len(self.offsets) - 1))
        return np.array([float(norm(block, dtype=torch.float64)) for block in blocks])


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
    ends = np.cumsum(counts)
    for block in np.flatnonzero(counts).tolist():
        some = slice(int(ends[block] - counts[block]), int(ends[block]))
        bases = seeds[indices[some] - block * len(seeds)]
        start = int(update.offsets[block])
        products[some] = kernel.project(update.block(block), bases, start)
    return products / (np.repeat(counts, counts) * learning_rate)
