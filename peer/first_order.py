"""Local steps by backpropagation, with any optimiser of `torch.optim` that needs gradients alone.

A step averages the gradients of the mean losses of a few batches and lets the optimiser move the
model's parameters, which are views into the flat weights. The optimiser is new in each round, as in
the published programs, so no state of it travels or has to be kept. Dropout is off, as it is in the
zeroth-order steps, so equal rows give equal steps.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, Final

import numpy as np
import torch

from peer.errors import UserError, in_one_line
from peer.local_data import Rows
from peer.local_steps import LocalUpdate
from peer.model import FlatModel
from peer.tensors import all_finite

_TRIED_STEPS: Final = 8
"""RAdam divides by nothing in its first five."""


class FirstOrder:
    """Takes steps along gradients; see `peer.local_steps.LocalSteps`.

    Args:
        optimizer: the name of a class in `torch.optim`, in lower case.
        learning_rate: eta; whatever else the optimiser has stays at torch's defaults.
        accumulate: batches in a step; the last step of a round has those that are left.
        dtype: of the weights that will be moved.

    Raises:
        UserError: there is no such optimiser, or it cannot do this.
    """

    def __init__(
        self,
        optimizer: str,
        learning_rate: float,
        accumulate: int = 1,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self._kind = _optimizer(optimizer)
        self._learning_rate = learning_rate
        self._accumulate = accumulate
        _try_out(self._kind, learning_rate, dtype)

    def run(
        self, model: FlatModel, batches: Iterable[Rows], peer: int = 0, round_: int = 0
    ) -> LocalUpdate:
        """Take a step for each `accumulate` batches; nothing is drawn, so peer and round are free.

        A step whose loss or gradient is not finite is skipped.
        """
        del peer, round_
        losses = []
        with model.gradient() as gradient:
            optimizer = self._kind(model.parameters(), lr=self._learning_rate)
            for some in _groups(batches, self._accumulate):
                gradient.zero_()
                loss = _backward(model, some)
                usable = math.isfinite(loss) and all_finite(gradient)
                if usable:
                    optimizer.step()
                losses.append(loss if usable else math.nan)
        return LocalUpdate(np.array(losses))


def _optimizer(name: str) -> Any:
    """Return the class of an optimiser. Raises UserError where there is none of this name."""
    base = torch.optim.Optimizer
    known = {
        kind.__name__.lower(): kind
        for kind in vars(torch.optim).values()
        if isinstance(kind, type) and issubclass(kind, base) and kind is not base
    }
    if name not in known:
        near = difflib.get_close_matches(name.lower(), known, n=3)
        hint = f"did you mean {' or '.join(near)}?" if near else f"allowed are {', '.join(known)}"
        raise UserError(f"optimizer = {name!r} is not allowed: torch has none of this name; {hint}")
    return known[name]


def _try_out(kind: Any, learning_rate: float, dtype: torch.dtype) -> None:
    """Take some steps with two numbers, as only trying shows what an optimiser asks for.

    Raises:
        UserError: it wants a closure, a sparse gradient or matrices alone, or the numbers that it
            divides by become 0 in this type.
    """
    refusal = f"optimizer = {kind.__name__.lower()!r} is not allowed"
    weights = torch.nn.Parameter(torch.ones(2, dtype=dtype))
    # One weight is of a token that no row has, the other has a gradient that is small but common.
    weights.grad = torch.tensor([0.0, 1e-3], dtype=dtype)
    try:
        optimizer = kind([weights], lr=learning_rate)
        for _ in range(_TRIED_STEPS):
            optimizer.step()
    # Each optimiser says in its own way what it wants.
    except Exception as error:
        raise UserError(
            f"{refusal}: it cannot move a vector by its gradient alone: {in_one_line(error)}"
        ) from error
    if not all_finite(weights.detach()):
        raise UserError(
            f"{refusal} with {str(dtype).removeprefix('torch.')} weights: numbers that it divides "
            "by become 0; allowed are sgd, or float32 or bfloat16"
        )


def _groups(batches: Iterable[Rows], size: int) -> Iterator[Sequence[Rows]]:
    left = iter(batches)
    while some := tuple(islice(left, size)):
        yield some


def _backward(model: FlatModel, batches: Sequence[Rows]) -> float:
    """Add up the gradients of the mean of these batches' mean losses, and return that mean."""
    total = 0.0
    for rows in batches:
        losses, tokens = model.traced_losses(*rows)
        loss = losses.sum() / int(tokens.sum()) / len(batches)
        total += float(loss.detach())
        if not math.isfinite(total):
            break
        loss.backward()  # type: ignore[no-untyped-call]
    return total
