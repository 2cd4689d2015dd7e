"""A model whose weights travel: what it trains, taken out and put in as `peer.weights.Weights`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from peer.data.encode import Encoded
from peer.evaluation import Losses, row_losses
from peer.model import FlatModel
from peer.weights import Weights
from peer.weights_digest import weights_digest

_NAMES = {torch.float32: "float32", torch.float16: "float16", torch.bfloat16: "bfloat16"}


class AveragedModel:
    """A model that is wherever its weights are set to.

    Args:
        model: holds the weights that all peers start from.

    Attributes:
        model: the same.
        initial: those weights.
    """

    def __init__(self, model: FlatModel) -> None:
        self.model = model
        self.initial = taken(model.weights)

    @property
    def layout(self) -> dict[str, Any]:
        """What the run folder keeps of the model: digest of w0; [name, shape, offset] of all."""
        return {"w0": self.initial.digest(), "parameters": self.model.layout.rows()}

    @property
    def blocks(self) -> int:
        """1: there are no sums."""
        return 1

    def warm_up(self) -> None:
        """Do nothing: weights are copied, not rebuilt."""

    def go_to(self, state: Weights) -> None:
        """Set the weights."""
        put(state, self.model.weights)

    def digest(self, state: Weights) -> str:
        """Return the digest of a model with these weights."""
        self.go_to(state)
        return weights_digest(self.model.weights)

    def digests(self, states: Sequence[Weights]) -> list[str]:
        """Return the digest of the model with each of several weights."""
        return [self.digest(state) for state in states]

    def evaluate(self, state: Weights, encoded: Encoded, rows: NDArray[np.int64]) -> float:
        """Return the mean loss over the response tokens of rows, in nats."""
        return self.losses(state, encoded, rows).mean

    def losses(self, state: Weights, encoded: Encoded, rows: NDArray[np.int64]) -> Losses:
        """Return the losses with these weights of some rows, and their mean."""
        self.go_to(state)
        return row_losses(self.model, encoded, rows)


def taken(weights: torch.Tensor) -> Weights:
    """Return a copy of weights as they travel."""
    raw = weights.detach().cpu().clone()
    if raw.dtype == torch.bfloat16:
        return Weights("bfloat16", raw.view(torch.int16).numpy().view(np.uint16))
    return Weights(_NAMES[raw.dtype], raw.numpy())


def put(weights: Weights, out: torch.Tensor) -> None:
    """Copy weights into a tensor of their type and length."""
    # What came over a wire is read-only, which torch.from_numpy does not like.
    raw = torch.from_numpy(np.array(weights.raw))
    out.copy_(raw.view(torch.bfloat16) if weights.dtype == "bfloat16" else raw)
