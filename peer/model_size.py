"""Sizes of models by name or by count, without a weight being loaded.

A decoder of LLaMA's kind is given by a few numbers, from which its number of parameters d follows
exactly. Of a model that is given by its count alone only d is known.
"""

from __future__ import annotations

import difflib
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

from peer import builtin
from peer.choices import BUILTIN
from peer.errors import UserError

_COUNT: Final = re.compile(r"([0-9]{1,16}(?:\.[0-9]{1,6})?)([KMBT]?)", re.ASCII | re.IGNORECASE)
_UNITS: Final = {"": 1, "K": 10**3, "M": 10**6, "B": 10**9, "T": 10**12}
_MOST: Final = 10**15


@dataclass(frozen=True, kw_only=True)
class Shape:
    """What a decoder of LLaMA's kind is made of (Touvron et al., 2023, section 2.2).

    Attributes:
        hidden: h, the width of the stream between the layers.
        layers: how many there are.
        intermediate: width of the gated MLP.
        vocabulary: tokens.
        queries: width of all heads' queries together.
        keys: width of all heads' keys together, and of their values.
        tied: whether the output layer is the embedding.
        attention_bias: whether the four projections of attention have biases.
        mlp_bias: whether the three of the MLP have.
    """

    hidden: int
    layers: int
    intermediate: int
    vocabulary: int
    queries: int
    keys: int
    tied: bool = False
    attention_bias: bool = False
    mlp_bias: bool = False

    @property
    def parameters(self) -> int:
        """d."""
        return sum(self.tensors)

    @property
    def tensors(self) -> list[int]:
        """The sizes of all tensors, sorted by their names in Hugging Face's LLaMA.

        Output layer and embedding, the layers, and a norm before the output. A layer has a norm,
        the MLP's down, gate and up, another norm, and projections of keys, output, queries and
        values; a bias comes before its weight.
        """
        wide, narrow = self.intermediate, self.hidden
        mlp = [(narrow, wide), (wide, narrow), (wide, narrow)]
        attention = [
            (self.keys, narrow),
            (narrow, self.queries),
            (self.queries, narrow),
            (self.keys, narrow),
        ]
        layer = [
            narrow,
            *_linear(mlp, bias=self.mlp_bias),
            narrow,
            *_linear(attention, bias=self.attention_bias),
        ]
        ends = [self.vocabulary * narrow] * (1 if self.tied else 2)
        return [*ends, *layer * self.layers, narrow]


def _linear(layers: Sequence[tuple[int, int]], *, bias: bool) -> Iterator[int]:
    """Yield the sizes of the tensors of linear layers of so many outputs and inputs."""
    for outputs, inputs in layers:
        if bias:
            yield outputs
        yield outputs * inputs


@dataclass(frozen=True)
class ModelSize:
    """How large a model is.

    Attributes:
        name: what it is called here.
        parameters: d.
        shape: None where only d is known; what needs one, as adapters do, is then not known.
    """

    name: str
    parameters: int
    shape: Shape | None = None


def _llama(
    hidden: int,
    layers: int,
    intermediate: int,
    vocabulary: int = 32_000,
    keys: int | None = None,
    *,
    tied: bool = False,
) -> Shape:
    return Shape(
        hidden=hidden,
        layers=layers,
        intermediate=intermediate,
        vocabulary=vocabulary,
        queries=hidden,
        keys=hidden if keys is None else keys,
        tied=tied,
    )


SHAPES: Final[Mapping[str, Shape]] = {
    "tinyllama-1.1b": _llama(2048, 22, 5632, keys=256),
    "datajuicer-1.3b": _llama(2048, 24, 5504),
    "llama-3b": _llama(3200, 26, 8640),
    "llama-7b": _llama(4096, 32, 11008),
    "llama-8b": _llama(4096, 32, 14336, 128_256, 1024),
    "llama-13b": _llama(5120, 40, 13824),
    "llama-33b": _llama(6656, 60, 17920),
    "llama-65b": _llama(8192, 80, 22016),
    "llama-70b": _llama(8192, 80, 28672, keys=1024),
}
"""Published shapes: DataJuicer-1.3B and (Open)LLaMA-3B are the two models of FedKSeed and Ferret;
7B, 13B, 33B and 65B are LLaMA, 70B is LLaMA 2, 8B is LLaMA 3."""

