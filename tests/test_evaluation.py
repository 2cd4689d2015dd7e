"""The loss of many rows: the mean over all response tokens, whatever batches they are taken in."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from peer import evaluation
from peer.data.encode import Encoded, batch
from peer.evaluation import evaluate, row_losses
from peer.model import load_model


def test_evaluation_is_the_mean_over_all_response_tokens(
    tiny_model: Path, encoded: Encoded
) -> None:
    model = load_model(str(tiny_model), "float32", torch.device("cpu"))
    rows = np.array([5, 0, 33, 12, 70, 71, 8])
    total, tokens = 0.0, 0
    for row in rows:
        losses, counts = model.losses(*batch(encoded, [row], 0))
        total += float(losses[0])
        tokens += int(counts[0])
    assert tokens == sum(np.diff(encoded.offsets)[rows] - encoded.prompt_lengths[rows])
    loss = evaluate(model, encoded, rows)
    assert loss == pytest.approx(total / tokens, rel=1e-6)
    assert loss != pytest.approx(
        np.mean([evaluate(model, encoded, rows[i : i + 1]) for i in range(7)])
    )
    assert evaluate(model, encoded, rows[::-1].copy()) == pytest.approx(loss, rel=1e-6)


def test_rows_have_their_losses_from_the_pass_that_gives_the_mean(
    tiny_model: Path, encoded: Encoded
) -> None:
    model = load_model(str(tiny_model), "float32", torch.device("cpu"))
    rows = np.array([5, 0, 33, 12, 70, 71, 8])
    whole = row_losses(model, encoded, rows)
    assert whole.mean == evaluate(model, encoded, rows)
    assert whole.sums.sum() / whole.tokens.sum() == pytest.approx(whole.mean, rel=1e-12)
    for place, row in enumerate(rows):
        losses, counts = model.losses(*batch(encoded, [row], 0))
        assert whole.sums[place] == pytest.approx(float(losses[0]), rel=1e-5)
        assert whole.tokens[place] == int(counts[0])


@given(lengths=st.lists(st.integers(2, 40), min_size=1, max_size=30), limit=st.integers(1, 200))
@settings(deadline=None)
def test_evaluation_takes_every_row_once_in_batches_of_a_limited_size(
    lengths: list[int], limit: int
) -> None:
    n = len(lengths)
    offsets = np.cumsum([0, *lengths])
    zeros = np.zeros(n, dtype=np.int32)
    # A row's tokens are all its own number.
    tokens = np.repeat(np.arange(n, dtype=np.int32), lengths)
    ones = np.ones(n, dtype=np.int32)
    rows = Encoded(tokens, offsets, ones, zeros, ("",), zeros, ("",), 0)
    met = []

    class Counting:
        def losses(
            self, input_ids: torch.Tensor, mask: torch.Tensor, labels: torch.Tensor
        ) -> tuple[torch.Tensor, torch.Tensor]:
            assert input_ids.numel() <= limit or len(input_ids) == 1
            assert mask.sum() > 0
            met.extend(input_ids[:, 0].tolist())
            counts = (labels[:, 1:] != -100).sum(dim=1)
            return counts.double() * (input_ids[:, 0] + 1), counts

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluation, "EVALUATION_TOKENS", limit)
        loss = evaluate(Counting(), rows, np.arange(n))  # type: ignore[arg-type]
    assert sorted(met) == list(range(n))
    weights = np.array(lengths) - 1
    assert loss == pytest.approx(float(weights @ (np.arange(n) + 1)) / weights.sum())
