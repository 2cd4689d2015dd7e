"""Cost models of the systems that send weights: of the whole model, or of an adapter."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Final

from peer.adapter_size import RANK, VIRTUAL_TOKENS, lora, prompt_encoder, soft_prompt
from peer.model_size import Shape
from sim.volume.costs import (
    DOWNLOAD,
    NO_SHAPE,
    SCALAR,
    Costs,
    Server,
    System,
    adapter_backpropagation,
    averaging,
    entries,
    full_backpropagation,
    inference,
)
from sim.volume.setting import Setting


def fedavg(setting: Setting) -> Costs:
    """Return weights up and weights down: 2 d numbers (McMahan et al., 2017, algorithm 1).

    FedKSeed's Table 1, full parameters with BP: O(d) sent, O(d) to obtain the latest model, which
    is the download.
    """
    d = setting.model.parameters
    sent = d * setting.weight_bytes
    return Costs(Server(sent, sent, DOWNLOAD), averaging(setting, d), full_backpropagation(setting))


def fedzo(setting: Setting) -> Costs:
    """Return the same bytes, local steps being of order zero (Fang et al., 2022).

    FedKSeed's Table 1, full parameters with ZOO: O(d) sent, memory of inference.
    """
    d = setting.model.parameters
    sent = d * setting.weight_bytes
    return Costs(Server(sent, sent, DOWNLOAD), averaging(setting, d), inference(setting))


def fedmezo(setting: Setting) -> Costs:
    """Return the same with MeZO's steps in place (Ferret, C.1: FedAvg with MeZO).

    8 P with P = d: Ferret's C.1 lists it among the methods that tune all parameters.
    """
    return fedzo(setting)


def fedit(setting: Setting) -> Costs:
    """Return LoRA factors up and down: 8 P in float32 (FedKSeed, Table 3). Adam keeps 2 P more."""
    return _adapter(setting, lora, state=2)


def fedit_sgd(setting: Setting) -> Costs:
    """Return the same with SGD, which keeps nothing."""
    return _adapter(setting, lora, state=0)


def fedptuning(setting: Setting) -> Costs:
    """Return the prompt encoder up and down: 8 P in float32 (FedKSeed, Table 3)."""
    return _adapter(setting, prompt_encoder, state=0)


def fedprompt(setting: Setting) -> Costs:
    """Return the soft prompt up and down: 8 P in float32 (FedKSeed, Table 3)."""
    return _adapter(setting, soft_prompt, state=0)


def _adapter(setting: Setting, numbers: Callable[[Shape, int], int], state: int) -> Costs:
    """Return the cost of P numbers of an adapter, which are of 4 bytes whatever the model's are."""
    shape = setting.model.shape
    if shape is None:
        memory = adapter_backpropagation(setting, None, state)
        return Costs(Server(None, None, DOWNLOAD), averaging(setting, None), memory, NO_SHAPE)
    width = setting.rank if numbers is lora else setting.virtual_tokens
    trained = numbers(shape, width)
    sent = trained * SCALAR
    memory = adapter_backpropagation(setting, trained, state)
    spread = averaging(setting, trained, SCALAR)
    return Costs(Server(sent, sent, DOWNLOAD), spread, memory, _other_width(numbers, width))


def _other_width(numbers: Callable[[Shape, int], int], width: int) -> str:
    """Return what is to be noted of an adapter that is not as wide as the papers'."""
    if numbers is lora:
        return "" if width == RANK else f"here of rank {width}"
    return "" if width == VIRTUAL_TOKENS else f"here with {width} virtual tokens"


def blockddl(setting: Setting) -> Costs:
    """Return the weights of each active peer for every other one (Qin et al., 2023).

    FedKSeed's B.2 on such systems: a client "may need to transmit its model parameters to more than
    one receiver". One copy for each receiver is the least; each averages what the active ones sent.
    """
    d = setting.model.parameters
    spread = entries(setting, d * setting.weight_bytes, setting.active * d, mode="tree")
    gossip = replace(spread, how="through a chain, at least")
    note = "the chain's own blocks and votes are not counted: no paper here says how many bytes"
    return Costs(None, gossip, full_backpropagation(setting), note)


WEIGHTS: Final = (
    System("fedavg", "FedAvg", "weights", "McMahan 2017; FedKSeed Table 1", fedavg),
    System("fedzo", "FedZO", "weights", "Fang 2022; FedKSeed Table 1", fedzo),
    System("fedmezo", "FedMeZO", "weights", "Ferret C.1", fedmezo),
    System("fedit", "FedIT", "LoRA factors, rank 8", "FedKSeed 5.1.4, Table 3", fedit),
    System("fedit-sgd", "FedIT-SGD", "LoRA factors, rank 8", "FedKSeed 5.1.4, Table 3", fedit_sgd),
    System(
        "fedptuning",
        "FedPTuning",
        "prompt encoder, 20 virtual tokens",
        "FedKSeed 5.1.4, Table 3",
        fedptuning,
    ),
    System(
        "fedprompt", "FedPrompt", "soft prompt of 20 tokens", "FedKSeed 5.1.4, Table 3", fedprompt
    ),
    System("blockddl", "BlockDDL", "weights, on a blockchain", "FedKSeed B.2", blockddl),
)
