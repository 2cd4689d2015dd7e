"""`kseed figure`: what is measured adds up, words and pictures say what was scaled."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import matplotlib as mpl
import numpy as np
import pytest
import torch

from peer.config import Experiment
from peer.errors import UserError
from peer.perturbation import perturbation
from sim.cli import main
from sim.figures import latest_model
from sim.figures.break_even import LOCAL_STEPS, report_break_even
from sim.figures.drawing import draw
from sim.figures.latest_model import measure_latest_model, rounds_shown
from sim.figures.options import BreakEvenOptions, LatestModelOptions
from sim.figures.replay import Replay
from sim.figures.words import in_csv, in_words
from sim.volume.tree_sum import expected_distinct

TINY: dict[str, Any] = {
    "parameters": 20_000,
    "peers": 3,
    "local_steps": 5,
    "rounds": 4,
    "candidate_seeds": 40,
    "pro_candidate_seeds": 8,
    "device": "cpu",
    "threads": 1,
    "repeats": 1,
}
FLAGS = [text for key, value in TINY.items() for text in (f"--{key.replace('_', '-')}", str(value))]
ROUNDS = [1, 2, 3, 4]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Time no more of the published loop than it takes to have a time."""
    monkeypatch.setattr(latest_model, "PUBLISHED_SECONDS", 0.0)


def measured(**changes: Any) -> dict[str, Any]:
    """A report of `latest-model`, after JSON."""
    text = json.dumps(measure_latest_model(LatestModelOptions(**TINY | changes)))
    report: dict[str, Any] = json.loads(text, parse_constant=pytest.fail)
    return report


@pytest.fixture(scope="module")
def whole() -> dict[str, Any]:
    """A report whose replay was measured whole, on a machine that was quiet."""
    return measured() | {"quiet": True}


@pytest.fixture(scope="module")
def compared() -> dict[str, Any]:
    """A report of `break-even` at the design's setting, after JSON."""
    text = json.dumps(report_break_even(BreakEvenOptions()))
    report: dict[str, Any] = json.loads(text, parse_constant=pytest.fail)
    return report


def points(report: dict[str, Any], line: str, by: str = "here") -> list[dict[str, Any]]:
    (found,) = (each for each in report["lines"] if (each["line"], each["by"]) == (line, by))
    shown: list[dict[str, Any]] = found["points"]
    return shown


def groups(path: Path) -> set[str]:
    """The names of what is drawn in a picture."""
    return {name for node in ElementTree.parse(path).iter() if (name := node.get("id"))}


def test_a_replay_takes_every_step_and_a_rebuild_each_seed_once(whole: dict[str, Any]) -> None:
    replayed = points(whole, "replay")
    assert [point["round"] for point in replayed] == ROUNDS
    assert [point["passes"] for point in replayed] == [15, 30, 45, 60]
    assert {point["measured"] for point in replayed} == {"whole"}
    times = [point["seconds"] for point in replayed]
    assert times == sorted(times)
    assert (whole["replay"]["steps"], whole["replay"]["seconds"]) == (60, times[-1])
    for line, candidates in (("fedkseed", 40), ("fedkseed-pro", 8)):
        rebuilt = points(whole, line)
        passes = [point["passes"] for point in rebuilt]
        assert passes == sorted(passes)
        assert 0 < passes[-1] <= candidates
        assert all(point["passes"] <= point["steps"] for point in rebuilt)
        assert {point["measured"] for point in rebuilt} == {"whole"}
        # Few draws, so several seeds more or less than the mean.
        means = expected_distinct(np.array([15.0, 30.0, 45.0, 60.0]), candidates)
        assert np.abs(means - passes).max() < 8
    each = whole["published"]["seconds"] / whole["published"]["steps"]
    for line in ("replay", "fedkseed", "fedkseed-pro"):
        for point, other in zip(points(whole, line), points(whole, line, "published"), strict=True):
            assert other["seconds"] == each * point["passes"]
            assert other["measured"] == "scaled"


def test_replayed_and_rebuilt_weights_are_the_same_but_for_rounding(whole: dict[str, Any]) -> None:
    equality = whole["equality"]
    assert equality["round"] == 4
    assert 0 < equality["rms_difference"] < 1e-3 * equality["rms_change"]
    # Norms' weights are 1: sixty roundings of them, to within half of 2**-23 each.
    assert equality["largest_difference"] < 60 * 2.0**-24
    assert 0 < equality["share_differing"] <= 1


