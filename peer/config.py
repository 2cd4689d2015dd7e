"""An experiment: its options, held against one another, and what follows from them.

Whatever is wrong with a value is told in one line.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from peer.choices import RAY
from peer.declarations import Options, options
from peer.errors import UserError
from peer.importance import MOST_SEEDS
from peer.latency import parse_latency
from peer.methods import METHODS, Steps
from peer.options import check, kind, refuse, shown
from peer.presets import PRESETS
from peer.scenario import Incident, parse_scenario
from peer.seeding import BLOCKS, UNIFORM, WEIGHTED, most_hits
from peer.units import Units, choose_units
from peer.wire import FRAME_LIMIT

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

ON_A_CLUSTER: Final = ("ray_address", "ray_workers", "ray_cpus", "ray_gpus")
"""Options that say which cluster is used, and how."""

WHERE: Final = ("engine", *ON_A_CLUSTER)
"""Options that say where one call computes, and nothing of what."""

WITHOUT_A_LOG: Final = ("crash", "hold", "release", "partition", "repair")
"""What can befall peers that average: who has lost its weights cannot come back with them."""

SCENARIO: Final = "scenario"
"""The one key that is no option: tables of the file, without a flag."""


@dataclass(frozen=True, kw_only=True)
class Experiment(Options):
    """A whole experiment. Every option has a default, so `Experiment()` is the default run.

    Raises:
        UserError: a value is not allowed; names the key, the value and what is.
    """

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
