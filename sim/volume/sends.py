"""How often an entry is sent until all peers have it, where nothing is lost (design, section 5)."""

from __future__ import annotations

from typing import Final

from peer.errors import UserError

BY_THE_GRAPH: Final = ("flood", "tree")
"""The modes in which the ways of entries follow from the graph, not from times alone."""


def sends_per_entry(mode: str, peers: int, links: int) -> int:
    """Return the messages that bring an entry from its origin to everybody.

    Flooding sends it over every link in both directions, but for the one link of each other peer
    that it has it from: 2E - (N - 1). Along a tree, and on request, each other peer gets it once:
    N - 1. On request several come in a message, so bytes that count them one by one are too many.

    Args:
        mode: flood, tree or antientropy.
        peers: N.
        links: E, each counted once.

    Raises:
        UserError: there is no such mode.
    """
    if mode == "flood":
        return 2 * links - peers + 1
    if mode in ("tree", "antientropy"):
        return peers - 1
    raise UserError(f"gossip = {mode!r} is not allowed: must be flood, tree or antientropy")
