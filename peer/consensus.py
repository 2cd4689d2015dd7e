"""Several peers' weights: their mean, and how far they lie from it.

The consensus distance of x_1, ..., x_n, each of P numbers, is (Kong et al., 2021, section 3)

    sqrt(1/n sum_i |x_i - mean|^2)

and the relative one is that over |mean|. Everything is summed in float64 over chunks, so that
little memory is needed beside the vectors.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch

    Vector = torch.Tensor | NDArray[Any]
    """Numbers of shape (P,), of any floating type."""

_CHUNK: Final = 2**16


class Consensus(NamedTuple):
    """How far peers lie apart.

    Attributes:
        distance: the root of the mean square distance from the mean.
        relative: the same over the length of the mean; 0 for equal vectors.
    """

    distance: float
    relative: float


def consensus(vectors: Sequence[Vector]) -> Consensus:
    """Return how far vectors, n of shape (P,), lie from their mean.

    Raises:
        ValueError: there are none, or of several sizes.
    """
    _check(vectors)
    apart = length = 0.0
    for part in _parts(len(vectors[0])):
        some = [_numbers(vector, part) for vector in vectors]
        mean = sum(some[1:], some[0]) / len(some)
        length += float(mean @ mean)
        apart += sum(float((x - mean) @ (x - mean)) for x in some)
    distance = math.sqrt(apart / len(vectors))
    if distance == 0.0:
        return Consensus(0.0, 0.0)
    return Consensus(distance, distance / math.sqrt(length) if length else math.inf)


def mean_into(out: Vector, vectors: Sequence[Vector], shares: Sequence[float]) -> None:
    """Set out to sum_i shares_i x_i over sum_i shares_i, summed in float64 and rounded once.

    Args:
        out: shape (P,), of the type that is wanted; may be one of the vectors.
        vectors: n of shape (P,).
        shares: the weight of each, at least 0.

    Raises:
        ValueError: the sizes do not fit, or the shares do not add up to something above 0.
    """
    _check([out, *vectors])
    if len(shares) != len(vectors) or min(shares) < 0 or not 0 < sum(shares) < math.inf:
        raise ValueError(f"shares {list(shares)} of {len(vectors)} vectors")
    whole = math.fsum(shares)
    for part in _parts(len(out)):
        total = np.zeros(len(out[part]))
        for vector, share in zip(vectors, shares, strict=True):
            total += share * _numbers(vector, part)
        _set(out, part, total / whole)


def _check(vectors: Sequence[Vector]) -> None:
    sizes = {len(vector) for vector in vectors}
    if len(sizes) != 1:
        raise ValueError(f"vectors of {sorted(sizes)} numbers: one size is wanted")


def _parts(size: int) -> Iterator[slice]:
    for at in range(0, size, _CHUNK):
        yield slice(at, at + _CHUNK)


def _numbers(vector: Vector, part: slice) -> NDArray[np.float64]:
    """Return a part of a vector in float64."""
    some = vector[part]
    if isinstance(some, np.ndarray):
        return some.astype(np.float64)
    numbers: NDArray[np.float64] = some.detach().cpu().double().numpy()
    return numbers


def _set(out: Vector, part: slice, numbers: NDArray[np.float64]) -> None:
    """Round numbers into a part of a vector."""
    if isinstance(out, np.ndarray):
        out[part] = numbers
    else:
        out[part] = out.new_tensor(numbers)
