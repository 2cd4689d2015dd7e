"""Where a peer offers its status: `host:port`, with brackets around an IPv6 address."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from peer.errors import UserError

_ADDRESS: Final = re.compile(r"(?:\[([0-9A-Fa-f:.]{2,45})\]|([A-Za-z0-9._-]{1,253})):([0-9]{1,5})")
_PORTS: Final = 2**16


@dataclass(frozen=True)
class MetricsAddress:
    """A host, by name or number, and a port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def metrics_address(text: str) -> MetricsAddress:
    """Return the address that a text is.

    Raises:
        UserError: it is none.
    """
    match = _ADDRESS.fullmatch(text)
    if match is None or int(match[3]) >= _PORTS:
        raise UserError(f"{text!r} is no address of metrics: must be host:port")
    return MetricsAddress(match[1] or match[2], int(match[3]))
