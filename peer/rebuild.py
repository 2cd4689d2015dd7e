"""From the accumulator to the model: the rebuild, and the digest that proves two models equal.

w = w0 - eta * sum_j a_j z_j (FedKSeed, equation 4), with the sum taken exactly; what is rounded
where is written in `peer.perturbation.reference`.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final

import numpy as np
import torch
from numpy.typing import NDArray

from peer.errors import UserError
from peer.perturbation import Perturbation

if TYPE_CHECKING:
    from peer.pretrained import Pretrained

_CHUNK: Final = 2**22


def rebuild(
    kernel: Perturbation,
    w0: Pretrained,
    out: torch.Tensor,
    seeds: NDArray[np.uint64],
    sums: NDArray[np.int64],
    exponent: int,
) -> None:
    """Set out to the weights that an accumulator stands for.

    Args:
        kernel: makes the perturbations, on the device of the weights.
        w0: pre-trained weights, d of them.
        out: shape (d,), contiguous, of the type of w0.
        seeds: candidate seeds, uint64, shape (K,).
        sums: the accumulator, int64, shape (K,), in units of 2**exponent.
        exponent: e - u of the accumulator's units.

    Raises:
        UserError: an argument is not as above, or a file with weights of w0 was changed. Nothing
            has changed.
    """
    if out.dtype != w0.dtype or out.shape != (len(w0),) or not out.is_contiguous():
        raise UserError(
            f"out is {out.dtype} of shape {tuple(out.shape)}, w0 {w0.dtype} of {len(w0)} weights: "
            "they must be alike, and out in one piece"
        )
    w0.check()
    # No weights, all checks: what is refused must be so before the first segment has changed out.
    kernel.rebuild(out[:0], out[:0], seeds, sums, exponent)
    for start, weights in w0.segments:
        part = out[start : start + len(weights)]
        if (weights.dtype, weights.device) != (part.dtype, part.device):
            for at in range(0, len(part), _CHUNK):
                part[at : at + _CHUNK].copy_(weights[at : at + _CHUNK])
            weights = part
        kernel.rebuild(part, weights, seeds, sums, exponent, start)


def weights_digest(flat: torch.Tensor) -> str:
    """Return 32 hexadecimal digits over the type and the bits of weights, shape (d,).

    Equal digests mean equal weights, to the bit, on whatever device they lie.
    """
    hasher = hashlib.blake2b(str(flat.dtype).encode(), digest_size=16)
    for at in range(0, len(flat), _CHUNK):
        chunk = flat.detach()[at : at + _CHUNK].cpu().contiguous()
        hasher.update(chunk.view(torch.uint8).numpy().data)
    return hasher.hexdigest()
