"""The prompt of Alpaca (Taori et al., 2023), as FedKSeed and Ferret (tables 4 and 5) use it."""

from __future__ import annotations

from peer.data.fields import Row

WITH_CONTEXT = (
    "Below is an instruction that describes a task, paired with an input that provides further"
    " context. Write a response that appropriately completes the request.\n\n"
    "### Instruction:\n{instruction}\n\n### Input:\n{context}\n\n### Response:\n"
)
WITHOUT_CONTEXT = (
    "Below is an instruction that describes a task. Write a response that appropriately completes"
    " the request.\n\n"
    "### Instruction:\n{instruction}\n\n### Response:\n"
)


def prompt(row: Row) -> str:
    """Return all that stands before the response; without context the Input part is left out."""
    template = WITH_CONTEXT if row.context.strip() else WITHOUT_CONTEXT
    return template.format(instruction=row.instruction, context=row.context)
