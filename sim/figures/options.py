"""The options of `kseed figure`, each declared once; they become flags."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from peer.choices import DEVICES, DTYPES, PERTURBATIONS
from peer.gradients import GRADIENT_BYTES
from peer.options import check, option


@dataclass(frozen=True, kw_only=True)
class LatestModelOptions:
    """What to measure; the defaults are FedKSeed's section 4.2, but for the model.

    Raises:
        UserError: a value is not allowed; names the key, the value and what is.
    """

    parameters: int = option(
        2_000_000, "about how many weights the model has", least=10_000, most=2**40
    )
    peers: int = option(50, "peers m that train in a round", least=1, most=2**18)
    local_steps: int = option(200, "local steps tau a round", least=1, most=2**18)
    rounds: int = option(30, "rounds r, at most", least=1, most=10_000)
    candidate_seeds: int = option(4096, "candidate seeds K of FedKSeed", least=1, most=2**24)
    pro_candidate_seeds: int = option(
        1024, "candidate seeds K of FedKSeed-Pro", least=1, most=2**24
    )
    perturbation: str = option(
        "rademacher", "distribution of the perturbations z", choices=PERTURBATIONS
    )
    dtype: str = option("float32", "type of the weights", choices=DTYPES)
    device: str = option("auto", "where the weights live; auto takes a GPU", choices=DEVICES)
    threads: int = option(0, "threads; 0: one for each core we may use", least=0, most=4096)
    repeats: int = option(3, "how often a rebuild is measured; medians count", least=1, most=1000)
    replay_seconds: float = option(
        60.0,
        "how long steps are replayed; rounds beyond are scaled from the steps done by then",
        least=0.0,
        most=1e9,
    )

    def __post_init__(self) -> None:
        _check(self)


@dataclass(frozen=True, kw_only=True)
class BreakEvenOptions:
    """What to compare; the defaults are those of the design's figures.

    Raises:
        UserError: a value is not allowed; names the key, the value and what is.
    """

    topology: str = option("torus", "graph family, or a .graphml, .edgelist or .json file")
    peers: int = option(100, "number of peers; a topology file sets it", least=2, most=20_000)
    degree: int = option(4, "degree of the families that have one", least=1)
    seed: int = option(0, "of the random families, and of the seeds drawn", least=0, most=2**63 - 1)
    candidate_seeds: int = option(4096, "candidate seeds K", least=1, most=2**24)
    gradient_bytes: int = option(
        4, "bytes of a scalar gradient on the wire", choices=GRADIENT_BYTES
    )

    def __post_init__(self) -> None:
        _check(self)


@dataclass(frozen=True, kw_only=True)
class ReconstructionOptions:
    """What to measure; the defaults are those of Ferret's appendix C.4.

    Raises:
        UserError: a value is not allowed; names the key, the value and what is.
    """

    perturbation: str = option("rademacher", "distribution of the bases", choices=PERTURBATIONS)
    draws: int = option(10, "random x and bases, over which cosines are means", least=1, most=1000)
    divide: int = option(
        1, "the paper's numbers of dimensions are divided by this", least=1, most=100
    )
    seed: int = option(0, "of all that is drawn", least=0, most=2**62)
    threads: int = option(1, "threads; 0: one for each core we may use", least=0, most=4096)

    def __post_init__(self) -> None:
        _check(self)

    def size(self, dimensions: int) -> int:
        """Return how many dimensions stand for so many of the paper's."""
        return dimensions // self.divide


def _check(options: Any) -> None:
    for item in fields(options):
        check(item, getattr(options, item.name))
