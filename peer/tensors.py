"""A question that is asked of tensors in several rooms."""

from __future__ import annotations

import math

import torch


def all_finite(numbers: torch.Tensor) -> bool:
    """Tell whether all of some numbers are finite, at least one, in one pass and without a copy."""
    # Both ends are NaN if any number is.
    return all(math.isfinite(end) for end in numbers.aminmax())
