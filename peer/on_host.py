"""One peer of a network, on its host: from the experiment and the roster that all hosts share."""

from __future__ import annotations

import os
import socket
from dataclasses import replace
from pathlib import Path
from typing import Final

from peer.addresses import listening, listening_at
from peer.config import experiment_from
from peer.errors import UserError
from peer.experiment_file import read_toml
from peer.index import find_index
from peer.process import PeerSettings
from peer.roster_file import ROSTER, RosterFile, read_roster
from peer.standalone import Standalone, in_folder, resolve, run_standalone, wants_curve
from peer.unused_options import deliberate

START_TIMEOUT: Final = 600.0
"""`start_timeout`, seconds, where the experiment has none: hosts come up minutes apart."""


def run_on_host(
    experiment_file: Path,
    index: str,
    *,
    roster_file: Path | None = None,
    keys: Path | None = None,
    bind: str | None = None,
    out: str | None = None,
) -> bool:
    """Run this host's peer; tell whether it ended with everybody, all alike.

    Args:
        experiment_file: the experiment, as the simulator takes it.
        index: this peer's place in the roster, or how it is found; see `peer.index`.
        roster_file: None: roster.toml beside the experiment.
        keys: the folder with this peer's secret keys; None: the roster's.
        bind: where to listen; None: on all interfaces, at the port of this peer's address, or at
            the address alone if it is one of this machine.
        out: this peer's run folder; None: peer-I in the experiment's `out`, or in runs/NAME, where
            the experiment's file is NAME.toml.

    Raises:
        UserError, TopologyError: a mistake in a file or an argument; see `run_standalone`.
    """
    values = read_toml(experiment_file)
    experiment = experiment_from(values)
    experiment = replace(experiment, start_timeout=experiment.start_timeout or START_TIMEOUT)
    path = roster_file or experiment_file.parent / ROSTER
    roster = _roster(path)
    me = find_index(index, roster.addresses, os.environ, socket.gethostname(), socket.getfqdn)
    experiment, graph = resolve(experiment, len(roster.addresses))
    if len(roster.addresses) != experiment.peers:
        raise UserError(
            f"{path} has {len(roster.addresses)} peers, and the experiment {experiment.peers}"
        )
    address, metrics = roster.addresses[me], roster.metrics[me]
    where = bind or listening_at(address)
    how = "`kseed roster` makes them"
    addresses = [where, *roster.addresses]
    curve = wants_curve(experiment, addresses, how, keys=roster.keys is not None)
    whole = Path(experiment.out) if experiment.out else Path("runs", experiment_file.stem)
    experiment, state = in_folder(experiment, out or str(whole / f"peer-{me}"))
    settings = PeerSettings(
        me,
        state,
        where,
        keys=keys or path.parent,
        curve=curve,
        metrics=listening(metrics) if metrics else "",
        roster=roster,
        address=address,
    )
    return run_standalone(
        Standalone(experiment, graph, settings, roster.addresses, deliberate(values))
    )


def _roster(path: Path) -> RosterFile:
    if not path.exists():
        raise UserError(f"there is no roster {path}: `kseed roster` makes one")
    return read_roster(path)
