"""From the accumulator to the model: the rebuild of one, or of several to their digests.

w = w0 - eta * sum_j a_j z_j (FedKSeed, equation 4), with the sum taken exactly; what is rounded
where is written in `peer.perturbation.reference`. Where there are L blocks of weights, each has K
sums of its own, and its weights are rebuilt from these (Ferret, equations 2 and 8): sum l K + k is
that of seed k in block l.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from peer.errors import UserError
from peer.perturbation import Perturbation
from peer.pretrained import Pretrained
from peer.weights_digest import WeightsHasher

_CHUNK: Final = 2**22


def rebuild(
    kernel: Perturbation,
    w0: Pretrained,
    out: torch.Tensor,
    seeds: NDArray[np.uint64],
    sums: NDArray[np.int64],
    exponent: int,
    offsets: NDArray[np.int64] | None = None,
) -> None:
    """Set out to the weights that an accumulator stands for.

    Args:
        kernel: makes the perturbations, on the device of the weights.
        w0: pre-trained weights, d of them.
        out: shape (d,), contiguous, of the type of w0.
        seeds: candidate seeds, uint64, shape (K,).
        sums: the accumulator, int64, shape (L K,), in units of 2**exponent.
        exponent: e - u of the accumulator's units.
        offsets: where blocks begin, and d at the end, shape (L + 1,); None: there is one block.

    Raises:
        UserError: an argument is not as above, or a file with weights of w0 was changed. Nothing
            has changed.
    """
    if out.dtype != w0.dtype or out.shape != (len(w0),) or not out.is_contiguous():
        raise UserError(
            f"out is {out.dtype} of shape {tuple(out.shape)}, w0 {w0.dtype} of {len(w0)} weights: "
            "they must be alike, and out in one piece"
        )
    offsets, shared = _blocks(offsets, len(w0), sums)
    w0.check()
    # No weights, all checks: what is refused must be so before the first segment has changed out.
    nothing = out.new_empty(len(shared), 0)
    kernel.rebuild_many(nothing, out[:0], seeds, shared, exponent)
    for start, weights in w0.segments:
        part = out[start : start + len(weights)]
        if (weights.dtype, weights.device) != (part.dtype, part.device):
            for at in range(0, len(part), _CHUNK):
                part[at : at + _CHUNK].copy_(weights[at : at + _CHUNK])
            weights = part
        kernel.rebuild_blocks(part[None], weights, seeds, shared[None], offsets, exponent, start)


def rebuilt_digests(
    kernel: Perturbation,
    w0: Pretrained,
    seeds: NDArray[np.uint64],
    sums: NDArray[np.int64],
    exponent: int,
    offsets: NDArray[np.int64] | None = None,
) -> list[str]:
    """Return the digest of the weights that each of several accumulators stands for.

    They are rebuilt side by side, a piece of the model at a time: each z is made once for all, and
    no accumulator needs a model of its own.

    Args:
        kernel: as for `rebuild`, and so are w0, seeds and exponent.
        w0: pre-trained weights, d of them.
        seeds: shape (K,).
        sums: int64, shape (P, L K).
        exponent: that of the accumulators' units.
        offsets: as for `rebuild`.

    Raises:
        UserError: as `rebuild`.
    """
    offsets, shared = _blocks(offsets, len(w0), sums)
    w0.check()
    hashers = [WeightsHasher(w0.dtype) for _ in sums]
    size = max(1, _CHUNK // max(1, len(sums)))
    outs = torch.empty(0, dtype=w0.dtype, device=kernel.device)
    for start, weights in w0.segments:
        for at in range(0, len(weights), size):
            part = weights[at : at + size].to(kernel.device, w0.dtype)
            if outs.shape != (len(sums), len(part)):
                outs = torch.empty(len(sums), len(part), dtype=w0.dtype, device=kernel.device)
            kernel.rebuild_blocks(outs, part, seeds, shared, offsets, exponent, start + at)
            for hasher, out in zip(hashers, outs, strict=True):
                hasher.update(out)
    return [hasher.hexdigest() for hasher in hashers]


def _blocks(
    offsets: NDArray[np.int64] | None, parameters: int, sums: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return where blocks of some parameters begin and end, and their sums, shape (..., L, K).

    Raises:
        UserError: offsets are none, or do not end at d, or the sums cannot be shared out.
    """
    if offsets is None:
        offsets = np.array([0, parameters])
    blocks = len(offsets) - 1
    if (
        blocks < 1
        or (offsets[0], offsets[-1]) != (0, parameters)
        or (offsets[:-1] >= offsets[1:]).any()
        or sums.shape[-1] % blocks
    ):
        raise UserError(
            f"blocks of {parameters} weights and {sums.shape[-1]} sums cannot begin at "
            f"{offsets.tolist()}"
        )
    return offsets, sums.reshape(*sums.shape[:-1], blocks, sums.shape[-1] // blocks)
