"""The loss of a model: the mean over the label tokens of a batch, or of many rows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from peer.data.encode import Encoded, batch
from peer.model import FlatModel

PADDING = 0
"""The token that fills up short rows; masked and without a label, so any token would do."""

EVALUATION_TOKENS = 4096
"""At most so many tokens are evaluated at once, padding included, but always a whole row."""


@dataclass(frozen=True, eq=False)
class Losses:
    """The losses of n rows, over their response tokens, in nats.

    Attributes:
        mean: over all these tokens.
        sums: shape (n,), each row's summed loss, float64.
        tokens: shape (n,), how many tokens each sum is over.
    """

    mean: float
    sums: NDArray[np.float64]
    tokens: NDArray[np.int64]


def mean_loss(model: FlatModel, rows: tuple[torch.Tensor, torch.Tensor, torch.Tensor]) -> float:
    """Return the mean loss of a batch over its label tokens, in nats."""
    losses, tokens = model.losses(*rows)
    return float(losses.sum()) / int(tokens.sum())


def evaluate(model: FlatModel, encoded: Encoded, rows: NDArray[np.int64]) -> float:
    """Return the mean loss over the response tokens of rows, in nats per token."""
    return row_losses(model, encoded, rows).mean


def row_losses(model: FlatModel, encoded: Encoded, rows: NDArray[np.int64]) -> Losses:
    """Return the loss of each row and the mean of all, from one pass over them.

    Args:
        model: as it is now.
        encoded: all rows.
        rows: shape (n,), which to take, n at least 1.
    """
    lengths = np.diff(encoded.offsets)
    sums, counts = np.empty(len(rows)), np.empty(len(rows), dtype=np.int64)
    total, tokens = 0.0, 0
    # Rows of similar length go together, so little is computed on padding; as a batch is as wide as
    # its longest row, the longest come first.
    order = np.argsort(-lengths[rows], kind="stable")
    start = 0
    while start < len(order):
        stop = start + max(1, EVALUATION_TOKENS // int(lengths[rows[order[start]]]))
        places = order[start:stop]
        losses, labels = model.losses(*batch(encoded, rows[places], PADDING))
        sums[places], counts[places] = losses, labels
        # Batch by batch: another order of additions would change the last bits of the mean.
        total += float(losses.sum())
        tokens += int(labels.sum())
        start = stop
    return Losses(total / tokens, sums, counts)
