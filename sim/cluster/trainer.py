"""Local rounds that the workers of a cluster take."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any
from weakref import WeakValueDictionary

import numpy as np
from numpy.typing import NDArray

from peer.protocol import Protocol
from peer.trainer import LocalRound, LocalWeights
from sim.cluster.crew import Crew, Job

Made = Future[tuple[LocalRound | LocalWeights, float]]
"""What a worker has made, and how many seconds it took."""


@dataclass(frozen=True)
class _Asked:
    """A job under way, and by what it is known again."""

    key: tuple[Any, ...]
    job: Job
    made: Made


class _Kept:
    """A state that is kept on the cluster while any job that starts from it is under way."""

    def __init__(self, on_cluster: Any) -> None:
        self.on_cluster = on_cluster


class ClusterTrainer:
    """Has local rounds taken by workers, as many at once as there are; see `Announced`.

    Where all peers start a round from one state, what one of them announces says what the others
    will ask for, and is begun at once: so workers are busy while the state is evaluated here.

    Args:
        crew: the workers.
        put: keeps a value on the cluster, and returns what stands for it in a job's arguments.
        protocol: of the run.
        in_step: whether all peers start a round from one state.

    Attributes:
        seconds: what the last local round took its worker.
    """

    def __init__(
        self, crew: Crew, put: Callable[[Any], Any], protocol: Protocol, *, in_step: bool
    ) -> None:
        self.seconds = 0.0
        self._crew = crew
        self._put = put
        self._protocol = protocol
        self._in_step = in_step
        self._asked: dict[int, _Asked] = {}
        self._kept: WeakValueDictionary[str, _Kept] = WeakValueDictionary()
        self._begun = (-1, "")

    def announce(self, peer: int, round_: int, cut: Any, indices: NDArray[np.int64]) -> None:
        """Have a peer's next local round taken, and with it those of the others of this round."""
        self._ask(peer, round_, cut, indices)
        if self._in_step and self._begun != (round_, cut.digest()):
            self._begun = round_, cut.digest()
            for other in self._protocol.roster.active(round_):
                if other != peer:
                    self._ask(other, round_, cut, self._protocol.draw(other, round_, cut))

    def train(
        self, peer: int, round_: int, cut: Any, indices: NDArray[np.int64]
    ) -> LocalRound | LocalWeights:
        """Return what a worker has made, when it has; see `Trainer.train`."""
        made = self._ask(peer, round_, cut, indices)
        del self._asked[peer]
        local_round, self.seconds = made.result()
        return local_round

    def _ask(self, peer: int, round_: int, cut: Any, indices: NDArray[np.int64]) -> Made:
        """Have a local round taken, unless the peer's last one is the same."""
        digest = cut.digest()
        key = (round_, digest, indices.tobytes())
        before = self._asked.get(peer)
        if before is not None:
            if before.key == key:
                return before.made
            self._crew.forget(before.job)
        kept = self._kept.get(digest)
        if kept is None:
            self._kept[digest] = kept = _Kept(self._put(cut))
        what = f"round {round_} of peer {peer}"
        job = Job(what, (peer, round_, kept.on_cluster, indices), kept)
        made = self._crew.submit(job)
        self._asked[peer] = _Asked(key, job, made)
        return made
