"""What one setting costs: the columns of its row in the table.

Bytes are sent; `bytes_per_peer_round` are sent plus received, everything included. Times are
virtual but for `wall_seconds`, the only column that two computations of a setting do not share.
"""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from shutil import rmtree
from statistics import fmean
from typing import Any, Final

import topology
from peer.errors import RunFailed, UserError
from peer.events import Event
from peer.records import CONFIG, LINKS, SUMMARY, TOPOLOGY, RunFolder
from peer.setup import prepare
from peer.summary import SCHEMA, lower_bound_payload, per_peer_round, redundancy
from peer.traffic import Traffic
from sim import schema
from sim.prepared_world import world_of
from sim.spread_watch import SpreadWatch
from sim.study.setting import PROTOCOL, Setting
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
round_seconds_mean, from one round's start to the next one's. eval_loss, and `resumed`, whether the
run was interrupted in between, so that its bytes have two meetings of the peers in them: sim only.
Links' bytes are of both directions together."""

_RESUMED: Final = "resumed"
"""A file in a run's folder that says that it was."""

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
    last = max((watch.last(entry) for entry in histories), default=0.0)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        topology.save(prepared.graph, folder / TOPOLOGY)
        RunFolder(folder).write_links(world.traffic)
    except (TopologyError, OSError) as error:
        # The setting is possible all the same.
        raise RunFailed(str(error)) from None
    lower_bound = lower_bound_payload(watch.entries, experiment.peers)
    return {
        **_volume(prepared.graph, world.traffic, lower_bound, experiment.rounds),
        "spread_seconds_mean": fmean(seconds) if seconds else None,
        "spread_seconds_max": max(seconds, default=None),
        "round_seconds_mean": last / experiment.rounds,
        "virtual_seconds": world.ended_at,
        "timeouts": sum(seat.timeouts for seat in world.seats),
        "missing_peers": len(missing_peers(there)),
        "digests_equal": len({gossip.state.digest() for gossip in there}) == 1,
    }


def _whole_run(setting: Setting, folder: Path) -> Row:
    summary = _finished(folder) or _simulated(setting, folder)
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
        "resumed": (folder / _RESUMED).exists(),
    }


def read_links(folder: Path, wire_bytes: int) -> tuple[topology.Topology, Traffic]:
    """Return the graph of a setting that is done, and what went over its links.

    Args:
        folder: the setting's.
        wire_bytes: how much that was, all links together.

    Raises:
        UserError, TopologyError: the files that hold it are damaged or gone.
    """
    path = folder / LINKS
    if not path.exists():
        raise UserError(f"{path} is gone")
    graph, traffic = topology.load(folder / TOPOLOGY), RunFolder(folder).read_links()
    found = traffic.total().wire_bytes
    if found != wire_bytes:
        raise UserError(f"{path} is damaged: it has {found:,} bytes of {wire_bytes:,}")
    return graph, traffic


def _finished(folder: Path) -> dict[str, Any] | None:
    """Return the summary of a run that has ended, and whose result was lost.

    A run whose links are not all there any more, or whose summary is none or another's, is removed:
    if it was gone on with, its bytes would be counted from zero.
    """
    path = folder / SUMMARY
    if not path.exists():
        return None
    try:
        summary, experiment = json.loads(path.read_bytes()), RunFolder(folder).experiment()
        if schema.misfit(summary, schema.SUMMARY) is not None or (
            (summary["schema"], summary["peers"], summary["rounds"])
            != (SCHEMA, experiment.peers, experiment.rounds)
        ):
            raise UserError(f"{path} is not of this run")
        read_links(folder, summary["bytes"]["wire_total"])
    except (UserError, TopologyError, OSError, ValueError, RecursionError):
        rmtree(folder)
        return None
    assert isinstance(summary, dict)
    return summary


def _simulated(setting: Setting, folder: Path) -> dict[str, Any]:
    from sim.runner import simulate

    wanted = replace(setting.experiment(), out=str(folder))
    if not (folder / CONFIG).exists():
        if folder.exists():
            rmtree(folder)
        return simulate(wanted)
    (folder / _RESUMED).touch()
    try:
        return simulate(replace(wanted, resume=True))
    except UserError:
        # It was damaged when it was interrupted; or else the same error comes again, and what
        # there is has to stay.
        anew = folder.with_name(folder.name + ".anew")
        if anew.exists():
            rmtree(anew)
        summary = simulate(replace(wanted, out=str(anew)))
        rmtree(folder)
        anew.rename(folder)
        return summary


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
