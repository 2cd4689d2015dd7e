"""A run with one process a peer, on this machine: prepared, supervised, concluded.

`peer.fleet` has the processes, `peer.supervisor` the run while it goes on, `peer.conclusion` what
it has come to; `peer.child` is the peer's side, and `peer.control` what the two sides say.
"""

from __future__ import annotations

from typing import Any, Final

from peer.chronicle import Chronicle
from peer.conclusion import conclude
from peer.config import Experiment
from peer.fleet import Fleet
from peer.process import LOG
from peer.progress import RunProgress
from peer.setup import prepare
from peer.supervisor import Supervisor

ENGINE: Final = "launch"


def launch(experiment: Experiment) -> dict[str, Any]:
    """Run an experiment with one process a peer, write its run folder, and return the summary.

    Raises:
        UserError, TopologyError: a mistake of the user's; nothing has been written.
        RunFailed: a peer has failed; no process is left.
    """
    prepared = prepare(experiment, ENGINE)
    for note in prepared.graph.notes:
        LOG.info("%s", note)
    prepared.create_folder(ENGINE)
    chronicle = Chronicle(prepared)
    fleet = Fleet(prepared, prepared.folder.state(ENGINE))
    histories = sum(
        len(prepared.protocol.roster.active(round_)) for round_ in range(experiment.rounds)
    )
    with RunProgress(histories, experiment.rounds) as progress:
        supervisor = Supervisor(fleet, progress)
        try:
            supervisor.run()
        finally:
            fleet.end()
    return conclude(ENGINE, prepared, fleet, supervisor, chronicle, progress)
