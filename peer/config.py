"""The options of an experiment: each is declared once, and is a TOML key and a flag of that name.

The declarations below give type, default, range, help text and the comment in the file that
`kseed init` writes. Whatever is wrong with a value is told in one line.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping, Sequence
from dataclasses import Field, dataclass, fields
from typing import Any, Final

from peer.dissemination import MODES
from peer.errors import UserError
from peer.gradients import GRADIENT_BYTES
from peer.importance import MOST_SEEDS
from peer.latency import FORMS, parse_latency
from peer.methods import METHODS, Steps
from peer.mixing import MIXINGS
from peer.options import check, kind, option, refuse, shown
from peer.presets import PRESETS
from peer.rounds import SCHEDULES
from peer.scenario import Incident, parse_scenario
from peer.seeding import BLOCKS, UNIFORM, WEIGHTED, most_hits
from peer.seeds import SEED_LIMIT
from peer.units import Units, choose_units
from peer.wire import FRAME_LIMIT

BUILTIN: Final = "builtin"
TRAINERS: Final = ("zeroth-order", "synthetic")
PERTURBATIONS: Final = ("gaussian", "rademacher")
PARTITIONS: Final = ("iid", "dirichlet", "by-category", "by-task")
LONG_ROWS: Final = ("cut", "drop")
DEVICES: Final = ("auto", "cpu", "cuda")
WEIGHT_BYTES: Final = {"float32": 4, "bfloat16": 2, "float16": 2}
DTYPES: Final = tuple(WEIGHT_BYTES)
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
LOCAL: Final = "local"
RAY: Final = "ray"
COMPUTERS: Final = (LOCAL, RAY)
ON_A_CLUSTER: Final = ("ray_address", "ray_workers", "ray_cpus", "ray_gpus")
"""Options that say which cluster is used, and how."""

WHERE: Final = ("engine", *ON_A_CLUSTER)
"""Options that say where one call computes, and nothing of what."""

LOG_LEVELS: Final = ("debug", "info", "warning", "error")

WITHOUT_A_LOG: Final = ("crash", "hold", "release", "partition", "repair")
"""What can befall peers that average: who has lost its weights cannot come back with them."""

SCENARIO: Final = "scenario"
"""The one key that is no option: tables of the file, without a flag."""


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """A whole experiment. Every option has a default, so `Experiment()` is the default run.

    Raises:
        UserError: a value is not allowed; names the key, the value and what is.
    """

    topology: str = option(
        "ring", "graph family, or a .graphml, .edgelist or .json file", begins="the run"
    )
    peers: int = option(
        8,
        "number of peers; a topology file sets it, and so does `partition` by-task",
        least=2,
        most=2**24,
    )
    degree: int = option(4, "degree of the families that have one", least=1)
    rounds: int = option(8, "rounds R", least=1, most=2**24, defines_run=False)
    participation: float = option(
        1.0, "share of the peers that train in a round", above=0.0, most=1.0
    )
    schedule: str = option(
        "sync",
        "sync: all go through the rounds together; async: each peer by itself",
        choices=tuple(SCHEDULES),
    )
    seed: int = option(0, "the root of everything that is drawn", least=0, most=SEED_LIMIT // 2 - 1)
    method: str = option(
        "fedkseed",
        f"how the model is tuned: {', '.join(METHODS)}",
        choices=tuple(METHODS),
        begins="training",
    )
    aggregation: str = option(
        "gossip",
        "server: on a star, whose centre sends everybody's exact mean back; FedKSeed's sums are "
        "exact anyway",
        choices=tuple(MIXINGS),
    )
    trainer: str = option(
        "zeroth-order",
        "synthetic: histories, or weights, of the right size without a model",
        choices=TRAINERS,
    )
    local_steps: int = option(50, "local steps tau a round", least=1, most=2**18)
    candidate_seeds: int = option(1024, "candidate seeds K", least=1, most=2**24)
    coordinates: int = option(
        1024, "numbers that stand for the update of a round, in all blocks", least=1, most=2**18
    )
    blocks: int = option(
        0,
        "parts of the weights whose updates are projected apart; 0: matrices, and neighbouring "
        "vectors together; n: n parts of equal size",
        least=0,
        most=2**20,
    )
    learning_rate: float = option(1e-4, "learning rate eta", least=1e-30, most=1e3)
    global_learning_rate: float = option(
        1.0, "by which aggregated updates are multiplied", least=1e-6, most=1e6
    )
    epsilon: float = option(1e-3, "perturbation scale eps", least=1e-30, most=1e3)
    batch_size: int = option(1, "rows in the batch of a local step", least=1, most=2**16)
    optimizer: str = option(
        "sgd", "optimiser of steps by backpropagation: a class of torch.optim, in lower case"
    )
    accumulate: int = option(
        1, "batches whose gradients a step of backpropagation averages", least=1, most=2**12
    )
    local_epochs: int = option(
        0,
        "passes through a peer's own rows a round, where weights are averaged; 0: `local_steps`",
        least=0,
        most=2**8,
    )
    directions: int = option(
        25, "perturbations that a step of FedZO averages, b2", least=1, most=2**12
    )
    rank: int = option(8, "rank of LoRA's factors", least=1, most=2**12)
    lora_alpha: int = option(
        16, "LoRA's product is scaled by lora_alpha / rank", least=1, most=2**16
    )
    virtual_tokens: int = option(
        20, "tokens of a trained prompt, put before each row", least=1, most=2**12
    )
    perturbation: str = option(
        "rademacher", "distribution of the perturbations z", choices=PERTURBATIONS
    )
    model: str = option(
        BUILTIN, "Hugging Face causal LM: folder or hub id, or builtin", begins="model and data"
    )
    dtype: str = option("float32", "type of the weights", choices=DTYPES)
    data: str = option(
        BUILTIN, "JSON, JSONL or CSV file, Natural Instructions folder, hub id, or builtin"
    )
    held_out: str = option(
        "rows",
        "what the model is evaluated on: rows (drawn at random), last (the last task or category "
        "by name), test (the test tasks of a Natural Instructions folder), or names of tasks or "
        "categories, joined by commas",
    )
    partition: str = option(
        "dirichlet",
        "how rows are dealt to the peers; by-task: each training task is a peer",
        choices=PARTITIONS,
    )
    alpha: float = option(
        0.5, "concentration of the Dirichlet partition; less is more uneven", above=0.0, most=1e6
    )
    min_rows: int = option(
        1,
        "least rows of a peer; by-task and by-category leave out what has fewer; of what "
        "`test_share` draws of a task, least rows too",
        least=1,
        most=2**24,
    )
    train_share: float = option(
        1.0, "share of each task's rows that is drawn for training", above=0.0, most=1.0
    )
    test_share: float = option(
        1.0, "share of each held-out task's rows that is drawn", above=0.0, most=1.0
    )
    eval_rows: int = option(
        200,
        "rows held out to evaluate the model on; of held-out tasks at most so many, 0: all",
        least=0,
    )
    rouge_rows: int = option(
        0, "of these, rows that the model answers, for Rouge-L; 0: no Rouge-L", least=0
    )
    rouge_every: int = option(
        0,
        "rounds from one Rouge-L to the next; 0: at the start and the end only",
        least=0,
        defines_run=False,
    )
    new_tokens: int = option(128, "tokens of an answer at most", least=1, most=2**20)
    max_length: int = option(
        0, "tokens of a row at most; 0: the smaller of 1024 and the model's positions", least=0
    )
    long_rows: str = option("cut", "longer rows are cut, or dropped", choices=LONG_ROWS)
    gossip: str = option(
        "tree",
        "how entries spread: tree (along a tree per origin), flood, or antientropy (on request)",
        choices=tuple(MODES),
        begins="gossip",
    )
    gradient_bytes: int = option(
        4, "bytes of a scalar gradient on the wire", choices=GRADIENT_BYTES
    )
    gradient_bound: float = option(
        1024.0, "scalar gradients are clipped at this power of two", least=1.0, most=32768.0
    )
    tick: float = option(
        1.0, "seconds between two looks at what neighbours lack", least=1e-3, most=1e6
    )
    fold: bool = option(
        True, "fold entries that everybody has into a base, from which a late peer can start"
    )
    sign: bool = option(False, "sign every entry with its origin's Ed25519 key")
    disconnect: bool = option(
        True,
        "disconnect a neighbour that lies or floods; where links are not encrypted, nobody is",
        defines_run=False,
    )
    round_timeout: float = option(
        60.0, "seconds to wait for a round's entries", above=0.0, most=1e9, defines_run=False
    )
    settle_timeout: float = option(
        60.0, "seconds of silence to wait at the end", above=0.0, most=1e9, defines_run=False
    )
    start_timeout: float = option(
        0.0,
        "seconds to wait at least for neighbours before the first round, and for its entries, "
        "where peers may come up minutes apart; 0: `round_timeout`, and 600 for `kseed peer "
        "--experiment`",
        least=0.0,
        most=1e9,
        defines_run=False,
    )
    step_seconds: float = option(
        0.1,
        "virtual time of two forward passes in the simulator, in seconds: of FedKSeed's local "
        "step; one of FedZO takes 1 + `directions` passes, one by backpropagation 3 a batch",
        above=0.0,
        most=1e6,
        begins="the simulator: peers",
    )
    speed_spread: float = option(
        0.0,
        "how unlike the simulated peers' speeds are: the sigma of a log-normal of median "
        "`step_seconds`",
        least=0.0,
        most=5.0,
    )
    stragglers: float = option(
        0.0, "share of the simulated peers that are slower by `slowdown`", least=0.0, most=1.0
    )
    slowdown: float = option(
        10.0, "by what factor stragglers take longer for a local step", least=1.0, most=1e6
    )
    side_by_side: int = option(
        1,
        "replicas of a small model whose forward passes the simulator takes in one batch, where "
        "steps are along candidate seeds, with "
        "memory for three copies of the weights each; above 1 the last bits of losses change, so "
        "digests differ from those of `kseed launch`",
        least=1,
        most=2**12,
    )
    latency: str = option(
        "0.01",
        f"time that a frame takes on a simulated link: {FORMS}",
        begins="the simulator: links",
    )
    latency_per: str = option(
        "link",
        "latencies are drawn once for each link, or anew for each frame",
        choices=LATENCY_PER,
    )
    bandwidth: float = option(
        0.0,
        "bytes a second over each direction of a simulated link; 0: no limit",
        least=0.0,
        most=1e15,
    )
    loss: float = option(0.0, "share of the frames that simulated links lose", least=0.0, most=0.99)
    duplication: float = option(
        0.0, "share of the frames that simulated links deliver twice", least=0.0, most=1.0
    )
    reordering: float = option(
        0.0,
        "share of the frames that simulated links hold back, by up to as long again as the latency",
        least=0.0,
        most=1.0,
    )
    slot_seconds: float = option(
        1.0,
        "virtual time for which each slot of a topology that varies over time lasts, in seconds",
        above=0.0,
        most=1e6,
    )
    device: str = option(
        "auto",
        "where the model lives; auto takes a GPU",
        choices=DEVICES,
        defines_run=False,
        begins="this machine",
    )
    threads: int = option(
        1,
        "threads of a forward pass; its last bits hang on them",
        least=1,
        most=4096,
        defines_run=False,
    )
    curve: str = option(
        "auto",
        "whether links are encrypted and admit known keys alone; auto: where an address is beyond "
        "this machine",
        choices=CURVE,
        defines_run=False,
    )
    isolate: str = option(
        "none",
        "netns: `kseed launch` gives each peer a network namespace of its own, with a cable for "
        "each link, and the latency and loss of simulated links by netem; root on Linux",
        choices=ISOLATIONS,
        defines_run=False,
    )
    metrics_port: int = option(
        0,
        "`kseed launch` offers the status of peer i on port `metrics_port` + i of this host, for "
        "Prometheus and `kseed watch`; 0: nowhere",
        least=0,
        most=2**16 - 1,
        defines_run=False,
    )
    engine: str = option(
        LOCAL,
        "what computes: local, this machine; ray, the workers of a Ray cluster, to the same bits",
        choices=COMPUTERS,
        defines_run=False,
        begins="a cluster",
    )
    ray_address: str = option(
        "auto",
        "HOST:PORT of a Ray cluster; auto: the one of this machine; local: one that is begun for "
        "this command alone",
        defines_run=False,
    )
    ray_workers: int = option(
        0,
        "workers on the cluster; 0: as many as there is room for",
        least=0,
        most=2**16,
        defines_run=False,
    )
    ray_cpus: float = option(1.0, "processors of a worker", above=0.0, most=4096, defines_run=False)
    ray_gpus: float = option(
        0.0,
        "GPUs of a worker, below 1 a share of one; 0: it computes on processors",
        least=0.0,
        most=64,
        defines_run=False,
    )
    out: str = option(
        "", "run folder; empty: a new one below runs/", defines_run=False, begins="output"
    )
    resume: bool = option(False, "go on with the run in `out`", defines_run=False)
    dry_run: bool = option(
        False, "only say what the run would cost in time, bytes and memory", defines_run=False
    )
    tune: bool = option(
        False,
        "before the run try learning rates and perturbation scales around the given ones in short "
        "simulations, judged on rows that the peers set apart from their own",
        defines_run=False,
    )
    json: bool = option(
        False, "print summary.json on standard output and nothing else there", defines_run=False
    )
    log_level: str = option("info", "how much is logged", choices=LOG_LEVELS, defines_run=False)
    trace: bool = option(
        False,
        "write each frame that the simulator delivers or loses into trace.csv",
        defines_run=False,
    )
    scenario: tuple[Incident, ...] = ()

    def __post_init__(self) -> None:
        for item in options():
            value = getattr(self, item.name)
            check(item, value)
            if kind(item) is float:
                # Digests go by what is printed, so 1 and 1.0 must become the same.
                object.__setattr__(self, item.name, float(value))
        if math.frexp(self.gradient_bound)[0] != 0.5:
            refuse("gradient_bound", self.gradient_bound, "a power of two")
        parse_latency(self.latency)
        numbers, most = self._numbers, FRAME_LIMIT // 2 // (self.gradient_bytes + 4)
        if numbers and getattr(self, numbers) > most:
            refuse(numbers, getattr(self, numbers), f"at most {most} fit in one message")
        if self.is_pro and self.candidate_seeds > MOST_SEEDS:
            refuse(
                "candidate_seeds", self.candidate_seeds, f"at most {MOST_SEEDS} with {self.method}"
            )
        if self.aggregation == "server" and self.topology != "star":
            refuse("aggregation", self.aggregation, "needs topology = 'star'")
        if self.averages:
            self._check_averaging()
        if self.tune and self.is_synthetic:
            refuse("tune", self.tune, "needs a model, and trainer = 'synthetic' has none")
        if self.on_a_cluster:
            self._check_cluster()
        if self.resume and not self.out:
            refuse("resume", self.resume, "goes with `out`, the run folder to go on with")

    def _check_cluster(self) -> None:
        """Refuse what workers of a cluster do not do."""
        if self.shares_passes:
            why = "with engine = 'ray' a worker takes one replica's local steps at a time"
            refuse("side_by_side", self.side_by_side, why)
        if self.device == "cuda" and not self.ray_gpus:
            refuse("ray_gpus", self.ray_gpus, "device = 'cuda' wants GPUs for the workers too")

    def _check_averaging(self) -> None:
        """Refuse what a method cannot do that keeps no log and has no sums."""
        if self.resume:
            refuse("resume", self.resume, f"{self.method} keeps no log to go on from")
        if self.schedule != "sync":
            refuse("schedule", self.schedule, f"{self.method} averages in rounds: must be sync")
        if self.sign:
            refuse("sign", self.sign, f"{self.method} has no entries to sign")
        for incident in self.scenario:
            if incident.verb not in WITHOUT_A_LOG:
                allowed_ = ", ".join(WITHOUT_A_LOG)
                refuse(SCENARIO, incident.verb, f"with {self.method} there are {allowed_}")

    @property
    def on_a_cluster(self) -> bool:
        """Whether local steps are taken by the workers of a cluster; numbers are made up here."""
        return self.engine == RAY and not self.is_synthetic

    @property
    def is_pro(self) -> bool:
        """Whether seeds are drawn by importance."""
        return METHODS[self.method].seeding == WEIGHTED

    @property
    def averages(self) -> bool:
        """Whether peers send weights and average them."""
        return METHODS[self.method].averages

    @property
    def is_synthetic(self) -> bool:
        """Whether there is no model."""
        return self.trainer == "synthetic"

    @property
    def shares_passes(self) -> bool:
        """Whether simulated replicas take their forward passes together."""
        kseed = METHODS[self.method].steps is Steps.KSEED
        return self.side_by_side > 1 and kseed and not self.is_synthetic

    @property
    def virtual_positions(self) -> int:
        """How many of the model's positions a prompt's virtual tokens take."""
        return self.virtual_tokens if METHODS[self.method].trains.is_prompt else 0

    def units(self) -> Units:
        """Return what one unit of the accumulator's sums is worth.

        Raises:
            UserError: the run is too long for its accumulator.
        """
        seeding = METHODS[self.method].seeding or UNIFORM
        hits = most_hits(seeding, self.local_steps)
        return choose_units(self.step, self.rounds, hits, self.gradient_bound, self.peers)

    @property
    def _numbers(self) -> str:
        """The option that says how many numbers a history has; empty: there are no histories."""
        if self.averages:
            return ""
        return "coordinates" if METHODS[self.method].seeding == BLOCKS else "local_steps"

    @property
    def step(self) -> float:
        """What a number of a history moves the weights by, along its z and beside c_i."""
        ferret = METHODS[self.method].seeding == BLOCKS
        return self.learning_rate * (self.global_learning_rate if ferret else 1.0)

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


def groups() -> dict[str, list[Field[Any]]]:
    """Return the declarations by the groups that they are told in, in order."""
    found: dict[str, list[Field[Any]]] = {}
    title = ""
    for item in options():
        title = item.metadata["begins"] or title
        found.setdefault(title, []).append(item)
    return found


def experiment_from(values: Mapping[str, Any]) -> Experiment:
    """Return the experiment that these keys describe, the others having their defaults.

    Args:
        values: options by name; `preset`, if any: its options for the method are taken where none
            is given, and then those that the method has of its own; and `scenario`, a list of
            tables.

    Raises:
        UserError: a key is unknown, or a value not allowed.
    """
    known = {item.name: item for item in options()}
    values = dict(values)
    preset, name = values.pop("preset", None), str(values.get("method", Experiment.method))
    if preset is not None:
        if not isinstance(preset, str) or preset not in PRESETS:
            refuse("preset", preset, f"must be one of {', '.join(PRESETS)}")
        values = {**PRESETS[preset].options(name), **values}
    if name in METHODS:
        values = {**METHODS[name].defaults, **values}
    scenario = parse_scenario(values.pop(SCENARIO, ()))
    for key, value in values.items():
        if key not in known:
            raise no_such_option(key, value, [*known, SCENARIO])
    return Experiment(**values, scenario=scenario)


def no_such_option(key: str, value: Any, known: Sequence[str]) -> UserError:
    """Return the error that names an unknown key and its value, and a known one that is near."""
    near = difflib.get_close_matches(key, known, n=1)
    allowed = ", ".join(name for name in known if name != SCENARIO)
    hint = f"did you mean {near[0]}?" if near else f"allowed are {allowed}"
    name = key if key.isprintable() else repr(key)
    return UserError(f"{name} = {shown(value)}: there is no such option; {hint}")
