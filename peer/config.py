"""The options of an experiment: each is declared once, and is a TOML key and a flag of that name.

The declarations below give type, default, range, help text and the comment in the file that
`kseed init` writes. Whatever is wrong with a value is told in one line.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from dataclasses import Field, dataclass, field, fields
from typing import Any, Final

from peer.dissemination import MODES
from peer.errors import UserError
from peer.gradients import GRADIENT_BYTES
from peer.importance import MOST_SEEDS
from peer.latency import FORMS, parse_latency
from peer.rounds import SCHEDULES
from peer.scenario import Incident, parse_scenario
from peer.seeds import SEED_LIMIT
from peer.wire import FRAME_LIMIT

BUILTIN: Final = "builtin"
METHODS: Final = ("fedkseed", "fedkseed-pro")
TRAINERS: Final = ("zeroth-order", "synthetic")
PERTURBATIONS: Final = ("gaussian", "rademacher")
PARTITIONS: Final = ("iid", "dirichlet", "by-category")
DEVICES: Final = ("auto", "cpu", "cuda")
DTYPES: Final = ("float32", "bfloat16", "float16")
LATENCY_PER: Final = ("link", "frame")
SIMULATED_LINKS: Final = (
    "latency",
    "latency_per",
    "bandwidth",
    "loss",
    "duplication",
    "reordering",
)
"""Options that say what the simulator's links are like."""

SIMULATED_SPEEDS: Final = ("step_seconds", "speed_spread", "stragglers", "slowdown")
"""Options that say how long the simulator's peers take."""

SIMULATOR_ONLY: Final = (
    *SIMULATED_SPEEDS,
    "slot_seconds",
    "side_by_side",
    "trace",
    *SIMULATED_LINKS,
)
CURVE: Final = ("auto", "on", "off")
ISOLATIONS: Final = ("none", "netns")
LOG_LEVELS: Final = ("debug", "info", "warning", "error")

PRESETS: Final[Mapping[str, Mapping[str, Any]]] = {"paper": {"perturbation": "gaussian"}}
"""Sets of options by name. `paper` does as FedKSeed's paper where our default does otherwise."""

SCENARIO: Final = "scenario"
"""The one key that is no option: tables of the file, without a flag."""


