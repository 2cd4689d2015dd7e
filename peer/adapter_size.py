"""How many parameters P each parameter-efficient method trains, given the model's shape.

The settings are those of FedKSeed, section 5.1.4: rank 8 and 20 virtual tokens. With them 8 P is
what its Table 3 prints as communication, if its MB are 2**20 bytes and its KB 2**10.
"""

from __future__ import annotations

from typing import Final

from peer.model_size import Shape

RANK: Final = 8
"""Of LoRA's two factors (FedKSeed, section 5.1.4)."""

VIRTUAL_TOKENS: Final = 20
"""Of a prompt (FedKSeed, section 5.1.4)."""


def lora(shape: Shape, rank: int = RANK) -> int:
    """Return P of LoRA on the projections of queries and values (Hu et al., 2022, section 4.1).

    A weight of shape (out, in) gets factors (out, rank) and (rank, in). These two projections are
    what peft adapts in a LLaMA if nothing else is said.
    """
    queries = rank * (shape.hidden + shape.queries)
    values = rank * (shape.hidden + shape.keys)
    return shape.layers * (queries + values)


def prompt_encoder(shape: Shape, tokens: int = VIRTUAL_TOKENS) -> int:
    """Return P of P-tuning (Liu et al., 2023): virtual tokens and the MLP that encodes them.

    The MLP has three layers of h to h, each with a bias, as peft makes it.
    """
    return soft_prompt(shape, tokens) + 3 * (shape.hidden**2 + shape.hidden)


def soft_prompt(shape: Shape, tokens: int = VIRTUAL_TOKENS) -> int:
    """Return P of prompt tuning (Lester et al., 2021): the virtual tokens' embeddings."""
    return tokens * shape.hidden
