"""A simulation's stay on a cluster: joined, workers begun, and left with all that was begun."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

from peer.config import Experiment
from peer.data.division import BY_TASK
from peer.setup import Prepared
from sim.cluster.connection import Cluster, Wanted, connected, this_node
from sim.cluster.crew import Crew, Hand
from sim.cluster.places import check, facts
from sim.cluster.trainer import ClusterTrainer
from sim.cluster.worker import Setup, Worker
from topology import FAMILIES

LOG = logging.getLogger("kseed")


class Session:
    """Workers that have been begun, and load what a run has, or one run after the other.

    Args:
        cluster: where they are.
        hands: the workers.
    """

    def __init__(self, cluster: Cluster, hands: Sequence[Hand]) -> None:
        self._cluster = cluster
        self._hands = hands
        self._crew = Crew(hands)

    def trainer(self, prepared: Prepared) -> ClusterTrainer:
        """Let the workers load, and return what has them take local rounds.

        What they were at for the run before is not waited for.

        Raises:
            UserError: a node has another program or model.
            RunFailed: workers end while they load.
        """
        experiment, corpus, tuned = prepared.experiment, prepared.corpus, prepared.global_model
        assert corpus is not None
        assert tuned is not None
        here = facts(this_node(), tuned.model.weights.device.type, tuned.layout)
        wanted = self._cluster.wanted
        threads = max(1, int(wanted.cpus))
        setup = Setup(_named_from_the_root(experiment), corpus, threads, wanted.gpus > 0)
        self._crew.end()
        self._crew = Crew(self._hands)
        self._crew.muster(self._cluster.put(setup), partial(check, here, model=experiment.model))
        in_step = experiment.schedule == "sync" and not experiment.averages
        return ClusterTrainer(self._crew, self._cluster.put, prepared.protocol, in_step=in_step)

    def told(self) -> dict[str, int]:
        """Return what a summary says of the cluster."""
        crew = self._crew
        return {"workers": crew.size, "nodes": len(crew.nodes), "lost": crew.lost}

    def end(self) -> None:
        """Wait for no worker any more; they go with the connection."""
        self._crew.end()


@contextmanager
def session(experiment: Experiment) -> Iterator[Session]:
    """Join the cluster of an experiment and begin workers there.

    Raises:
        UserError: it cannot be joined, or has no room.
    """
    with connected(Wanted.by(experiment)) as cluster:
        count = int(min(cluster.workers(), _most_at_once(experiment)))
        there = Session(cluster, [cluster.begin(Worker) for _ in range(count)])
        try:
            yield there
        finally:
            there.end()


def _most_at_once(experiment: Experiment) -> float:
    """Return how many peers train in a round at most; infinity: the data or a file say it."""
    if experiment.topology not in FAMILIES or experiment.partition == BY_TASK:
        return math.inf
    return math.ceil(experiment.peers * experiment.participation)


def _named_from_the_root(experiment: Experiment) -> Experiment:
    """Return an experiment that names its model's folder, if it is one, by its absolute path."""
    folder = Path(experiment.model).expanduser()
    return replace(experiment, model=str(folder.absolute())) if folder.is_dir() else experiment
