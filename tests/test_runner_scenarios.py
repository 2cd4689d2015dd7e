"""Whole simulated runs with scenarios: their summaries, their traces, and how they go on."""

from __future__ import annotations

import csv
import json
import logging
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from runs import SYNTHETIC, Options, links, run, without_costs
from test_resume import Fragile, Killed
from test_scenario import script, tables

from peer.config import experiment_from
from peer.errors import RunFailed
from peer.experiment_file import write_toml
from peer.training import build_trainer
from peer.wire import Bye, Digest, encode
from sim import runner
from sim.speeds import slowness
from sim.trace import kind

PEERS = 6
RUN: Options = SYNTHETIC | {
    "topology": "torus",
    "peers": PEERS,
    "rounds": 5,
    "round_timeout": 8.0,
    "settle_timeout": 20.0,
    "trace": True,
}
CRASH = ["crash 3 @2"]
MANY = ["crash 3 @1", "restart 3 +4", "hold 1 @2", "release 1 +9", "partition 0,1 @3", "repair +15"]


def traced(folder: Path) -> list[dict[str, str]]:
    with (folder / "trace.csv").open(newline="", encoding="ascii") as file:
        return list(csv.DictReader(file))


def summary_of(out: Path, *lines: str, **changes: Any) -> dict[str, Any]:
    return run(out, RUN, scenario=tables(*lines), **changes)


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return summary_of(tmp_path_factory.mktemp("runs") / "many", *MANY)


@pytest.fixture(scope="module")
def crashed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return summary_of(tmp_path_factory.mktemp("runs") / "crashed", *CRASH)


# Summaries


def test_what_has_befallen_a_run_is_in_its_summary(many: dict[str, Any]) -> None:
    assert many["faults"] == {
        "crashes": 1,
        "restarts": 1,
        "joins": 0,
        "leaves": 0,
        "evictions": 0,
        "partitions": 1,
        "holds": 1,
        "exit_signals": [],
    }
    assert many["absent_peers"] == many["missing_peers"] == []
    assert many["digests"]["all_equal"]
    assert len(many["digests"]["accumulator"]) == PEERS
    assert many["entries"]["published"] == PEERS * (5 + 1)
    assert many["entries"]["received_per_peer"] == [(PEERS - 1) * (5 + 1)] * PEERS


def test_a_run_with_late_entries_has_the_sum_of_all(many: dict[str, Any], tmp_path: Path) -> None:
    """Made-up gradients do not hang on the cut, so the model hangs on the set of entries alone."""
    calm = summary_of(tmp_path / "calm")
    assert calm["digests"] == many["digests"]
    assert calm["timeouts_fired"] == 0
    assert calm["seconds"]["virtual"] < many["seconds"]["virtual"]


def test_a_peer_that_stays_away_is_absent_and_not_unequal(crashed: dict[str, Any]) -> None:
    assert crashed["absent_peers"] == crashed["missing_peers"] == [3]
    assert crashed["digests"]["all_equal"]
    assert len(crashed["digests"]["accumulator"]) == PEERS - 1
    # Three rounds and an END of the one that is away are not there.
    assert crashed["entries"]["published"] == PEERS * (5 + 1) - 4
    assert len(crashed["entries"]["received_per_peer"]) == PEERS - 1
    assert crashed["faults"]["crashes"] == 1
    assert crashed["timeouts_fired"] == PEERS - 1


def test_such_a_run_ends_with_status_3_and_says_who_is_missing(tmp_path: Path) -> None:
    path = tmp_path / "experiment.toml"
    path.write_text(write_toml(RUN | {"out": str(tmp_path / "run"), "scenario": script(*CRASH)}))
    command = [sys.executable, "-m", "sim", "sim", str(path)]
    root = Path(__file__).parents[1]
    told = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert told.returncode == 3
    assert "missing peers  3: no end of their logs came" in told.stdout
    assert "absent peers   3: not there at the end" in told.stdout
    assert "kseed: scenario: crash 3" in told.stderr


def test_a_scenario_that_leaves_no_peer_fails_in_one_line(tmp_path: Path) -> None:
    everybody = ",".join(map(str, range(PEERS)))
    with pytest.raises(RunFailed, match=r"^the scenario has left no peer"):
        summary_of(tmp_path / "run", f"crash {everybody} @1")


def test_what_cannot_happen_any_more_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, logger="kseed"):
        summary = summary_of(tmp_path / "run", "crash 3 +900")
    assert "scenario: crash comes too late or too early for 3" in caplog.text
    assert summary["faults"]["crashes"] == 0
    assert summary["seconds"]["virtual"] < 100


