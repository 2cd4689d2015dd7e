"""How many blocks Ferret's weights have, as far as that is known without the model."""

from __future__ import annotations

from typing import Final

from peer.blocks import block_offsets
from peer.config import Experiment
from peer.errors import UserError
from peer.model_size import model_size

USUAL_BLOCKS: Final = 194
"""Ferret's L where there is no model to count blocks of: that of its paper's 1.3B model (C.5)."""


def block_count(experiment: Experiment) -> int:
    """Return L: as wanted, or of the model's shape, or the paper's where that is not known."""
    if experiment.blocks:
        return experiment.blocks
    try:
        shape = model_size(experiment.model).shape
    except UserError:
        return USUAL_BLOCKS
    return USUAL_BLOCKS if shape is None else len(block_offsets(shape.tensors, 0)) - 1
