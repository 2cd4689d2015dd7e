"""The one door to Ray: a cluster is joined, workers are begun there, and what they return awaited.

Calls are futures of this process. One that has failed because its process or its node has gone
raises `WorkerLost`; what the work itself has raised comes as it was raised.
"""

from __future__ import annotations

import logging
import math
import os
import re
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final

from peer.config import Experiment
from peer.errors import UserError, in_one_line
from peer.options import refuse
from sim.cluster.greeting import may_be_ray

LOG = logging.getLogger("kseed")

AUTO: Final = "auto"
OWN: Final = "local"

_ADDRESS: Final = re.compile(r"(?P<host>[^\s:/\[\]]+|\[[0-9a-fA-F:]+\]):(?P<port>[0-9]{1,5})")

_STDERR: Final = 2


class WorkerLost(Exception):
    """A worker's process or node has gone, and with it what it was at."""


@dataclass(frozen=True)
class Wanted:
    """Which cluster, and what of it.

    Attributes:
        address: host:port, AUTO or OWN.
        workers: how many; 0: as many as there is room for.
        cpus: processors of each.
        gpus: GPUs of each; below 1: a share of one.
    """

    address: str
    workers: int
    cpus: float
    gpus: float

    @classmethod
    def by(cls, experiment: Experiment) -> Wanted:
        """Return what an experiment's options say.

        Raises:
            UserError: Ray has no such shares.
        """
        for name in ("ray_cpus", "ray_gpus"):
            share = getattr(experiment, name)
            if share > 1 and share != int(share):
                refuse(name, share, "above 1 it must be a whole number")
        return cls(
            experiment.ray_address,
            experiment.ray_workers,
            experiment.ray_cpus,
            experiment.ray_gpus,
        )


class Member:
    """A process on the cluster that holds an object; Ray begins it anew, elsewhere if need be.

    Args:
        cluster: where it is.
        actor: Ray's handle.
    """

    def __init__(self, cluster: Cluster, actor: Any) -> None:
        self._cluster = cluster
        self._actor = actor

    def call(self, method: str, *arguments: Any, patiently: bool = False) -> Future[Any]:
        """Call a method there.

        Args:
            method: its name.
            arguments: what `Cluster.put` has returned stands for what was put.
            patiently: until it has been done, even if the process has to be begun anew; or else it
                has to be there now, and to stay.
        """
        retries = -1 if patiently else 0
        remote = getattr(self._actor, method).options(max_task_retries=retries)
        return self._cluster.awaited(remote.remote(*arguments))

    def end(self) -> None:
        """End the process for good."""
        self._cluster.ray.kill(self._actor)


class Cluster:
    """A cluster that this process has joined.

    Attributes:
        ray: the library.
        wanted: what was asked for.
    """

    def __init__(self, ray: Any, wanted: Wanted) -> None:
        self.ray = ray
        self.wanted = wanted
        self._calls = ray.remote(max_retries=0)(_called)
        self._calls_alone = ray.remote(max_retries=0, max_calls=1)(_called)

    def put(self, value: Any) -> Any:
        """Keep a value on the cluster while what this returns is kept; calls take it from there."""
        return self.ray.put(value)

    def begin(self, kind: type) -> Member:
        """Begin a process that holds an object of a class, made without arguments."""
        actor = self.ray.remote(kind).options(**self._share(), max_restarts=-1, max_task_retries=-1)
        return Member(self, actor.remote())

    def do(self, work: Callable[..., Any], *arguments: Any, alone: bool) -> Future[Any]:
        """Call a function of a module in a process of the cluster, once.

        Args:
            work: the function, or a partial one.
            arguments: its arguments.
            alone: whether the process is new, and ends with it.
        """
        remote = self._calls_alone if alone else self._calls
        return self.awaited(remote.options(**self._share()).remote(work, *arguments))

    def workers(self) -> int:
        """Return how many workers there are to be: one at least, which may have to wait.

        Raises:
            UserError: there is no node that has room for one.
        """
        nodes = [node["Resources"] for node in self.ray.nodes() if node["Alive"]]
        room, free = sum(map(self._fitting, nodes)), self._fitting(self.ray.available_resources())
        if not room:
            wanted = self.wanted
            share = f"ray_cpus = {wanted.cpus:g}"
            share += f" and ray_gpus = {wanted.gpus:g}" if wanted.gpus else ""
            there = "; ".join(
                f"{node.get('CPU', 0):g} processors, {node.get('GPU', 0):g} GPUs" for node in nodes
            )
            raise UserError(f"{share}: no node of the cluster has so much, there are {there}")
        asked = self.wanted.workers
        if asked > room:
            LOG.warning("ray_workers = %d: the cluster has room for %d", asked, room)
        return min(asked, room) if asked else max(1, min(room, free))

    def awaited(self, ref: Any) -> Future[Any]:
        """Return the future of what a reference of Ray's stands for."""
        made: Future[Any] = Future()

        def done(found: Future[Any]) -> None:
            error = found.exception()
            if error is None:
                made.set_result(found.result())
            else:
                made.set_exception(self._meant(error))

        ref.future().add_done_callback(done)
        return made

    def _meant(self, error: BaseException) -> BaseException:
        """Return what an error of Ray's stands for."""
        errors = self.ray.exceptions
        if isinstance(error, errors.RayTaskError):
            return _unwrapped(error.cause)
        if isinstance(error, errors.ActorDiedError):
            # It is begun anew whatever has ended it, so it cannot be begun at all.
            lines = [line.strip() for line in str(error).splitlines() if line.strip()]
            why = lines[-1] if lines else type(error).__name__
            return UserError(f"a worker of the cluster cannot be begun: {why}")
        gone = (
            errors.RayActorError,
            errors.WorkerCrashedError,
            errors.OutOfMemoryError,
            errors.NodeDiedError,
            errors.ObjectLostError,
            errors.LocalRayletDiedError,
        )
        return WorkerLost(in_one_line(error)) if isinstance(error, gone) else error

    def _share(self) -> dict[str, float]:
        return {"num_cpus": self.wanted.cpus, "num_gpus": self.wanted.gpus}

    def _fitting(self, resources: dict[str, float]) -> int:
        """Return how many workers such resources are enough for."""
        cpus, gpus = self.wanted.cpus, self.wanted.gpus
        most = math.floor(resources.get("CPU", 0.0) / cpus + 1e-9)
        if not gpus:
            return most
        there = math.floor(resources.get("GPU", 0.0) + 1e-9)
        # Shares of two GPUs make no worker.
        on_gpus = there * math.floor(1 / gpus + 1e-9) if gpus < 1 else math.floor(there / gpus)
        return min(most, on_gpus)


