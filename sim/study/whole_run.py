"""A whole run in a folder of its own: done, gone on with, or found to be done already."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from shutil import rmtree
from typing import Any, Final

import topology
from peer.config import Experiment
from peer.errors import UserError
from peer.records import CONFIG, LINKS, SUMMARY, TOPOLOGY, RunFolder
from peer.summary import SCHEMA
from peer.traffic import Traffic
from sim import schema
from topology import TopologyError

_RESUMED: Final = "resumed"
"""A file in a run's folder that says that it was."""


def whole_run(experiment: Experiment, folder: Path) -> dict[str, Any]:
    """Return the summary of a run, which is simulated unless it has ended already.

    Args:
        experiment: the run; its own folder is not used.
        folder: of the run, which is gone on with if it has been interrupted.

    Raises:
        UserError, TopologyError: there can be no such run.
        RunFailed: it has come to no end.
    """
    return finished_run(folder) or _simulated(experiment, folder)


def was_resumed(folder: Path) -> bool:
    """Return whether a run was interrupted, so that its times are those of its last part."""
    return (folder / _RESUMED).exists()


def read_links(folder: Path, wire_bytes: int) -> tuple[topology.Topology, Traffic]:
    """Return the graph of a setting that is done, and what went over its links.

    Args:
        folder: the setting's.
        wire_bytes: how much that was, all links together.

    Raises:
        UserError, TopologyError: the files that hold it are damaged or gone.
    """
    path = folder / LINKS
    if not path.exists():
        raise UserError(f"{path} is gone")
    graph, traffic = topology.load(folder / TOPOLOGY), RunFolder(folder).read_links()
    found = traffic.total().wire_bytes
    if found != wire_bytes:
        raise UserError(f"{path} is damaged: it has {found:,} bytes of {wire_bytes:,}")
    return graph, traffic


def finished_run(folder: Path) -> dict[str, Any] | None:
    """Return the summary of a run that has ended, and whose result was lost.

    A run whose links are not all there any more, or whose summary is none or another's, is removed:
    if it was gone on with, its bytes would be counted from zero.
    """
    path = folder / SUMMARY
    if not path.exists():
        return None
    try:
        summary, experiment = json.loads(path.read_bytes()), RunFolder(folder).experiment()
        if schema.misfit(summary, schema.SUMMARY) is not None or (
            (summary["schema"], summary["peers"], summary["rounds"])
            != (SCHEMA, experiment.peers, experiment.rounds)
        ):
            raise UserError(f"{path} is not of this run")
        read_links(folder, summary["bytes"]["wire_total"])
    except (UserError, TopologyError, OSError, ValueError, RecursionError):
        rmtree(folder)
        return None
    assert isinstance(summary, dict)
    return summary


def _simulated(experiment: Experiment, folder: Path) -> dict[str, Any]:
    from sim.runner import simulate

    wanted = replace(experiment, out=str(folder))
    if not (folder / CONFIG).exists():
        if folder.exists():
            rmtree(folder)
        return simulate(wanted)
    (folder / _RESUMED).touch()
    try:
        return simulate(replace(wanted, resume=True))
    except UserError:
        # It was damaged when it was interrupted; or else the same error comes again, and what
        # there is has to stay.
        anew = folder.with_name(folder.name + ".anew")
        if anew.exists():
            rmtree(anew)
        summary = simulate(replace(wanted, out=str(anew)))
        rmtree(folder)
        anew.rename(folder)
        return summary
