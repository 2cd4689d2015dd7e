"""What one setting costs: the columns of its row in the table.

Bytes are sent; `bytes_per_peer_round` are sent plus received, everything included. Times are
virtual but for `wall_seconds`, the only column that two computations of a setting do not share.
"""

from __future__ import annotations

import time
from pathlib import Path
from statistics import fmean
from typing import Any, Final

import topology
from peer.errors import RunFailed
from peer.events import Event
from peer.records import TOPOLOGY, RunFolder
from peer.setup import prepare
from peer.summary import lower_bound_payload, per_peer_round, redundancy
from peer.traffic import Traffic
from peer.weights_volume import weights_volume
from sim.prepared_world import world_of
from sim.spread_watch import SpreadWatch
from sim.study.setting import PROTOCOL, Setting
from sim.study.whole_run import read_links, was_resumed, whole_run
from sim.survivors import missing_peers, survivors
from topology import TopologyError

COLUMNS: Final[dict[str, type]] = {
    "edges": int,
    "mean_degree": float,
    "diameter": int,
    "mean_path": float,
    "payload_messages": int,
    "payload_bytes": int,
    "control_messages": int,
    "control_bytes": int,
    "framing_bytes": int,
    "handshake_bytes": int,
    "wire_bytes": int,
    "lower_bound_payload_bytes": int,
    "redundancy": float,
    "bytes_per_peer_round": float,
    "hottest_link_bytes": int,
    "mean_link_bytes": float,
    "spread_seconds_mean": float,
    "spread_seconds_max": float,
    "round_seconds_mean": float,
    "virtual_seconds": float,
    "timeouts": int,
    "missing_peers": int,
    "digests_equal": bool,
    "eval_loss_initial": float,
    "eval_loss_final": float,
    "resumed": bool,
    "wall_seconds": float,
}
"""spread_seconds: from publishing to the last peer, over all histories; protocol only, as is
round_seconds_mean, from one round's start to the next one's; both are of methods that publish
histories. eval_loss, and `resumed`, whether the
run was interrupted in between, so that its bytes have two meetings of the peers in them: sim only.
Links' bytes are of both directions together."""

Row = dict[str, Any]


def measure(setting: Setting, folder: Path) -> Row:
    """Run a setting and return its measured columns, and `peers`, which a topology file may set.

    Args:
        setting: one that has no refusal.
        folder: for topology.json and links.csv, as a run folder has them, or for the whole run,
            which is gone on with if it has been interrupted.

    Raises:
        UserError, TopologyError: there can be no such run.
        RunFailed: it has come to no end.
    """
    began = time.perf_counter()
    row = (_protocol if setting.measure == PROTOCOL else _whole_run)(setting, folder)
    return row | {"wall_seconds": time.perf_counter() - began}


def _protocol(setting: Setting, folder: Path) -> Row:
    prepared = prepare(setting.experiment(), "sim")
    watch = SpreadWatch()

    def observe(peer: int, event: Event) -> None:
        watch.observe(peer, event, world.schedule.now)

    world = world_of(prepared, observe=observe)
    world.run()
    experiment, histories = prepared.experiment, watch.histories
    there = survivors(world)
    seconds = [watch.seconds(entry) for entry in histories]
    last = max((watch.last(entry) for entry in histories), default=None)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        topology.save(prepared.graph, folder / TOPOLOGY)
        RunFolder(folder).write_links(world.traffic)
    except (TopologyError, OSError) as error:
        # The setting is possible all the same.
        raise RunFailed(str(error)) from None
    if experiment.averages:
        lower_bound = weights_volume(prepared.protocol).bytes
    else:
        lower_bound = lower_bound_payload(watch.entries, experiment.peers)
    return {
        **_volume(prepared.graph, world.traffic, lower_bound, experiment.rounds),
        "spread_seconds_mean": fmean(seconds) if seconds else None,
        "spread_seconds_max": max(seconds, default=None),
        "round_seconds_mean": None if last is None else last / experiment.rounds,
        "virtual_seconds": world.ended_at,
        "timeouts": sum(seat.timeouts for seat in world.seats),
        "missing_peers": len(missing_peers(there)),
        "digests_equal": len({gossip.state.digest() for gossip in there}) == 1,
    }


def _whole_run(setting: Setting, folder: Path) -> Row:
    summary = whole_run(setting.experiment(), folder)
    loss, sent = summary["eval_loss"], summary["bytes"]
    graph, traffic = read_links(folder, sent["wire_total"])
    return {
        **_volume(graph, traffic, sent["lower_bound_payload_total"], summary["rounds"]),
        "virtual_seconds": summary["seconds"]["virtual"],
        "timeouts": summary["timeouts_fired"],
        "missing_peers": len(summary["missing_peers"]),
        "digests_equal": summary["digests"]["all_equal"],
        "eval_loss_initial": loss and loss["initial"],
        "eval_loss_final": loss and loss["final"],
        "resumed": was_resumed(folder),
    }


def _volume(graph: topology.Topology, traffic: Traffic, lower_bound: int, rounds: int) -> Row:
    measures, total = topology.measure(graph), traffic.total()
    return {
        "peers": measures.nodes,
        "edges": measures.edges,
        "mean_degree": measures.degree_mean,
        "diameter": measures.diameter,
        "mean_path": measures.mean_path,
        "payload_messages": total.payload_messages,
        "payload_bytes": total.payload_bytes,
        "control_messages": total.control_messages,
        "control_bytes": total.control_bytes,
        "framing_bytes": total.framing_bytes,
        "handshake_bytes": total.handshake_bytes,
        "wire_bytes": total.wire_bytes,
        "lower_bound_payload_bytes": lower_bound,
        "redundancy": redundancy(total.payload_bytes, lower_bound),
        "bytes_per_peer_round": per_peer_round(total.wire_bytes, measures.nodes, rounds),
        "hottest_link_bytes": max(traffic.over_links().values()),
        "mean_link_bytes": total.wire_bytes / measures.edges,
    }
