"""`kseed bench gossip` and `simulator`: their figures are what was counted; no time is tested."""

from __future__ import annotations

import gc
import json
import os
import sys
from typing import Any

import pytest

from peer.errors import RunFailed
from sim.bench import bench, private_memory, simulator, volume
from sim.bench.held import held
from sim.bench.options import BenchOptions
from sim.bench.process import in_a_process
from sim.bench.spreading import compared, spread
from sim.bench.table import in_words
from sim.bench.worlds import build_world, experiment, run_until_stopped, stop_at
from sim.cli import main
from sim.collection import YOUNG, seldom_collected

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has /proc")
PEERS = 12
DEGREE = 4
QUICK: dict[str, Any] = {
    "topology": "random-regular",
    "degree": DEGREE,
    "peers": PEERS,
    "rounds": 3,
    "local_steps": 20,
    "latency": "uniform:0.02-0.08",
}


def test_flooding_costs_what_its_formula_says() -> None:
    found = spread(experiment(gossip="flood", **QUICK))
    edges = PEERS * DEGREE // 2
    assert found.everywhere
    for phase in (found.cold, found.warm):
        assert phase.redundancy == (2 * edges - PEERS + 1) / (PEERS - 1)
        assert 0.02 < phase.mean < phase.worst < PEERS * 0.08


def test_a_tree_sends_each_copy_once_and_its_times_are_beside_floodings() -> None:
    flooded = spread(experiment(gossip="flood", **QUICK))
    found = spread(experiment(gossip="tree", **QUICK))
    assert found.everywhere
    assert found.cold.redundancy == found.warm.redundancy == 1.0
    fields = compared(found.cold, flooded.cold)
    assert fields["time_to_flooding"] == found.cold.mean / flooded.cold.mean
    assert fields["worst_time_to_flooding"] == found.cold.worst / flooded.cold.worst


def test_copies_that_were_lost_count_and_come_again() -> None:
    found = spread(experiment(gossip="tree", loss=0.2, **QUICK))
    assert found.everywhere
    assert found.cold.redundancy > 1.0


def test_trees_that_do_not_know_the_latencies_are_slower() -> None:
    changes = QUICK | {"peers": 40, "latency": "uniform:0.01-0.5"}
    wanted = experiment(gossip="tree", **changes)
    known, unknown = spread(wanted), spread(wanted, latencies_known=False)
    assert unknown.everywhere
    assert unknown.cold.mean > known.cold.mean


