"""Where the peers of a launched run offer their status: one port of this machine after another."""

from __future__ import annotations

import socket
from typing import Final

from peer.config import Experiment
from peer.errors import UserError
from peer.options import refuse

HOST: Final = "127.0.0.1"
_PORTS: Final = 2**16


def metrics_of(experiment: Experiment, peer: int) -> str:
    """Return where a peer offers its status; empty: nowhere."""
    return f"{HOST}:{experiment.metrics_port + peer}" if experiment.metrics_port else ""


def ports_in_words(experiment: Experiment) -> str:
    """Return where all of them do, as `kseed watch` takes it."""
    first = experiment.metrics_port
    return f"{HOST}:{first}-{first + experiment.peers - 1}"


def check_ports(experiment: Experiment) -> None:
    """Refuse ports that the peers cannot have.

    Raises:
        UserError: there are too few, one is in use, or nobody could reach them.
    """
    first = experiment.metrics_port
    if not first:
        return
    if experiment.isolate != "none":
        refuse("metrics_port", first, "peers in network namespaces are out of reach")
    if first + experiment.peers > _PORTS:
        most = _PORTS - experiment.peers
        refuse("metrics_port", first, f"at most {most} with {experiment.peers} peers")
    for port in range(first, first + experiment.peers):
        with socket.socket() as probe:
            # As the peers' own sockets: what an earlier run has left closing is no hindrance.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except OSError as error:
                raise UserError(
                    f"metrics_port = {first}: peer {port - first} cannot have port {port}: "
                    f"{error.strerror}"
                ) from None
