"""The `kseed` command: every mistake in one line, and summaries that programs can read."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import sim
from peer.config import Experiment, experiment_from
from peer.declarations import options
from peer.errors import RunFailed
from peer.experiment_file import read_toml, write_toml
from sim.cli import main

ROOT = Path(__file__).parents[1]
SYNTHETIC = ["--trainer", "synthetic", "--peers", "4", "--rounds", "2", "--local-steps", "3"]


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Run in an empty folder, and leave logging as it was."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    root, ours = logging.getLogger(), logging.getLogger("kseed")
    handlers, level = root.handlers[:], ours.level
    yield
    root.handlers[:] = handlers
    ours.setLevel(level)


@pytest.fixture
def tiny(tiny_model: Path, tiny_data: Path) -> list[str]:
    """Flags of a run that takes little time."""
    flags = {
        "model": tiny_model,
        "data": tiny_data,
        "rounds": 2,
        "local-steps": 2,
        "candidate-seeds": 16,
        "eval-rows": 4,
    }
    return [text for name, value in flags.items() for text in (f"--{name}", str(value))]


@pytest.fixture
def three(tiny: list[str]) -> list[str]:
    """Flags of a run of three peers."""
    return [*tiny, "--peers", "3"]


@pytest.fixture
def around(tmp_path: Path) -> Path:
    """A folder beside the one that commands run in, for files to be given to them."""
    folder = tmp_path / "around"
    folder.mkdir()
    return folder


def written(path: Path) -> dict[Path, bytes]:
    return {each: each.read_bytes() if each.is_file() else b"" for each in path.rglob("*")}


def refused(arguments: list[str], capfd: pytest.CaptureFixture[str], around: Path) -> str:
    """The line of a mistake: status 2, one line on standard error, nothing else anywhere."""
    before = written(around)
    capfd.readouterr()
    assert main(arguments) == 2
    output = capfd.readouterr()
    assert output.out == ""
    assert output.err.startswith("kseed: ")
    assert output.err.endswith("\n")
    assert len(output.err.splitlines()) == 1
    assert not list(Path.cwd().iterdir())
    assert written(around) == before
    return output.err.removeprefix("kseed: ").rstrip("\n")


ONE_ROW = '{"instruction": "Name it .", "context": "", "response": "red", "category": "c"}\n'
NO_ANSWER = ONE_ROW.replace('"red"', '" "')

FILES = {
    "apart.edgelist": "a b\nc d\n",
    "lonely.json": '{"nodes": [{"id": 1}], "edges": []}',
    "broken.graphml": "<graphml>",
    "empty.jsonl": "",
    "no-answers.jsonl": NO_ANSWER * 3,
    "three.jsonl": ONE_ROW * 3,
    "misspelt.toml": "peers = 4\nlerning_rate = 1e-3\n",
    "broken.toml": "peers = 4\nrounds\n",
    "word.toml": 'epsilon = "small"\n',
    "table.toml": "[sim]\npeers = 4\n",
    "unknown.toml": 'method = "fedsgd"\n',
}

MISTAKES: dict[str, tuple[list[str], str]] = {
    "unknown topology": (["--topology", "rong"], "'rong' is neither a family (ring, "),
    "no mesh": (["--topology", "torus", "--peers", "7"], "a torus needs rows x columns"),
    "one peer": (["--peers", "1"], "peers = 1 is not allowed: must be a whole number at least 2"),
    "disconnected graph": (["--topology", "{around}/apart.edgelist"], "connected"),
    "graph of one": (["--topology", "{around}/lonely.json"], "at least 2"),
    "broken graph": (["--topology", "{around}/broken.graphml"], "not well-formed"),
    "missing graph": (["--topology", "missing.graphml"], "missing.graphml cannot be read: No such"),
    "missing model": (["--model", "missing"], "model = 'missing': there is no such folder"),
    "model is a file": (["--model", "{around}/three.jsonl"], "there is no such folder"),
    "model is no model": (["--model", "{around}"], "cannot be loaded: "),
    "missing data": (["--data", "missing.jsonl"], "missing.jsonl: no such file"),
    "no rows": (["--data", "{around}/empty.jsonl"], "no usable rows: 0 read"),
    "no usable rows": (["--data", "{around}/no-answers.jsonl"], "no usable rows: 3 read"),
    "fewer rows than peers": (
        ["--data", "{around}/three.jsonl", "--eval-rows", "1"],
        "2 rows for 8 peers; allowed: at least one row for each peer",
    ),
    "too many rows held out": (["--eval-rows", "72"], "eval_rows 72 of 72 rows; allowed: "),
    "rows longer than the model": (["--max-length", "129"], "the model has 128 positions"),
    "no candidate seeds": (["--candidate-seeds", "0"], "candidate_seeds = 0 is not allowed"),
    "negative learning rate": (["--learning-rate", "-0.1"], "learning_rate = -0.1 is not allowed"),
    "no number": (["--learning-rate", "nan"], "learning_rate = nan is not allowed"),
    "endless learning rate": (["--learning-rate", "inf"], "learning_rate = inf is not allowed"),
    "word for a number": (
        ["--rounds", "three"],
        "rounds = 'three' is not allowed: must be a whole",
    ),
    "fraction for a whole number": (["--peers", "2.5"], "peers = '2.5' is not allowed"),
    "empty number": (["--seed", ""], "seed = '' is not allowed"),
    "number without end": (["--seed", "9" * 5000], "is not allowed: must be a whole number"),
    "bound of no power of two": (["--gradient-bound", "1000"], "a power of two"),
    "too long a run": (
        ["--rounds", "16777216", "--gradient-bound", "32768", "--local-steps", "100000"],
        "rounds x local_steps x gradient_bound = ",
    ),
    "unknown method": (["--method", "fedsgd"], "must be one of fedkseed, fedkseed-pro"),
    "unknown type": (["--dtype", "int8"], "dtype = 'int8' is not allowed"),
    "misspelt flag": (["--lerning-rate", "1"], "unrecognized arguments: --lerning-rate"),
    "flag without a value": (["--peers"], "--peers: expected one argument"),
    "value for a switch": (["--json=yes"], "ignored explicit argument 'yes'"),
    "two files": (["one.toml", "two.toml"], "unrecognized arguments: two.toml"),
    "missing file": (["missing.toml"], "cannot read missing.toml: No such file"),
    "folder for a file": (["{around}"], "Is a directory"),
    "misspelt key": (
        ["{around}/misspelt.toml"],
        "lerning_rate = 0.001: there is no such option; did you mean learning_rate?",
    ),
    "broken TOML": (["{around}/broken.toml"], "broken.toml is no TOML file: "),
    "word in a file": (
        ["{around}/word.toml"],
        "epsilon = 'small' is not allowed: must be a number",
    ),
    "table in a file": (["{around}/table.toml"], "sim = {'peers': 4}: there is no such option"),
    "method in a file": (["{around}/unknown.toml"], "method = 'fedsgd' is not allowed"),
    "resume without a folder": (["--resume"], "resume = True is not allowed: goes with `out`"),
    "folder is a file": (["--out", "{around}/three.jsonl"], "is a file, a folder is wanted"),
    "folder of something else": (["--out", "{around}"], "is not empty and holds no run"),
    "line break in a file": (["--data", "a\nb\x1b[2J.csv"], r"a\nb\x1b[2J.csv: no such file"),
    "line break in a name": (["--topology", "a\nb"], r"'a\nb' is neither a family"),
    "line break in a flag": (["--a\nb"], r"unrecognized arguments: --a\nb"),
}


@pytest.mark.parametrize("command", ["sim", "launch"])
@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_told_in_one_line_and_nothing_is_written(
    mistake: str, command: str, tiny: list[str], around: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for name, text in FILES.items():
        (around / name).write_text(text)
    flags, expected = MISTAKES[mistake]
    filled = [flag.replace("{around}", str(around)) for flag in flags]
    assert expected in refused([command, *tiny, *filled], capfd, around)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], "the following arguments are required: COMMAND"),
        (["simulate"], "invalid choice: 'simulate'"),
        (["topology"], "the following arguments are required: name"),
        (["topology", "rong"], "'rong' is neither a family"),
        (["topology", "ring", "--peers", "1"], "at least 2 peers"),
        (["topology", "ring", "--peers", "few"], "invalid int value: 'few'"),
        (["topology", "missing.graphml"], "cannot be read"),
        (["topology", "random-regular", "--degree", "0"], "a degree is at least 1"),
        (["topology", "ring", "--svg", "no/such/folder/a.svg"], "a.svg"),
        (["export", "missing", "--to", "there"], "missing is no run folder"),
        (["export", "missing"], "the following arguments are required: --to"),
        (["init", "no/such/folder/a.toml"], "cannot write no/such/folder/a.toml: No such file"),
        (["peer"], "a peer needs --experiment FILE and --index I, or a file of its own"),
        (["peer", "missing.toml"], "cannot read missing.toml"),
    ],
    ids=" ".join,
)
def test_mistakes_with_other_commands(
    arguments: list[str], expected: str, around: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert expected in refused(arguments, capfd, around)


def test_a_run_is_neither_overwritten_nor_continued_as_another(
    around: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    out = str(around / "run")
    assert main(["sim", *SYNTHETIC, "--out", out]) == 0
    again = ["sim", *SYNTHETIC, "--out", out]
    assert "already holds a run; choose another folder" in refused(again, capfd, around)
    other = refused([*again, "--resume", "--seed", "5"], capfd, around)
    assert other == f"{out} holds another experiment: seed is 0 there and 5 here"
    fewer = refused([*again, "--resume", "--rounds", "1"], capfd, around)
    assert "the number may only grow" in fewer
    launched = refused(["launch", *SYNTHETIC, "--out", out, "--resume"], capfd, around)
    assert launched == f"{out} was not made by `kseed launch`"
    assert "there is no model to export" in refused(["export", out, "--to", "there"], capfd, around)
    assert main([*again, "--resume", "--rounds", "3"]) == 0


def kseed(*arguments: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run the command as a user does, in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "sim", *map(str, arguments)],
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        **options,
    )


@pytest.mark.parametrize(
    "arguments",
    [
        ["sim", "--peers", "1"],
        ["sim", "--lerning-rate", "1"],
        ["sim", "--topology", "missing.graphml"],
        ["sim", "--data", "missing.jsonl"],
        ["export", "nowhere", "--to", "there"],
    ],
    ids=" ".join,
)
def test_a_process_ends_with_status_2_and_one_line(arguments: list[str]) -> None:
    ended = kseed(*arguments)
    assert ended.returncode == 2
    assert ended.stdout == ""
    assert ended.stderr.startswith("kseed: ")
    assert ended.stderr.count("\n") == 1
    assert not list(Path.cwd().iterdir())


@pytest.mark.slow
def test_a_process_loads_the_model_in_vain_with_one_line(tiny: list[str]) -> None:
    # Importing torch and transformers must not add a line of its own.
    ended = kseed("sim", *tiny, "--model", Path.cwd())
    assert (ended.returncode, ended.stdout, ended.stderr.count("\n")) == (2, "", 1)
    assert ended.stderr.startswith("kseed: model = ")
    assert not list(Path.cwd().iterdir())


@pytest.mark.slow
def test_json_is_all_that_is_on_standard_output(three: list[str]) -> None:
    ended = kseed("sim", *three, "--json", "--out", "run", "--degree", "6")
    assert ended.returncode == 0
    summary = json.loads(ended.stdout, parse_constant=pytest.fail)
    assert ended.stdout.count("\n") == 1
    assert summary == json.loads(Path("run/summary.json").read_text())
    assert summary["digests"]["all_equal"] is True
    assert summary["folder"] == "run"
    assert "without effect in this experiment, and ignored: degree" in ended.stderr
    assert "after round 2 of 2: held-out loss " in ended.stderr


def test_replicas_side_by_side_are_told_of(
    three: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["sim", *three, "--side-by-side", "2", "--out", "run"]) == 0
    digests = "digests may differ from those of `kseed launch`"
    assert capfd.readouterr().err.count(digests) == 1
    assert main(["launch", *three, "--side-by-side", "2", "--dry-run"]) == 0
    told = capfd.readouterr().err
    assert told == "kseed: without effect in this experiment, and ignored: side_by_side\n"
    assert main(["sim", *three, "--out", "other"]) == 0
    assert digests not in capfd.readouterr().err


def test_a_lost_loss_is_null_in_json(three: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    lost = ["--dtype", "float16", "--learning-rate", "1000", "--gradient-bound", "32768"]
    assert main(["sim", *three, *lost, "--json", "--out", "run"]) == 0
    summary = json.loads(capfd.readouterr().out, parse_constant=pytest.fail)
    assert summary["eval_loss"]["final"] is None
    assert main(["sim", *three, *lost, "--out", "other"]) == 0
    assert "not finite after" in capfd.readouterr().out


def test_words_are_for_people(three: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["sim", *three]) == 0
    output = capfd.readouterr()
    assert "equal at all 3 peers" in output.out
    assert "runs/ring-3-fedkseed-1" in output.out
    assert "Traceback" not in output.err
    assert {path.name for path in Path("runs/ring-3-fedkseed-1").iterdir()} == {
        "accumulator.npz",
        "config.toml",
        "layout.json",
        "links.csv",
        "plots",
        "rounds.jsonl",
        "sim",
        "summary.json",
        "tasks.csv",
        "topology.json",
    }
    plots = list(Path("runs/ring-3-fedkseed-1/plots").iterdir())
    assert plots
    assert {path.suffix for path in plots} == {".svg"}


def test_flags_win_over_the_file(around: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = around / "experiment.toml"
    path.write_text(
        write_toml(
            {
                "trainer": "synthetic",
                "peers": 6,
                "rounds": 5,
                "json": True,
                "out": str(around / "a"),
            }
        )
    )
    flags = ["--rounds", "1", "--out", str(around / "b"), "--log-level", "error"]
    assert main(["sim", str(path), *flags]) == 0
    summary = json.loads(capfd.readouterr().out)
    assert (summary["peers"], summary["rounds"]) == (6, 1)
    assert not (around / "a").exists()
    assert main(["sim", str(path), "--no-json"]) == 0
    assert "equal at all 6 peers" in capfd.readouterr().out


def test_the_configuration_of_a_run_repeats_it(
    three: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["sim", *three, "--json", "--out", "first", "--topology", "star"]) == 0
    first = json.loads(capfd.readouterr().out)
    assert main(["sim", "first/config.toml", "--json", "--out", "second"]) == 0
    second = json.loads(capfd.readouterr().out)
    assert first["digests"] == second["digests"]
    assert first["bytes"] == second["bytes"]


def test_a_graph_file_sets_the_peers(around: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = around / "mine.edgelist"
    path.write_text("a b\nb c\nc d\nd e\nd d\n")
    flags = ["--trainer", "synthetic", "--rounds", "1", "--topology", str(path), "--json"]
    assert main(["sim", *flags]) == 0
    output = capfd.readouterr()
    summary = json.loads(output.out)
    assert summary["topology"] == {"name": "mine", "nodes": 5, "edges": 4, "diameter": 4}
    assert summary["peers"] == 5
    assert summary["folder"] == "runs/mine-5-fedkseed-1"
    assert "Links of a node to itself were dropped" in output.err


def test_a_dry_run_writes_nothing(three: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["sim", *three, "--dry-run", "--json"]) == 0
    json.loads(capfd.readouterr().out, parse_constant=pytest.fail)
    assert main(["sim", *three, "--dry-run"]) == 0
    assert capfd.readouterr().out
    assert not list(Path.cwd().iterdir())


def summary_with(missing: list[int], *, all_equal: bool) -> dict[str, Any]:
    return {"missing_peers": missing, "digests": {"all_equal": all_equal}}


@pytest.mark.parametrize(
    ("summary", "status"),
    [
        (summary_with([], all_equal=True), 0),
        (summary_with([2], all_equal=True), 3),
        (summary_with([], all_equal=False), 3),
    ],
    ids=str,
)
def test_a_run_without_somebody_or_without_agreement_has_status_3(
    summary: dict[str, Any],
    status: int,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sim, "run", lambda _: summary)
    assert main(["sim", "--json"]) == status
    assert json.loads(capfd.readouterr().out) == summary


def test_what_fails_and_what_is_interrupted_is_told_in_a_line(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def fail(_: Experiment) -> None:
        raise RunFailed("peer 3 was ended by signal 9")

    def interrupt(_: Experiment) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(sim, "run", fail)
    assert main(["sim"]) == 1
    assert capfd.readouterr().err == "kseed: peer 3 was ended by signal 9\n"
    monkeypatch.setattr(sim, "run", interrupt)
    assert main(["sim"]) == 130
    assert capfd.readouterr().err == "kseed: interrupted\n"


@pytest.mark.parametrize("command", ["sim", "launch"])
def test_help_names_every_option_with_its_default(
    command: str, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "1000")
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])
    assert ended.value.code == 0
    text = " ".join(capfd.readouterr().out.split("options:")[1].split())
    for item in options():
        flag = "--" + item.name.replace("_", "-")
        name = {int: " INT", float: " FLOAT", str: " STR"}.get(type(item.default))
        shown = flag + name if name else f"{flag}, {flag.replace('--', '--no-')}"
        default = item.default if item.default != "" else "none"
        assert f"{shown} {item.metadata['help']} (default: {default})" in text


def test_init_writes_the_default_experiment_and_never_overwrites(
    capfd: pytest.CaptureFixture[str], around: Path
) -> None:
    assert main(["init"]) == 0
    assert capfd.readouterr().out == (
        "wrote experiment.toml; run it with: kseed sim experiment.toml\n"
    )
    path = Path("experiment.toml")
    assert experiment_from(read_toml(path)) == Experiment()
    path.write_text("mine = true")
    assert main(["init"]) == 2
    assert capfd.readouterr().err == "kseed: cannot write experiment.toml: File exists\n"
    assert path.read_text() == "mine = true"
    other = around / "other.toml"
    assert main(["init", str(other)]) == 0
    assert experiment_from(read_toml(other)) == Experiment()


def test_what_init_writes_can_be_run(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["init", "mine.toml"]) == 0
    capfd.readouterr()
    assert main(["sim", "mine.toml", *SYNTHETIC, "--json", "--out", "run"]) == 0
    assert json.loads(capfd.readouterr().out)["peers"] == 4


def test_topology_measures_and_draws(around: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["topology", "torus", "--peers", "16"]) == 0
    output = capfd.readouterr().out
    assert "16" in output
    assert output.endswith("drawn to torus-16.svg\n")
    assert Path("torus-16.svg").read_text().lstrip().startswith("<?xml")
    graph = around / "mine.edgelist"
    graph.write_text("a b\nb c\n")
    assert main(["topology", str(graph), "--svg", str(around / "mine.svg")]) == 0
    assert (around / "mine.svg").exists()
    assert main(["topology", "ring"]) == 0
    assert Path("ring-8.svg").exists()


def test_export_writes_the_model_of_a_run(
    three: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    from transformers import AutoModelForCausalLM

    from peer.model import FlatModel, torch
    from peer.weights_digest import weights_digest

    assert main(["sim", *three, "--json", "--out", "run"]) == 0
    digest = json.loads(capfd.readouterr().out)["digests"]["model"][0]
    assert main(["export", "run", "--to", "model"]) == 0
    assert capfd.readouterr().out == "the tuned model is in model\n"
    module: Any = AutoModelForCausalLM.from_pretrained("model")
    assert weights_digest(FlatModel(module, torch.device("cpu")).weights) == digest
    assert main(["export", "run", "--to", "model"]) == 2
    assert capfd.readouterr().err == "kseed: model exists already, a new folder is wanted\n"
    # The exported model is tuned on like any other.
    assert main(["sim", *three, "--model", "model", "--rounds", "1", "--json"]) == 0
