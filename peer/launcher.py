"""A run with one process a peer, on this machine: prepared, supervised, concluded.

`peer.fleet` has the processes and `peer.places` their addresses; `peer.supervisor` follows the run,
`peer.incidents` carries its scenario out, and `peer.conclusion` sums it up. `peer.child` is the
peer's side, and `peer.control` what the two sides say to each other.
"""

from __future__ import annotations

from typing import Any, Final

from peer.archive import read_archive
from peer.chronicle import Chronicle
from peer.conclusion import conclude
from peer.config import Experiment
from peer.entry import Kind
from peer.fleet import Fleet
from peer.link_latencies import link_latencies
from peer.metrics_ports import check_ports, ports_in_words
from peer.namespaces import Namespaces
from peer.places import Loopback, Places
from peer.process import LOG
from peer.progress import RunProgress
from peer.protocol import Protocol
from peer.setup import Prepared, prepare
from peer.supervisor import Supervisor
from peer.training import build_trainer

ENGINE: Final = "launch"


def launch(experiment: Experiment) -> dict[str, Any]:
    """Run an experiment with one process a peer, write its run folder, and return the summary.

    Raises:
        UserError, TopologyError: a mistake of the user's; nothing has been written.
        RunFailed: a peer has failed, or nobody is left; no process is.
    """
    prepared = prepare(experiment, ENGINE)
    for note in prepared.graph.notes:
        LOG.info("%s", note)
    graph, roster = prepared.graph, prepared.protocol.roster
    histories = sum(len(roster.active(round_)) for round_ in range(experiment.rounds))
    # Whatever its processes would refuse is told before any is there.
    build_trainer(prepared.experiment, prepared.corpus, prepared.global_model)
    check_ports(prepared.experiment)
    places = _places(prepared)
    with RunProgress(histories, experiment.rounds) as progress:
        try:
            prepared.create_folder(ENGINE)
            if prepared.experiment.metrics_port:
                LOG.info("watch it with kseed watch %s", ports_in_words(prepared.experiment))
            chronicle = Chronicle(prepared, progress.answered)
            fleet = Fleet(prepared, prepared.folder.state(ENGINE), places)
            begun = _begun(fleet, prepared.protocol)
            supervisor = Supervisor(fleet, places, graph.edges, experiment.scenario, progress)
            try:
                supervisor.run(begun)
            finally:
                fleet.end()
        finally:
            places.close()
        return conclude(ENGINE, prepared, fleet, places, supervisor, chronicle, progress)


def _places(prepared: Prepared) -> Places:
    """Return where the peers listen."""
    experiment, graph = prepared.experiment, prepared.graph
    if experiment.isolate == "none":
        return Loopback(graph.nodes)
    latencies = link_latencies(experiment, graph)
    return Namespaces(graph.nodes, graph.edges, latencies, experiment.loss)


def _begun(fleet: Fleet, protocol: Protocol) -> int:
    """Return the highest round that an earlier life of the run had begun, -1 without one."""
    stores = [path for m in fleet.members if (path := m.folder / "log.sqlite").exists()]
    entries = read_archive(stores, protocol).entries
    return max((entry.round for entry in entries if entry.kind is Kind.HISTORY), default=-1)