ALIASES: Final[Mapping[str, str]] = {
    "1.1b": "tinyllama-1.1b",
    "1.3b": "datajuicer-1.3b",
    "3b": "llama-3b",
    "7b": "llama-7b",
    "8b": "llama-8b",
    "13b": "llama-13b",
    "30b": "llama-33b",
    "33b": "llama-33b",
    "llama-30b": "llama-33b",
    "65b": "llama-65b",
    "70b": "llama-70b",
}
"""Short names. A count that is none of them, as 2.7B, stands for itself."""


def _is_model(folder: Path) -> bool:
    try:
        return (folder / "config.json").is_file()
    # A name that no file system takes is that of no folder.
    except OSError:
        return False


def model_size(text: str) -> ModelSize:
    """Return the size that a name, a folder or a count stands for.

    Args:
        text: a name or short name of the tables above, in any case; `builtin`; a Hugging Face
            folder with a config.json; or a number of parameters as 2.7B, 350M or 1500000.

    Raises:
        UserError: it is none of these, or the folder's model is of another kind than LLaMA's.
    """
    name = text.casefold()
    name = ALIASES.get(name, name)
    if name in SHAPES:
        return ModelSize(name, SHAPES[name].parameters, SHAPES[name])
    if name == BUILTIN:
        return _of_folder(BUILTIN, builtin.MODEL)
    folder = Path(os.path.expanduser(text))
    if text and _is_model(folder):
        return _of_folder(text, folder)
    counted = _COUNT.fullmatch(text)
    if counted is None:
        raise UserError(f"model = {text!r}: its size is not known; {_hint(name)}")
    parameters = Decimal(counted[1]) * _UNITS[counted[2].upper()]
    if parameters != int(parameters) or not 0 < parameters <= _MOST:
        raise UserError(
            f"model = {text!r} is not allowed: a number of parameters is a whole one, "
            f"from 1 to {_MOST:,}"
        )
    return ModelSize(text, int(parameters))


def _hint(name: str) -> str:
    near = difflib.get_close_matches(name, [*SHAPES, *ALIASES, BUILTIN], n=1)
    if near:
        return f"did you mean {near[0]}?"
    return (
        "allowed are a number of parameters (2.7B, 350M, 1500000), a folder with a config.json, "
        f"{BUILTIN}, {', '.join(SHAPES)}"
    )


def _of_folder(name: str, folder: Path) -> ModelSize:
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path} is no JSON: {error}") from None
    if not isinstance(config, dict):
        raise UserError(f"{path} holds no table of keys")
    kind = config.get("model_type")
    if kind not in ("llama", "mistral"):
        raise UserError(
            f"{path}: the shape of a {kind!r} is not known here, only of llama and mistral; "
            "give its number of parameters instead"
        )
    shape = _shape(config, path)
    return ModelSize(name, shape.parameters, shape)


def _shape(config: Mapping[str, Any], path: Path) -> Shape:
    def number(key: str, default: int | None = None) -> int:
        value = config.get(key)
        value = default if value is None else value
        if type(value) is not int or not 0 < value < 2**32:
            raise UserError(f"{path}: {key} = {value!r} is not allowed: must be a positive number")
        return value

    hidden, heads = number("hidden_size"), number("num_attention_heads")
    head = number("head_dim", hidden // heads)
    return Shape(
        hidden=hidden,
        layers=number("num_hidden_layers"),
        intermediate=number("intermediate_size"),
        vocabulary=number("vocab_size"),
        queries=heads * head,
        keys=number("num_key_value_heads", heads) * head,
        tied=bool(config.get("tie_word_embeddings", False)),
        attention_bias=bool(config.get("attention_bias", False)),
        mlp_bias=bool(config.get("mlp_bias", False)),
    )
