"""The mean of vectors and their distance from it are the definitions', whatever their type."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from peer import consensus as module
from peer.consensus import consensus, mean_into

matrices = arrays(
    np.float32,
    st.tuples(st.integers(1, 5), st.integers(1, 40)),
    elements=st.floats(-100, 100, width=32),
)


@given(matrices, st.integers(1, 50))
@settings(deadline=None)
def test_distance_is_the_definition(x: NDArray[np.float32], chunk: int) -> None:
    exact = x.astype(np.float64)
    mean = exact.mean(axis=0)
    wanted = math.sqrt(((exact - mean) ** 2).sum(axis=1).mean())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_CHUNK", chunk)
        distance, relative = consensus(list(x))
    assert distance == pytest.approx(wanted, rel=1e-9, abs=1e-9)
    length = float(np.linalg.norm(mean))
    if length > 1e-6:
        assert relative == pytest.approx(wanted / length, rel=1e-6, abs=1e-9)
    as_tensors = consensus([torch.from_numpy(row) for row in x])
    assert as_tensors.distance == pytest.approx(distance, rel=1e-12)


@given(matrices, st.data())
@settings(deadline=None)
def test_the_mean_is_weighted_and_may_overwrite_one_of_them(
    x: NDArray[np.float32], data: st.DataObject
) -> None:
    share = st.floats(0.125, 8)
    shares = data.draw(st.lists(share, min_size=len(x), max_size=len(x)))
    wanted = np.average(x.astype(np.float64), axis=0, weights=shares)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_CHUNK", 7)
        for vectors in ([*x.copy()], [*map(torch.from_numpy, x.copy())]):
            out: Any = vectors[-1]
            mean_into(out, vectors, shares)
            assert np.asarray(out).dtype == np.float32
            np.testing.assert_allclose(np.asarray(out), wanted, rtol=1e-6, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_16_bit_vectors_are_summed_in_more(dtype: torch.dtype) -> None:
    vectors = [torch.full((3,), value, dtype=dtype) for value in (1.0, 2.0**-7, 2.0**-7)]
    out = torch.empty(3, dtype=dtype)
    mean_into(out, vectors, [1.0, 64.0, 64.0])
    assert out.tolist() == [float(torch.tensor(2 / 129).to(dtype))] * 3
    assert consensus(vectors).distance == pytest.approx(math.sqrt(3 * 2 / 9) * (1 - 2.0**-7))


@pytest.mark.parametrize("count", [1, 3, 7])
def test_equal_vectors_are_at_no_distance(count: int) -> None:
    vector = torch.randn(1000, generator=torch.Generator().manual_seed(1))
    assert consensus([vector] * count) == (0.0, 0.0)
    assert consensus([torch.zeros(4)] * count) == (0.0, 0.0)


def test_around_0_the_relative_distance_is_infinite() -> None:
    assert consensus([torch.ones(4), -torch.ones(4)]) == (2.0, math.inf)


def test_what_does_not_fit_is_refused() -> None:
    one, other = torch.zeros(3), torch.zeros(4)
    with pytest.raises(ValueError, match=r"vectors of \[3, 4\] numbers"):
        consensus([one, other])
    with pytest.raises(ValueError, match=r"vectors of \[\] numbers"):
        consensus([])
    with pytest.raises(ValueError, match="one size"):
        mean_into(other, [one], [1.0])
    for shares in ([1.0], [-1.0, 2.0], [0.0, 0.0], [math.nan, 1.0], [math.inf, 1.0]):
        with pytest.raises(ValueError, match=r"shares \["):
            mean_into(one, [one, one], shares)