def test_the_volume_is_all_that_was_sent_and_received(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(volume, "PEERS", 40)
    unsigned, signed = volume.volume(sign=False), volume.volume(sign=True)
    for found in (unsigned, signed):
        parts = [number for name, number in found.items() if name != "bytes"]
        assert len(parts) == 4
        assert all(part > 0 for part in parts)
        assert found["bytes"] == pytest.approx(sum(parts))
    # Two entries a round, each received by 39 of 40 peers, sent by as many, with 200 steps.
    assert unsigned["payload_bytes"] > 2 * 2 * 39 / 40 * 200
    assert signed["payload_bytes"] > unsigned["payload_bytes"] + 2 * 2 * 0.9 * 64
    world = build_world(experiment(peers=40, **volume.SETTING), observe=stop_at(volume.ROUNDS))
    run_until_stopped(world)
    total = sum(count.wire_bytes for _, _, count in world.traffic.links())
    assert unsigned["bytes"] == 2 * total / 40 / volume.ROUNDS


def test_a_world_is_stopped_when_the_first_peer_starts_the_round() -> None:
    started = []

    def observe(peer: int, event: Any) -> None:
        stop_at(2)(peer, event)
        if hasattr(event, "indices"):
            started.append(event.round)

    world = build_world(experiment(gossip="tree", **QUICK), observe=observe)
    run_until_stopped(world)
    assert sorted(started) == [0] * PEERS + [1] * PEERS


def test_a_run_that_ends_before_it_was_to_be_stopped_is_a_defect() -> None:
    world = build_world(experiment(gossip="tree", **QUICK), observe=stop_at(3))
    with pytest.raises(AssertionError, match="more rounds"):
        run_until_stopped(world)


def test_protocol_events_are_the_frames_taken_and_the_timers_rung(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from peer.gossip import Gossip

    calls = 0

    def counted(method: Any) -> Any:
        def call(*arguments: Any) -> Any:
            nonlocal calls
            calls += 1
            return method(*arguments)

        return call

    monkeypatch.setattr(Gossip, "receive", counted(Gossip.receive))
    monkeypatch.setattr(Gossip, "advance", counted(Gossip.advance))
    world = build_world(experiment(gossip="tree", loss=0.1, **QUICK))
    world.run()
    assert world.protocol_events == calls > 0


@LINUX
def test_the_figures_of_the_simulator_add_up() -> None:
    # Memory that earlier tests have freed would be taken again, and not counted.
    found = in_a_process("it", simulator.run, 300)
    assert found["events_per_second"] == found["events"] / found["seconds"]
    # What was sent has been taken but for the last, and timers ring as well.
    assert found["events"] > 0.8 * found["frames_sent"] > 300 * DEGREE
    assert 1_000 < found["bytes_per_peer"] < 1_000_000


def test_garbage_is_collected_seldom_while_a_world_runs_and_as_before_then() -> None:
    before, frozen = gc.get_threshold(), gc.get_freeze_count()
    inside = []

    def run() -> None:
        with seldom_collected():
            inside.append((gc.get_threshold()[0], gc.get_freeze_count() > frozen))
            raise KeyError

    with pytest.raises(KeyError):
        run()
    assert inside == [(YOUNG, True)]
    assert gc.get_threshold() == before
    assert gc.get_freeze_count() == 0


def test_a_process_that_dies_is_told() -> None:
    with pytest.raises(RunFailed, match="the memory of it was ended"):
        in_a_process("it", os._exit, 3)


@pytest.mark.parametrize(
    ("here", "limit", "least", "holds"),
    [
        (1.0, 1.0, False, True),
        (1.1, 1.0, False, False),
        (1.0, 1.0, True, True),
        (0.9, 1.0, True, False),
        (5.0, None, False, None),
    ],
)
def test_a_figure_holds_at_its_limit(
    here: float, limit: float | None, least: bool, holds: bool | None
) -> None:
    figure = held("figure", here, limit, least=least)
    assert figure == {
        "name": "figure",
        "here": here,
        "limit": limit,
        "least": least,
        "holds": holds,
    }


def test_the_table_of_gossip_shows_every_figure_beside_its_limit(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(volume, "PEERS", 40)
    flags = ["bench", "gossip", "--peers", str(PEERS)]
    assert main([*flags, "--json", "--tokens", "64"]) == 0
    output = capfd.readouterr()
    report = json.loads(output.out, parse_constant=pytest.fail)
    assert output.out.count("\n") == 1
    assert "measuring gossip\n" in output.err
    assert "kseed: without effect in this bench, and ignored: tokens\n" in output.err
    assert report["bench"] == "gossip"
    assert (report["peers"], report["volume_peers"]) == (PEERS, 40)
    assert report["quiet"] is None
    names = [figure["name"] for figure in report["figures"]]
    assert len(set(names)) == len(names)
    for graph, by_run in report["results"].items():
        assert by_run["flood"]["cold"]["time_to_flooding"] == 1.0
        for run, fields in by_run.items():
            assert fields["everywhere"] is True
            assert f"{graph}: {run}: delivered everywhere" in names
        limits = {f["name"]: (f["here"], f["limit"]) for f in report["figures"]}
        tree = by_run["tree"]
        assert limits[f"{graph}: tree, cold: redundancy"] == (tree["cold"]["redundancy"], 1.02)
        assert limits[f"{graph}: tree: control over payload"] == (tree["control"], 0.15)
        lossy = by_run["tree, 5% lost"]["warm"]["redundancy"]
        assert limits[f"{graph}: tree, 5% lost, warm: redundancy"] == (lossy, 1.35)
        time = tree["warm"]["time_to_flooding"]
        assert limits[f"{graph}: tree, warm: time to flooding's"] == (time, 1.15)
    assert report["holds"] == all(figure["holds"] is not False for figure in report["figures"])
    text = in_words(report)
    lines = text.splitlines()
    assert lines[0].startswith(f"gossip: {PEERS} peers")
    runs = [f"{graph}: {run}" for graph, runs in report["results"].items() for run in runs]
    assert all(line.startswith(run) for line, run in zip(lines[2:], runs, strict=False))
    assert all(line.endswith("yes") for line in lines[2 : 2 + len(runs)])
    assert sum("at most 17,988" in line for line in lines) == 1
    assert sum("at most 23,500" in line for line in lines) == 1
    failed = [figure for figure in report["figures"] if figure["holds"] is False]
    limited = [figure for figure in report["figures"] if figure["limit"] is not None]
    assert f"{len(limited) - len(failed)} of {len(limited)} limits hold." in lines
    report["figures"][-1] |= {"here": 30_000.0, "holds": False}
    report["figures"][0] |= {"limit": 2.0, "holds": False}
    text = in_words(report)
    assert "30,000  at most 23,500  DOES NOT HOLD" in text
    assert text.splitlines()[-1].endswith("at most 2.000")


@LINUX
def test_the_simulator_is_measured_in_a_process_of_its_own() -> None:
    report = json.loads(json.dumps(bench("simulator", BenchOptions(peers=100))))
    assert report["peers"] == 100
    speed, memory = report["figures"]
    assert speed["here"] == report["events_per_second"] == report["events"] / report["seconds"]
    assert memory["here"] == report["bytes_per_peer"]
    assert (speed["limit"], speed["least"]) == (100_000, True)
    assert (memory["limit"], memory["least"]) == (100_000, False)
    text = in_words(report)
    assert "at least 100,000" in text
    assert ("DOES NOT HOLD" in text) == (not report["holds"])


def test_without_word_of_private_memory_the_simulator_is_not_measured(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(private_memory, "_STATUS", tmp_path / "status")
    assert main(["bench", "simulator"]) == 2
    assert capfd.readouterr().err.startswith("kseed: this system has no /proc/self/status")