def _option(
    default: Any,
    help_: str,
    *,
    choices: tuple[Any, ...] = (),
    least: float | None = None,
    above: float | None = None,
    most: float | None = None,
    defines_run: bool = True,
) -> Any:
    """Declare an option; `defines_run` says whether a resumed run must have the same value."""
    limits = {"choices": choices, "least": least, "above": above, "most": most}
    return field(default=default, metadata={"help": help_, "defines_run": defines_run, **limits})


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """A whole experiment. Every option has a default, so `Experiment()` is the default run.

    Raises:
        UserError: a value is not allowed; names the key, the value and what is.
    """

    topology: str = _option("ring", "graph family, or a .graphml, .edgelist or .json file")
    peers: int = _option(8, "number of peers; a topology file sets it", least=2, most=2**18)
    degree: int = _option(4, "degree of the families that have one", least=1)
    rounds: int = _option(8, "rounds R", least=1, most=2**24, defines_run=False)
    local_steps: int = _option(50, "local steps tau a round", least=1, most=2**18)
    candidate_seeds: int = _option(1024, "candidate seeds K", least=1, most=2**24)
    learning_rate: float = _option(1e-4, "learning rate eta", least=1e-30, most=1e3)
    epsilon: float = _option(1e-3, "perturbation scale eps", least=1e-30, most=1e3)
    batch_size: int = _option(1, "rows in the batch of a local step", least=1, most=2**16)
    participation: float = _option(
        1.0, "share of the peers that train in a round", above=0.0, most=1.0
    )
    method: str = _option(
        "fedkseed", "fedkseed, or fedkseed-pro: draws seeds by importance", choices=METHODS
    )
    trainer: str = _option(
        "zeroth-order", "synthetic: histories of the right size without a model", choices=TRAINERS
    )
    perturbation: str = _option(
        "rademacher", "distribution of the perturbations z", choices=PERTURBATIONS
    )
    gossip: str = _option(
        "tree",
        "how entries spread: tree (along a tree per origin), flood, or antientropy (on request)",
        choices=tuple(MODES),
    )
    schedule: str = _option(
        "sync",
        "rounds that all go through together, or each peer by itself",
        choices=tuple(SCHEDULES),
    )
    gradient_bytes: int = _option(
        4, "bytes of a scalar gradient on the wire", choices=GRADIENT_BYTES
    )
    gradient_bound: float = _option(
        1024.0, "scalar gradients are clipped at this power of two", least=1.0, most=32768.0
    )
    model: str = _option(BUILTIN, "Hugging Face causal LM: folder or hub id, or builtin")
    data: str = _option(
        BUILTIN, "JSON, JSONL or CSV file, Natural Instructions folder, hub id, or builtin"
    )
    partition: str = _option("dirichlet", "how rows are dealt to the peers", choices=PARTITIONS)
    alpha: float = _option(
        0.5, "concentration of the Dirichlet partition; less is more uneven", above=0.0, most=1e6
    )
    eval_rows: int = _option(200, "rows held out to evaluate the model on", least=1)
    max_length: int = _option(
        0, "tokens kept of a row; 0: the smaller of 1024 and the model's positions", least=0
    )
    dtype: str = _option("float32", "type of the weights", choices=DTYPES)
    seed: int = _option(
        0, "the root of everything that is drawn", least=0, most=SEED_LIMIT // 2 - 1
    )
    step_seconds: float = _option(
        0.1, "virtual time of a local step in the simulator, in seconds", above=0.0, most=1e6
    )
    speed_spread: float = _option(
        0.0,
        "how unlike the simulated peers' speeds are: the sigma of a log-normal of median "
        "`step_seconds`",
        least=0.0,
        most=5.0,
    )
    stragglers: float = _option(
        0.0, "share of the simulated peers that are slower by `slowdown`", least=0.0, most=1.0
    )
    slowdown: float = _option(
        10.0, "by what factor stragglers take longer for a local step", least=1.0, most=1e6
    )
    slot_seconds: float = _option(
        1.0,
        "virtual time for which each slot of a topology that varies over time lasts, in seconds",
        above=0.0,
        most=1e6,
    )
    latency: str = _option("0.01", f"time that a frame takes on a simulated link: {FORMS}")
    latency_per: str = _option(
        "link",
        "latencies are drawn once for each link, or anew for each frame",
        choices=LATENCY_PER,
    )
    bandwidth: float = _option(
        0.0,
        "bytes a second over each direction of a simulated link; 0: no limit",
        least=0.0,
        most=1e15,
    )
    loss: float = _option(
        0.0, "share of the frames that simulated links lose", least=0.0, most=0.99
    )
    duplication: float = _option(
        0.0, "share of the frames that simulated links deliver twice", least=0.0, most=1.0
    )
    reordering: float = _option(
        0.0,
        "share of the frames that simulated links hold back, by up to as long again as the latency",
        least=0.0,
        most=1.0,
    )
    side_by_side: int = _option(
        1,
        "replicas of a small model whose forward passes the simulator takes in one batch, with "
        "memory for three copies of the weights each; above 1 the last bits of losses change, so "
        "digests differ from those of `kseed launch`",
        least=1,
        most=2**12,
    )
    round_timeout: float = _option(
        60.0, "seconds to wait for a round's entries", above=0.0, most=1e9, defines_run=False
    )
    settle_timeout: float = _option(
        60.0, "seconds of silence to wait at the end", above=0.0, most=1e9, defines_run=False
    )
    tick: float = _option(
        1.0, "seconds between two looks at what neighbours lack", least=1e-3, most=1e6
    )
    sign: bool = _option(False, "sign every entry with its origin's Ed25519 key")
    fold: bool = _option(
        True, "fold entries that everybody has into a base, from which a late peer can start"
    )
    disconnect: bool = _option(
        True,
        "disconnect a neighbour that lies or floods; where links are not encrypted, nobody is",
        defines_run=False,
    )
    device: str = _option(
        "auto", "where the model lives; auto takes a GPU", choices=DEVICES, defines_run=False
    )
    threads: int = _option(
        1,
        "threads of a forward pass; its last bits hang on them",
        least=1,
        most=4096,
        defines_run=False,
    )
    curve: str = _option(
        "auto",
        "whether links are encrypted and admit known keys alone; auto: where an address is beyond "
        "this machine",
        choices=CURVE,
        defines_run=False,
    )
    isolate: str = _option(
        "none",
        "netns: `kseed launch` gives each peer a network namespace of its own, with a cable for "
        "each link, and the latency and loss of simulated links by netem; root on Linux",
        choices=ISOLATIONS,
        defines_run=False,
    )
    out: str = _option("", "run folder; empty: a new one below runs/", defines_run=False)
    trace: bool = _option(
        False,
        "write each frame that the simulator delivers or loses into trace.csv",
        defines_run=False,
    )
    resume: bool = _option(False, "go on with the run in `out`", defines_run=False)
    dry_run: bool = _option(
        False, "only say what the run would cost in time, bytes and memory", defines_run=False
    )
    log_level: str = _option("info", "how much is logged", choices=LOG_LEVELS, defines_run=False)
    json: bool = _option(
        False, "print summary.json on standard output and nothing else there", defines_run=False
    )
    scenario: tuple[Incident, ...] = ()

    def __post_init__(self) -> None:
        for item in options():
            value = getattr(self, item.name)
            _check(item, value)
            if kind(item) is float:
                # Digests go by what is printed, so 1 and 1.0 must become the same.
                object.__setattr__(self, item.name, float(value))
        if math.frexp(self.gradient_bound)[0] != 0.5:
            _refuse("gradient_bound", self.gradient_bound, "a power of two")
        parse_latency(self.latency)
        if self.local_steps * (self.gradient_bytes + 4) > FRAME_LIMIT // 2:
            most = FRAME_LIMIT // 2 // (self.gradient_bytes + 4)
            _refuse("local_steps", self.local_steps, f"at most {most} fit in one message")
        if self.is_pro and self.candidate_seeds > MOST_SEEDS:
            _refuse(
                "candidate_seeds", self.candidate_seeds, f"at most {MOST_SEEDS} with {self.method}"
            )
        if self.resume and not self.out:
            _refuse("resume", self.resume, "goes with `out`, the run folder to go on with")

    @property
    def is_pro(self) -> bool:
        """Whether seeds are drawn by importance."""
        return self.method == "fedkseed-pro"

    @property
    def is_synthetic(self) -> bool:
        """Whether there is no model."""
        return self.trainer == "synthetic"

    def identity(self) -> dict[str, Any]:
        """Return the options that a resumed run must share, and the scenario."""
        shared = {
            item.name: getattr(self, item.name)
            for item in options()
            if item.metadata["defines_run"]
        }
        return shared | {SCENARIO: self.scenario}