def _called(work: Callable[..., Any], *arguments: Any) -> Any:
    return work(*arguments)


def this_node() -> str:
    """Return what the cluster knows the node by that this process is on."""
    name: str = _ray().get_runtime_context().get_node_id()
    return name


@contextmanager
def connected(wanted: Wanted) -> Iterator[Cluster]:
    """Join a cluster, and leave it with all that was begun there; one of our own is ended.

    Who has called `ray.init` before, as in a notebook, is connected already and stays so.

    Args:
        wanted: see `Wanted`.

    Raises:
        UserError: there is no Ray, or no such cluster.
    """
    _check_address(wanted.address)
    ray = _ray()
    mine = not ray.is_initialized()
    try:
        if mine:
            _join(ray, wanted.address)
        yield Cluster(ray, wanted)
    finally:
        if mine:
            ray.shutdown()


def _check_address(address: str) -> None:
    """Refuse an address of another form, and one where nobody answers."""
    if address in (AUTO, OWN):
        return
    found = _ADDRESS.fullmatch(address)
    if found is None or not 0 < int(found["port"]) < 2**16:
        refuse("ray_address", address, f"must be HOST:PORT, {AUTO} or {OWN}")
    try:
        answers = may_be_ray(found["host"].strip("[]"), int(found["port"]))
    except UnicodeError:
        # No name of a host has such labels.
        raise UserError(f"ray_address = {address!r}: there is no such host") from None
    except OSError as error:
        reason = error.strerror or in_one_line(error)
        raise UserError(f"ray_address = {address!r}: nobody answers there ({reason})") from None
    if not answers:
        raise UserError(f"ray_address = {address!r}: what answers there is no Ray cluster")


def _ray() -> Any:
    # Read when it is imported: no figures to its makers, no hints.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        import ray
    except ImportError:
        raise UserError("engine = 'ray' needs Ray: pip install 'kseed[ray]'") from None
    return ray


def _join(ray: Any, address: str) -> None:
    own = {"include_dashboard": False} if address == OWN else {}
    try:
        with _unheard():
            ray.init(
                address=address,
                log_to_driver=False,
                logging_level=logging.CRITICAL,
                **own,
            )
    except Exception as error:
        text = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"ray_address = {address!r}: {_in_short(text, address)}") from None
    # What becomes of workers is told by whoever has begun them.
    with suppress(AttributeError):
        ray._private.worker._worker_logs_enabled = False


@contextmanager
def _unheard() -> Iterator[None]:
    """Let nothing that is written to standard error be seen, not even by what is no Python."""
    sys.stderr.flush()
    kept, nowhere = os.dup(_STDERR), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, _STDERR)
    try:
        yield
    finally:
        os.dup2(kept, _STDERR)
        os.close(kept)
        os.close(nowhere)


def _in_short(text: str, address: str) -> str:
    """Return what the error of joining a cluster comes to."""
    if address == AUTO and "ould not find" in text:
        return (
            "no Ray cluster runs on this machine; begin one with `ray start --head`, or give an "
            "address"
        )
    return text[:300]


def _unwrapped(error: BaseException) -> BaseException:
    """Return an error without the layers that a call within a call has put around it."""
    while (cause := getattr(error, "cause", None)) is not None:
        error = cause
    return error
