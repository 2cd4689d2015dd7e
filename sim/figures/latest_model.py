"""FedKSeed's Figures 1(b) and 4, measured: the time to obtain the latest model, over the rounds.

Who keeps no sums must take every step that anybody has taken, tau r m of them after r rounds
(Zelikman et al., 2023; FedKSeed, section 4.2). Who keeps K sums rebuilds from at most K seeds:
from fewer in the first rounds, since no more can have been drawn.

Both are given the same made-up histories over a Llama with random weights, and each its best. Steps
are replayed by the passes of `peer.perturbation`, hundreds of them while the weights cross memory
once. The sums are those of real accumulators; FedKSeed-Pro's seeds are drawn evenly too, as drawing
by importance meets no more of them. Beside both stands the published program's loop
(`sim.bench.published`), to which a seed is what a step is: a pass of its own over the weights.

The report's fields, times in seconds:

    setting       the options; `parameters` as the model has them
    replay        steps, seconds: what was replayed; nanoseconds_per_weight_and_step
    published     steps, seconds: what was timed, by `threads` threads
    lines         "line": replay, fedkseed or fedkseed-pro; "by": here or published; and "points":
        round, steps    done by all peers by then
        passes          perturbations that go over the weights: the steps, or the seeds drawn
        seconds         medians of the repeats where it is a rebuild
        measured        "whole", or "scaled": the time of fewer passes, times these over those
    equality      after the last of these rounds that was replayed whole; None: none was
        largest_difference, rms_difference    between replayed and rebuilt weights
        rms_change                            between rebuilt weights and w0
        share_differing                       of the weights that are not equal
"""

from __future__ import annotations

import math
import statistics
from dataclasses import asdict
from functools import partial
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from peer.accumulator import Accumulator
from peer.config import Experiment
from peer.model import FlatModel, resolve_device
from peer.perturbation import perturbation
from peer.perturbation.cpu import cores
from peer.pretrained import Pretrained
from peer.rebuild import rebuild
from peer.roster import Roster
from peer.seeds import candidate_seeds, draw_uniform
from peer.trainer import SyntheticTrainer
from peer.units import Units, choose_units
from sim.bench import published
from sim.bench.llama import llama_config, random_llama
from sim.bench.load import ForeignLoad
from sim.bench.machine import check_room, facts
from sim.bench.progress import BenchProgress
from sim.bench.timing import seconds_of
from sim.figures.options import LatestModelOptions
from sim.figures.replay import Replay

WHOLE: Final = "whole"
SCALED: Final = "scaled"
REPLAY: Final = "replay"
FEDKSEED: Final = "fedkseed"
PRO: Final = "fedkseed-pro"
HERE: Final = "here"
PUBLISHED: Final = "published"

_POINTS: Final = 6
"""Rounds that are looked at, beside the first two."""

PUBLISHED_SECONDS: Final = 1.0
_PUBLISHED_STEPS: Final = 200
"""The published loop is timed about so long, over at most so many steps."""

_LOOK: Final = 2**22
_SEED: Final = 0
_COEFFICIENT: Final = 1e-6
_TOKENS: Final = 128

Point = dict[str, Any]


def measure_latest_model(options: LatestModelOptions) -> dict[str, Any]:
    """Measure, and return the report; see this module's docstring.

    Raises:
        UserError: this cannot be measured here.
    """
    device = resolve_device(options.device)
    threads = options.threads or cores()
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with ForeignLoad() as load, torch.random.fork_rng():
            bench = _LatestModel(options, device, threads)
            results = bench.measure()
    finally:
        torch.set_num_threads(before)
    return {
        "figure": "latest-model",
        "setting": asdict(options)
        | {"parameters": bench.size, "device": str(device), "threads": threads},
        **results,
        **load.fields(),
        "machine": facts(device, threads),
    }


