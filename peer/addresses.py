"""Where peers listen: `tcp://host:port`, or `ipc://path` on one machine."""

from __future__ import annotations

import ipaddress
import re
from typing import Final

from peer.errors import UserError

LOOPBACK: Final = "tcp://127.0.0.1:*"
"""Any free port of this machine, reachable from this machine only."""

_ADDRESS: Final = re.compile(r"ipc://\S+|tcp://(\S+):(?:\*|([0-9]{1,5}))")
_PORTS: Final = 2**16


def check_address(address: str) -> None:
    """Refuse what is no address.

    Raises:
        UserError: it is none.
    """
    match = _ADDRESS.fullmatch(address)
    # libzmq takes the remainder of a port that is too large.
    if match is None or int(match[2] or 0) >= _PORTS:
        raise UserError("an address is tcp://host:port or ipc://path")


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
