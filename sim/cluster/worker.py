"""The far side: a process on the cluster that holds the model once and takes local rounds."""

from __future__ import annotations

import os
import platform
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from peer.config import Experiment
from peer.corpus import Corpus
from peer.errors import UserError
from peer.trainer import LocalRound, LocalWeights, Trainer
from sim.cluster.connection import this_node
from sim.cluster.places import Facts, facts


@dataclass(frozen=True)
class Setup:
    """What a worker is made from.

    Attributes:
        experiment: resolved; its model is where every node finds it.
        corpus: all rows, and who has which.
        threads: of the kernels.
        on_a_gpu: whether GPUs are the worker's to use.
    """

    experiment: Experiment
    corpus: Corpus
    threads: int
    on_a_gpu: bool


class Worker:
    """Takes the local rounds of any peer; each call is one of Ray's.

    It begins with the imports, which take longest, while its setup is still being made.
    """

    def __init__(self) -> None:
        from transformers import AutoModelForCausalLM

        import peer.averaging_trainer
        import peer.zeroth_order

        del AutoModelForCausalLM, peer
        self._trainer: Trainer | None = None

    def begun(self) -> None:
        """Be there."""

    def ready(self, setup: Setup) -> Facts:
        """Load the model; return what is known of this place.

        Raises:
            UserError: the model cannot be loaded here.
        """
        from peer.setup import build_global_model
        from peer.training import build_trainer

        if not setup.on_a_gpu:
            hide_gpus()
        experiment = setup.experiment
        try:
            tuned = build_global_model(experiment, remember=True, threads=setup.threads)
        except UserError as error:
            raise UserError(f"node {platform.node()}: {error}") from None
        self._trainer = build_trainer(experiment, setup.corpus, tuned)
        return facts(this_node(), tuned.model.weights.device.type, tuned.layout)

    def train(
        self, peer: int, round_: int, cut: Any, indices: NDArray[np.int64]
    ) -> tuple[LocalRound | LocalWeights, float]:
        """Return a peer's local round, see `Trainer.train`, and how many seconds it took."""
        assert self._trainer is not None
        began = time.perf_counter()
        made = self._trainer.train(peer, round_, cut, indices)
        return made, time.perf_counter() - began


def hide_gpus() -> None:
    """Let torch see no GPU: those of the node are others' to use."""
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
