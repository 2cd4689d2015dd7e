"""What an attack on the laboratory of communication volume has found: each test failed then."""

from __future__ import annotations

import csv
import json
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given as drawn
from hypothesis import settings
from hypothesis import strategies as st

from peer import wire
from peer.config import experiment_from
from peer.errors import UserError
from sim.bench.worlds import build_world, experiment
from sim.cli import main
from sim.estimate import estimate, in_words
from sim.study.definition import define
from sim.volume import prediction
from sim.volume.comparison import compare
from sim.volume.measured import measure
from sim.volume.overview import Overview, overview, overview_in_words
from sim.volume.prediction import predict
from sim.volume.spread import spread_volume
from topology import FAMILIES, VARYING
from topology.arrays import build_links

SMALL = {"peers": 12, "topology": "torus", "rounds": 3, "local_steps": 5}
LEAVE = [{"verb": "leave", "peer": 3, "round": 1}]
IMPATIENT = {"round_timeout": 5.0, "participation": 0.25, "local_steps": 700, "rounds": 3}
"""Who is idle gives a round up before anybody has been heard."""

INEXACT = (
    {"loss": 0.3},
    {"duplication": 0.3},
    {"scenario": LEAVE},
    {"round_timeout": 1.0, "local_steps": 200, "stragglers": 0.3},
    {"gossip": "antientropy"},
    IMPATIENT,
)


def wanted(**values: Any) -> Any:
    return experiment_from({"trainer": "synthetic", **SMALL, **values})


def assert_nothing_is_exact(found: Overview) -> None:
    assert not found.verdict.exact
    said = overview_in_words(found)
    for promise in ("is exact", "are exact", "entries take "):
        assert promise not in said.replace("entries take about ", ""), promise
    assert said.count(found.verdict.why) >= 1


@pytest.mark.parametrize("given", INEXACT, ids=lambda given: "-".join(given))
def test_a_dry_run_says_exactly_of_nothing_that_is_not(given: dict[str, Any]) -> None:
    said = in_words(estimate(wanted(**given), "sim"))
    assert "payload exactly" not in said


@pytest.mark.parametrize("sample", [None, 3], ids=["all", "some"])
@pytest.mark.parametrize("given", INEXACT, ids=lambda given: "-".join(given))
def test_an_overview_calls_nothing_exact_that_is_not(
    given: dict[str, Any], sample: int | None
) -> None:
    assert_nothing_is_exact(overview(wanted(**given), [], sample))


def test_an_extrapolation_of_a_disturbed_run_says_so() -> None:
    given = {"topology": "complete", "peers": 9000, "participation": 1e-3, "gossip": "flood"}
    found = overview(wanted(**given, rounds=1, loss=0.3), [], None)
    assert found.spread is not None
    assert found.spread.extrapolated
    assert_nothing_is_exact(found)


@pytest.mark.parametrize("gossip", ["flood", "tree"])
def test_an_exact_overview_has_the_loads_of_the_simulator(gossip: str) -> None:
    assert_loads_are_those_of_the_simulator({"gossip": gossip, "latency": "0.3"}, exact=True)


@pytest.mark.parametrize("gossip", ["flood", "tree"])
def test_an_overview_of_links_that_differ_has_the_payload_of_the_simulator(gossip: str) -> None:
    given = {"gossip": gossip, "latency": "uniform:0.02-0.9"}
    assert_loads_are_those_of_the_simulator(given, exact=False)


def assert_loads_are_those_of_the_simulator(given: dict[str, Any], *, exact: bool) -> None:
    given = SMALL | given
    found = overview(experiment_from({"trainer": "synthetic", **given}), [], None)
    assert found.spread is not None
    assert found.spread.link_bytes is not None
    loads: Counter[tuple[int, int]] = Counter()

    def observe(_what: str, sender: int, receiver: int, frame: bytes) -> None:
        message = wire.decode(frame)
        if isinstance(message, wire.Entries) and all(each.gradients for each in message.entries):
            loads[sender, receiver] += len(frame)

    build_world(experiment(**given), observe_frame=observe).run()
    carried = np.zeros(2 * found.spread.links)
    carried[: len(loads)] = list(loads.values())
    assert carried.sum() == found.spread.payload_bytes
    assert found.spread.exact
    assert ("All of this is exact" in overview_in_words(found)) is exact
    if exact:
        assert found.spread.link_bytes.deviation == pytest.approx(carried.std())


