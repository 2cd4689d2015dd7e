"""Which of the options that a user has given do nothing: to be told, not refused."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from peer.choices import LOCAL
from peer.config import ON_A_CLUSTER, SIMULATOR_ONLY, WHERE, Experiment
from peer.declarations import options
from peer.latency import Constant, parse_latency
from peer.methods import METHODS, Method, Part, Steps
from peer.seeding import BLOCKS, ENDLESS


def _has_sums(method: Method) -> bool:
    return not method.averages


def _perturbs(method: Method) -> bool:
    """Whether anything moves along perturbations: local steps, or the sums' rebuild."""
    return method.zeroth_order or not method.averages


def _backpropagates(method: Method) -> bool:
    return method.steps is Steps.FIRST_ORDER


def _has_blocks(method: Method) -> bool:
    return method.seeding == BLOCKS


def _has_lora(method: Method) -> bool:
    return method.trains is Part.LORA


USED_BY: Final[Mapping[str, Callable[[Method], bool]]] = {
    "aggregation": lambda method: method.averages,
    "candidate_seeds": lambda method: method.seeding not in (None, ENDLESS),
    "coordinates": _has_blocks,
    "blocks": _has_blocks,
    "global_learning_rate": _has_blocks,
    "epsilon": lambda method: method.zeroth_order,
    "perturbation": _perturbs,
    "gradient_bound": _perturbs,
    "gradient_bytes": _has_sums,
    "gossip": _has_sums,
    "fold": lambda method: method.seeding not in (None, ENDLESS),
    "optimizer": _backpropagates,
    "accumulate": _backpropagates,
    "local_epochs": lambda method: method.averages,
    "directions": lambda method: method.steps is Steps.FEDZO,
    "rank": _has_lora,
    "lora_alpha": _has_lora,
    "virtual_tokens": lambda method: method.trains.is_prompt,
    "side_by_side": lambda method: method.steps is Steps.KSEED,
}
"""Which methods look at an option; those that are not here are looked at by all."""


def deliberate(values: Mapping[str, Any]) -> tuple[str, ...]:
    """Return which options of a file were meant: it may spell out all, as one of `kseed init`."""
    usual = {item.name: item.default for item in options()}
    return tuple(name for name, value in values.items() if value != usual.get(name))


def unused_options(
    experiment: Experiment, given: Iterable[str], engine: str = "sim"
) -> tuple[str, ...]:
    """Return which of the options that a user gave have no effect in this experiment.

    Args:
        experiment: the run.
        given: the names of these options.
        engine: sim, launch, peer or volume.
    """
    method = METHODS[experiment.method]
    idle = {name for name, used in USED_BY.items() if not used(method)}
    if engine not in ("sim", "volume"):
        idle |= set(SIMULATOR_ONLY)
    if engine == "peer":
        idle.add("tune")
    if experiment.engine == LOCAL:
        idle |= {*ON_A_CLUSTER}
    if engine in ("peer", "volume") or experiment.is_synthetic or experiment.dry_run:
        idle |= {*WHERE}
    if engine != "launch":
        idle |= {"isolate", "metrics_port"}
    elif experiment.isolate != "none":
        idle -= {"latency", "loss"}
    if not experiment.stragglers:
        idle.add("slowdown")
    if experiment.is_synthetic:
        idle |= {"model", "data", "held_out", "partition", "alpha", "min_rows", "train_share"}
        idle |= {"test_share", "eval_rows", "max_length", "long_rows", "dtype", "rouge_rows"}
        idle |= {"device", "epsilon", "batch_size", "perturbation", "side_by_side"}
        idle |= {"optimizer", "accumulate"}
        # How many numbers travel hangs on the model's shape.
        if method.averages or method.seeding == BLOCKS:
            idle.discard("model")
        if method.averages and method.trains is Part.ALL:
            idle.discard("dtype")
    if experiment.averages and experiment.local_epochs:
        idle.add("local_steps")
    if experiment.is_synthetic or not experiment.rouge_rows:
        idle |= {"rouge_every", "new_tokens"}
    if experiment.partition != "dirichlet":
        idle.add("alpha")
    if experiment.held_out == "rows":
        idle.add("test_share")
    if experiment.partition == "by-task" and not experiment.is_synthetic:
        idle.add("peers")
    if experiment.topology not in (
        "random-regular",
        "erdos-renyi",
        "watts-strogatz",
        "barabasi-albert",
    ):
        idle.add("degree")
    if "." in experiment.topology:
        idle.add("peers")
    # A .json file may hold a sequence of graphs; what is in it is not known here.
    varies = experiment.topology in ("one-peer-exponential", "random-matching")
    if not (varies or experiment.topology.lower().endswith(".json")):
        idle.add("slot_seconds")
    if isinstance(parse_latency(experiment.latency), Constant | None):
        idle.add("latency_per")
    return tuple(key for key in given if key in idle)
