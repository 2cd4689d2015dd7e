"""The loss of a model: the mean over the label tokens of a batch, or of many rows."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from peer.data.encode import Encoded, batch
from peer.model import FlatModel

PADDING = 0
"""The token that fills up short rows; masked and without a label, so any token would do."""

EVALUATION_TOKENS = 4096
"""At most so many tokens are evaluated at once, padding included, but always a whole row."""


def mean_loss(model: FlatModel, rows: tuple[torch.Tensor, torch.Tensor, torch.Tensor]) -> float:
    """Return the mean loss of a batch over its label tokens, in nats."""
    losses, tokens = model.losses(*rows)
    return float(losses.sum()) / int(tokens.sum())


def evaluate(model: FlatModel, encoded: Encoded, rows: NDArray[np.int64]) -> float:
    """Return the mean loss over the response tokens of rows, in nats per token."""
    lengths = np.diff(encoded.offsets)
    total, tokens = 0.0, 0
    # Rows of similar length go together, so little is computed on padding; as a batch is as wide as
    # its longest row, the longest come first.
    ordered = rows[np.argsort(-lengths[rows], kind="stable")]
    start = 0
    while start < len(ordered):
        stop = start + max(1, EVALUATION_TOKENS // int(lengths[ordered[start]]))
        losses, counts = model.losses(*batch(encoded, ordered[start:stop], PADDING))
        total += float(losses.sum())
        tokens += int(counts.sum())
        start = stop
    return total / tokens
