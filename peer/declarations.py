"""The options of an experiment: each is declared once, and is a TOML key and a flag of that name.

The declarations below give type, default, range, help text and the comment in the file that
`kseed init` writes. What several of them have to do with each other is in `peer.config`.
"""

from __future__ import annotations

from dataclasses import Field, dataclass, fields
from typing import Any

from peer.choices import (
    BUILTIN,
    COMPUTERS,
    CURVE,
    DEVICES,
    DTYPES,
    ISOLATIONS,
    LATENCY_PER,
    LOCAL,
    LOG_LEVELS,
    LONG_ROWS,
    PARTITIONS,
    PERTURBATIONS,
    TRAINERS,
)
from peer.dissemination import MODES
from peer.gradients import GRADIENT_BYTES
from peer.latency import FORMS
from peer.methods import METHODS
from peer.mixing import MIXINGS
from peer.options import option
from peer.rounds import SCHEDULES
from peer.seeds import SEED_LIMIT


@dataclass(frozen=True, kw_only=True)
class Options:
    """Every option, with a default; `peer.config.Experiment` checks them."""

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


def options() -> tuple[Field[Any], ...]:
    """Return the declarations, in order."""
    return fields(Options)


def groups() -> dict[str, list[Field[Any]]]:
    """Return the declarations by the groups that they are told in, in order."""
    found: dict[str, list[Field[Any]]] = {}
    title = ""
    for item in options():
        title = item.metadata["begins"] or title
        found.setdefault(title, []).append(item)
    return found
