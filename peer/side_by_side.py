"""Several replicas' local rounds at once, their forward passes in common batches.

For the simulator and small models, whose forward passes are mostly overhead. Replicas that start
from one cut share its rebuild and take step t together. Each has a row of its own in a stack of
weights and goes through the passes of `peer.zeroth_order` there, to the bit (C10); only the losses
come from common forward passes, each replica's at +eps z and at -eps z in the same one, and may
differ from those of a pass alone in their last bits.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from peer.accumulator import Accumulator
from peer.errors import UserError
from peer.global_model import GlobalModel
from peer.local_data import LocalData, Rows
from peer.model import FlatModel
from peer.perturbation import Pass
from peer.stacked import stacked_losses
from peer.trainer import LocalRound
from peer.zeroth_order import Step

_COPIES: Final = 3
"""Of the weights, for each replica: its own, and those at +eps z and at -eps z."""

_CPU_SPREAD: Final = 64
"""On the CPU a replica that would need more tokens of padding than this goes in another batch: they
would cost more than a forward pass of its own does."""


@dataclass(frozen=True)
class _Job:
    """A local round that somebody will ask for; equal ones give equal histories."""

    peer: int
    round: int
    cut: str
    indices: tuple[int, ...]


class SideBySideTrainer:
    """Takes the local rounds that are announced together; see `peer.trainer.Announced`.

    Args:
        global_model: the model and how to rebuild it.
        data: what the peers trained here have to learn from.
        step: what a step depends on.
        most: how many replicas train at once, at least 1. Three copies of the weights are kept for
            each.
    """

    def __init__(self, global_model: GlobalModel, data: LocalData, step: Step, most: int) -> None:
        self._global_model = global_model
        self._data = data
        self._step = step
        self._most = most
        weights = global_model.model.weights
        self._local = weights.new_empty((most, len(weights)))
        self._perturbed = weights.new_empty((2 * most, len(weights)))
        self._spread = _CPU_SPREAD if weights.device.type == "cpu" else math.inf
        self._announced: dict[int, _Job] = {}
        self._made: dict[int, tuple[_Job, LocalRound]] = {}

    def announce(
        self, peer: int, round_: int, cut: Accumulator, indices: NDArray[np.int64]
    ) -> None:
        """Let a peer's next local round be taken with others'; see `peer.trainer.Announced`."""
        self._made.pop(peer, None)
        self._announced[peer] = _Job(peer, round_, cut.digest(), tuple(indices.tolist()))

    def train(
        self, peer: int, round_: int, cut: Accumulator, indices: NDArray[np.int64]
    ) -> LocalRound:
        """Return a peer's scalar gradients, made now or together with another's."""
        job = _Job(peer, round_, cut.digest(), tuple(indices.tolist()))
        made_of, made = self._made.pop(peer, (None, None))
        if made is not None and made_of == job:
            return made
        jobs = [job, *self._companions(job)]
        for each in jobs:
            self._announced.pop(each.peer, None)
        made, *others = self._take_together(jobs, cut)
        self._made |= {
            each.peer: (each, theirs) for each, theirs in zip(jobs[1:], others, strict=True)
        }
        return made

    def _companions(self, job: _Job) -> list[_Job]:
        """Return the first announced jobs that start where this one does, as many as fit."""
        alike = [
            each
            for each in self._announced.values()
            if each.peer != job.peer and (each.round, each.cut) == (job.round, job.cut)
        ]
        return alike[: self._most - 1]

    def _take_together(self, jobs: Sequence[_Job], cut: Accumulator) -> list[LocalRound]:
        """Return the local round of each job; all start from this cut."""
        self._global_model.go_to(cut)
        self._local[: len(jobs)] = self._global_model.model.weights
        seeds = self._global_model.seeds[np.array([job.indices for job in jobs])]
        steps, size = seeds.shape[1], self._step.batch_size
        batches = [self._data.batches(job.peer, job.round, steps, size) for job in jobs]
        gradients, losses = np.full((2, len(jobs), steps), np.nan)
        closing: list[list[Pass]] = [[] for _ in jobs]
        for t, rows in enumerate(zip(*batches, strict=True)):
            now = [int(seed) for seed in seeds[:, t]]
            both = self._losses_of_both_sides(closing, now, rows)
            for replica, (seed, (above, below)) in enumerate(zip(now, both, strict=True)):
                gradients[replica, t], losses[replica, t], closing[replica] = self._step.close(
                    seed, above, below
                )
        return list(map(LocalRound.of_steps, gradients, losses))

    def _losses_of_both_sides(
        self, before: Sequence[list[Pass]], seeds: Sequence[int], rows: Sequence[Rows]
    ) -> list[tuple[float, float]]:
        """Take one step of each replica but for its last passes, after those of the step before.

        Returns:
            The losses of each replica at +eps z and at -eps z.
        """
        passes, scale = self._global_model.kernel.passes_, self._step.scale
        tokens = [input_ids.numel() for input_ids, _, _ in rows]
        replicas = sorted(range(len(rows)), key=lambda replica: -tokens[replica])
        # Replicas lie in the order of their batches, so that a batch's weights are one slice.
        for place, replica in enumerate(replicas):
            above, below = self._perturbed[2 * place : 2 * place + 2]
            above.copy_(self._local[replica])
            passes(above, [*before[replica], (seeds[replica], scale)])
            below.copy_(above)
            passes(below, [(seeds[replica], -2 * scale)])
            self._local[replica].copy_(below)
        losses: list[float] = []
        for part in _batches([tokens[replica] for replica in replicas], self._spread):
            twice = [rows[replica] for replica in replicas[part] for _ in range(2)]
            weights = self._perturbed[2 * part.start : 2 * part.stop]
            losses += stacked_losses(self._global_model.model, weights, twice)
        both = zip(losses[::2], losses[1::2], strict=True)
        return [pair for _, pair in sorted(zip(replicas, both, strict=True))]


def check_room(model: FlatModel, replicas: int) -> None:
    """Notice before a run begins that so many replicas do not fit into memory.

    Raises:
        UserError: they do not.
    """
    weights = model.weights
    try:
        weights.new_empty((_COPIES * replicas, len(weights)))
    # What torch raises when an allocation fails, whatever the device.
    except RuntimeError:
        wanted = _COPIES * replicas * weights.nbytes / 1e9
        raise UserError(
            f"side_by_side is too large: {_COPIES} copies of the weights for each of {replicas} "
            f"replicas are {wanted:.1f} GB, more than {weights.device} can give"
        ) from None


def _batches(tokens: Sequence[int], spread: float) -> Iterator[slice]:
    """Cut numbers, largest first, where one is more than `spread` below the first of its part."""
    start = 0
    for place, number in enumerate(tokens):
        if tokens[start] - number > spread:
            yield slice(start, place)
            start = place
    yield slice(start, len(tokens))
