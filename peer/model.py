"""A Hugging Face causal LM with all its weights in one flat buffer.

Parameters are numbered by sorted name, tied ones once under the smallest name of their group (C1).
The module's parameters are views into the buffer, so a pass over the buffer is a pass over the
model and no weight is held twice. The layout (name, shape, offset) is hashed into the handshake.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from peer import builtin
from peer.choices import BUILTIN
from peer.data.encode import IGNORED
from peer.errors import UserError
from peer.hub import ready_hub

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

ALLOWED = "allowed are a folder with a Hugging Face causal LM, a hub id, and builtin"

LOGITS = 2**18
"""So many logits become losses at once, or a hundredth of the weights if that is more."""


@dataclass(frozen=True)
class Slot:
    """Where a parameter lies in the flat buffer."""

    name: str
    shape: tuple[int, ...]
    offset: int
    size: int


@dataclass(frozen=True)
class Layout:
    """All parameters in the order of the flat buffer."""

    slots: tuple[Slot, ...]

    @property
    def parameters(self) -> int:
        """d, how many numbers there are."""
        return sum(slot.size for slot in self.slots)

    def rows(self) -> list[list[Any]]:
        """Return [name, shape, offset] of each parameter, as JSON would read it back."""
        return [[slot.name, list(slot.shape), slot.offset] for slot in self.slots]

    def digest(self) -> str:
        """Return 32 hexadecimal digits that stand for names, shapes and offsets."""
        text = "\n".join(f"{slot.name} {slot.shape} {slot.offset}" for slot in self.slots)
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


class FlatModel:
    """A causal LM over one flat buffer of weights.

    Attributes:
        module: the model, in evaluation mode; its parameters are views into `weights`.
        weights: shape (d,), all parameters.
        layout: which is where.
        files: the safetensors files that the model was loaded from, as far as they are known.
    """

    def __init__(
        self,
        module: PreTrainedModel,
        device: torch.device,
        files: tuple[Path, ...] = (),
        only: Collection[str] | None = None,
    ) -> None:
        """Flatten the parameters of these names; None: all. Others stay where and as they are."""
        named = _smallest_names(module, only)
        module.requires_grad_(False)
        module.train(False)
        slots, offset = [], 0
        for name, parameter in named:
            slots.append(Slot(name, tuple(parameter.shape), offset, parameter.numel()))
            offset += parameter.numel()
        self.layout = Layout(tuple(slots))
        self.weights = torch.empty(offset, dtype=named[0][1].dtype, device=device)
        # Each parameter as it was loaded goes as soon as it is copied: no two models side by side.
        for slot, (_, parameter) in zip(slots, named, strict=True):
            view = self.weights[slot.offset : slot.offset + slot.size].view(slot.shape)
            view.copy_(parameter.data)
            parameter.data = view
        torch.nn.Module.to(module, device)
        self.module = module
        self.files = files

    @contextmanager
    def gradient(self) -> Iterator[torch.Tensor]:
        """Let backward passes of `traced_losses` add to the gradient that this yields.

        It has shape (d,) and the type and order of the weights, starts at 0, and is there only
        within the context. What a tied parameter gets through each of its names is added up.
        """
        gradient = torch.zeros_like(self.weights)
        parameters = self.parameters()
        for slot, parameter in zip(self.layout.slots, parameters, strict=True):
            parameter.requires_grad_(True)
            parameter.grad = gradient[slot.offset : slot.offset + slot.size].view(slot.shape)
        try:
            yield gradient
        finally:
            for parameter in parameters:
                parameter.requires_grad_(False)
                parameter.grad = None

    @property
    def size(self) -> int:
        """How many parameters the model has, trained or not."""
        return self.layout.parameters

    def parameters(self) -> list[torch.nn.Parameter]:
        """Return the module's parameters that are views into `weights`, in their order."""
        return [self.module.get_parameter(slot.name) for slot in self.layout.slots]

    @torch.inference_mode()
    def losses(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor, labels: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return each row's summed loss in nats (float64) and its number of label tokens.

        Args:
            input_ids: int64, shape (B, L).
            attention_mask: int64, shape (B, L), 0 on padding.
            labels: int64, shape (B, L), -100 where there is nothing to predict.

        Returns:
            Two tensors of shape (B,) on the CPU.
        """
        return self.traced_losses(input_ids, attention_mask, labels)

    def traced_losses(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor, labels: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return what `losses` does, with the graph that leads to the weights in `gradient`."""
        device = self.weights.device
        # Without padding the mask says nothing, and models are quicker without one.
        mask = None if bool(attention_mask.all()) else attention_mask.to(device)
        output: Any = self.module(
            input_ids=input_ids.to(device), attention_mask=mask, use_cache=False
        )
        return self.label_losses(output.logits, labels)

    def label_losses(
        self, logits: torch.Tensor, labels: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return what `losses` does, from logits of shape (..., L, V) and labels of (..., L)."""
        targets = labels[..., 1:].to(logits.device)
        kept = targets != IGNORED
        each = torch.zeros(targets.shape, dtype=torch.float64, device=logits.device)
        # All logits at once would be copied twice, and they can be more than the rest of the pass.
        most = max(LOGITS, len(self.weights) // 100) // logits.shape[-1]
        for some in torch.split(kept.nonzero(), max(1, most)):
            at = some.unbind(dim=1)
            losses = torch.nn.functional.cross_entropy(
                logits[at].float(), targets[at], reduction="none"
            )
            each[at] = losses.double()
        return each.sum(dim=-1).cpu(), kept.sum(dim=-1).cpu()


def _smallest_names(
    module: PreTrainedModel, only: Collection[str] | None
) -> list[tuple[str, torch.nn.Parameter]]:
    """Return (name, parameter), sorted by name, tied parameters under their smallest name."""
    names: dict[int, tuple[str, torch.nn.Parameter]] = {}
    for name, parameter in sorted(module.named_parameters(remove_duplicate=False)):
        if only is None or name in only:
            names.setdefault(id(parameter), (name, parameter))
    found = sorted(names.values(), key=lambda item: item[0])
    kinds = {parameter.dtype for _, parameter in found}
    if len(kinds) != 1:
        raise UserError(f"the model's parameters have several types: {sorted(map(str, kinds))}")
    return found


def resolve_device(name: str) -> torch.device:
    """Return the device that `auto`, `cpu` or `cuda` stands for.

    Raises:
        UserError: cuda is asked for and there is none.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError("device = 'cuda': this machine has no GPU that torch can use")
    return torch.device(name)


def load_model(source: str, dtype: str, device: torch.device) -> FlatModel:
    """Load a causal LM by folder, hub id, or `builtin`.

    Raises:
        UserError: there is no such model, or it is none that can be loaded.
    """
    from transformers import AutoModelForCausalLM

    module, about = _load(
        AutoModelForCausalLM, source, dtype=getattr(torch, dtype), output_loading_info=True
    )
    missing = sorted(about["missing_keys"])
    if missing:
        # They would be drawn at random, so each peer would start from another model.
        raise UserError(
            f"model = {source!r} is not whole: {len(missing)} of its parameters are not stored, "
            f"such as {missing[0]}; {ALLOWED}"
        )
    return FlatModel(module, device, _weight_files(source))


def load_tokenizer(source: str) -> PreTrainedTokenizerBase:
    """Load a model's tokenizer. Raises UserError as `load_model` does."""
    from transformers import AutoTokenizer

    tokenizer: PreTrainedTokenizerBase = _load(AutoTokenizer, source, what=": its tokenizer")
    return tokenizer


def positions(source: str) -> int:
    """Return the number of positions of a model, a large number if it does not say."""
    from transformers import AutoConfig

    config = _load(AutoConfig, source)
    return int(getattr(config, "max_position_embeddings", None) or 2**20)


def _load(auto: Any, source: str, *, what: str = "", **options: Any) -> Any:
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    # Warnings about how the weights were stored are not for the user of a run.
    logging.getLogger("transformers").setLevel(logging.ERROR)
    path = _folder(source)
    is_folder = path.is_dir()
    if not is_folder and (path.exists() or source.count("/") != 1 or source[0] in "./~"):
        raise UserError(f"model = {source!r}: there is no such folder; {ALLOWED}")
    if not is_folder:
        ready_hub()
    try:
        # A model that brings its own code would have transformers ask on the terminal.
        return auto.from_pretrained(
            str(path) if is_folder else source, trust_remote_code=False, **options
        )
    # Hugging Face raises whatever its parts raise; for the user they are all one mistake.
    except Exception as error:
        text = str(error).strip() or type(error).__name__
        first = text.splitlines()[0].rstrip()
        # A line that announces others says nothing without them.
        reason = (" ".join(text.split()) if first.endswith(":") else first).rstrip(".")
        raise UserError(
            f"model = {source!r}{what} cannot be loaded: {reason}; {ALLOWED}"
        ) from error


def _folder(source: str) -> Path:
    """Return the folder that a source is, which there is none of for a hub id."""
    return builtin.MODEL if source == BUILTIN else Path(os.path.expanduser(source))


def _weight_files(source: str) -> tuple[Path, ...]:
    """Return the safetensors files of a model that has been loaded, none if it has others."""
    from huggingface_hub import try_to_load_from_cache

    folder = _folder(source)
    if not folder.is_dir():
        config = try_to_load_from_cache(source, "config.json")
        if not isinstance(config, str):
            return ()
        folder = Path(config).parent
    single, index = folder / "model.safetensors", folder / "model.safetensors.index.json"
    if single.exists():
        return (single,)
    if not index.exists():
        return ()
    names = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    return tuple(folder / name for name in sorted(names))
