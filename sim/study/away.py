"""Errands on a cluster: each is done in a folder of its node, and its files come back with it.

No file system need be shared. What comes back is written beside its place and moved there whole,
what says that it is done last: so a setting is there once, and never in part.
"""

from __future__ import annotations

import gc
import os
import platform
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from shutil import rmtree
from tempfile import TemporaryDirectory
from typing import Any, Final, TypeVar

from peer.choices import LOCAL
from peer.config import Experiment
from sim.cluster.assignments import MOST_LOSSES
from sim.cluster.connection import Cluster, Wanted, WorkerLost, connected
from sim.cluster.places import check_paths, check_program, paths_named, program_digest
from sim.cluster.tasks import done_by_tasks
from sim.cluster.worker import hide_gpus
from sim.study.attempt import FAILED, Outcome
from sim.study.errands import Engine, Errand

T = TypeVar("T")

LANDING: Final = ".landing"
"""Where files are that have come back and are not in their places yet."""

_LOST: Final = (
    f"{MOST_LOSSES} workers were lost with it, which a system ends when it has no memory left"
)


@dataclass(frozen=True)
class _Call:
    """An item with what has to be the same where it is done.

    Attributes:
        item: what to do it for.
        program: digest of this program.
        start: the folder that relative paths are in, as far as nodes have it.
        options: those that may name files, which count by what is in them.
        paths: see `paths_named`.
        on_a_gpu: whether GPUs are there for it.
    """

    item: Any
    program: str
    start: str
    options: Mapping[str, Any]
    paths: Mapping[str, str]
    on_a_gpu: bool


class Away:
    """Does errands on a cluster, as many at a time as there is room for.

    Args:
        cluster: the cluster.
        alone: whether each is done in a process of its own.
    """

    all_at_once = True

    def __init__(self, cluster: Cluster, *, alone: bool) -> None:
        self._cluster = cluster
        self._alone = alone

    def do(
        self, errand: Errand[T], items: Iterable[T], folder: Path
    ) -> Generator[tuple[T, Outcome], None, None]:
        """See `Engine.do`.

        Raises:
            UserError: a node has another program, or other files.
        """
        rmtree(folder / LANDING, ignore_errors=True)
        calls = [self._call(item, errand.options(item)) for item in items]
        work = partial(_done_there, errand.work)
        with closing(done_by_tasks(self._cluster, work, calls, alone=self._alone)) as results:
            for call, found in results:
                if isinstance(found, WorkerLost):
                    yield call.item, Outcome(FAILED, _LOST)
                    continue
                outcome, files = found
                _land(files, folder, errand.leaves(call.item))
                yield call.item, outcome

    def _call(self, item: T, options: Mapping[str, Any]) -> _Call:
        gpus = self._cluster.wanted.gpus > 0
        here = os.getcwd()
        return _Call(item, program_digest(), here, options, paths_named(options), gpus)


@contextmanager
def engine_for(where: Experiment, here: Engine, *, alone: bool) -> Iterator[Engine]:
    """Yield who does errands.

    Args:
        where: its options of `WHERE` say who.
        here: who does them on this machine.
        alone: whether each is done in a process of its own.

    Raises:
        UserError: there is no such cluster, or no room on it.
    """
    if where.engine == LOCAL:
        yield here
        return
    with connected(Wanted.by(where)) as cluster:
        cluster.workers()
        yield Away(cluster, alone=alone)


def _done_there(
    work: Callable[[Any, Path], Outcome], call: _Call
) -> tuple[Outcome, dict[str, bytes]]:
    """Do an item in a folder of this node; return what came of it, and all files by their paths."""
    _check(call)
    if not call.on_a_gpu:
        hide_gpus()
    with TemporaryDirectory(prefix="kseed-") as name:
        root = Path(name)
        outcome = work(call.item, root)
        # A simulated world is one large cycle.
        gc.collect()
        paths = [path for path in root.rglob("*") if path.is_file()]
        return outcome, {str(path.relative_to(root)): path.read_bytes() for path in paths}


def _check(call: _Call) -> None:
    """Hold this node against the one that has asked.

    Raises:
        UserError: it has another program, or other files.
    """
    node = platform.node()
    check_program(node, call.program)
    with suppress(OSError):
        os.chdir(call.start)
    check_paths(node, call.options, call.paths)


def _land(files: Mapping[str, bytes], folder: Path, leaves: Iterable[str]) -> None:
    """Put what has come back into its places, which it takes over; the last one says it is done."""
    landing = folder / LANDING
    for name, content in files.items():
        path = landing / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    for name in leaves:
        come, place = landing / name, folder / name
        if come.exists():
            if place.is_dir():
                rmtree(place)
            place.parent.mkdir(parents=True, exist_ok=True)
            come.replace(place)
    rmtree(landing, ignore_errors=True)