def test_digests_of_models_are_those_of_the_peers_that_are_there(
    tiny_options: Options, tmp_path: Path
) -> None:
    options = tiny_options | {"round_timeout": 5.0, "settle_timeout": 5.0}
    summary = run(tmp_path / "run", options, scenario=tables("crash 0 @1"))
    assert summary["absent_peers"] == [0]
    assert summary["digests"]["all_equal"]
    assert len(summary["digests"]["model"]) == len(summary["digests"]["accumulator"]) == 3


def test_a_real_model_that_a_crash_interrupts_is_the_same_after_the_restart(
    tiny_options: Options, tmp_path: Path
) -> None:
    calm = run(tmp_path / "calm", tiny_options)
    scenario = tables("crash 2 @1", "restart 2 +3", "hold 1 @2", "release 1 +20")
    summary = run(tmp_path / "run", tiny_options, scenario=scenario)
    assert summary["faults"]["restarts"] == summary["faults"]["holds"] == 1
    assert summary["timeouts_fired"] == 0
    assert summary["digests"] == calm["digests"]
    assert summary["eval_loss"] == calm["eval_loss"]


# Traces


BAD_LINKS: Options = {
    "latency": "lognormal:0.05:0.5",
    "bandwidth": 1e5,
    "loss": 0.05,
    "duplication": 0.02,
    "reordering": 0.05,
}


@pytest.mark.parametrize("links_", [{}, BAD_LINKS], ids=["good links", "bad links"])
@pytest.mark.parametrize("lines", [[], MANY, CRASH], ids=["calm", "many", "crash"])
def test_one_file_leaves_the_same_trace_byte_for_byte(
    lines: list[str], links_: Options, tmp_path: Path
) -> None:
    changes: Options = {"speed_spread": 0.5, "stragglers": 0.2, "slowdown": 3.0, **links_}
    one, other = (summary_of(tmp_path / name, *lines, **changes) for name in "ab")
    traces = [(tmp_path / name / "trace.csv").read_bytes() for name in "ab"]
    assert traces[0] == traces[1]
    assert len(traces[0]) > 10_000
    assert without_costs(one) == without_costs(other)
    assert one["seconds"]["virtual"] == other["seconds"]["virtual"]
    another = summary_of(tmp_path / "c", *lines, seed=1, **changes)
    assert (tmp_path / "c" / "trace.csv").read_bytes() != traces[0]
    assert another["seconds"]["virtual"] != one["seconds"]["virtual"]


def test_a_trace_has_every_frame_and_every_incident(many: dict[str, Any]) -> None:
    rows = traced(Path(many["folder"]))
    times = [float(row["time"]) for row in rows]
    assert times == sorted(times)
    incidents = [row for row in rows if not row["sender"]]
    assert sorted((row["event"], row["receiver"]) for row in incidents) == [
        ("crash", "3"),
        ("hold", "1"),
        ("partition", "0 1"),
        ("release", "1"),
        ("repair", ""),
        ("restart", "3"),
    ]
    frames = [row for row in rows if row["sender"]]
    events = Counter(row["event"] for row in frames)
    assert set(events) == {"delivered", "lost", "held"}
    # Held frames come again, as delivered or lost.
    final = [row for row in frames if row["event"] != "held"]
    counted = Counter[tuple[int, int]]()
    sizes = Counter[tuple[int, int]]()
    for row in final:
        link = int(row["sender"]), int(row["receiver"])
        counted[link] += 1
        sizes[link] += int(row["bytes"])
    for link in links(Path(many["folder"])):
        pair = link["sender"], link["receiver"]
        assert counted[pair] == link["payload_messages"] + link["control_messages"]
        assert sizes[pair] == link["payload_bytes"] + link["control_bytes"]
    assert {"hello", "entries", "digest", "bye"} <= {row["message"] for row in frames}


def test_lost_and_doubled_frames_are_in_the_trace(tmp_path: Path) -> None:
    summary = summary_of(tmp_path / "run", "hold 1 @2", "release 1 +9", **BAD_LINKS)
    events = Counter(row["event"] for row in traced(tmp_path / "run") if row["sender"])
    counts = summary["network"]
    assert counts["lost"]
    assert counts["duplicated"]
    # Some come to a peer that has left; frames that waited for one come twice.
    assert events["lost"] >= counts["lost"]
    assert events["lost"] + events["delivered"] == counts["lost"] + counts["delivered"]
    assert events["held"]