@pytest.mark.parametrize(
    "given",
    [
        {"latency": "0.25", "tick": 0.1, "topology": "torus", "peers": 16},
        {"latency": "0.5", "topology": "torus", "peers": 16, "rounds": 5, "local_steps": 50},
        {"latency": "uniform:0.1-3", "topology": "ring", "peers": 16},
        {"topology": "ring", "peers": 32, "rounds": 1, "local_steps": 1, "step_seconds": 0.001},
        {"bandwidth": 10_000.0},
        {"latency": "uniform:0.02-0.08", "latency_per": "frame"},
        {"round_timeout": 1.0, "local_steps": 200, "stragglers": 0.3},
        {"topology": "ring", "peers": 4, **IMPATIENT},
        # Entries cross greetings.
        {"topology": "erdos-renyi", "peers": 9, "rounds": 8, "local_steps": 1, "seed": 286}
        | {"participation": 0.5, "latency": "0.4", "sign": True},
    ],
    ids=lambda given: "-".join(f"{key}={value}" for key, value in given.items()),
)
def test_what_follows_from_times_is_within_5_percent_and_what_is_exact_is_equal(
    given: dict[str, Any],
) -> None:
    for rows in compare(wanted(**given)):
        for row in rows:
            if row["model"] == "exact":
                assert row["predicted"] == row["measured"], row
            elif row["model"] == "times" and row["error"] is not None:
                assert abs(row["error"]) <= 0.05, row


@pytest.mark.slow
def test_nothing_is_promised_that_links_slower_than_ticks_break() -> None:
    given = {"topology": "exponential", "peers": 24, "rounds": 20, "local_steps": 2, "seed": 53}
    given |= {"latency": "2.5", "participation": 0.5, "method": "fedkseed-pro"}
    given |= {"candidate_seeds": 2, "sign": True, "gradient_bytes": 2}
    rows = next(compare(wanted(**given)))
    for row in rows:
        if row["model"] == "exact":
            assert row["predicted"] == row["measured"], row
    for gossip in ("flood", "tree"):
        assert not predict(wanted(**given, gossip=gossip)).exact
        found = overview(wanted(**given, gossip=gossip), [], None)
        assert_nothing_is_exact(found)
        assert found.run_payload_bytes != measure(wanted(**given, gossip=gossip)).payload_bytes


