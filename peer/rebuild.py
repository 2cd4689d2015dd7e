"""From the accumulator to the model: the rebuild of one, or of several to their digests.

w = w0 - eta * sum_j a_j z_j (FedKSeed, equation 4), with the sum taken exactly; what is rounded
where is written in `peer.perturbation.reference`. Where there are L blocks of weights, each has K
sums of its own, and its weights are rebuilt from these (Ferret, equations 2 and 8): sum l K + k is
that of seed k in block l.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from itertools import pairwise
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
    blocks = _Blocks(offsets, len(w0), sums)
    w0.check()
    # No weights, all checks: what is refused must be so before the first segment has changed out.
    for sums_of in blocks.sums:
        kernel.rebuild(out[:0], out[:0], seeds, sums_of, exponent)
    for start, weights in w0.segments:
        part = out[start : start + len(weights)]
        if (weights.dtype, weights.device) != (part.dtype, part.device):
            for at in range(0, len(part), _CHUNK):
                part[at : at + _CHUNK].copy_(weights[at : at + _CHUNK])
            weights = part
        for some, sums_of in blocks.within(start, len(part)):
            first = start + some.start
            kernel.rebuild(part[some], weights[some], seeds, sums_of, exponent, first)


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
    blocks = _Blocks(offsets, len(w0), sums)
    w0.check()
    hashers = [WeightsHasher(w0.dtype) for _ in sums]
    size = max(1, _CHUNK // max(1, len(sums)))
    outs = torch.empty(0, dtype=w0.dtype, device=kernel.device)
    for start, weights in w0.segments:
        for at in range(0, len(weights), size):
            part = weights[at : at + size].to(kernel.device, w0.dtype)
            for some, sums_of in blocks.within(start + at, len(part)):
                piece = part[some]
                if outs.shape != (len(sums), len(piece)):
                    outs = torch.empty(len(sums), len(piece), dtype=w0.dtype, device=kernel.device)
                first = start + at + some.start
                kernel.rebuild_many(outs, piece, seeds, sums_of, exponent, first)
                for hasher, out in zip(hashers, outs, strict=True):
                    hasher.update(out)
    return [hasher.hexdigest() for hasher in hashers]


class _Blocks:
    """The blocks of the weights, with their sums.

    Attributes:
        sums: of each block, contiguous: shape (L, ..., K).

    Raises:
        UserError: offsets are none, or do not end at d, or the sums cannot be shared out.
    """

    def __init__(
        self, offsets: NDArray[np.int64] | None, parameters: int, sums: NDArray[np.int64]
    ) -> None:
        self._offsets = [0, parameters] if offsets is None else offsets.tolist()
        blocks = len(self._offsets) - 1
        if (
            blocks < 1
            or (self._offsets[0], self._offsets[-1]) != (0, parameters)
            or any(a >= b for a, b in pairwise(self._offsets))
            or sums.shape[-1] % blocks
        ):
            raise UserError(
                f"blocks of {parameters} weights and {sums.shape[-1]} sums cannot begin at "
                f"{self._offsets}"
            )
        shared = sums.reshape(*sums.shape[:-1], blocks, sums.shape[-1] // blocks)
        self.sums = np.ascontiguousarray(np.moveaxis(shared, -2, 0))

    def within(self, start: int, length: int) -> Iterator[tuple[slice, NDArray[np.int64]]]:
        """Yield which of some weights from start a block has, and its sums, block by block."""
        stop = start + length
        block = max(bisect_right(self._offsets, start) - 1, 0)
        for sums, (first, last) in zip(
            self.sums[block:], pairwise(self._offsets[block:]), strict=True
        ):
            if first >= stop:
                break
            yield slice(max(first, start) - start, min(last, stop) - start), sums
