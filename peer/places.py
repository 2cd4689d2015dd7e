"""Where the peers of a launched run listen: ports of this machine's loopback."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from typing import Protocol

Link = tuple[int, int]
"""Two neighbours, the lower number first."""


class Places(Protocol):
    """The addresses of all peers, known before any of them is there and the same in all lives.

    Attributes:
        addresses: peer -> where it listens, and where its neighbours reach it.
    """

    addresses: dict[int, str]

    def namespace(self, peer: int) -> str:
        """Return the network namespace that a peer's process belongs into; empty: any."""

    def cut(self, links: AbstractSet[Link]) -> bool:
        """Let nothing through on these links, and everything on all others.

        Returns:
            False if that is not in its power: the peers have to do it.
        """

    def close(self) -> None:
        """Let go of everything, when no peer is there any more."""


class Loopback:
    """A port of its own for each peer.

    A port is bound here as well, and not listened on: the system gives it to nobody else, while the
    peer may bind it again and again, as libzmq sets SO_REUSEADDR too. A neighbour that dials it
    meanwhile is refused. Where only Linux allows this, a port is free, but not kept.

    Args:
        peers: who needs one.
    """

    def __init__(self, peers: Iterable[int]) -> None:
        self.addresses: dict[int, str] = {}
        self._kept: list[socket.socket] = []
        for peer in peers:
            kept = socket.socket()
            self._kept.append(kept)
            kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            kept.bind(("127.0.0.1", 0))
            self.addresses[peer] = f"tcp://127.0.0.1:{kept.getsockname()[1]}"
        if sys.platform != "linux":
            self.close()

    def namespace(self, peer: int) -> str:  # noqa: ARG002
        """Return nothing: all share the launcher's."""
        return ""

    def cut(self, links: AbstractSet[Link]) -> bool:  # noqa: ARG002
        """Leave it to the peers."""
        return False

    def close(self) -> None:
        """Give the ports back."""
        for kept in self._kept:
            kept.close()
