"""A model in blocks is each block's own sum, exactly, from any accumulator of L K sums."""

from __future__ import annotations

import math
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from training import DISTRIBUTIONS, SEEDS, UNITS, K, whole

from peer import rebuild
from peer.accumulator import Accumulator
from peer.blocks import block_offsets
from peer.errors import UserError
from peer.global_model import GlobalModel
from peer.model import load_model
from peer.perturbation import perturbation, reference
from peer.weights_digest import weights_digest

BLOCKS = 7


def model_in_blocks(
    folder: Path, distribution: str, dtype: str = "float32", blocks: int = BLOCKS
) -> GlobalModel:
    model = load_model(str(folder), dtype, torch.device("cpu"))
    offsets = block_offsets([slot.size for slot in model.layout.slots], blocks)
    return GlobalModel(model, perturbation(distribution, "cpu", 1), SEEDS, offsets=offsets)


def accumulator(sums: Any) -> Accumulator:
    made = Accumulator.empty(len(sums), UNITS)
    made.sums[:] = sums
    return made


def drawn_sums(seed: int, blocks: int = BLOCKS) -> Accumulator:
    generator = np.random.default_rng(seed)
    sums = generator.integers(-(2**30), 2**30, (blocks, K))
    sums[1] = 0
    sums[2, ::2] = 0
    return accumulator(sums.reshape(-1))


@given(seed=st.integers(0, 2**32), distribution=st.sampled_from([*DISTRIBUTIONS]))
@settings(deadline=None, max_examples=4)
def test_each_weight_is_the_formula_in_whole_numbers(
    seed: int, distribution: str, tiny_model: Path
) -> None:
    made = model_in_blocks(tiny_model, distribution)
    cut = drawn_sums(seed)
    made.go_to(cut)
    w0 = whole(made.w0).numpy()
    sums = cut.sums.reshape(BLOCKS, K)
    exponent = UNITS.exponent - UNITS.fraction_bits - DISTRIBUTIONS[distribution].unit_bits
    for block in range(BLOCKS):
        first, stop = made.offsets[block : block + 2].tolist()
        # The ends of the block, where a neighbour's sums would be wrong.
        for at in (first, first + 1, stop - 1):
            total = sum(
                int(a) * int(reference.units(DISTRIBUTIONS[distribution], int(seed), at, at + 1)[0])
                for seed, a in zip(SEEDS, sums[block], strict=True)
            )
            # Below 2**53, so float64 holds it, as it holds the difference but for one rounding.
            assert abs(total) < 2**53
            wanted = float(w0[at]) - float(Fraction(total) * Fraction(2) ** exponent)
            assert float(made.model.weights[at]) == float(np.float32(wanted))


def test_blocks_with_the_same_sums_are_one_block(tiny_model: Path, dtype: str) -> None:
    row = np.arange(-8, 8) * 12345
    one = model_in_blocks(tiny_model, "gaussian", dtype, 1)
    several = model_in_blocks(tiny_model, "gaussian", dtype)
    grouped = model_in_blocks(tiny_model, "gaussian", dtype, 0)
    plain = GlobalModel(one.model, one.kernel, SEEDS)
    assert len(grouped.offsets) > 3
    digests = {
        each.digest(accumulator(np.tile(row, len(each.offsets) - 1)))
        for each in (one, several, grouped, plain)
    }
    assert len(digests) == 1


def test_digests_side_by_side_are_those_one_after_the_other(
    tiny_model: Path, dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = model_in_blocks(tiny_model, "rademacher", dtype)
    monkeypatch.setattr(rebuild, "_CHUNK", 7001)
    cuts = [drawn_sums(seed) for seed in (0, 1, 2, 0)]
    assert made.digests(cuts) == [made.digest(cut) for cut in cuts]


def test_entries_in_any_order_give_the_same_model(tiny_model: Path) -> None:
    made = model_in_blocks(tiny_model, "gaussian")
    generator = np.random.default_rng(4)
    entries = [
        (generator.integers(0, BLOCKS * K, 20), generator.normal(size=20).astype(np.float32))
        for _ in range(12)
    ]
    digests = set()
    for _ in range(3):
        generator.shuffle(entries)
        cut = Accumulator.empty(BLOCKS * K, UNITS)
        for indices, coordinates in entries:
            cut.add(indices, coordinates, 1.3, importance=False)
        digests.add(made.digest(cut))
    assert len(digests) == 1


@pytest.mark.parametrize(
    ("offsets", "numbers"),
    [
        ([0, 5], K),
        ([0], 0),
        ([1, 10**9], K),
        ("repeated", 2 * K),
        ("halves", 2 * K - 1),
    ],
)
def test_what_are_no_blocks_is_refused_and_changes_nothing(
    offsets: Any, numbers: int, tiny_model: Path
) -> None:
    model = load_model(str(tiny_model), "float32", torch.device("cpu"))
    d = len(model.weights)
    offsets = {"repeated": [0, 0, d], "halves": [0, d // 2, d]}.get(str(offsets), offsets)
    made = GlobalModel(model, perturbation("gaussian", "cpu", 1), SEEDS, offsets=np.array(offsets))
    model.weights.fill_(math.pi)
    before = weights_digest(model.weights)
    with pytest.raises(UserError, match="cannot begin at"):
        made.go_to(accumulator(np.ones(numbers, np.int64)))
    with pytest.raises(UserError, match="cannot begin at"):
        made.digests([accumulator(np.ones(numbers, np.int64))])
    assert weights_digest(model.weights) == before


def test_a_seed_past_the_limit_in_a_late_block_changes_no_early_one(tiny_model: Path) -> None:
    made = model_in_blocks(tiny_model, "rademacher")
    before = weights_digest(made.model.weights)
    cut = drawn_sums(0)
    cut.sums[-1] = 2**51
    with pytest.raises(UserError, match="past the limit"):
        made.go_to(cut)
    assert weights_digest(made.model.weights) == before