def options() -> tuple[Field[Any], ...]:
    """Return the declarations, in order."""
    return tuple(item for item in fields(Experiment) if item.name != SCENARIO)


def kind(item: Field[Any]) -> type:
    """Return an option's type: str, int, float or bool."""
    return type(item.default)


def allowed(item: Field[Any]) -> str:
    """Return in words which values an option may have."""
    limits = item.metadata
    if limits["choices"]:
        return "one of " + ", ".join(str(choice) for choice in limits["choices"])
    if kind(item) in (str, bool):
        return {str: "a text", bool: "true or false"}[kind(item)]
    bounds = [
        f"{word} {limits[key] if kind(item) is int else format(limits[key], 'g')}"
        for key, word in (("above", "above"), ("least", "at least"), ("most", "at most"))
        if limits[key] is not None
    ]
    noun = "a whole number" if kind(item) is int else "a number"
    return " ".join([noun, " and ".join(bounds)]).strip()


def _refuse(key: str, value: Any, allowed_: str) -> None:
    raise UserError(f"{key} = {_shown(value)} is not allowed: {allowed_}")


def _shown(value: Any) -> str:
    try:
        return repr(value)
    except ValueError:
        return "a number of thousands of digits"


def _check(item: Field[Any], value: Any) -> None:
    limits = item.metadata
    right_type = type(value) is kind(item) or (kind(item) is float and type(value) is int)
    in_choices = not limits["choices"] or value in limits["choices"]
    if not right_type or not in_choices:
        _refuse(item.name, value, f"must be {allowed(item)}")
    if kind(item) is str and any(c == "\0" or "\ud800" <= c <= "\udfff" for c in value):
        _refuse(item.name, value, "must be a text without NUL and half surrogate pairs")
    if kind(item) in (int, float):
        # Written so that NaN fails.
        above = limits["above"] is None or value > limits["above"]
        least = limits["least"] is None or value >= limits["least"]
        most = limits["most"] is None or value <= limits["most"]
        if not (above and least and most):
            _refuse(item.name, value, f"must be {allowed(item)}")


def experiment_from(values: Mapping[str, Any]) -> Experiment:
    """Return the experiment that these keys describe, the others having their defaults.

    Args:
        values: options by name; `preset`, if any: its options are taken where none is given; and
            `scenario`, a list of tables.

    Raises:
        UserError: a key is unknown, or a value not allowed.
    """
    known = {item.name: item for item in options()}
    values = dict(values)
    preset = values.pop("preset", None)
    if preset is not None:
        if not isinstance(preset, str) or preset not in PRESETS:
            _refuse("preset", preset, f"must be one of {', '.join(PRESETS)}")
        values = {**PRESETS[preset], **values}
    scenario = parse_scenario(values.pop(SCENARIO, ()))
    for key, value in values.items():
        if key not in known:
            near = difflib.get_close_matches(key, [*known, SCENARIO], n=1)
            hint = f"did you mean {near[0]}?" if near else "allowed are " + ", ".join(known)
            name = key if key.isprintable() else repr(key)
            raise UserError(f"{name} = {_shown(value)}: there is no such option; {hint}")
    return Experiment(**values, scenario=scenario)
