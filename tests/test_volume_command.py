"""`kseed volume`: what is printed, for whom, and what is refused."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest

import topology
from peer.config import Experiment
from sim.cli import main
from sim.volume.frames import published
from sim.volume.measured import measure
from sim.volume.overview import overview
from sim.volume.prediction import without_model
from sim.volume.scale import agreement, graph_of

SMALL = ["--peers", "9", "--topology", "torus", "--rounds", "2", "--local-steps", "5"]


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def told(capfd: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["volume", *arguments]) == 0
    return capfd.readouterr().out


def refused(capfd: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["volume", *arguments]) == 2
    out, err = capfd.readouterr()
    assert not out
    assert err.startswith("kseed: ")
    assert err.count("\n") == 1
    return err


def test_a_setting_is_told_in_words_json_and_csv(capfd: pytest.CaptureFixture[str]) -> None:
    words = told(capfd, *SMALL, "--model", "3B")
    assert "llama-3b: 3,426,473,600 parameters" in words
    assert "All of this is exact, for links that are alike" in words
    whole = json.loads(told(capfd, *SMALL, "--model", "3B", "--json"))
    assert whole["setting"]["peers"] == 9
    assert whole["spread"]["walked"] == 9
    table = list(csv.DictReader(io.StringIO(told(capfd, *SMALL, "--model", "3B", "--csv"))))
    assert len(table) == len(whole["rows"])
    named = {row["system"] for row in table}
    assert {"fedkseed", "fedavg", "ferret", "seedflood"} <= named
    assert all(row["round_sends"] for row in table if row["via"] == "server")


def test_what_stands_in_no_formula_is_said(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "leaves.toml"
    path.write_text('rounds = 4\n[[scenario]]\nverb = "leave"\npeer = 3\nround = 2\n')
    words = told(capfd, str(path), "--loss", "0.3", "--latency", "uniform:0.02-0.9")
    assert "left out: loss, scenario." in words
    assert "here all are alike" in words
    whole = json.loads(told(capfd, *SMALL, "--duplication", "0.3", "--json"))
    assert (whole["left_out"], whole["links_alike"]) == (["duplication"], True)
    assert "left out" not in told(capfd, *SMALL)


def test_a_dry_run_says_exactly_only_of_what_is(capfd: pytest.CaptureFixture[str]) -> None:
    for more, exact in (
        ([], True),
        (["--loss", "0.3"], False),
        (["--gossip", "antientropy"], False),
    ):
        arguments = ["sim", *SMALL, "--trainer", "synthetic", "--dry-run", *more]
        assert main(arguments) == 0
        assert ("payload exactly" in capfd.readouterr().out) is exact
        assert main([*arguments, "--json"]) == 0
        assert json.loads(capfd.readouterr().out)["bytes"]["payload_exact"] is exact


def test_the_model_of_an_experiment_has_a_size_of_its_own(
    capfd: pytest.CaptureFixture[str],
) -> None:
    whole = json.loads(told(capfd, *SMALL, "--system", "fedavg", "--json"))
    assert {row["system"] for row in whole["rows"]} == {"fedavg"}
    assert 0 < whole["setting"]["model"]["parameters"] < 10**7


def test_payload_of_the_table_is_what_a_run_sends(capfd: pytest.CaptureFixture[str]) -> None:
    for gossip in ("flood", "tree"):
        found = json.loads(told(capfd, *SMALL, "--gossip", gossip, "--json"))
        run = Experiment(peers=9, topology="torus", rounds=2, local_steps=5, gossip=gossip)
        assert found["run_payload_bytes"] == measure(run).payload_bytes
        row = next(r for r in found["rows"] if (r["system"], r["via"]) == ("fedkseed", "gossip"))
        assert row["run_bytes"] == pytest.approx(found["spread"]["payload_bytes"])


@pytest.mark.parametrize("paper", ["fedkseed-table3", "ferret-table3"])
def test_papers_are_told_in_words_json_and_csv(
    paper: str, capfd: pytest.CaptureFixture[str]
) -> None:
    whole = json.loads(told(capfd, "--paper", paper, "--json"))
    assert all(row["difference"] == 0 for row in whole["rows"] if row["ours"] is not None)
    table = list(csv.DictReader(io.StringIO(told(capfd, "--paper", paper, "--csv"))))
    assert [row["printed"] for row in table] == [row["printed"] for row in whole["rows"]]
    words = told(capfd, "--paper", paper)
    assert all(row["printed"] in words for row in whole["rows"])


def test_measured_stands_beside_predicted_for_every_mode(
    capfd: pytest.CaptureFixture[str],
) -> None:
    rows = json.loads(told(capfd, *SMALL, "--measure", "--json"))["rows"]
    assert {row["gossip"] for row in rows} == {"flood", "tree", "antientropy"}
    exact = [row for row in rows if row["model"] == "exact"]
    assert {row["what"] for row in exact} >= {"payload_bytes", "payload_framing_bytes"}
    assert all(row["predicted"] == row["measured"] for row in exact)
    assert all(abs(row["error"]) <= 0.05 for row in rows if row["model"] == "times")
    words = told(capfd, *SMALL, "--measure")
    assert "flood        payload bytes" in words
    table = list(csv.DictReader(io.StringIO(told(capfd, *SMALL, "--measure", "--csv"))))
    assert [row["what"] for row in table] == [row["what"] for row in rows]


def test_nothing_that_is_lossy_is_called_exact(capfd: pytest.CaptureFixture[str]) -> None:
    rows = json.loads(told(capfd, *SMALL, "--loss", "0.2", "--measure", "--json"))["rows"]
    assert {row["what"] for row in rows if row["model"] == "exact"} == {"handshake_bytes"}


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--system", "fedkssed"], "system = 'fedkssed': there is no such system; did you mean"),
        (["--paper", "fedkseed-table9"], "paper = 'fedkseed-table9': did you mean"),
        (["--paper", "fedkseed-table3", "--measure"], "--paper and --measure cannot be had"),
        (["--csv", "--json"], "--csv and --json cannot be had together"),
        (["--measure", "--sample", "3"], "--measure and --sample cannot be had together"),
        (["--system", ""], "system = ''"),
        (["--paper", ""], "paper = ''"),
        (["--rounds", "100000"], "rounds = 100000 is not allowed: the 800,000 histories"),
        (["--peers", "9000000", "--rounds", "2"], "rounds = 2 is not allowed: the 18,000,000"),
        (["--model", "no-such-model"], "model = 'no-such-model'"),
        (["--sample", "one"], "sample = 'one' is not allowed: must be a whole number at least 2"),
        (["--schedule", "async"], "schedule = 'async' is not allowed"),
        (["--topology", "one-peer-exponential"], "one-peer-exponential varies over time"),
        (["--topology", "torus", "--peers", "7"], "a torus needs rows x columns peers"),
        (["--topology", "no.such.json"], "no.such.json"),
        (["--topology", "rnig"], "'rnig' is neither a family"),
    ],
)
def test_mistakes_are_told_in_one_line(
    arguments: list[str], reason: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert reason in refused(capfd, *arguments)


def test_a_graph_too_large_to_be_made_is_extrapolated(capfd: pytest.CaptureFixture[str]) -> None:
    setting = ["--peers", "9000", "--topology", "complete", "--participation", "1e-3"]
    words = told(capfd, *setting, "--rounds", "1", "--system", "fedkseed")
    assert "An extrapolation: no graph of this size was made" in words
    assert "All of this is exact" not in words


def test_an_agreement_for_lengths_is_that_of_a_run() -> None:
    options: dict[str, Any] = {"peers": 12, "rounds": 40, "participation": 0.1, "sign": True}
    wanted = Experiment(topology="torus", **options)
    here, there = published(agreement(wanted)), published(without_model(wanted).protocol)
    for name in ("origins", "rounds", "histories", "frame_bytes"):
        assert getattr(here, name).tolist() == getattr(there, name).tolist()


def test_a_file_sets_the_number_of_peers(tmp_path: Path) -> None:
    path = tmp_path / "five.json"
    topology.save(topology.build("line", 5), path)
    wanted, links = graph_of(Experiment(topology=str(path), peers=8))
    assert links is not None
    assert (wanted.peers, links.peers, links.count) == (5, 5, 4)


def test_the_seed_draws_the_graph_that_a_run_has() -> None:
    wanted = Experiment(topology="random-regular", peers=30, seed=7)
    _, links = graph_of(wanted)
    assert links is not None
    graph = without_model(wanted).graph
    assert [links.neighbours(peer).tolist() for peer in range(30)] == [
        list(graph.neighbours(peer)) for peer in range(30)
    ]


def test_an_overview_of_anti_entropy_has_no_ways() -> None:
    found = overview(Experiment(peers=4, gossip="antientropy"), ["fedkseed"], None)
    assert found.spread is None
    assert found.run_payload_bytes > 0
