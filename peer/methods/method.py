"""What a method is: what it trains, by what steps, what it publishes and how that is merged.

Two ways of merging cover all of them. Methods of *sums* publish a history of numbers, which every
peer adds to the same integer sums; the model is a function of these, so all end with equal bits.
Methods that *average* publish the weights that they train, and mix what neighbours have sent into
their own; peers come near to each other and are never quite equal.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final


class Part(Enum):
    """Which parameters are trained."""

    ALL = "all parameters"
    LORA = "LoRA factors"
    PROMPT_ENCODER = "a prompt encoder"
    SOFT_PROMPT = "a soft prompt"

    @property
    def adapter(self) -> str | None:
        """The kind of adapter, one of `peer.adapters.KINDS`; None: the model itself is trained."""
        return _ADAPTERS.get(self)

    @property
    def is_prompt(self) -> bool:
        """Whether virtual tokens take positions of the model."""
        return self in (Part.PROMPT_ENCODER, Part.SOFT_PROMPT)


_ADAPTERS: Final = {
    Part.LORA: "lora",
    Part.PROMPT_ENCODER: "prompt-encoder",
    Part.SOFT_PROMPT: "soft-prompt",
}


class Steps(Enum):
    """How a local step moves them."""

    KSEED = "zeroth order, along candidate seeds"
    MEZO = "zeroth order, in place"
    FEDZO = "zeroth order, several directions a step"
    FIRST_ORDER = "first order, by backpropagation"


@dataclass(frozen=True)
class Method:
    """One method, as `--method` names it.

    Attributes:
        name: for the command line.
        title: for tables and pictures.
        about: what it publishes, in a few words.
        source: where it was published.
        trains: which parameters.
        steps: how.
        seeding: which sums its histories' numbers belong to (see `peer.seeding`); None: peers
            publish weights, which are averaged.
        system: its cost model, one of `sim.volume.systems`.
        defaults: options that differ from those of other methods where a user gives none.
    """

    name: str
    title: str
    about: str
    source: str
    trains: Part
    steps: Steps
    seeding: str | None
    system: str
    defaults: Mapping[str, Any] = field(default_factory=dict)

    @property
    def averages(self) -> bool:
        """Whether weights travel and are averaged, rather than numbers that add up."""
        return self.seeding is None

    @property
    def zeroth_order(self) -> bool:
        """Whether its steps need forward passes alone, and so an epsilon."""
        return self.steps is not Steps.FIRST_ORDER