@pytest.mark.parametrize("gossip", ["flood", "tree"])
@pytest.mark.parametrize(
    "given",
    [
        {"latency": "2.5"},
        {"latency": "0.05", "round_timeout": 0.1},
        {"latency": "0.05", "settle_timeout": 0.1},
        IMPATIENT,
    ],
    ids=lambda given: "-".join(f"{key}={value}" for key, value in given.items()),
)
def test_a_run_too_large_to_follow_is_promised_nothing_more(
    given: dict[str, Any], gossip: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = wanted(gossip=gossip, **given)
    calm = replace(run, latency="0.01", round_timeout=60.0, settle_timeout=60.0)
    monkeypatch.setattr(prediction, "MODELLED", 0)
    assert predict(calm).exact
    predicted = predict(run)
    assert predicted.seconds_to_last is None
    assert not predicted.exact
    assert "payload exactly" not in in_words(estimate(run, "sim"))


def test_trees_that_leave_neighbours_to_others_are_promised_less_than_flooding(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # A peer pushes to eight: others of its neighbours have an entry two links later.
    run = wanted(topology="complete", peers=24, latency="0.45")
    monkeypatch.setattr(prediction, "MODELLED", 0)
    assert predict(replace(run, gossip="flood")).exact
    assert not predict(replace(run, gossip="tree")).exact
    assert_nothing_is_exact(overview(replace(run, gossip="tree"), ["fedavg"], None))


@settings(max_examples=25, deadline=None)
@drawn(
    family=st.sampled_from([name for name in FAMILIES if name not in VARYING]),
    peers=st.sampled_from([4, 16, 32]),
    gossip=st.sampled_from(["flood", "tree"]),
    latency=st.sampled_from(["0.1", "0.2", "0.4", "0.49", "0.6", "uniform:0.1-0.49"]),
    tick=st.sampled_from([0.5, 1.0]),
    participation=st.sampled_from([0.2, 1.0]),
    stragglers=st.sampled_from([0.0, 0.3]),
    round_timeout=st.sampled_from([3.0, 60.0]),
    settle_timeout=st.sampled_from([1.0, 60.0]),
)
def test_what_is_promised_without_times_is_promised_with_them(
    family: str, peers: int, **options: Any
) -> None:
    run = wanted(**{"topology": family, "peers": peers, **options})
    there = predict(run).exact
    assert overview(run, ["fedavg"], None).verdict.exact <= there
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(prediction, "MODELLED", 0)
        assert predict(run).exact <= there


@pytest.mark.parametrize("key", ["loss", "gradient_bound"])
def test_nan_in_a_sweep_is_a_mistake(key: str) -> None:
    with pytest.raises(UserError, match="nan"):
        define({}, {}, {key: [float("nan")]})


@pytest.mark.parametrize("name", ["star", "random-regular"])
def test_a_sample_that_is_all_alike_is_not_told_as_exact(name: str) -> None:
    links = build_links(name, 400)
    every, lengths = np.arange(400), np.full(400, 100)
    whole = spread_volume(links, "flood", every, lengths)
    part = spread_volume(links, "flood", every, lengths, sample=16)
    assert part.last_hops_mean is not None
    assert part.last_hops_error is not None
    assert whole.last_hops_mean is not None
    off = abs(part.last_hops_mean - whole.last_hops_mean)
    assert off == 0 or part.last_hops_error > 0


@pytest.fixture(scope="module")
def studies(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A finished study by each way to measure."""
    folders = {}
    for by in ("protocol", "sim"):
        folders[by] = tmp_path_factory.mktemp(by) / "study"
        flags = ["--rounds", "1", "--local-steps", "1", "--workers", "1", "--measure", by]
        flags += ["--trainer", "synthetic", "--out", str(folders[by])]
        assert main(["study", "--sweep", "peers=4,5", *flags]) == 0
    return folders


@pytest.fixture(params=["protocol", "sim"])
def study(tmp_path: Path, studies: dict[str, Path], request: pytest.FixtureRequest) -> Path:
    """A copy to damage."""
    return Path(shutil.copytree(studies[request.param], tmp_path / "study"))


@pytest.mark.parametrize("damage", ["gone", "truncated"])
def test_a_study_whose_links_are_lost_is_gone_on_with(study: Path, damage: str) -> None:
    for folder in [path for path in (study / "settings").iterdir() if path.is_dir()]:
        if damage == "gone":
            shutil.rmtree(folder)
        else:
            (folder / "links.csv").write_bytes((folder / "links.csv").read_bytes()[:30])
    assert main(["study", "--out", str(study)]) == 0


def test_a_report_does_not_replace_a_file_of_the_run(tmp_path: Path) -> None:
    run = tmp_path / "run"
    flags = ["--trainer", "synthetic", "--rounds", "1", "--local-steps", "1", "--peers", "4"]
    assert main(["sim", *flags, "--out", str(run)]) == 0
    assert main(["report", str(run), "--to", str(run / "summary.json")]) == 2
    assert json.loads((run / "summary.json").read_text(encoding="utf-8"))["peers"] == 4


@pytest.mark.parametrize("given", [["--system", ""], ["--paper", ""]])
def test_an_empty_name_is_a_mistake(given: list[str]) -> None:
    assert main(["volume", "--trainer", "synthetic", *given]) == 2


def settings_of(study: Path) -> list[Path]:
    return sorted(path for path in (study / "settings").iterdir() if path.is_dir())


def table_of(study: Path) -> list[dict[str, str]]:
    with (study / "table.csv").open(newline="") as file:
        return [{**row, "wall_seconds": ""} for row in csv.DictReader(file)]


@pytest.mark.parametrize("study", ["sim"], indirect=True)
@pytest.mark.parametrize("summary", ["another's", '{"a": 1}', "{", "[" * 10_000])
def test_a_summary_that_cannot_be_of_this_run_is_not_believed(study: Path, summary: str) -> None:
    before = table_of(study)
    one, other = settings_of(study)
    one.with_suffix(".json").unlink()
    if summary == "another's":
        summary = (other / "summary.json").read_text(encoding="utf-8")
    (one / "summary.json").write_text(summary, encoding="utf-8")
    assert main(["study", "--out", str(study)]) == 0
    assert table_of(study) == before


@pytest.mark.parametrize("study", ["protocol"], indirect=True)
@pytest.mark.parametrize("name", ["{}.json", "{}/topology.json"])
def test_what_cannot_be_written_fails_alone(study: Path, name: str) -> None:
    one, other = settings_of(study)
    other.with_suffix(".json").unlink()
    path = study / "settings" / name.format(one.name)
    path.unlink()
    path.mkdir()
    assert main(["study", "--out", str(study)]) == 1
    assert sorted(row["status"] for row in table_of(study)) == ["done", "failed"]


def test_a_scenario_cannot_be_varied(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["study", "--sweep", "scenario=a,b"]) == 2
    assert "scenario cannot be varied" in capfd.readouterr().err


@pytest.mark.parametrize("name", ["summary.json", "rounds.jsonl", "links.csv", "topology.json"])
def test_a_folder_in_the_place_of_a_file_is_damage(name: str, tmp_path: Path) -> None:
    run = tmp_path / "run"
    flags = ["--trainer", "synthetic", "--rounds", "1", "--local-steps", "1", "--peers", "4"]
    assert main(["sim", *flags, "--out", str(run)]) == 0
    (run / name).unlink()
    (run / name).mkdir()
    assert main(["report", str(run)]) == 0
    assert name in (run / "report.html").read_text(encoding="utf-8")
