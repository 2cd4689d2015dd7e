"""Where peers listen: `tcp://host:port`, or `ipc://path` on one machine."""

from __future__ import annotations

import ipaddress
import re
from typing import Final

from peer.errors import UserError

LOOPBACK: Final = "tcp://127.0.0.1:*"
"""Any free port of this machine, reachable from this machine only."""

_ADDRESS: Final = re.compile(r"ipc://[^\s\0]+|tcp://(\S+):(?:\*|([0-9]{1,5}))")
_PLACE: Final = re.compile(r"([A-Za-z0-9._-]+):([0-9]{1,5})")
_PORTS: Final = 2**16
_ANYWHERE: Final = "0.0.0.0"


def check_address(address: str) -> None:
    """Refuse what is no address.

    Raises:
        UserError: it is none.
    """
    match = _ADDRESS.fullmatch(address)
    # libzmq takes the remainder of a port that is too large.
    if match is None or int(match[2] or 0) >= _PORTS:
        raise UserError("an address is tcp://host:port or ipc://path")


def check_reachable(address: str) -> None:
    """Refuse what nobody can dial: any port, any interface, or no address at all.

    Raises:
        UserError: it is that.
    """
    if not address.startswith("tcp://"):
        check_address(address)
    elif not is_place(address.removeprefix("tcp://")):
        raise UserError("others reach a peer at tcp://host:port, by name or IPv4, or ipc://path")


def is_place(text: str) -> bool:
    """Return whether a text is `host:port`, a name or an IPv4 address with a port of TCP."""
    match = _PLACE.fullmatch(text)
    return match is not None and 0 < int(match[2]) < _PORTS and match[1] != _ANYWHERE


def host_of(address: str) -> str:
    """Return the host of an address; empty: it is a path of this machine."""
    match = _ADDRESS.fullmatch(address)
    return "" if match is None or match[1] is None else match[1]


def listening(place: str) -> str:
    """Return where to listen to be reached at `host:port`: everywhere, or on loopback alone."""
    host, _, port = place.rpartition(":")
    if is_remote(f"tcp://{place}"):
        host = _ANYWHERE
    elif host == "localhost":
        # Sockets are bound to interfaces, and those have no names.
        host = "127.0.0.1"
    return f"{host}:{port}"


def listening_at(address: str) -> str:
    """Return the address to listen on to be reached at an address; see `listening`."""
    if not address.startswith("tcp://"):
        return address
    return "tcp://" + listening(address.removeprefix("tcp://"))


def is_remote(address: str) -> bool:
    """Return whether others than this machine's own processes can be at an address's other end."""
    match = _ADDRESS.fullmatch(address)
    if match is None or match[1] is None:
        return False
    host = match[1].strip("[]")
    try:
        return host != "localhost" and not ipaddress.ip_address(host).is_loopback
    except ValueError:
        return True
