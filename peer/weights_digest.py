"""The digest of weights: equal ones mean equal weights, to the bit, on whatever device they lie."""

from __future__ import annotations

import hashlib
from typing import Final

import torch

_CHUNK: Final = 2**22


class WeightsHasher:
    """Makes a digest of weights that come in parts, from first to last.

    Args:
        dtype: the type of all parts.
    """

    def __init__(self, dtype: torch.dtype) -> None:
        self._hasher = hashlib.blake2b(str(dtype).encode(), digest_size=16)

    def update(self, weights: torch.Tensor) -> None:
        """Take the next weights, shape (n,)."""
        for at in range(0, len(weights), _CHUNK):
            part = weights[at : at + _CHUNK].detach().cpu().contiguous()
            self._hasher.update(part.view(torch.uint8).numpy().data)

    def hexdigest(self) -> str:
        """Return 32 hexadecimal digits over the type and the bits of all weights so far."""
        return self._hasher.hexdigest()


def weights_digest(flat: torch.Tensor) -> str:
    """Return the digest of weights, shape (d,); see `WeightsHasher`."""
    hasher = WeightsHasher(flat.dtype)
    hasher.update(flat)
    return hasher.hexdigest()
