"""The options of `kseed bench`, each declared once; they become flags."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import Field, dataclass, field, fields
from typing import Any, Final

from peer.choices import BUILTIN, DEVICES, DTYPES, PERTURBATIONS
from peer.config import Experiment
from peer.errors import UserError
from peer.options import allowed, kind

PROTOCOL: Final = ("gossip", "simulator")
"""Benches of the protocol, which have settings of their own and no model."""

NUMERICS: Final = ("rebuild", "step", "memory")
BENCHES: Final = (*NUMERICS, *PROTOCOL)
CLUSTER: Final = "ray"
"""A bench that needs an extra, and is measured when it is asked for by name alone."""

_NO_NUMERICS: Final = (*PROTOCOL, CLUSTER)
BOTH: Final = "both"


def _option(
    default: Any,
    help_: str,
    *,
    choices: tuple[str, ...] = (),
    least: int | None = None,
    most: int | None = None,
    unused_in: tuple[str, ...] = (),
) -> Any:
    limits = {"choices": choices, "least": least, "above": None, "most": most}
    return field(default=default, metadata={"help": help_, "unused_in": unused_in, **limits})


@dataclass(frozen=True, kw_only=True)
class BenchOptions:
    """What to measure.

    Raises:
        UserError: a value is not allowed; names the key, the value and what is.
    """

    parameters: int = _option(
        22_700_000,
        "about how many weights the model has",
        least=10_000,
        most=2**40,
        unused_in=_NO_NUMERICS,
    )
    candidate_seeds: int = _option(
        256, "candidate seeds K", least=1, most=2**24, unused_in=_NO_NUMERICS
    )
    perturbation: str = _option(
        BOTH,
        "distribution of the perturbations z",
        choices=(BOTH, *PERTURBATIONS),
        unused_in=_NO_NUMERICS,
    )
    dtype: str = _option("float32", "type of the weights", choices=DTYPES, unused_in=_NO_NUMERICS)
    device: str = _option(
        "auto", "where the weights live; auto takes a GPU", choices=DEVICES, unused_in=_NO_NUMERICS
    )
    threads: int = _option(
        0, "threads; 0: one for each core we may use", least=0, most=4096, unused_in=_NO_NUMERICS
    )
    repeats: int = _option(
        5, "how often all is measured; medians count", least=1, most=1000, unused_in=PROTOCOL
    )
    replicas: int = _option(
        16,
        "accumulators that are rebuilt from at once",
        least=2,
        most=2**12,
        unused_in=("step", "memory", *_NO_NUMERICS),
    )
    tokens: int = _option(
        128,
        "tokens of a local step's row",
        least=2,
        most=2**20,
        unused_in=("rebuild", *_NO_NUMERICS),
    )
    peers: int = _option(
        0,
        "simulated peers; 0: those of the limits, 100, 10,000 and 8",
        least=0,
        most=100_000,
        unused_in=NUMERICS,
    )
    model: str = _option(
        BUILTIN, "model of the runs through Ray: folder, hub id, or builtin", unused_in=BENCHES
    )
    rounds: int = _option(
        10, "rounds of the runs through Ray", least=1, most=10_000, unused_in=BENCHES
    )
    json: bool = _option(False, "print JSON on standard output and nothing else there")

    def __post_init__(self) -> None:
        for item in bench_options():
            value, limits = getattr(self, item.name), item.metadata
            wrong = (
                type(value) is not kind(item)
                or (limits["choices"] and value not in limits["choices"])
                or (limits["least"] is not None and value < limits["least"])
                or (limits["most"] is not None and value > limits["most"])
            )
            if wrong:
                raise UserError(f"{item.name} = {value!r} is not allowed: must be {allowed(item)}")

    @property
    def perturbations(self) -> tuple[str, ...]:
        """The distributions to measure."""
        return PERTURBATIONS if self.perturbation == BOTH else (self.perturbation,)

    @property
    def shown_first(self) -> str:
        """The distribution whose figures are at the top of a report."""
        return Experiment().perturbation if self.perturbation == BOTH else self.perturbation


def bench_options() -> tuple[Field[Any], ...]:
    """Return the declarations, in order."""
    return fields(BenchOptions)


def unused_bench_options(name: str | None, given: Iterable[str]) -> tuple[str, ...]:
    """Return which of the options that a user gave have no effect in a bench."""
    unused = {item.name for item in bench_options() if name in item.metadata["unused_in"]}
    return tuple(key for key in given if key in unused)
