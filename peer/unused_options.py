"""Which of the options that a user has given do nothing: to be told, not refused."""

from __future__ import annotations

from collections.abc import Iterable

from peer.config import SIMULATOR_ONLY, Experiment
from peer.latency import Constant, parse_latency
from peer.methods import METHODS, Part
from peer.seeding import BLOCKS


def unused_options(
    experiment: Experiment, given: Iterable[str], engine: str = "sim"
) -> tuple[str, ...]:
    """Return which of the options that a user gave have no effect in this experiment.

    Args:
        experiment: the run.
        given: the names of these options.
        engine: sim, launch or peer.
    """
    idle: set[str] = set() if engine == "sim" else set(SIMULATOR_ONLY)
    if engine == "peer":
        idle.add("tune")
    if engine != "launch":
        idle.add("isolate")
    elif experiment.isolate != "none":
        idle -= {"latency", "loss"}
    if not experiment.stragglers:
        idle.add("slowdown")
    if experiment.is_synthetic:
        idle |= {"model", "data", "held_out", "partition", "alpha", "min_rows", "train_share"}
        idle |= {"test_share", "eval_rows", "max_length", "long_rows", "dtype", "rouge_rows"}
        idle |= {"device", "epsilon", "batch_size", "perturbation", "side_by_side"}
        method = METHODS[experiment.method]
        # How many numbers travel hangs on the model's shape.
        if method.averages or method.seeding == BLOCKS:
            idle.discard("model")
        if method.averages and method.trains is Part.ALL:
            idle.discard("dtype")
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
