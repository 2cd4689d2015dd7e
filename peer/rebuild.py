"""From the accumulator to the model: the rebuild, and the digest that proves two models equal.

w = w0 - eta * sum_j a_j z_j (FedKSeed, equation 4), with the sum taken exactly; what is rounded
where is written in `peer.perturbation.reference`.
"""

from __future__ import annotations

import hashlib
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from peer.perturbation import Perturbation

_CHUNK: Final = 2**22


def rebuild(
    kernel: Perturbation,
    w0: torch.Tensor,
    out: torch.Tensor,
    seeds: NDArray[np.uint64],
    sums: NDArray[np.int64],
    exponent: int,
) -> None:
    """Set out to the weights that an accumulator stands for.

    Args:
        kernel: makes the perturbations, on the device of the weights.
        w0: pre-trained weights, float32, bfloat16 or float16, shape (d,), contiguous.
        out: like w0.
        seeds: candidate seeds, uint64, shape (K,).
        sums: the accumulator, int64, shape (K,), in units of 2**exponent.
        exponent: e - u of the accumulator's units.

    Raises:
        UserError: an argument is not as above. Nothing has changed.
    """
    kernel.rebuild(out, w0, seeds, sums, exponent)


def weights_digest(flat: torch.Tensor) -> str:
    """Return 32 hexadecimal digits over the type and the bits of weights, shape (d,).

    Equal digests mean equal weights, to the bit, on whatever device they lie.
    """
    hasher = hashlib.blake2b(str(flat.dtype).encode(), digest_size=16)
    for at in range(0, len(flat), _CHUNK):
        chunk = flat.detach()[at : at + _CHUNK].cpu().contiguous()
        hasher.update(chunk.view(torch.uint8).numpy().data)
    return hasher.hexdigest()
