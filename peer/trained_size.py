"""How many weights a method that averages trains and sends, without a model being loaded."""

from __future__ import annotations

from dataclasses import dataclass

from peer.adapter_size import lora, prompt_encoder, soft_prompt
from peer.config import Experiment
from peer.errors import UserError
from peer.methods import METHODS, Part
from peer.model_size import Shape, model_size

ADAPTER_DTYPE = "float32"
"""That of an adapter's weights, whatever the model's; see `peer.adapters`."""


@dataclass(frozen=True)
class TrainedSize:
    """What a peer that averages weights sends.

    Attributes:
        dtype: float32, float16 or bfloat16.
        count: P, how many weights.
    """

    dtype: str
    count: int


def trained_size(experiment: Experiment) -> TrainedSize:
    """Return what an experiment trains, be it all parameters or an adapter's.

    Args:
        experiment: whose model may also be a name or a count that `model_size` takes.

    Raises:
        UserError: the model's size is not known, or not its shape, which an adapter needs.
    """
    size, trains = model_size(experiment.model), METHODS[experiment.method].trains
    if trains is Part.ALL:
        return TrainedSize(experiment.dtype, size.parameters)
    if size.shape is None:
        raise UserError(
            f"model = {experiment.model!r}: of {trains.value} it is not known how many there are "
            "without the model's shape; give a folder or a name that has one, such as 3B"
        )
    return TrainedSize(ADAPTER_DTYPE, _adapter(experiment, trains, size.shape))


def _adapter(experiment: Experiment, trains: Part, shape: Shape) -> int:
    if trains is Part.LORA:
        return lora(shape, experiment.rank)
    if trains is Part.PROMPT_ENCODER:
        return prompt_encoder(shape, experiment.virtual_tokens)
    return soft_prompt(shape, experiment.virtual_tokens)
