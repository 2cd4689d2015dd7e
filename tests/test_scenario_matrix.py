"""Everything at once in the simulator: whatever befalls a run, those who are there end alike."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from runs import SYNTHETIC, Options, run, without_costs
from test_resume import Fragile, Killed
from test_scenario import tables

from peer.dissemination import MODES
from peer.events import Event, SnapshotTaken
from peer.rollback import rollback
from peer.training import build_trainer
from sim import runner

RUN: Options = SYNTHETIC | {
    "topology": "torus",
    "peers": 8,
    "rounds": 10,
    "local_steps": 5,
    "round_timeout": 30.0,
    "settle_timeout": 400.0,
    "loss": 0.05,
}
ROSTER = ["join 3 @3", "leave 5 @4", "crash 6 @3", "evict 6 @6"]
FAULTS = [
    "crash 1 @2",
    "restart 1 @5",
    "hold 2 @7",
    "release 2 @8",
    "partition 0,1 @8",
    "repair @9",
]
BAD_LINKS: Options = {
    "latency": "lognormal:0.05:0.5",
    "latency_per": "frame",
    "bandwidth": 1e6,
    "duplication": 0.02,
    "reordering": 0.05,
}
VARIANTS: dict[str, Options] = {
    "fedkseed": {},
    "pro": {"method": "fedkseed-pro", "gradient_bytes": 1},
    "signed": {"sign": True, "participation": 0.4},
    "unfolded": {"fold": False, "participation": 0.4, "method": "fedkseed-pro"},
    "bad-links": BAD_LINKS,
}
VARYING: dict[str, Options] = {
    "exponential": {"topology": "one-peer-exponential", "slot_seconds": 0.2},
    "matching": {"topology": "random-matching", "slot_seconds": 0.5},
}


def assert_whole(summary: dict[str, Any], *absent: int) -> None:
    """All that are there have the same state and miss nobody, and nobody is taken for a liar."""
    assert summary["digests"]["all_equal"]
    assert len(summary["digests"]["accumulator"]) == summary["peers"] - len(absent)
    assert summary["missing_peers"] == []
    assert summary["absent_peers"] == list(absent)
    assert summary["rejected_messages"] == 0
    assert summary["liars"] == []


@pytest.mark.parametrize("schedule", ["sync", "async"])
@pytest.mark.parametrize("gossip", MODES)
@pytest.mark.parametrize("variant", VARIANTS)
def test_members_and_faults_may_change_together(
    variant: str, gossip: str, schedule: str, tmp_path: Path
) -> None:
    changes = VARIANTS[variant] | {"gossip": gossip, "schedule": schedule}
    summary = run(tmp_path / "run", RUN, scenario=tables(*ROSTER, *FAULTS), **changes)
    assert_whole(summary, 5, 6)
    faults = {"crashes": 2, "restarts": 1, "joins": 1, "leaves": 1, "evictions": 1}
    assert faults.items() <= summary["faults"].items()
    assert summary["network"]["lost"]


@pytest.mark.parametrize("gossip", MODES)
@pytest.mark.parametrize("lines", [[], ROSTER, [*ROSTER, *FAULTS]], ids=["calm", "roster", "all"])
@pytest.mark.parametrize("graph", VARYING)
def test_so_may_the_graph(graph: str, lines: list[str], gossip: str, tmp_path: Path) -> None:
    changes = VARYING[graph] | {"gossip": gossip, "participation": 0.5}
    summary = run(tmp_path / "run", RUN, scenario=tables(*lines), **changes)
    assert_whole(summary, *([5, 6] if lines else []))


def test_a_graph_from_a_file_may_vary_too(tmp_path: Path) -> None:
    path = tmp_path / "slots.json"
    slots = [[[0, 1], [2, 3]], [[1, 2]], [[3, 0]], []]
    path.write_text(json.dumps(slots))
    changes = {"topology": str(path), "slot_seconds": 0.7, "rounds": 4}
    lines = tables("crash 1 @1", "restart 1 @3")
    assert_whole(run(tmp_path / "run", RUN, scenario=lines, **changes))


@pytest.mark.parametrize("variant", VARIANTS)
def test_one_file_with_everything_in_it_leaves_one_trace(variant: str, tmp_path: Path) -> None:
    changes = VARIANTS[variant] | {"trace": True, "speed_spread": 0.3}
    scenario = tables(*ROSTER, *FAULTS)
    one, other = (run(tmp_path / name, RUN, scenario=scenario, **changes) for name in "ab")
    assert without_costs(one) == without_costs(other)
    traces = [(tmp_path / name / "trace.csv").read_bytes() for name in "ab"]
    assert traces[0] == traces[1]
    assert len(traces[0]) > 10_000


# Long runs


LONG: Options = RUN | {"peers": 16, "rounds": 50, "topology": "random-regular", "degree": 4}


@pytest.fixture
def snapshots(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The peers that start from a neighbour's base."""
    found: list[int] = []
    observe = runner._Run._observe

    def keep(self: Any, peer_: int, event: Event) -> None:
        if isinstance(event, SnapshotTaken):
            found.append(peer_)
        observe(self, peer_, event)

    monkeypatch.setattr(runner._Run, "_observe", keep)
    return found


