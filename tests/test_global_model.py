"""The model of a run is its accumulator's (C4): rebuilt, remembered, evaluated, to the bit."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from training import (
    CUT,
    DISTRIBUTIONS,
    SEEDS,
    UNITS,
    K,
    accumulator,
    global_model_of,
    trainer_of,
    whole,
)

from peer import rebuild
from peer.data.encode import Encoded
from peer.evaluation import evaluate
from peer.model import load_model
from peer.perturbation import reference
from peer.weights_digest import weights_digest

sums_of_a_run = st.lists(
    st.integers(-(2**51) + 1, 2**51 - 1) | st.integers(-(2**26), 2**26), min_size=K, max_size=K
)


@given(
    cuts=st.lists(sums_of_a_run, min_size=1, max_size=4),
    distribution=st.sampled_from([*DISTRIBUTIONS]),
)
@settings(deadline=None, max_examples=8)
def test_going_to_a_cut_is_the_reference_rebuild(
    cuts: list[list[int]], distribution: str, dtype: str, tiny_model: Path
) -> None:
    plain = global_model_of(tiny_model, distribution, dtype)
    keeping = global_model_of(tiny_model, distribution, dtype, remember=True)
    part = slice(1000, 1300)
    for sums in (*cuts, cuts[0], cuts[0]):
        cut = accumulator(sums)
        for global_model in (plain, keeping):
            global_model.go_to(cut)
            exact = reference.rebuild(
                DISTRIBUTIONS[distribution],
                whole(global_model.w0)[part],
                SEEDS,
                cut.sums,
                UNITS.exponent - UNITS.fraction_bits,
                start=part.start,
            )
            assert weights_digest(global_model.model.weights[part]) == weights_digest(exact)
            # What local steps leave behind must not be what is remembered.
            global_model.model.weights.add_(1.0)
        assert plain.digest(cut) == keeping.digest(cut)


def test_remembering_changes_no_bit_and_notices_a_cut_that_grew(
    tiny_model: Path, encoded: Encoded
) -> None:
    plain, keeping = (global_model_of(tiny_model, remember=each) for each in (False, True))
    cut = CUT.copy()
    for _ in range(3):
        for peer in (0, 3):
            some, others = (
                trainer_of(global_model, encoded).train(peer, 0, cut, np.array([1, 5]))
                for global_model in (plain, keeping)
            )
            assert some.gradients.tobytes() == others.gradients.tobytes()
            assert torch.equal(plain.model.weights, keeping.model.weights)
        cut.add(np.array([3, 5]), np.array([0.5, -4.0], dtype=np.float32), 1.5)
    assert plain.digest(cut) == keeping.digest(cut) != keeping.digest(CUT)


def test_the_pre_trained_weights_stay_as_they_were_loaded(
    tiny_model: Path, encoded: Encoded
) -> None:
    fresh = load_model(str(tiny_model), "float32", torch.device("cpu"))
    for remember in (False, True):
        global_model = global_model_of(tiny_model, remember=remember)
        empty = accumulator([])
        trainer_of(global_model, encoded).train(0, 0, empty, np.array([1, 2]))
        global_model.go_to(CUT)
        trainer_of(global_model, encoded).train(0, 1, CUT, np.array([3]))
        assert torch.equal(whole(global_model.w0), fresh.weights)
        assert global_model.digest(empty) == weights_digest(fresh.weights)


def test_digests_are_equal_when_accumulators_are_and_the_rebuild_says_which(
    tiny_model: Path,
) -> None:
    global_model = global_model_of(tiny_model)
    assert (
        global_model.digest(CUT)
        == global_model.digest(CUT.copy())
        == weights_digest(global_model.model.weights)
    )
    other = CUT.copy()
    other.sums[2] = 2**20
    assert global_model.digest(other) != global_model.digest(CUT)


def test_evaluating_at_a_cut_rebuilds_first(tiny_model: Path, encoded: Encoded) -> None:
    global_model = global_model_of(tiny_model)
    rows = np.arange(6)
    global_model.model.weights.fill_(math.nan)
    at_start = global_model.evaluate(accumulator([]), encoded, rows)
    assert at_start == evaluate(
        load_model(str(tiny_model), "float32", torch.device("cpu")), encoded, rows
    )
    assert global_model.evaluate(CUT, encoded, rows) != at_start


@given(cuts=st.lists(sums_of_a_run, max_size=4), distribution=st.sampled_from([*DISTRIBUTIONS]))
@settings(deadline=None, max_examples=8)
def test_digests_side_by_side_are_those_one_after_the_other(
    cuts: list[list[int]], distribution: str, dtype: str, tiny_model: Path
) -> None:
    global_model = global_model_of(tiny_model, distribution, dtype)
    before = global_model.model.weights.clone()
    accumulators = [accumulator(sums) for sums in (*cuts, *cuts[:1])]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rebuild, "_CHUNK", 7000)
        made = global_model.digests(accumulators)
    assert torch.equal(global_model.model.weights, before)
    assert made == [global_model.digest(cut) for cut in accumulators]
