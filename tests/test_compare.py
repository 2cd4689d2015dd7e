"""`kseed compare` in this process: its definition, table, figure, words, and what stays."""

from __future__ import annotations

import csv
import json
import tomllib
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np
import pytest

import topology
from peer.errors import RunFailed, UserError
from peer.experiment_file import commented_toml, read_toml
from peer.methods import METHODS
from sim.cli import main
from sim.compare import conduct, definition, figure
from sim.compare.curves import Curves
from sim.compare.definition import Comparison, Contender, define
from sim.compare.folder import ComparisonFolder
from sim.compare.table import rows
from sim.compare.words import closing_words
from sim.ink import ink
from sim.study import errands, whole_run
from sim.study.attempt import DONE, Outcome
from sim.study.workers import WorkerDied
from sim.tuning.search import Found, Losses, Trial

BOTH = "--methods=fedkseed,fedkseed-pro"
SYNTHETIC = ("--trainer=synthetic", "--local-steps=4", "--candidate-seeds=32", "--rounds=2")
DRAW = figure.draw


@pytest.fixture(autouse=True)
def computed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Compute in this process; return the names of what is."""
    names: list[str] = []

    def here(work: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Any]:
        for item in items:
            names.append(item.name)
            yield item, work(item)

    monkeypatch.setattr(errands, "each_in_its_own", here)
    # Most of the time of a small comparison, and few tests look.
    monkeypatch.setattr(figure, "draw", lambda _conducted: None)
    return names


def compare(out: Path, *flags: str) -> int:
    return main(["compare", *flags, "--peers=4", "--out", str(out)])


def table(out: Path) -> list[dict[str, str]]:
    with (out / "compare.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def summary(out: Path, run: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((out / "runs" / run / "summary.json").read_text())
    return found


# What is compared


def test_each_method_has_its_runs_with_its_own_options() -> None:
    found = define(
        {"compared": ["fedkseed", "fedkseed-pro"], "seeds": 2, "seed": 5, "rounds": 3}
        | {"methods": {"fedkseed-pro": {"learning_rate": 0.5, "local_steps": 7}}},
        {"learning_rate": 0.25},
        {"fedkseed-pro": {"local_steps": 8}},
    )
    assert [run.name for run in found.runs] == [
        *(f"fedkseed-seed-{seed}" for seed in (5, 6)),
        *(f"fedkseed-pro-seed-{seed}" for seed in (5, 6)),
    ]
    for run in found.runs:
        experiment, pro = run.setting.experiment(), run.contender.method == "fedkseed-pro"
        assert (experiment.method, experiment.seed) == (run.contender.method, run.seed)
        assert (experiment.learning_rate, experiment.rounds) == (0.5 if pro else 0.25, 3)
        assert experiment.local_steps == (8 if pro else 50)


def test_a_twin_is_the_same_method_on_a_star(tmp_path: Path) -> None:
    path = tmp_path / "graph.json"
    topology.save(topology.build("ring", 5), path)
    found = define({"compared": ["fedkseed"], "twin": True, "topology": str(path)})
    alone, twin = (run.setting.experiment() for run in found.runs)
    assert [run.name for run in found.runs] == ["fedkseed-seed-0", "fedkseed-server-seed-0"]
    # The file has five peers, so the star gets as many.
    assert (twin.topology, twin.peers) == ("star", 5)
    changed = {"topology", "peers", "aggregation"}
    mine, theirs = alone.identity(), twin.identity()
    assert {key for key in mine if mine[key] != theirs[key]} <= changed


@pytest.mark.parametrize(
    "values",
    [
        {"compared": ["fedkseed"]},
        {"compared": ["fedkseed-pro", "fedkseed"], "seeds": 3, "twin": True, "tune": True},
        {"compared": ["fedkseed"], "methods": {"fedkseed": {"epsilon": 0.5}}, "peers": 5}
        | {"scenario": [{"verb": "crash", "peer": 1, "round": 1}]},
    ],
)
def test_the_file_of_a_comparison_says_it_all(tmp_path: Path, values: dict[str, Any]) -> None:
    first = define(values)
    (tmp_path / "c.toml").write_text(first.toml())
    again = define(read_toml(tmp_path / "c.toml"))
    assert (again.runs, again.digest) == (first.runs, first.digest)
    assert again.toml() == first.toml()


def test_an_experiment_file_is_a_comparison_of_all_methods(monkeypatch: pytest.MonkeyPatch) -> None:
    known = {name: METHODS[name] for name in ("fedkseed", "fedkseed-pro")}
    monkeypatch.setattr(definition, "METHODS", known)
    assert define(tomllib.loads(commented_toml())).methods == ("fedkseed", "fedkseed-pro")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--methods=fedkseed,fedkseeds"], "'fedkseeds' is no method; did you mean fedkseed?"),
        (["--methods=x"], "'x' is no method; there are fedkseed, "),
        (["--methods="], "methods is empty, so there is nothing to compare"),
        (["--methods=fedkseed,"], "'' is no method"),
        (["--methods=ferret,ferret"], "methods has ferret twice"),
        (["--seeds=0"], "seeds = '0' is not allowed: must be a whole number at least 1"),
        (["--seeds=2000", BOTH], "seeds = 2000 is not allowed: must be a whole number at least 1"),
        ([BOTH, "--set", "fedkseed.rate=1"], "fedkseed: rate = '1': there is no such option"),
        ([BOTH, "--set", "fedkseed.epsilon=x"], "epsilon = 'x' is not allowed"),
        ([BOTH, "--set", "fedkseed.epsilon=-1"], "fedkseed: epsilon = -1.0 is not allowed"),
        ([BOTH, "--set", "fedkseed.seed=1"], "methods.fedkseed.seed is not allowed"),
        ([BOTH, "--set", "fedkseed.out=x"], "methods.fedkseed.out is not allowed"),
        ([BOTH, "--set", "ferret.epsilon=1"], "--set ferret: ferret is not among the methods"),
        ([BOTH, "--set", "frret.epsilon=1"], "'frret' is no method; did you mean ferret?"),
        ([BOTH, "--set", "fedkseed"], "--set 'fedkseed' is not allowed: must be METHOD.KEY=VALUE"),
        (
            [BOTH, "--set", "fedkseed.epsilon=1", "--set", "fedkseed.epsilon=2"],
            "--set fedkseed.epsilon is given twice",
        ),
        ([BOTH, "--topology=torus", "--peers=7"], "a torus needs"),
        ([BOTH, "--method=fedit"], "unrecognized arguments: --method=fedit"),
        ([BOTH, "--tune", "--trainer=synthetic"], "fedkseed: tune = True is not allowed: needs"),
        ([BOTH, "--preset=papers"], "preset = 'papers' is not allowed"),
        (["missing.toml"], "cannot read missing.toml"),
    ],
)
def test_mistakes_end_with_status_2_and_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    flags: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["compare", *flags]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert message in line
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('method = "fedkseed-pro"', "method = 'fedkseed-pro' is not allowed: --methods says"),
        ("resume = true", "resume = True is not allowed: it is of one run"),
        ("seds = 3", "seds = 3: there is no such option; did you mean seeds?"),
        ("seeds = true", "seeds = True is not allowed"),
        ("twin = 1", "twin = 1 is not allowed: must be true or false"),
        ('compared = "fedkseed"', "compared = 'fedkseed' is not allowed: must be a list"),
        ("compared = [[1]]", "[1] is no method"),
        ("methods = 3", "methods = 3 is not allowed: must be tables of options"),
        ("[methods.fedkseed]\nrate = 1", "fedkseed: rate = 1: there is no such option"),
        ("[methods.fedx]\nrate = 1", "'fedx' is no method"),
    ],
)
def test_mistakes_in_a_file_are_told(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "c.toml"
    file.write_text(f"{text}\n")
    with pytest.raises(UserError) as caught:
        define(read_toml(file), {"compared": ["fedkseed"]} if "compared" not in text else {})
    assert message in str(caught.value)


# What comes of it


def test_a_row_has_means_and_deviations_of_its_runs(
    tmp_path: Path, tiny_options: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    flags = [f"--{k.replace('_', '-')}={v}" for k, v in tiny_options.items() if k != "peers"]
    out = tmp_path / "c"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(figure, "draw", DRAW)
        assert compare(out, *flags, BOTH, "--seeds=2", "--twin", "--rounds=2") == 0
    said = capsys.readouterr().out
    found = table(out)
    assert [(row["method"], row["server"]) for row in found] == [
        ("fedkseed", "False"),
        ("fedkseed", "True"),
        ("fedkseed-pro", "False"),
        ("fedkseed-pro", "True"),
    ]
    for row in found:
        key = row["method"] + "-server" * (row["server"] == "True")
        runs = [summary(out, f"{key}-seed-{seed}") for seed in (0, 1)]
        for name, values in {
            "eval_loss_initial": [run["eval_loss"]["initial"] for run in runs],
            "eval_loss_final": [run["eval_loss"]["final"] for run in runs],
            "bytes_per_peer_round": [run["bytes"]["per_peer_round_mean"] for run in runs],
            "wall_seconds": [run["seconds"]["wall"] for run in runs],
            "local_step_seconds": [run["seconds"]["local_steps"] for run in runs],
        }.items():
            assert float(row[name]) == pytest.approx(mean(values))
            assert float(row[f"{name}_sd"]) == pytest.approx(stdev(values))
        assert int(row["peak_memory_bytes"]) == max(run["peak_memory_bytes"] for run in runs)
        assert (row["rounds"], row["digests_equal"], row["runs"]) == ("2", "True", "2")
    told = json.loads((out / "compare.json").read_text())
    assert told["equal_to_twins"] == {"fedkseed": True, "fedkseed-pro": True}
    assert told["target_loss"] == pytest.approx(float(found[0]["eval_loss_final"]))
    assert [run["status"] for run in told["runs"]] == ["done"] * 8
    assert "FedKSeed ends with the digests of its twin with a server, for each of 2 seeds" in said
    picture = ElementTree.parse(out / "loss-against-bytes.svg")
    drawn = {element.get("id") for element in picture.iter()}
    assert {"fedkseed", "fedkseed-server", "fedkseed-pro", "fedkseed-pro-server"} <= drawn
    before = (out / "loss-against-bytes.svg").read_bytes()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(figure, "draw", DRAW)
        assert main(["compare", "--out", str(out)]) == 0
    assert (out / "loss-against-bytes.svg").read_bytes() == before


def test_without_losses_there_is_a_table_and_no_figure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(figure, "draw", DRAW)
    assert compare(tmp_path, *SYNTHETIC, BOTH) == 0
    assert [row["eval_loss_final"] for row in table(tmp_path)] == ["", ""]
    assert not (tmp_path / "loss-against-bytes.svg").exists()
    head, first, *_ = capsys.readouterr().out.splitlines()
    assert "to reach" not in head
    assert "Rouge-L" not in head
    assert first.split()[:3] == ["FedKSeed", "–", "–"]


def made_up(losses: dict[str, list[list[float]]], tmp_path: Path, **more: Any) -> conduct.Conducted:
    """A comparison with these losses by method, seed and round, and 100 bytes a peer and round."""
    seeds = len(next(iter(losses.values())))
    comparison = define({"compared": [*losses], "seeds": seeds, "peers": 4})
    folder = ComparisonFolder(tmp_path)
    outcomes = []
    for run in comparison.runs:
        each = losses[run.contender.method][run.seed]
        place = folder.of_run(run)
        place.mkdir(parents=True)
        lines = [
            {"round": n, "eval_loss": x, "wire_bytes": 200 * n, "skipped_steps": 0}
            | {"accumulator": ""}
            for n, x in enumerate(each)
        ]
        (place / "rounds.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        outcomes.append(
            Outcome(
                DONE,
                row={
                    "peers": 4,
                    "rounds": len(each) - 1,
                    "eval_loss": {"initial": each[0], "final": each[-1]},
                    "rouge_l": {"initial": 0.1, "final": 0.2 + 0.1 * run.seed},
                    "bytes": {"per_peer_round_mean": 100.0},
                    "seconds": {"wall": 1.0, "local_steps": 0.5},
                    "peak_memory_bytes": 10**9,
                    "digests": {"accumulator": ["a"], "model": ["b"], "all_equal": True},
                }
                | more.get(run.contender.method, {}),
            )
        )
    return conduct.Conducted(comparison, folder, outcomes, 0)


def test_rounds_to_reach_are_those_until_the_mean_is_fedkseed_s_in_the_end(tmp_path: Path) -> None:
    losses = {
        "fedkseed": [[4.0, 3.5, 3.0], [4.0, 3.6, 3.2]],
        "fedkseed-pro": [[4.0, 3.0, 2.5], [4.0, 3.1, 4.0]],
    }
    apart = {"digests": {"accumulator": [], "model": None, "all_equal": False}}
    distance = {"consensus": {"distance": 0.5, "relative": 0.125}}
    found = made_up(losses, tmp_path, **{"fedkseed-pro": apart | distance})
    made = rows(found)
    assert [row["rounds_to_reach"] for row in made] == [2, 1]
    assert [row["rouge_l_final"] for row in made] == [pytest.approx(0.25)] * 2
    assert [row["consensus_relative"] for row in made] == [None, 0.125]
    words = closing_words(found, made, [], 1.0)
    head, first, second, *_ = words.splitlines()
    assert head.split()[:6] == ["method", "loss", "before", "loss", "after", "Rouge-L"]
    assert "3.1000 ± 0.1414" in first
    assert first.endswith("equal")
    assert second.endswith("distance 0.12")


def test_a_line_is_drawn_for_each_method_and_what_diverges_leaves_the_picture(
    tmp_path: Path,
) -> None:
    losses = {
        "fedkseed": [[4.0, 3.5, 3.0]],
        "fedkseed-pro": [[4.0, 40.0, 400.0]],
    }
    with pytest.MonkeyPatch.context() as patch:
        # Texts stay texts.
        patch.setattr(figure, "ink", lambda: ink({"svg.fonttype": "none"}))
        path = DRAW(made_up(losses, tmp_path))
    assert path is not None
    texts = {"".join(element.itertext()).strip() for element in ElementTree.parse(path).iter()}
    assert {"FedKSeed", "FedKSeed-Pro (above the picture)", "before the first round"} <= texts
    curves = Curves(np.array([[4.0, np.nan, 3.0]]), np.zeros((1, 3)))
    assert curves.first_at(3.5) == 2
    assert curves.first_at(1.0) is None


# What stays


def test_what_is_finished_is_not_run_again_and_a_comparison_may_grow(
    tmp_path: Path, computed: list[str]
) -> None:
    assert compare(tmp_path, *SYNTHETIC, "--methods=fedkseed") == 0
    first = summary(tmp_path, "fedkseed-seed-0")
    assert compare(tmp_path, *SYNTHETIC, BOTH, "--seeds=2") == 0
    assert main(["compare", "--out", str(tmp_path)]) == 0
    assert len(computed) == len(set(computed)) == 4
    assert summary(tmp_path, "fedkseed-seed-0") == first


def test_without_out_the_same_command_finds_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, computed: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        assert main(["compare", *SYNTHETIC, "--methods=fedkseed", "--peers=4"]) == 0
    assert main(["compare", *SYNTHETIC, "--methods=fedkseed", "--peers=5"]) == 0
    assert len(computed) == 2
    assert len(list(Path("runs").glob("compare-*"))) == 2


def test_a_folder_that_holds_something_else_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "file"
    file.write_text("")
    for place in (file, file / "below", tmp_path):
        assert compare(place, *SYNTHETIC, BOTH) == 2
    out = tmp_path / "c"
    assert compare(out, *SYNTHETIC, BOTH, "--seeds=2") == 0
    capsys.readouterr()
    for flags, message in (
        ((BOTH, "--seeds=2", "--degree=3"), "degree of fedkseed-seed-0 is 4 there and 3 here"),
        ((BOTH,), "fedkseed-seed-1 is there, and is none of the runs here"),
    ):
        assert compare(out, *SYNTHETIC, *flags) == 2
        [line] = capsys.readouterr().err.splitlines()
        assert line == f"kseed: {out} holds another comparison: {message}"


def test_a_topology_file_that_has_changed_makes_another_comparison(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    graph, out = tmp_path / "graph.json", tmp_path / "c"
    flags = (*SYNTHETIC, "--methods=fedkseed", f"--topology={graph}", f"--out={out}")
    for kind, status in (("ring", 0), ("star", 2)):
        topology.save(topology.build(kind, 5), graph)
        assert main(["compare", *flags]) == status
    [*_, line] = capsys.readouterr().err.splitlines()
    assert line.endswith("a file that fedkseed-seed-0 is made from has changed")


def test_two_cannot_work_in_one_folder_at_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with ComparisonFolder(tmp_path).held(define({"compared": ["fedkseed"]})):
        assert compare(tmp_path, *SYNTHETIC, BOTH) == 2
    assert "is in use by another `kseed compare`" in capsys.readouterr().err


def test_a_run_that_fails_is_told_and_the_others_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def failing(experiment: Any, folder: Path) -> dict[str, Any]:
        if experiment.method == "fedkseed":
            raise RunFailed("of a defect")
        return whole_run.whole_run(experiment, folder)

    with monkeypatch.context() as patch:
        patch.setattr(conduct, "whole_run", failing)
        assert compare(tmp_path, *SYNTHETIC, BOTH) == 1
    assert "failed  fedkseed-seed-0: of a defect" in capsys.readouterr().out
    assert [row["runs"] for row in table(tmp_path)] == ["0", "1"]

    def dying(_work: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Any]:
        for item in items:
            yield item, WorkerDied()

    with monkeypatch.context() as patch:
        patch.setattr(errands, "each_in_its_own", dying)
        assert compare(tmp_path, *SYNTHETIC, BOTH) == 1
    assert "its process was ended twice" in capsys.readouterr().out
    assert compare(tmp_path, *SYNTHETIC, BOTH) == 0


def test_a_setting_that_cannot_be_is_told_at_once(
    tmp_path: Path, computed: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "c"
    assert compare(out, BOTH, "--data=nowhere.jsonl") == 2
    [line] = [line for line in capsys.readouterr().err.splitlines() if "kseed:" in line]
    assert "fedkseed-seed-0: " in line
    assert "nowhere.jsonl" in line
    assert computed == ["fedkseed-seed-0"]
    assert not out.exists()


def test_a_method_that_cannot_be_does_not_stop_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def impossible(experiment: Any, folder: Path) -> dict[str, Any]:
        if experiment.method == "fedkseed-pro":
            raise UserError("of this model")
        return whole_run.whole_run(experiment, folder)

    with monkeypatch.context() as patch:
        patch.setattr(conduct, "whole_run", impossible)
        assert compare(tmp_path, *SYNTHETIC, BOTH) == 1
    told = json.loads((tmp_path / "compare.json").read_text())
    assert [run["status"] for run in told["runs"]] == ["done", "impossible"]
    # It has left no run, so the folder is free for a comparison without it.
    assert compare(tmp_path, *SYNTHETIC, "--methods=fedkseed") == 0


def test_an_interrupted_run_is_gone_on_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from sim import runner

    def interrupted(*_arguments: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(runner.Chronicle, "finish", interrupted)
        assert compare(tmp_path, *SYNTHETIC, BOTH) == 130
    said = f"0 of 2 runs are finished; to go on: kseed compare --out {tmp_path}"
    assert said in capsys.readouterr().err
    assert main(["compare", "--out", str(tmp_path)]) == 0
    assert "1 run had been interrupted" in capsys.readouterr().out
    told = json.loads((tmp_path / "compare.json").read_text())
    assert [run["resumed"] for run in told["runs"]] == [True, False]


def test_a_run_that_keeps_no_log_begins_anew(
    tmp_path: Path,
    tiny_options: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from sim import runner

    def interrupted(*_arguments: Any) -> None:
        raise KeyboardInterrupt

    flags = [f"--{k.replace('_', '-')}={v}" for k, v in tiny_options.items() if k != "peers"]
    wanted = [*flags, "--methods=fedavg", "--rounds=1", "--local-steps=1", "--twin"]
    with monkeypatch.context() as patch:
        patch.setattr(runner.Chronicle, "finish", interrupted)
        assert compare(tmp_path, *wanted) == 130
    assert compare(tmp_path, *wanted) == 0
    assert "interrupted" not in capsys.readouterr().out
    gossip, server = table(tmp_path)
    assert float(gossip["consensus_relative"]) > 0
    assert (gossip["digests_equal"], server["digests_equal"]) == ("False", "True")
    # What averages promises no equal digests, so there is nothing to say of its twin.
    assert json.loads((tmp_path / "compare.json").read_text())["equal_to_twins"] == {}


def test_each_method_is_tuned_once_and_its_runs_have_the_values(
    tmp_path: Path,
    tiny_options: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    computed: list[str],
) -> None:
    tuned: list[tuple[str, int]] = []

    def tune(experiment: Any, scratch: Path) -> Found:
        tuned.append((experiment.method, experiment.seed))
        scratch.mkdir(parents=True)
        rate = 3e-3 if experiment.method == "fedkseed" else 3e-4
        chosen = {"learning_rate": rate, "epsilon": 1e-3}
        return Found((Trial(chosen, Losses(2.0, 1.0)),), chosen, ())

    monkeypatch.setattr(conduct, "tune", tune)
    flags = [f"--{k.replace('_', '-')}={v}" for k, v in tiny_options.items() if k != "peers"]
    wanted = [*flags, BOTH, "--rounds=1", "--local-steps=1", "--twin", "--tune"]
    assert compare(tmp_path, *wanted) == 0
    assert tuned == [("fedkseed", 0), ("fedkseed-pro", 0)]
    for method, rate in (("fedkseed", "0.003"), ("fedkseed-pro", "0.0003")):
        for kind in ("", "-server"):
            text = (tmp_path / "runs" / f"{method}{kind}-seed-0" / "config.toml").read_text()
            assert f"learning_rate = {rate}\n" in text
        left = {path.name for path in (tmp_path / "tuning" / method).iterdir()}
        assert left == {"tune.json", "tune.csv"}
    computed.clear()
    assert compare(tmp_path, *wanted, "--seeds=2") == 0
    assert len(tuned) == 2
    assert all(name.endswith("seed-1") for name in computed)
    assert compare(tmp_path, *[flag for flag in wanted if flag != "--tune"], "--seeds=2") == 2


def test_a_method_that_cannot_be_tuned_is_told(
    tmp_path: Path,
    tiny_options: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def tune(_experiment: Any, _scratch: Path) -> Found:
        raise UserError("no peer has two rows")

    flags = [f"--{k.replace('_', '-')}={v}" for k, v in tiny_options.items() if k != "peers"]
    flags += ["--rounds=1", "--local-steps=1", "--tune"]
    with monkeypatch.context() as patch:
        patch.setattr(conduct, "tune", tune)
        assert compare(tmp_path / "c", *flags, BOTH) == 2
        said = capsys.readouterr().err
        assert "kseed: fedkseed-seed-0: tuning it: no peer has two rows\n" in said
        assert not (tmp_path / "c").exists()
        patch.setattr(conduct, "tune", lambda *_: Found((), {"learning_rate": 1.0}, ()))
        assert compare(tmp_path / "c", *flags, "--methods=fedkseed") == 0
        patch.setattr(conduct, "tune", tune)
        assert compare(tmp_path / "c", *flags, BOTH) == 1
    told = json.loads((tmp_path / "c" / "compare.json").read_text())
    assert [run["reason"] for run in told["runs"]] == [None, "tuning it: no peer has two rows"]


def test_a_contender_has_a_title_and_a_key() -> None:
    assert Contender("ferret").title == METHODS["ferret"].title
    assert Contender("ferret", True).key == "ferret-server"
    assert isinstance(define({"compared": ["fedkseed"]}), Comparison)
