"""From names of hosts to a roster: where each peer is reached, and where it offers its metrics."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Final

from peer.addresses import is_place
from peer.errors import UserError
from peer.options import refuse
from peer.roster_file import RosterFile

PLACEHOLDER: Final = "{}"
"""Stands for a peer's number in a pattern."""

MOST: Final = 2**16 - 1
"""The highest port."""


def split_hosts(text: str) -> list[str]:
    """Return the hosts of a list with commas, of which a pattern is one.

    Raises:
        UserError: one is no name, or there is a pattern beside others.
    """
    hosts = [host.strip() for host in text.split(",")]
    for host in hosts:
        name = host.replace(PLACEHOLDER, "0", 1)
        if not is_place(name if ":" in name else f"{name}:{MOST}"):
            refuse("hosts", host, "must be a name or an IPv4 address, perhaps with :port")
    if len(hosts) > 1 and any(map(is_pattern, hosts)):
        refuse("hosts", text, f"a pattern with {PLACEHOLDER} stands alone")
    return hosts


def is_pattern(host: str) -> bool:
    """Return whether a host's name has a place for a peer's number."""
    return PLACEHOLDER in host


def filled(pattern: str, peers: int) -> list[str]:
    """Return the names that a pattern stands for, one for each peer."""
    return [pattern.replace(PLACEHOLDER, str(peer)) for peer in range(peers)]


def roster_of(hosts: Sequence[str], port: int, metrics_port: int) -> RosterFile:
    """Return the roster of hosts, without keys.

    A host that is named several times has ports one after the other, first for all its peers, then
    for their metrics; ports that are taken on it already are passed over.

    Args:
        hosts: of each peer: `host` or `host:port`.
        port: the first one that a peer listens on.
        metrics_port: the first one of metrics; 0: no metrics.

    Raises:
        UserError: one port is given twice, or there are none left.
    """
    taken: defaultdict[str, set[int]] = defaultdict(set)
    split = [(host, int(given or 0)) for host, _, given in (host.partition(":") for host in hosts)]
    for host, given in split:
        if given in taken[host.lower()]:
            refuse("hosts", f"{host}:{given}", "is named twice")
        taken[host.lower()] |= {given} - {0}
    addresses = [f"tcp://{host}:{given or _next(taken, host, port)}" for host, given in split]
    watched = [f"{host}:{_next(taken, host, metrics_port)}" for host, _ in split if metrics_port]
    return RosterFile(tuple(addresses), tuple(watched or [""] * len(hosts)))


def _next(taken: defaultdict[str, set[int]], host: str, first: int) -> int:
    """Take the first port from `first` on that is free on a host."""
    ports = taken[host.lower()]
    port = next(port for port in range(first, MOST + 2) if port not in ports)
    if port > MOST:
        raise UserError(f"{host} has no port left from {first} on: the highest is {MOST}")
    ports.add(port)
    return port
