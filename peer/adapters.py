"""Adapters by `peft`: a few trained numbers beside a model that stays as it is.

    lora            low-rank factors beside the projections that peft adapts in the architecture
                    (Hu et al., 2022)
    prompt-encoder  virtual tokens before the row, through an MLP (P-tuning; Liu et al., 2023)
    soft-prompt     virtual tokens before the row (prompt tuning; Lester et al., 2021)

An adapted model is a `FlatModel` whose flat weights are the adapter's alone, in float32, so that
training, evaluation and generation need not know of it. Its first weights have the distributions
that peft and torch give them, but are made from the experiment's seed by Philox and integers, so
that every peer has the same bits on whatever machine.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from peft import (
    LoraConfig,
    PeftConfig,
    PeftModelForCausalLM,
    PromptEncoderConfig,
    PromptTuningConfig,
    TaskType,
)

from peer.errors import UserError, in_one_line
from peer.model import FlatModel, Slot
from peer.perturbation.reference import GAUSSIAN, units
from peer.seeds import Domain, random_words

KINDS: Final = ("lora", "prompt-encoder", "soft-prompt")


@dataclass(frozen=True)
class Adapter:
    """What an adapter is like.

    Attributes:
        kind: one of `KINDS`.
        rank: of LoRA's factors.
        alpha: LoRA's product is multiplied by alpha / rank.
        virtual_tokens: of a prompt.
    """

    kind: str
    rank: int = 8
    alpha: int = 16
    virtual_tokens: int = 20

    @property
    def positions(self) -> int:
        """How many of the model's positions it takes from every row."""
        return 0 if self.kind == "lora" else self.virtual_tokens

    def config(self) -> PeftConfig:
        """Return it as peft writes it."""
        task = TaskType.CAUSAL_LM
        if self.kind == "lora":
            return LoraConfig(task, r=self.rank, lora_alpha=self.alpha, lora_dropout=0.0)
        kind = PromptEncoderConfig if self.kind == "prompt-encoder" else PromptTuningConfig
        return kind(task_type=task, num_virtual_tokens=self.virtual_tokens)


class AdaptedModel(FlatModel):
    """A model of which the adapter alone is trained.

    Attributes:
        module: the adapted model, in evaluation mode; `module.generate` is that of transformers.
        weights: float32, shape (P,), the adapter's parameters.
        layout: which is where.
        base: the model below, whose weights do not change.
        files: none; no file holds the adapter.
    """

    def __init__(self, base: FlatModel, adapter: Adapter, root_seed: int) -> None:
        """Build an adapter into a model, which is not to be used by itself from then on.

        Args:
            base: the model.
            adapter: what to build in.
            root_seed: the experiment's; fixes the first weights.

        Raises:
            UserError: peft cannot adapt a model of this kind.
        """
        module = _adapted(base, adapter)
        trained = {name for name, p in module.named_parameters() if p.requires_grad}
        super().__init__(module, base.weights.device, only=trained)
        self.base = base
        self._virtual = adapter.positions
        for number, slot in enumerate(self.layout.slots):
            layer = module.get_submodule(slot.name.rpartition(".")[0])
            first = _first_weights(layer, slot, root_seed, number)
            self.weights[slot.offset : slot.offset + slot.size] = torch.from_numpy(first)

    @property
    def size(self) -> int:
        """How many parameters the model below has."""
        return self.base.size

    def label_losses(
        self, logits: torch.Tensor, labels: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return what `losses` does, from logits of shape (..., virtual tokens + L, V)."""
        return super().label_losses(logits[..., self._virtual :, :], labels)


def export_adapter(model: AdaptedModel, folder: Path) -> None:
    """Save an adapter as `peft.PeftModel.from_pretrained` loads it.

    Of a prompt encoder the tokens that it makes are saved, which is all that peft keeps of one.
    """
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        # Left to decide by itself, peft would ask the hub whether the vocabulary has grown.
        model.module.save_pretrained(folder, save_embedding_layers=False)


class _Prompted(PeftModelForCausalLM):
    """Generates from virtual tokens and row as one input.

    peft's own way puts them in while transformers keeps count of tokens and positions without them:
    from the third token on its cached answers are not those of a pass over the whole text.
    """

    def generate(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None, **options: Any
    ) -> Any:
        """Return rows with their answers, as transformers' `generate` does."""
        base: Any = self.base_model
        base.generation_config = self.generation_config
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        embedded = base.get_input_embeddings()(input_ids)
        prompts = self.get_prompt(len(input_ids)).to(embedded.dtype)
        answers = base.generate(
            inputs_embeds=torch.cat([prompts, embedded], dim=1),
            attention_mask=torch.cat([mask.new_ones(prompts.shape[:2]), mask], dim=1),
            **options,
        )
        return torch.cat([input_ids, answers], dim=1)


def _adapted(base: FlatModel, adapter: Adapter) -> Any:
    """Return the model with its adapter, whatever the weights of that."""
    kind = PeftModelForCausalLM if adapter.kind == "lora" else _Prompted
    # peft draws weights, which are replaced: nobody else's draws may change by that.
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("ignore")
        try:
            return kind(base.module, adapter.config())
        # peft raises whatever its parts raise; for the user they are all one mistake.
        except Exception as error:
            name = base.module.config.model_type
            raise UserError(
                f"peft cannot build a {adapter.kind} adapter into a model of type {name!r}: "
                f"{in_one_line(error)}; allowed are types that it knows, such as llama, mistral "
                "and gpt2"
            ) from error


def _first_weights(layer: Any, slot: Slot, root_seed: int, number: int) -> NDArray[np.float32]:
    """Return the first weights of an adapter's parameter, shape (size,).

    Args:
        layer: whose they are: LoRA's second factors are 0, so that the model is as it was at first;
            an embedding has N(0, 1); a linear layer is even over +-1 / sqrt(inputs).
        slot: the parameter.
        root_seed: the experiment's.
        number: the parameter's place in the layout.
    """
    if ".lora_B." in slot.name:
        return np.zeros(slot.size, np.float32)
    if isinstance(layer, torch.nn.Embedding):
        (seed,) = random_words(root_seed, Domain.ADAPTERS, number, 0, 1).tolist()
        points = units(GAUSSIAN, seed, 0, slot.size) * 2.0**-GAUSSIAN.unit_bits
        return points.astype(np.float32)
    width = slot.shape[-1]
    rows = [
        random_words(root_seed, Domain.ADAPTERS, number, row, width)
        for row in range(slot.size // width)
    ]
    even = (np.concatenate(rows) >> np.uint64(11)) / 2.0**52 - 1.0
    first: NDArray[np.float32] = (even / math.sqrt(layer.in_features)).astype(np.float32)
    return first
