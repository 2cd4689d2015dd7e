"""One peer that no launcher has started: from what it was told to its run folder and its last word.

`peer.by_hand` and `peer.on_host` say what it is told, each from its kind of file.
"""

from __future__ import annotations

import logging
import math
import signal
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import topology
from peer.addresses import is_remote
from peer.config import Experiment
from peer.corpus import encode_rows, with_a_peer_for_each_task
from peer.data.division import BY_TASK
from peer.errors import UserError
from peer.event_log import log_event
from peer.events import Event, RoundStarted
from peer.process import Hooks, PeerResult, PeerSettings, run_peer
from peer.records import RunFolder
from peer.reporting import RoundReport
from peer.setup import refuse_varying, resolve_topology
from peer.unused_options import unused_options

ENGINE: Final = "peer"
LOG = logging.getLogger("kseed")


@dataclass(frozen=True)
class Standalone:
    """What a peer is told.

    Attributes:
        experiment: the run's, with its graph's number of peers and this peer's own folder as `out`.
        graph: its topology.
        settings: this peer's.
        addresses: where each peer is reached.
        meant: the options that the user has set.
    """

    experiment: Experiment
    graph: topology.Topology
    settings: PeerSettings
    addresses: Sequence[str]
    meant: Iterable[str]


def resolve(experiment: Experiment, peers: int | None) -> tuple[Experiment, topology.Topology]:
    """Return an experiment with the number of its peers, and their graph.

    Args:
        experiment: as the file says.
        peers: how many have addresses; None: they have none yet, and where each task makes a peer
            the data are read to count them.

    Raises:
        UserError, TopologyError: data cannot be read, or there is no such graph, or it varies over
            time.
    """
    if experiment.partition == BY_TASK and not experiment.is_synthetic:
        if peers is None:
            experiment = with_a_peer_for_each_task(experiment, encode_rows(experiment)[0])
        else:
            # Whether that is one for each task shows when the data are there.
            experiment = replace(experiment, peers=peers)
    experiment, graph = resolve_topology(experiment)
    refuse_varying(graph, ENGINE)
    return experiment, graph


def wants_curve(experiment: Experiment, addresses: Iterable[str], how: str, *, keys: bool) -> bool:
    """Return whether links speak CURVE.

    Args:
        experiment: the run's.
        addresses: where peers listen and are reached.
        how: in words, how keys are made and given.
        keys: whether there are some.

    Raises:
        UserError: there are none, and links or entries need them.
    """
    beyond = [address for address in addresses if is_remote(address)]
    curve = experiment.curve == "on" or (experiment.curve == "auto" and bool(beyond))
    if curve and not keys:
        why = f"{beyond[0]} is beyond this machine" if beyond else 'curve = "on"'
        raise UserError(f'{why}, so links need keys: {how}; or say curve = "off"')
    if experiment.sign and not keys:
        raise UserError(f"sign = true needs keys: {how}")
    return curve


def in_folder(experiment: Experiment, out: str) -> tuple[Experiment, Path]:
    """Return the experiment with a peer's own run folder, and where the peer's log is in there.

    A peer that comes back goes on from its log, where there is one.
    """
    experiment = replace(experiment, out=out, resume=not experiment.averages)
    return experiment, RunFolder(Path(out)).state(ENGINE)


def run_standalone(told: Standalone) -> bool:
    """Run a peer to its end, and print what it has ended with.

    Returns:
        Whether it ended with everybody, all alike.

    Raises:
        UserError, TopologyError: a mistake in what it was told; nothing has been written, but where
            it shows after the start, see `run_peer`.
    """
    experiment, me = told.experiment, told.settings.id
    folder = RunFolder.for_experiment(experiment, ENGINE)
    LOG.setLevel(experiment.log_level.upper())
    idle = unused_options(experiment, told.meant, ENGINE)
    if idle:
        LOG.warning("without effect in this experiment, and ignored: %s", ", ".join(idle))
    traffic = folder.read_links(curve=told.settings.curve)

    def listens(endpoint: str) -> Mapping[int, str]:
        LOG.info("peer %d listens on %s", me, endpoint)
        return dict(enumerate(told.addresses))

    def trained(report: RoundReport) -> None:
        loss = "" if math.isnan(report.loss) else f": loss {report.loss:.4f}"
        LOG.info("peer %d has trained in round %d%s", me, report.round, loss)

    def happened(event: Event) -> None:
        log_event(me, event)
        if isinstance(event, RoundStarted):
            folder.write_links(traffic)

    def prepare_folder() -> None:
        folder.create(experiment, told.graph, ENGINE)

    hooks = Hooks(listens, happened, trained)
    # Local steps under way cannot be ended, and everything that counts is on disk at any moment.
    before = signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        result = run_peer(experiment, told.settings, hooks, traffic, before=prepare_folder)
    finally:
        signal.signal(signal.SIGINT, before)
    folder.write_state(result.state, with_probabilities=experiment.is_pro)
    folder.write_links(traffic)
    _tell_end(experiment, result)
    return not result.missing and not result.differing


def _tell_end(experiment: Experiment, result: PeerResult) -> None:
    print(f"{'weights    ' if experiment.averages else 'accumulator'} {result.state.digest()}")
    if result.model_digest:
        print(f"model       {result.model_digest}")
    for peers, trouble in (
        (result.missing, "without the logs"),
        (result.differing, "unlike the log"),
    ):
        if peers:
            LOG.warning("ended %s of peers %s", trouble, ", ".join(map(str, peers)))
