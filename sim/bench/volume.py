"""What a peer sends and receives in a round at the paper's setting, everything included.

738 peers of which 5% train in a round, tau = 200, K = 4,096, one byte for each scalar gradient, on
a random regular graph of degree 4. The run is stopped when the first peer comes to round 6 of 40,
so meeting is in it and taking leave is not.
"""

from __future__ import annotations

from typing import Any, Final

from peer.summary import per_peer_round
from sim.bench.worlds import build_world, experiment, run_until_stopped, stop_at

PEERS: Final = 738
ROUNDS: Final = 6
ROUNDS_OF_THE_RUN: Final = 40

SETTING: Final[dict[str, Any]] = {
    "topology": "random-regular",
    "degree": 4,
    "participation": 0.05,
    "local_steps": 200,
    "candidate_seeds": 4096,
    "rounds": ROUNDS_OF_THE_RUN,
    "gradient_bytes": 1,
    "gossip": "tree",
}


def volume(*, sign: bool) -> dict[str, float]:
    """Return the bytes per peer and round, received plus sent, by what they are for.

    Args:
        sign: whether entries are signed.
    """
    world = build_world(experiment(peers=PEERS, sign=sign, **SETTING), observe=stop_at(ROUNDS))
    run_until_stopped(world)
    total = world.traffic.total()
    parts = {
        "bytes": total.wire_bytes,
        "payload_bytes": total.payload_bytes,
        "control_bytes": total.control_bytes,
        "framing_bytes": total.framing_bytes,
        "handshake_bytes": total.handshake_bytes,
    }
    return {name: per_peer_round(number, PEERS, ROUNDS) for name, number in parts.items()}
