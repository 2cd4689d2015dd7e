"""The model of a run as a function of the accumulator, and nothing else (C4)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from peer.accumulator import Accumulator
from peer.data.encode import Encoded
from peer.evaluation import Losses, row_losses
from peer.model import FlatModel
from peer.perturbation import Perturbation
from peer.pretrained import Pretrained
from peer.rebuild import rebuild, rebuilt_digests
from peer.weights_digest import weights_digest


class GlobalModel:
    """The model as a function of the accumulator: w = w0 - eta sum_j a_j z_j (equation 4).

    Weights may be divided into L blocks that have K sums each (`peer.rebuild`); accumulators have
    L K numbers then.

    Args:
        model: holds w0 at first.
        kernel: makes the perturbations.
        seeds: the candidate seeds, shape (K,).
        remember: keep the last rebuild, for several replicas that start from one cut. Costs a copy
            of the weights.
        offsets: where blocks begin, and d at the end, shape (L + 1,); None: there is one block.
    """

    def __init__(
        self,
        model: FlatModel,
        kernel: Perturbation,
        seeds: NDArray[np.uint64],
        *,
        remember: bool = False,
        offsets: NDArray[np.int64] | None = None,
    ) -> None:
        self.model = model
        self.kernel = kernel
        self.seeds = seeds
        whole = np.array([0, len(model.weights)], dtype=np.int64)
        self.offsets = whole if offsets is None else offsets
        self.w0 = Pretrained(model)
        self._remember = remember
        self._kept: tuple[str, torch.Tensor] | None = None

    @property
    def layout(self) -> dict[str, Any]:
        """What the run folder keeps of the model: digest of w0; [name, shape, offset] of all."""
        return {"w0": self.w0.digest, "parameters": self.model.layout.rows()}

    @property
    def blocks(self) -> int:
        """L, how many blocks of the weights have sums of their own."""
        return len(self.offsets) - 1

    def warm_up(self) -> None:
        """Compile the kernels, which takes half a minute of one processor."""
        self.kernel.warm_up(self.model.weights.dtype)

    def go_to(self, cut: Accumulator) -> None:
        """Set the weights to the model at an accumulator."""
        digest = cut.digest()
        weights = self.model.weights
        if self._kept is not None and self._kept[0] == digest:
            weights.copy_(self._kept[1])
            return
        exponent = cut.units.exponent - cut.units.fraction_bits
        rebuild(self.kernel, self.w0, weights, self.seeds, cut.sums, exponent, self.offsets)
        if self._remember:
            self._kept = None  # One copy at a time.
            self._kept = digest, weights.clone()

    def digest(self, cut: Accumulator) -> str:
        """Return the digest of the weights at an accumulator."""
        self.go_to(cut)
        return weights_digest(self.model.weights)

    def digests(self, cuts: Sequence[Accumulator]) -> list[str]:
        """Return the digest of the weights at each of several accumulators of one run.

        Those that differ are rebuilt side by side; the model stays where it is.
        """
        by_content = {cut.digest(): cut for cut in cuts}
        if not by_content:
            return []
        units = next(iter(by_content.values())).units
        sums = np.stack([cut.sums for cut in by_content.values()])
        exponent = units.exponent - units.fraction_bits
        made = rebuilt_digests(self.kernel, self.w0, self.seeds, sums, exponent, self.offsets)
        digest_of = dict(zip(by_content, made, strict=True))
        return [digest_of[cut.digest()] for cut in cuts]

    def evaluate(self, cut: Accumulator, encoded: Encoded, rows: NDArray[np.int64]) -> float:
        """Return the mean loss at an accumulator over the response tokens of rows, in nats."""
        return self.losses(cut, encoded, rows).mean

    def losses(self, cut: Accumulator, encoded: Encoded, rows: NDArray[np.int64]) -> Losses:
        """Return the loss of each row at an accumulator, where the model then stays."""
        self.go_to(cut)
        return row_losses(self.model, encoded, rows)
