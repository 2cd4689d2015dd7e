"""The memory that peers of a simulation that averages take for weights."""

from __future__ import annotations

from typing import Final

from peer.inbound import AHEAD
from peer.options import refuse
from peer.outbound import KEPT_ROUNDS
from peer.setup import Prepared
from sim.words import bytes_in_words

MOST_MADE_UP: Final = 2**33
"""Bytes of weights that nobody trains, above which no memory is spent on them."""


def held_bytes(prepared: Prepared) -> int:
    """Return what all peers hold of weights at most, in bytes; 0 where none travel.

    Each has its own, those of the last rounds that neighbours may ask for again, and from each
    neighbour those that it mixes next and those of a neighbour that is ahead.
    """
    graph, protocol = prepared.graph, prepared.protocol
    averaging = protocol.averaging
    if averaging is None:
        return 0
    own = 1 + KEPT_ROUNDS * averaging.mixing.exchanges
    copies = own * len(graph.nodes) + AHEAD * 2 * len(graph.edges)
    return copies * protocol.weights_bytes


def check_room(prepared: Prepared) -> None:
    """Refuse made-up weights that would take absurdly much memory.

    Raises:
        UserError: they would.
    """
    experiment, held = prepared.experiment, held_bytes(prepared)
    if experiment.is_synthetic and held > MOST_MADE_UP:
        refuse(
            "model",
            experiment.model,
            f"the made-up weights that {experiment.peers} peers hold would take "
            f"{bytes_in_words(held)}, at most {bytes_in_words(MOST_MADE_UP)} are made; what they "
            "send is told by `kseed volume` without --measure, and by --dry-run",
        )