def test_what_there_was_no_time_for_is_scaled_and_said_to_be(
    whole: dict[str, Any], tmp_path: Path
) -> None:
    report = measured(replay_seconds=0.0) | {"quiet": True}
    # There is one call in any case, and it is of the first round's steps.
    replay, shown = report["replay"], points(report, "replay")
    assert replay["steps"] == 15
    assert [point["measured"] for point in shown] == ["whole"] + ["scaled"] * 3
    assert [p["seconds"] for p in shown] == pytest.approx([replay["seconds"] * r for r in ROUNDS])
    assert report["equality"]["round"] == 1
    assert in_words(report).count("  ~ ") == len(ROUNDS) * 3 + 3
    assert "Replay after round 1 is scaled from the 15 steps" in in_words(report)
    assert "Replay" not in in_words(whole)
    draw(report, tmp_path / "scaled.svg")
    draw(whole, tmp_path / "whole.svg")
    assert "replay-here-scaled" in groups(tmp_path / "scaled.svg")
    assert "replay-here-scaled" not in groups(tmp_path / "whole.svg")
    for path in tmp_path.iterdir():
        assert {"fedkseed-here-whole", "replay-published-scaled"} <= groups(path)
        assert "replay-published-whole" not in groups(path)


def test_nothing_replayed_whole_is_not_compared() -> None:
    report = measured(replay_seconds=0.0, local_steps=2000, peers=1, rounds=1)
    assert [p["measured"] for p in points(report, "replay")] == ["scaled"]
    assert report["equality"] is None
    assert "were not compared" in in_words(report)
    assert "Replay all of it is scaled from the 1,024 steps" in in_words(report)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_sixteen_bits_lose_small_steps_in_a_replay(dtype: str, whole: dict[str, Any]) -> None:
    equality = measured(dtype=dtype)["equality"]
    assert equality["rms_difference"] > 10 * whole["equality"]["rms_difference"]


def test_measuring_leaves_generators_and_threads_as_they_were() -> None:
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    measured(threads=2, perturbation="gaussian", rounds=1)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_num_threads() == threads


@pytest.mark.parametrize("rounds", [1, 2, 3, 7, 30, 1000])
def test_rounds_shown(rounds: int) -> None:
    shown = rounds_shown(rounds)
    assert shown == sorted(set(shown))
    assert (shown[0], shown[-1]) == (1, rounds)
    assert len(shown) <= 8


def test_a_replay_is_the_passes_one_by_one() -> None:
    kernel = perturbation("rademacher", "cpu", 1)
    weights = torch.ones(30_000)
    replay = Replay(kernel, weights, limit=1e9)
    slow = weights.clone()
    for first in range(0, 2100, 700):
        passes = [(seed, 1e-3 / (seed + 1)) for seed in range(first, first + 700)]
        replay.take(passes)
        for seed, coefficient in passes:
            kernel.axpy_(slow, seed, coefficient)
    assert replay.steps == 2048
    replay.catch_up()
    assert replay.steps == 2100
    assert torch.equal(weights, slow)


def test_the_designs_figures_and_where_they_cross(compared: dict[str, Any]) -> None:
    rows = {row["local_steps"]: row for row in compared["rows"]}
    assert list(rows) == list(LOCAL_STEPS)
    design = {1: (0.06, 0.10), 20: (1.19, 1.66), 50: (2.97, 3.09), 200: (11.88, 3.97)}
    for tau, megabytes in design.items():
        row = rows[tau]
        found = row["histories"] / 1e6, row["sums"] / 1e6
        assert tuple(round(number, 2) for number in found) == megabytes
        assert row["sums"] == row["sums_up"] + row["sums_down"]
        assert row["histories_derived"] * 3 == row["histories"] * 2
        error = 5 * row["simulated_error"] + 1e-3 * row["sums"]
        assert abs(row["sums_simulated"] - row["sums"]) < error
        least, most = row["sums_along_pushes"]
        assert 0.98 * row["sums"] < least <= most < 1.03 * row["sums"]
    assert round(compared["break_even"]["sent"]["steps_per_seed"], 2) == 1.32
    assert round(compared["break_even"]["derived"]["steps_per_seed"], 2) == 2.24
    by_peers = compared["by_peers"]
    assert [each["peers"] for each in by_peers] == [16, 64, 100, 256, 1024, 4096]
    for key in ("sent", "derived"):
        values = [each[key] for each in by_peers]
        assert values == sorted(values, reverse=True)
    words = in_words(compared)
    assert "break even at 54.2 local steps: N tau = 1.32 K" in words
    assert "cost model only" in words
    assert "not idempotent" in words


@pytest.mark.parametrize(
    "options",
    [
        {"topology": "complete", "peers": 12},
        {"topology": "erdos-renyi", "peers": 12},
        {"topology": "star", "peers": 5, "candidate_seeds": 2**20, "gradient_bytes": 1},
        {"topology": "line", "peers": 2, "candidate_seeds": 1},
    ],
)
def test_other_settings_are_compared_and_drawn(options: dict[str, Any], tmp_path: Path) -> None:
    report = json.loads(json.dumps(report_break_even(BreakEvenOptions(**options))))
    simulated = options.get("candidate_seeds") != 2**20
    assert (report["rows"][0]["sums_simulated"] is not None) == simulated
    curve, crossing = report["curve"], report["break_even"]["derived"]["local_steps"]
    assert curve["local_steps"][0] <= 1
    assert curve["local_steps"][-1] >= crossing
    assert options["peers"] in [each["peers"] for each in report["by_peers"]]
    draw(report, tmp_path / "figure.svg")
    wanted = {"histories", "histories_derived", "sums"} | ({"simulated"} if simulated else set())
    assert wanted <= groups(tmp_path / "figure.svg")
    assert options["topology"] in in_words(report)


