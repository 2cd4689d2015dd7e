"""The losses of several replicas of a small model in one forward pass (`torch.func`).

The replicas' weights are stacked, and `torch.func.vmap` turns every product with weights into one
batched product. Rows are padded on the right to the longest and no mask is given: in a causal model
no token sees a later one, and padding has no label. How long the padding is, and which kernel a
batched product takes, can change the last bits of a loss.

Shapes: R replicas, d weights, B rows of a replica's batch, L tokens of the longest row of all.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, Final

import torch
from torch.func import functional_call, vmap
from torch.nn.functional import pad, scaled_dot_product_attention
from torch.overrides import TorchFunctionMode

from peer.data.encode import IGNORED
from peer.errors import UserError, in_one_line
from peer.evaluation import PADDING
from peer.local_data import Rows
from peer.model import FlatModel

_ALIKE: Final = {torch.float32: 1e-5, torch.bfloat16: 1e-3, torch.float16: 1e-3}
"""Losses that should be equal differ by less than this share: by rounding, if at all."""


@torch.inference_mode()
def stacked_losses(model: FlatModel, weights: torch.Tensor, rows: Sequence[Rows]) -> list[float]:
    """Return each replica's mean loss over the label tokens of its batch, in nats.

    Args:
        model: says how weights become logits; its own weights are not looked at.
        weights: shape (R, d), on the model's device.
        rows: R batches, one for each replica, all of B rows.
    """
    longest = max(input_ids.shape[1] for input_ids, _, _ in rows)
    inputs = torch.stack([_widened(input_ids, longest, PADDING) for input_ids, _, _ in rows])
    labels = torch.stack([_widened(labels, longest, IGNORED) for _, _, labels in rows])
    parameters = {
        slot.name: weights[:, slot.offset : slot.offset + slot.size].view(-1, *slot.shape)
        for slot in model.layout.slots
    }

    def forward(own: dict[str, torch.Tensor], input_ids: torch.Tensor) -> torch.Tensor:
        asked = {"input_ids": input_ids, "use_cache": False}
        logits: torch.Tensor = functional_call(model.module, own, kwargs=asked).logits
        return logits

    with _FoldedAttention():
        logits = vmap(forward)(parameters, inputs.to(weights.device))
    losses, tokens = model.label_losses(logits, labels)
    return [
        float(loss.sum()) / int(count.sum()) for loss, count in zip(losses, tokens, strict=True)
    ]


def check_stackable(model: FlatModel) -> None:
    """Take a forward pass of two replicas that differ only in the tokens after the last label.

    Raises:
        UserError: it fails, or those tokens change the loss, so padding would: the model is not
            causal.
    """
    labels = torch.tensor([[IGNORED, 1, 2, IGNORED, IGNORED]])
    tails = [torch.tensor([[0, 1, 2, *tail]]) for tail in ((0, 0), (2, 1))]
    rows = [(input_ids, torch.ones_like(input_ids), labels) for input_ids in tails]
    refusal = "side_by_side above 1 is not allowed with this model"
    try:
        one, other = stacked_losses(model, model.weights.expand(2, -1), rows)
    # A model's code may fail under torch.func in any way; for the user they are all one mistake.
    except Exception as error:
        raise UserError(f"{refusal}: {in_one_line(error)}") from error
    if abs(one - other) > _ALIKE[model.weights.dtype] * abs(one):
        raise UserError(f"{refusal}: it is not causal, so padding would change its losses")


def _widened(tokens: torch.Tensor, length: int, value: int) -> torch.Tensor:
    return pad(tokens, (0, length - tokens.shape[1]), value=value)


class _FoldedAttention(TorchFunctionMode):
    """Lets attention without a mask take replicas as rows of its batch: its kernel runs once.

    Left to itself `vmap` runs the CPU's kernel once for each replica, and warns that it does.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        options = dict(kwargs or {})
        masked = len(args) > 3 or options.get("attn_mask") is not None
        if func is not scaled_dot_product_attention or masked:
            return func(*args, **options)
        tensors = [*args, *(options.pop(name) for name in ("query", "key", "value")[len(args) :])]
        # Some versions of torch give it types, others do not.
        apply: Any = _Fold.apply
        return apply(partial(func, **options), *tensors)


class _Fold(torch.autograd.Function):
    """A kernel over the rows of a batch, for which `vmap` puts the rows of all replicas in one."""

    @staticmethod
    def forward(kernel: Any, *tensors: torch.Tensor) -> Any:
        return kernel(*tensors)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        """Keep nothing: there is no backward pass."""

    @staticmethod
    def vmap(info: Any, in_dims: Any, kernel: Any, *tensors: torch.Tensor) -> Any:
        folded = [
            tensor.movedim(dim, 0).flatten(0, 1)
            for tensor, dim in zip(tensors, in_dims[1:], strict=True)
        ]
        return kernel(*folded).unflatten(0, (info.batch_size, -1)), 0