def rounds_shown(rounds: int) -> list[int]:
    """Return the rounds, in ascending order, after which times are taken; the last is `rounds`."""
    even = {max(1, round(rounds * k / _POINTS)) for k in range(1, _POINTS + 1)}
    return sorted(even | {1, min(2, rounds)})


class _Method:
    """Sums over K candidate seeds, and how long a rebuild from them took after some rounds.

    Args:
        candidates: K.
        units: of the sums.
    """

    def __init__(self, candidates: int, units: Units) -> None:
        self.seeds = candidate_seeds(_SEED, candidates)
        self.sums = Accumulator.empty(candidates, units)
        self.drawn = np.zeros(candidates, dtype=bool)
        self.points: list[Point] = []

    def add(
        self, peer: int, round_: int, gradients: NDArray[np.float32], weight: float
    ) -> NDArray[np.int64]:
        """Add a peer's history of a round; return the seed indices of its steps."""
        indices = draw_uniform(_SEED, peer, round_, len(gradients), len(self.seeds))
        self.sums.add(indices, gradients, weight, importance=False)
        self.drawn[indices] = True
        return indices


class _LatestModel:
    """A model, what its peers have done so far, and how long it takes to catch up with them."""

    def __init__(self, options: LatestModelOptions, device: torch.device, threads: int) -> None:
        self._options = options
        self._device = device
        self._threads = threads
        width = getattr(torch, options.dtype).itemsize
        # w0, the rebuilt and the replayed weights, and the model once more while it is made.
        check_room(device, 4 * options.parameters * width)
        usual = Experiment()
        units = choose_units(
            usual.learning_rate,
            options.rounds,
            options.local_steps,
            usual.gradient_bound,
            options.peers,
        )
        self._units = units
        # All c_i are alike, and eta is constant, so all entries have the same weight.
        roster = Roster((1,) * options.peers, 1.0, _SEED)
        step_size = math.ldexp(usual.learning_rate, -units.exponent)
        self._weight = roster.weight(0, 0, step_size)
        self._scale = math.ldexp(self._weight, units.exponent)
        self._trainer = SyntheticTrainer(_SEED)
        self._fedkseed = _Method(options.candidate_seeds, units)
        self._pro = _Method(options.pro_candidate_seeds, units)
        config = llama_config(options.parameters, _TOKENS)
        self._model = FlatModel(random_llama(config, options.dtype, device), device)
        self.size = len(self._model.weights)
        self._w0 = Pretrained(self._model)
        self._kernel = perturbation(options.perturbation, device, threads)
        self._kernel.warm_up(self._model.weights.dtype)
        self._replayed = self._model.weights.clone()
        self._replay = Replay(self._kernel, self._replayed, options.replay_seconds)
        self._replay_points: list[Point] = []
        self._equality: dict[str, Any] | None = None

    def measure(self) -> dict[str, Any]:
        """Go through the rounds; return the fields that are measured."""
        options = self._options
        shown = set(rounds_shown(options.rounds))
        with BenchProgress("the time to obtain the latest model", options.rounds + 1) as progress:
            for round_ in range(options.rounds):
                self._train(round_)
                if round_ + 1 in shown:
                    self._look(round_ + 1)
                progress.advance()
            timed = self._time_published()
            progress.advance()
        replay = self._replay
        each = replay.seconds / replay.steps
        for point in self._replay_points:
            if point["measured"] == SCALED:
                point["seconds"] = each * point["passes"]
        here = {
            REPLAY: self._replay_points,
            FEDKSEED: self._fedkseed.points,
            PRO: self._pro.points,
        }
        pass_seconds = timed["seconds"] / timed["steps"]
        published_ = {
            name: [
                point | {"seconds": pass_seconds * point["passes"], "measured": SCALED}
                for point in points
            ]
            for name, points in here.items()
        }
        return {
            "replay": {
                "steps": replay.steps,
                "seconds": replay.seconds,
                "nanoseconds_per_weight_and_step": each / self.size * 1e9,
            },
            "published": timed,
            "lines": [
                {"line": name, "by": by, "points": points}
                for by, lines in ((HERE, here), (PUBLISHED, published_))
                for name, points in lines.items()
            ],
            "equality": self._equality,
        }

    def _train(self, round_: int) -> None:
        """Let each peer take its local steps: sum them up, and replay them while there is time."""
        steps = np.arange(self._options.local_steps)
        for peer in range(self._options.peers):
            made = self._trainer.train(peer, round_, self._pro.sums, steps)
            gradients = made.gradients.astype(np.float32)
            self._pro.add(peer, round_, gradients, self._weight)
            indices = self._fedkseed.add(peer, round_, gradients, self._weight)
            if self._replay.goes_on:
                seeds = self._fedkseed.seeds[indices].tolist()
                taken = zip(seeds, gradients.tolist(), strict=True)
                self._replay.take([(seed, -self._scale * g) for seed, g in taken])

    def _look(self, rounds: int) -> None:
        """Measure what it takes to obtain the model as it is after so many rounds."""
        self._replay.catch_up()
        steps = rounds * self._options.peers * self._options.local_steps
        whole = self._replay.steps == steps
        self._replay_points.append(
            {
                "round": rounds,
                "steps": steps,
                "passes": steps,
                "seconds": self._replay.seconds,
                "measured": WHOLE if whole else SCALED,
            }
        )
        for method in (self._pro, self._fedkseed):
            samples = [
                seconds_of(partial(self._rebuild, method), 1, self._device)
                for _ in range(self._options.repeats)
            ]
            method.points.append(
                {
                    "round": rounds,
                    "steps": steps,
                    "passes": int(method.drawn.sum()),
                    "seconds": statistics.median(samples),
                    "measured": WHOLE,
                }
            )
        if whole:
            self._equality = {"round": rounds} | self._compare()

    def _rebuild(self, method: _Method) -> None:
        exponent = self._units.exponent - self._units.fraction_bits
        rebuild(
            self._kernel, self._w0, self._model.weights, method.seeds, method.sums.sums, exponent
        )

    def _compare(self) -> dict[str, float]:
        """Return how far the replayed weights are from those rebuilt last, which are FedKSeed's."""
        largest = squares = change_squares = 0.0
        differing = 0
        for start, w0 in self._w0.segments:
            for at in range(0, len(w0), _LOOK):
                before = w0[at : at + _LOOK].to(self._device, self._replayed.dtype).double()
                some = slice(start + at, start + at + len(before))
                rebuilt = self._model.weights[some].double()
                difference = rebuilt - self._replayed[some].double()
                largest = max(largest, float(difference.abs().max()))
                squares += float(difference.square().sum())
                change_squares += float((rebuilt - before).square().sum())
                differing += int(difference.count_nonzero())
        return {
            "largest_difference": largest,
            "rms_difference": math.sqrt(squares / self.size),
            "rms_change": math.sqrt(change_squares / self.size),
            "share_differing": differing / self.size,
        }

    def _time_published(self) -> dict[str, Any]:
        """Time some steps of the published loop, by one thread or by all, whichever is quicker.

        They go over the model, which no rebuild needs any more.
        """
        parameters = list(self._model.module.parameters())

        def seconds(threads: int, steps: int) -> float:
            torch.set_num_threads(threads)
            some = np.resize(self._fedkseed.seeds, steps).tolist()
            work = partial(published.rebuild_, parameters, some, [_COEFFICIENT] * steps)
            return seconds_of(work, 1, self._device)

        seconds(self._threads, 1)
        trials = {threads: seconds(threads, 2) / 2 for threads in {1, self._threads}}
        threads = min(trials, key=trials.__getitem__)
        wanted = round(PUBLISHED_SECONDS / trials[threads])
        steps = min(max(wanted, 2), _PUBLISHED_STEPS)
        timed = {"steps": steps, "seconds": seconds(threads, steps), "threads": threads}
        torch.set_num_threads(self._threads)
        return timed