def test_a_run_over_links_that_come_and_go_ends_without_the_one_that_is_down(
    tmp_path: Path,
) -> None:
    changes = {"topology": "one-peer-exponential", "peers": 8}
    summary = summary_of(tmp_path / "run", "crash 3 @1", **changes)
    assert summary["absent_peers"] == [3]
    whole = summary_of(tmp_path / "whole", "crash 3 @1", "restart 3 +15", **changes)
    assert whole["absent_peers"] == whole["missing_peers"] == []
    assert whole["digests"]["all_equal"]


def test_no_trace_is_written_unasked(tmp_path: Path) -> None:
    summary_of(tmp_path / "run", trace=False)
    assert not (tmp_path / "run" / "trace.csv").exists()


def test_a_trace_costs_no_bit_of_the_run(tmp_path: Path, many: dict[str, Any]) -> None:
    untraced = summary_of(tmp_path / "run", *MANY, trace=False)
    assert without_costs(untraced) == without_costs(many)
    assert untraced["seconds"]["virtual"] == many["seconds"]["virtual"]


def test_messages_have_the_names_of_their_kinds() -> None:
    assert kind(encode(Digest(bytes(8), complete=True))) == "digest"
    assert kind(encode(Bye())) == "bye"
    assert kind(b"") == kind(b"\xff\xff") == "malformed"


# Resumption


@pytest.mark.parametrize("last", [8, 13, 20])
def test_a_run_with_a_scenario_goes_on_where_it_was(
    last: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, many: dict[str, Any]
) -> None:
    out = tmp_path / "run"
    lines = ["crash 3 @1", "restart 3 @3", "hold 1 @2", "release 1 @3"]
    with monkeypatch.context() as patch:
        patch.setattr(
            runner,
            "build_trainer",
            lambda *parts: Fragile(build_trainer(*parts), last),
        )
        with pytest.raises(Killed):
            summary_of(out, *lines)
    summary = summary_of(out, *lines, resume=True)
    assert summary["faults"]["crashes"] == summary["faults"]["restarts"] == 1
    assert summary["faults"]["holds"] == 1
    assert summary["absent_peers"] == summary["missing_peers"] == []
    assert summary["digests"] == many["digests"]


def test_who_had_crashed_before_stays_away_from_a_resumed_run(
    tmp_path: Path, crashed: dict[str, Any]
) -> None:
    out = tmp_path / "run"
    summary_of(out, *CRASH)
    again = summary_of(out, *CRASH, resume=True)
    assert again["absent_peers"] == again["missing_peers"] == [3]
    assert again["digests"] == crashed["digests"]
    assert again["entries"] == crashed["entries"]


# Speeds


def test_peers_are_alike_unless_asked_otherwise() -> None:
    assert slowness(experiment_from({"peers": 9})) == [1.0] * 9


def test_speeds_are_spread_around_the_middle_and_follow_from_the_seed() -> None:
    options = {"peers": 2000, "speed_spread": 0.5}
    factors = slowness(experiment_from(options))
    assert slowness(experiment_from(options)) == factors
    assert slowness(experiment_from(options | {"seed": 1})) != factors
    # Peers of a smaller run are as fast.
    assert slowness(experiment_from(options | {"peers": 50})) == factors[:50]
    ordered = sorted(factors)
    assert ordered[1000] == pytest.approx(1.0, rel=0.05)
    assert ordered[1683] == pytest.approx(2.718281828**0.5, rel=0.1)
    assert all(round(factor, 6) == factor > 0 for factor in factors)


@pytest.mark.parametrize(("share", "count"), [(0.0, 0), (0.1, 20), (0.004, 1), (1.0, 200)])
def test_stragglers_are_a_share_of_the_peers(share: float, count: int) -> None:
    options = {"peers": 200, "stragglers": share, "slowdown": 7.0}
    factors = slowness(experiment_from(options))
    assert Counter(factors) == Counter({7.0: count, 1.0: 200 - count}) - Counter()
    if 1 < count < 200:
        assert slowness(experiment_from(options | {"seed": 3})) != factors


def test_slow_peers_take_time_and_change_no_model(tmp_path: Path) -> None:
    calm = summary_of(tmp_path / "calm", round_timeout=100.0)
    slow = summary_of(
        tmp_path / "slow", stragglers=0.2, slowdown=20.0, speed_spread=0.3, round_timeout=100.0
    )
    assert slow["digests"] == calm["digests"]
    assert slow["timeouts_fired"] == 0
    assert slow["seconds"]["virtual"] > 10 * calm["seconds"]["virtual"]


def test_a_scenario_is_kept_with_the_run(many: dict[str, Any]) -> None:
    folder = Path(many["folder"])
    assert "[[scenario]]" in (folder / "config.toml").read_text()
    assert json.loads((folder / "summary.json").read_text())["faults"] == many["faults"]
