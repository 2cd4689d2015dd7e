"""`kseed bench simulator`: how fast one core simulates the protocol, and what a peer takes.

A random regular graph of degree 4, of whose peers 1% train in a round, tau = 200, K = 1,024, with
made-up scalar gradients, in a process of its own. The run is stopped when the first peer comes to
round 6 of 40. An event is a frame that a peer has taken, or a timer of one that has rung; what
sending, counting, training and closing rounds take is in the time.

    events, frames_sent     how many there were
    seconds                 of the core, from the first peer's start
    wall_seconds            the same by the clock
    events_per_second       events / seconds
    bytes_per_peer          by how much private memory has grown from before the world was made to
                            the end, for each peer
"""

from __future__ import annotations

import time
from typing import Any, Final

import torch

from sim.bench.held import held, held_report
from sim.bench.load import ForeignLoad
from sim.bench.options import BenchOptions
from sim.bench.private_memory import private_now
from sim.bench.process import in_a_process
from sim.bench.progress import BenchProgress
from sim.bench.worlds import build_world, experiment, run_until_stopped, stop_at

PEERS: Final = 10_000
ROUNDS: Final = 6
SETTING: Final[dict[str, Any]] = {
    "topology": "random-regular",
    "degree": 4,
    "participation": 0.01,
    "local_steps": 200,
    "candidate_seeds": 1024,
    "rounds": 40,
    "gossip": "tree",
}
EVENTS_PER_SECOND: Final = 100_000
BYTES_PER_PEER: Final = 100_000


def bench_simulator(options: BenchOptions) -> dict[str, Any]:
    """Measure the simulator; see `sim.bench.bench` and this module's docstring."""
    peers = options.peers or PEERS
    with ForeignLoad() as load, BenchProgress("the simulator", 1) as progress:
        measured = in_a_process("the simulator", run, peers)
        progress.advance()
    figures = (
        held(
            "protocol events a second of one core",
            measured["events_per_second"],
            EVENTS_PER_SECOND,
            least=True,
        ),
        held("bytes of memory per peer", measured["bytes_per_peer"], BYTES_PER_PEER),
    )
    return held_report("simulator", figures, {"peers": peers, **measured}, load)


def run(peers: int) -> dict[str, float]:
    """Run the world in this process, and return what it took."""
    host = torch.device("cpu")
    wanted = experiment(peers=peers, **SETTING)
    before = private_now(host)
    world = build_world(wanted, observe=stop_at(ROUNDS))
    wall, seconds = time.perf_counter(), time.process_time()
    run_until_stopped(world)
    seconds, wall = time.process_time() - seconds, time.perf_counter() - wall
    total = world.traffic.total()
    return {
        "events": world.protocol_events,
        "frames_sent": total.payload_messages + total.control_messages,
        "seconds": seconds,
        "wall_seconds": wall,
        "events_per_second": world.protocol_events / seconds,
        "bytes_per_peer": (private_now(host) - before) / peers,
    }