def test_the_same_reports_are_drawn_to_the_same_bytes(
    tmp_path: Path, whole: dict[str, Any], compared: dict[str, Any]
) -> None:
    program = (
        "import json, sys; from pathlib import Path; from sim.figures.drawing import draw\n"
        "for report in json.loads(Path('reports.json').read_text()):\n"
        "    draw(report, Path(report['figure'] + '.svg'))"
    )
    (tmp_path / "reports.json").write_text(json.dumps([whole, compared]))
    subprocess.run([sys.executable, "-c", program], check=True, cwd=tmp_path)
    for report in (whole, compared):
        first = (tmp_path / f"{report['figure']}.svg").read_bytes()
        with mpl.rc_context({"font.size": 30, "svg.hashsalt": "another"}):
            draw(report, tmp_path / "here.svg")
        assert (tmp_path / "here.svg").read_bytes() == first


def test_csv_has_a_line_for_each_point(whole: dict[str, Any], compared: dict[str, Any]) -> None:
    rows = list(csv.DictReader(io.StringIO(in_csv(whole))))
    assert len(rows) == 6 * len(ROUNDS)
    assert float(rows[3]["seconds"]) == points(whole, "replay")[3]["seconds"]
    rows = list(csv.DictReader(io.StringIO(in_csv(compared))))
    assert [int(row["local_steps"]) for row in rows] == list(LOCAL_STEPS)
    assert float(rows[0]["sums"]) == compared["rows"][0]["sums"]


def test_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["figure", "latest-model", *FLAGS, "--json"]) == 0
    out, error = capsys.readouterr()
    assert json.loads(out)["setting"]["candidate_seeds"] == 40
    assert "measuring the time to obtain the latest model" in error
    assert not list(tmp_path.iterdir())
    assert main(["figure", "break-even", "--peers", "16"]) == 0
    assert capsys.readouterr().out.endswith("drawn to break-even.svg\n")
    assert main(["figure", "break-even", "--peers", "16", "--csv", "--svg", "mine.SVG"]) == 0
    assert capsys.readouterr().out.startswith("local_steps,")
    assert Path("mine.SVG").read_bytes() == Path("break-even.svg").read_bytes()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "latest-model,break-even"),
        (["figure-5"], "'latest-model', 'break-even'"),
        (["break-even", "--peers", "1"], "peers = 1 is not allowed"),
        (["break-even", "--peers", "97"], "96 and 98 would do"),
        (["break-even", "--topology", "complete", "--peers", "20000"], "has 199,990,000 links"),
        (
            ["break-even", "--topology", "random-regular", "--degree", "600", "--peers", "9999"],
            "random-regular of 9,999 peers has 2,999,700 links, and at most 1,048,576 are compared",
        ),
        (["break-even", "--topology", "doughnut"], "neither a family"),
        (["break-even", "--topology", "random-matching"], "varies over time"),
        (["break-even", "--gradient-bytes", "3"], "one of 4, 2, 1"),
        (["break-even", "--svg", "picture.png"], "saved as .svg"),
        (["break-even", "--svg", "nowhere/picture.svg"], "cannot be written"),
        (["break-even", "--json", "--csv"], "not allowed with"),
        (["latest-model", "--rounds", "many"], "rounds = 'many'"),
        (["latest-model", "--replay-seconds", "nan"], "replay_seconds"),
        (["latest-model", "--parameters", str(2**40)], "GB of memory"),
        (["latest-model", "--rounds", "10000", "--local-steps", "200000"], "is too large"),
    ],
)
def test_mistakes_are_told_in_one_line(
    arguments: list[str],
    told: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["figure", *arguments]) == 2
    out, error = capsys.readouterr()
    assert out == ""
    assert told in error
    assert error.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_what_was_measured_is_printed_before_it_is_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device", "picture.svg")

    monkeypatch.setattr("sim.figures.drawing.draw", full)
    picture = str(tmp_path / "picture.svg")
    assert main(["figure", "break-even", "--peers", "4", "--json", "--svg", picture]) == 2
    assert json.loads(capsys.readouterr().out)["setting"]["peers"] == 4


def test_options_are_those_of_experiments_where_they_mean_the_same() -> None:
    names = set(LatestModelOptions.__dataclass_fields__) | set(
        BreakEvenOptions.__dataclass_fields__
    )
    own = {"parameters", "pro_candidate_seeds", "repeats", "replay_seconds"}
    assert names - own <= set(Experiment.__dataclass_fields__)
    with pytest.raises(UserError, match="rounds = 0"):
        LatestModelOptions(rounds=0)