@pytest.mark.parametrize("participation", [1.0, 0.2])
@pytest.mark.parametrize("gossip", MODES)
def test_who_comes_late_starts_from_a_snapshot(
    gossip: str, participation: float, tmp_path: Path, snapshots: list[int]
) -> None:
    lines = ["crash 1 @10", "evict 1 @12", "join 3 @40", "crash 2 @43", "restart 2 @48"]
    changes = {"gossip": gossip, "participation": participation}
    summary = run(tmp_path / "run", LONG, scenario=tables(*lines), **changes)
    assert_whole(summary, 1)
    assert 3 in snapshots


@pytest.mark.parametrize("loss", [0.0, 0.05])
@pytest.mark.parametrize("schedule", ["sync", "async"])
def test_who_was_away_for_long_is_no_flooder(schedule: str, loss: float, tmp_path: Path) -> None:
    """While it is away nothing can be folded, so it is sent the whole past."""
    scenario = tables("crash 1 @2", "restart 1 @57")
    changes = {"gossip": "flood", "schedule": schedule, "loss": loss, "rounds": 60}
    assert_whole(run(tmp_path / "run", LONG, scenario=scenario, **changes))


# Resumption of runs that have folded


@pytest.mark.parametrize("changes", [{}, {"method": "fedkseed-pro", "sign": True}], ids=str)
@pytest.mark.parametrize("last", [25, 41, 60])
def test_a_run_that_has_folded_is_interrupted_and_resumed(
    last: int, changes: Options, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calm = RUN | {"loss": 0.0} | changes
    whole = run(tmp_path / "whole", calm)
    with monkeypatch.context() as patch:
        patch.setattr(
            runner,
            "build_trainer",
            lambda *parts: Fragile(build_trainer(*parts), last),
        )
        with pytest.raises(Killed):
            run(tmp_path / "run", calm)
    summary = run(tmp_path / "run", calm, resume=True)
    assert_whole(summary)
    assert summary["digests"] == whole["digests"]
    assert summary["entries"] == whole["entries"]


@pytest.mark.parametrize("changes", [{}, {"method": "fedkseed-pro", "sign": True}], ids=str)
def test_a_run_that_has_folded_is_rolled_back_and_goes_on(changes: Options, tmp_path: Path) -> None:
    calm = RUN | {"loss": 0.0} | changes
    whole = run(tmp_path / "whole", calm)
    rollback(tmp_path / "whole", 6, tmp_path / "back")
    summary = run(tmp_path / "back", calm, resume=True)
    assert_whole(summary)
    assert summary["digests"] == whole["digests"]


def test_a_run_whose_members_change_is_rolled_back_and_goes_on(tmp_path: Path) -> None:
    options = RUN | {"scenario": tables(*ROSTER), "loss": 0.0}
    whole = run(tmp_path / "whole", options)
    rollback(tmp_path / "whole", 7, tmp_path / "back")
    summary = run(tmp_path / "back", options, resume=True)
    assert_whole(summary, 5, 6)
    assert summary["digests"]["accumulator"] == whole["digests"]["accumulator"]
