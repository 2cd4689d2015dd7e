"""Reports of runs: what they say is what the folder holds, and they warn of all that is wrong."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from page_reader import PageReader
from scenarios.processes import flags
from scenarios.processes import run as run_command

import topology
from peer.config import Experiment, experiment_from
from peer.experiment_file import read_toml, write_toml
from peer.records import RunFolder
from peer.rollback import rollback
from sim.cli import main
from sim.report import write_report
from sim.runner import simulate
from sim.schema import LATER_SUMMARY, SUMMARY, misfit, misfit_if_there
from sim.words import ranges

PEERS = 8


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run without a model."""
    folder = tmp_path_factory.mktemp("runs") / "ring"
    simulate(
        Experiment(
            trainer="synthetic",
            topology="watts-strogatz",
            peers=PEERS,
            rounds=3,
            local_steps=3,
            out=str(folder),
        )
    )
    return folder


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    """A copy of it, to be altered."""
    return shutil.copytree(made, tmp_path / "run")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, tiny_options: dict[str, Any]) -> Path:
    """The folder of a run with a model."""
    folder = tmp_path_factory.mktemp("runs") / "trained"
    simulate(experiment_from(tiny_options | {"out": str(folder)}))
    return folder


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory, tiny_options: dict[str, Any]) -> Path:
    """The folder of a run whose model has answered held-out rows."""
    folder = tmp_path_factory.mktemp("runs") / "asked"
    options = {"rouge_rows": 6, "rouge_every": 2, "new_tokens": 4, "out": str(folder)}
    simulate(experiment_from(tiny_options | options))
    return folder


def read(folder: Path) -> PageReader:
    return PageReader(write_report(folder).read_text(encoding="utf-8"))


def summary_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "summary.json").read_text())


def change(folder: Path, alter: Callable[[dict[str, Any]], Any]) -> None:
    summary = summary_of(folder)
    alter(summary)
    (folder / "summary.json").write_text(json.dumps(summary))


def number(text: str) -> int:
    return int(text.replace(",", ""))


def test_a_report_has_a_place_for_everything(made: Path) -> None:
    page = read(made)
    assert page.warnings == []
    assert page.headings == [
        (1, f"FedKSeed on watts-strogatz, {PEERS} peers"),
        (2, "What was run"),
        (2, "Over the rounds"),
        (2, "Bytes over each link"),
        (2, "Peers"),
        (2, "Digests"),
        (2, "Time and memory"),
    ]
    assert list(page.tables) == [
        "Options that differ from the defaults",
        "Bytes by what they were for",
        "Round by round",
        "The busiest links",
        "Peer by peer",
        "Digests at the end",
        "Time and memory",
    ]
    assert f"all {PEERS} peers equal" in page.texts
    kinds = [svg["class"] for svg in page.elements("svg")]
    assert kinds == ["picture bytes", "picture links"]
    assert (made / "config.toml").read_text() in page.texts


def test_its_numbers_are_those_of_the_folder(made: Path) -> None:
    page, summary, run = read(made), summary_of(made), RunFolder(made)
    links = list(run.read_links().links())
    _, *peers = page.tables["Peer by peer"]
    assert [row[0] for row in peers] == [str(peer) for peer in range(PEERS)]
    for peer, (_, neighbours, sent, received, entries) in enumerate(peers):
        assert number(neighbours) == sum(i == peer for i, _, _ in links)
        assert number(sent) == sum(n.wire_bytes for i, _, n in links if i == peer)
        assert number(received) == sum(n.wire_bytes for _, j, n in links if j == peer)
        assert number(entries) == summary["entries"]["received_per_peer"][peer]
    _, *purposes = page.tables["Bytes by what they were for"]
    names = ("payload_total", "control_total", "framing_total", "handshake_total", "wire_total")
    assert [number(row[1]) for row in purposes] == [summary["bytes"][name] for name in names]
    _, *busiest = page.tables["The busiest links"]
    carried = {(i, j): n.wire_bytes for i, j, n in links}
    both = sorted((carried[i, j] + carried[j, i] for i, j in carried if i < j), reverse=True)
    assert [number(row[1]) for row in busiest] == both[: len(busiest)]
    assert len(busiest) == 12
    for link, whole, there, back, _ in busiest:
        assert number(there) + number(back) == number(whole)
        i, j = map(int, link.split("–"))
        assert (carried[i, j], carried[j, i]) == (number(there), number(back))
    _, *rounds = page.tables["Round by round"]
    records = run.read_rounds()
    assert [row[-1] for row in rounds] == [record["accumulator"] for record in records]
    assert sum(number(row[1]) for row in rounds) == records[-1]["wire_bytes"]
    assert page.tables["Digests at the end"][1:] == [
        ["accumulator", summary["digests"]["accumulator"][0], str(PEERS), f"0–{PEERS - 1}"]
    ]
    assert page.tables["Options that differ from the defaults"][1:][0][:3] == [
        "topology",
        "watts-strogatz",
        "ring",
    ]


def test_a_run_with_a_model_has_its_losses(trained: Path) -> None:
    page, summary = read(trained), summary_of(trained)
    assert page.warnings == []
    assert [svg["class"] for svg in page.elements("svg")] == [
        "picture loss",
        "picture bytes",
        "picture links",
    ]
    losses = [summary["eval_loss"]["initial"], *summary["eval_loss"]["per_round"]]
    head, *rounds = page.tables["Round by round"]
    assert head[1] == "held-out loss"
    assert [row[1] for row in rounds] == [f"{loss:.4f}" for loss in losses]
    assert f"{losses[-1]:.4f}" in page.texts
    assert [row[0] for row in page.tables["Digests at the end"][1:]] == ["accumulator", "model"]
    rows = [number(row[-1]) for row in page.tables["Peer by peer"][1:]]
    assert rows == summary["data"]["rows_per_peer"]


def test_a_report_says_where_the_run_was_made(folder: Path) -> None:
    assert f"{folder.name}: simulated in one process" in read(folder).texts
    cluster = {"workers": 2, "nodes": 1, "lost": 0}
    change(folder, lambda summary: summary.update(cluster=cluster))
    assert f"{folder.name}: simulated on a cluster" in read(folder).texts
    # Only its end says it.
    (folder / "summary.json").unlink()
    assert f"{folder.name}: simulated" in read(folder).texts


def test_the_pictures_are_of_this_run(made: Path) -> None:
    text = write_report(made).read_text(encoding="utf-8")
    graph = topology.load(made / "topology.json")
    titles = re.findall(r"<title>(\d+) – (\d+): ([^<]+)</title>", text)
    assert sorted((int(i), int(j)) for i, j, _ in titles) == list(graph.edges)
    # The busiest is drawn last, so on top.
    busiest = PageReader(text).tables["The busiest links"][1]
    assert [int(end) for end in busiest[0].split("–")] in [
        [int(i), int(j)] for i, j, words in titles if words == titles[-1][2]
    ]
    for peer in range(PEERS):
        assert f'id="links-peer-{peer}"' in text
    assert "bytes since the start (kB)" in text


def test_a_report_needs_nothing_but_itself(trained: Path) -> None:
    text = write_report(trained).read_text(encoding="utf-8")
    page = PageReader(text)
    assert not re.search(r"https?:|//|@import|url\((?!#)", text.replace("</", "<"))
    assert {tag for tag, _ in page.tags}.isdisjoint({"script", "link", "iframe", "object", "img"})
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    for _, attributes in page.tags:
        for name, value in attributes.items():
            assert not name.startswith("on")
            for target in re.findall(r"#([\w-]+)", value or "") if name == "href" else ():
                assert target in ids
            for target in re.findall(r"url\(#([^)]+)\)", value or ""):
                assert target in ids
    policy = next(m["content"] for m in page.elements("meta") if "http-equiv" in m)
    assert policy == "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


def test_a_report_can_be_heard(trained: Path) -> None:
    page = read(trained)
    assert page.elements("html")[0]["lang"] == "en"
    levels = [level for level, _ in page.headings]
    assert levels[0] == 1
    assert set(levels[1:]) == {2}
    for svg in page.elements("svg"):
        assert svg["role"] == "img"
        assert len(svg["aria-label"] or "") > 20
    for cell in page.elements("th"):
        assert cell["scope"] in ("row", "col")
    boxes = [d for d in page.elements("div") if d.get("class") == "scroll"]
    assert len(boxes) == len(page.tables)
    # Whoever has no pointer scrolls by keys, which go to what has the focus.
    assert all(box["tabindex"] == "0" and box["aria-label"] for box in boxes)


def test_the_same_folder_gives_the_same_bytes(trained: Path, tmp_path: Path) -> None:
    first = write_report(trained).read_bytes()
    elsewhere = shutil.copytree(trained, tmp_path / trained.name)
    program = "import sys, pathlib, sim.report; sim.report.write_report(pathlib.Path(sys.argv[1]))"
    environment = os.environ | {"PYTHONHASHSEED": "7", "TZ": "Asia/Tokyo"}
    subprocess.run([sys.executable, "-c", program, elsewhere], check=True, env=environment)
    assert (elsewhere / "report.html").read_bytes() == first
    assert write_report(trained).read_bytes() == first


def test_the_command_writes_into_the_folder_or_where_it_is_told(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    to = tmp_path / "elsewhere.html"
    assert main(["report", str(folder), "--to", str(to)]) == 0
    assert capsys.readouterr().out == f"the report is in {to}\n"
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    assert main(["report", str(folder)]) == 0
    made = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert made == before | {folder / "report.html": to.read_bytes()}


def test_mistakes_are_told_in_one_line(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    nowhere = tmp_path / "nowhere" / "report.html"
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "config.toml").write_text("peers = 4\nrounds\n")
    for arguments, words in (
        ([str(empty)], f"{empty} is no run folder: there is no config.toml in it"),
        ([str(tmp_path / "none")], "is no run folder"),
        ([str(tmp_path / "broken")], "is no TOML file"),
        ([str(folder), "--to", str(nowhere)], "No such file or directory"),
        ([str(folder), "--to", str(empty)], "ends in .html"),
        ([], "the following arguments are required: folder"),
    ):
        assert main(["report", *arguments]) == 2
        output = capsys.readouterr()
        assert output.out == ""
        (line,) = output.err.splitlines()
        assert words in line
    assert list(empty.iterdir()) == []
    assert [path.name for path in tmp_path.iterdir() if path.name.endswith(".new")] == []


def test_help_does_not_load_what_reports_need() -> None:
    program = "import sys, sim.cli; sys.exit(bool({'jinja2', 'matplotlib'} & {*sys.modules}))"
    subprocess.run([sys.executable, "-c", program], check=True)


OTHER = "ff" * 16

TROUBLES: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "accumulators": (
        lambda s: s["digests"].update(
            accumulator=[*s["digests"]["accumulator"][:6], OTHER, OTHER], all_equal=False
        ),
        "Peers ended with different accumulators. 2 different digests: peers 6, 7 differ from the "
        "other 6.",
    ),
    "rejected": (lambda s: s.update(rejected_messages=3), "Messages rejected. 3 messages broke"),
    "liar": (
        lambda s: s.update(liars=[{"peer": 2, "named_by": [0, 1, 5], "reasons": ["two contents"]}]),
        "Peer 2 was found guilty. Named by peers 0, 1, 5: two contents.",
    ),
    "time-outs": (lambda s: s.update(timeouts_fired=4), "Time-outs. 4 times a peer closed"),
    "missing": (
        lambda s: s.update(missing_peers=[3]),
        "Missing peers. The end of the log of peer 3",
    ),
    "absent": (
        lambda s: (
            s.update(absent_peers=[1, 7]),
            s["digests"]["accumulator"].pop(),
            s["digests"]["accumulator"].pop(),
            s["entries"]["received_per_peer"].pop(),
            s["entries"]["received_per_peer"].pop(),
        ),
        "Absent peers. At the end peers 1, 7 were not there",
    ),
    "skipped": (lambda s: s.update(skipped_steps=1), "Steps skipped. 1 local step had a loss"),
    "signals": (
        lambda s: s["faults"].update(exit_signals=[9, 9, 11]),
        "Processes ended by a signal. How often, by signal: SIGKILL 2, SIGSEGV 1.",
    ),
    "rows": (
        lambda s: s.update(data={"rows_per_peer": [5] * PEERS, "eval_rows": 1, "unusable_rows": 2}),
        "Rows left out. 2 rows of the data",
    ),
}


@pytest.mark.parametrize("trouble", TROUBLES)
def test_what_a_summary_tells_of_trouble_is_warned_of(folder: Path, trouble: str) -> None:
    alter, words = TROUBLES[trouble]
    change(folder, alter)
    (warning,) = read(folder).warnings
    assert warning.startswith(words)


def test_models_that_differ_are_told_apart_from_accumulators(trained: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(trained, tmp_path / "run")
    change(folder, lambda s: s["digests"]["model"].__setitem__(1, OTHER))
    change(folder, lambda s: s["digests"].update(all_equal=False))
    page = read(folder)
    (warning,) = page.warnings
    assert warning.startswith("Peers ended with different models. 2 different digests: peer 1 ")
    assert "peers differ" in page.texts
    assert page.tables["Digests at the end"][2:][1][1:] == [OTHER, "1", "1"]
    assert page.tables["Peer by peer"][0][-1] == "remarks"
    assert page.tables["Peer by peer"][2][-1] == "another model"


def test_a_loss_that_was_not_finite_is_warned_of(trained: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(trained, tmp_path / "run")
    run = RunFolder(folder)
    rounds = run.read_rounds()
    for record in rounds[2:]:
        record["eval_loss"] = None
    run.write_rounds(rounds)
    page = read(folder)
    (warning,) = page.warnings
    assert warning.startswith("Loss not finite. After rounds 2, 3 the held-out loss")
    assert "not finite" in page.texts


def remove(name: str) -> Callable[[Path], Any]:
    return lambda folder: (folder / name).unlink()


def spoil(name: str) -> Callable[[Path], Any]:
    return lambda folder: (folder / name).write_bytes(b"\xff{]")


def cut_rounds(folder: Path) -> None:
    path = folder / "rounds.jsonl"
    path.write_bytes(path.read_bytes()[:-30])


def exchange_links(folder: Path) -> None:
    path = folder / "links.csv"
    header, _, *others = path.read_text().splitlines()
    path.write_text("\n".join([header, *others]) + "\n")


def foreign_link(folder: Path) -> None:
    graph = topology.load(folder / "topology.json")
    i, j = next(
        (i, j) for i in graph.nodes for j in graph.nodes if i < j and (i, j) not in graph.edges
    )
    path = folder / "links.csv"
    header, first, *others = path.read_text().splitlines()
    moved = ",".join([str(i), str(j), *first.split(",")[2:]])
    path.write_text("\n".join([header, *others, moved]) + "\n")


def other_graph(folder: Path) -> None:
    topology.save(topology.build("ring", 5), folder / "topology.json")


DAMAGE: dict[str, tuple[Callable[[Path], Any], list[str]]] = {
    "no graph": (remove("topology.json"), ["topology.json is missing, so there is no picture"]),
    "broken graph": (spoil("topology.json"), ["topology.json is damaged: "]),
    "graph of another run": (other_graph, ["topology.json is of another run: it has 5 peers, and"]),
    "no links": (remove("links.csv"), ["links.csv is missing, so what each link has carried"]),
    "broken links": (spoil("links.csv"), ["links.csv is damaged", "links.csv and summary.json"]),
    "fewer links": (exchange_links, ["links.csv and summary.json differ: "]),
    "foreign link": (foreign_link, ["links.csv has 1 link that the graph has not."]),
    "no rounds": (remove("rounds.jsonl"), ["rounds.jsonl is missing, so there are no curves."]),
    "cut rounds": (
        cut_rounds,
        ["rounds.jsonl is damaged: 1 line of 4 cannot be used, from line 4"],
    ),
    "no accumulator": (remove("accumulator.npz"), ["accumulator.npz is missing: the run cannot"]),
    "broken accumulator": (spoil("accumulator.npz"), ["accumulator.npz cannot be read: "]),
    "no logs": (
        lambda folder: shutil.rmtree(folder / "sim"),
        ["The logs of entries are missing: the run cannot be resumed."],
    ),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_what_is_damaged_or_missing_is_warned_of_and_the_rest_is_shown(
    folder: Path, kind: str
) -> None:
    alter, expected = DAMAGE[kind]
    whole = read(folder)
    alter(folder)
    page = read(folder)
    assert len(page.warnings) == len(expected)
    for warning, words in zip(page.warnings, expected, strict=True):
        assert warning.startswith("The folder is not whole. " + words)
        assert str(folder.parent) not in warning
    assert page.tables["Digests at the end"] == whole.tables["Digests at the end"]


def test_an_accumulator_of_another_run_is_noticed(folder: Path, trained: Path) -> None:
    shutil.copyfile(trained / "accumulator.npz", folder / "accumulator.npz")
    (warning,) = read(folder).warnings
    assert "accumulator.npz is not of this run" in warning


@pytest.mark.parametrize("text", ["", "[]", "{", '{"schema": 1}', "NaN"])
def test_a_broken_summary_is_warned_of_and_the_rest_is_shown(folder: Path, text: str) -> None:
    (folder / "summary.json").write_text(text)
    page = read(folder)
    first, second = page.warnings
    assert first.startswith("How it ended is not known.")
    assert second.startswith("The folder is not whole. summary.json is damaged: ")
    assert len(page.tables["Round by round"]) == 5
    assert "Digests at the end" not in page.tables


@pytest.mark.parametrize(
    ("alter", "words"),
    [
        (lambda s: s.update(schema=2), "its schema is 2, and 1 is known"),
        (lambda s: s.update(peers=9), "it speaks of 9 peers"),
        (lambda s: s.update(missing_peers=[PEERS]), "it names peers that there are not"),
        (lambda s: s["digests"]["accumulator"].pop(), "digests.accumulator has 7 items, and 8"),
        (lambda s: s["bytes"].update(wire_total="9"), "bytes.wire_total is not what it should be"),
    ],
)
def test_a_summary_that_cannot_be_is_not_believed(
    folder: Path, alter: Callable[[dict[str, Any]], Any], words: str
) -> None:
    change(folder, alter)
    _, warning = read(folder).warnings
    assert words in warning


def paths(shape: Any, above: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """The keys of a shape, also those within others."""
    if not isinstance(shape, dict):
        return []
    return [
        found
        for key, inner in shape.items()
        for found in ((*above, key), *paths(inner, (*above, key)))
    ]


@pytest.mark.parametrize("path", paths(SUMMARY), ids=".".join)
@pytest.mark.parametrize("spoiled", [object(), None])
def test_each_key_of_a_summary_is_looked_at(
    made: Path, path: tuple[str, ...], spoiled: Any
) -> None:
    summary = summary_of(made)
    assert misfit(summary, SUMMARY) is None
    *above, last = path
    inner = summary
    for key in above:
        inner = inner[key]
    inner[last] = spoiled
    may_be_null = spoiled is None and last in ("model", "data", "eval_loss", "redundancy")
    assert misfit(summary, SUMMARY) == (None if may_be_null else ".".join(path))
    del inner[last]
    assert misfit(summary, SUMMARY) == ".".join(path)


@pytest.mark.parametrize(
    "path", [*paths(LATER_SUMMARY), ("tasks",), ("rouge_l", "initial")], ids=".".join
)
def test_what_later_versions_write_may_be_missing_and_not_wrong(
    asked: Path, path: tuple[str, ...]
) -> None:
    summary = summary_of(asked)
    summary["consensus"] = {"distance": 0.5, "relative": None, "per_round": [0.5]}
    summary["cluster"] = {"workers": 2, "nodes": 1, "lost": 0}
    assert misfit_if_there(summary, LATER_SUMMARY) is None
    *above, last = path
    inner = summary
    for key in above:
        inner = inner[key]
    inner[last] = object()
    assert misfit_if_there(summary, LATER_SUMMARY) == ".".join(path)
    if not above:
        del inner[last]
        assert misfit_if_there(summary, LATER_SUMMARY) is None


def test_answers_and_tasks_have_their_places(asked: Path, trained: Path) -> None:
    page, summary = read(asked), summary_of(asked)
    assert page.warnings == []
    assert [svg["class"] for svg in page.elements("svg")] == [
        "picture loss",
        "picture rouge",
        "picture bytes",
        "picture links",
    ]
    assert f"{100 * summary['rouge_l']['final']:.2f} %" in page.texts
    head, *rows = page.tables["Task by task"]
    assert head == [
        "task",
        "held-out rows",
        "loss before",
        "after",
        "Rouge-L before (%)",
        "after",
    ]
    assert [row[0] for row in rows] == ["animals", "colours", "pairs"]
    for row, task in zip(rows, summary["tasks"], strict=True):
        assert number(row[1]) == task["rows"]
        shown = [*task["loss"].values(), *(100 * share for share in task["rouge_l"].values())]
        assert [float(text) for text in row[2:]] == pytest.approx(shown, abs=0.005)
    head, *rounds = page.tables["Round by round"]
    assert [row[head.index("Rouge-L (%)")] == "–" for row in rounds] == [False, True, False, False]
    without = read(trained)
    assert len(without.tables["Task by task"][0]) == 4
    assert "picture rouge" not in [svg["class"] for svg in without.elements("svg")]
    assert "Rouge-L (%)" not in without.tables["Round by round"][0]


def test_a_folder_of_an_earlier_version_is_whole(trained: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(trained, tmp_path / "run")
    change(folder, lambda summary: summary.pop("tasks"))
    run = RunFolder(folder)
    keys = ("rouge_l", "tasks")
    lines = [{k: v for k, v in line.items() if k not in keys} for line in run.read_rounds()]
    run.write_rounds(lines)
    page = read(folder)
    assert page.warnings == []
    assert "Task by task" not in page.tables


def test_a_rouge_that_is_no_number_is_damage(asked: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(asked, tmp_path / "run")
    run = RunFolder(folder)
    first, *others = run.read_rounds()
    run.write_rounds([first, *(line | {"rouge_l": "much"} for line in others)])
    (warning,) = read(folder).warnings
    assert "rounds.jsonl is damaged: 3 lines of 4 cannot be used, from line 2 on." in warning


def test_a_run_that_was_killed_is_shown_as_far_as_it_came(folder: Path) -> None:
    for name in ("summary.json", "accumulator.npz"):
        (folder / name).unlink()
    path = folder / "rounds.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:2]))
    page = read(folder)
    (warning,) = page.warnings
    assert warning.startswith("The run has not ended. Rounds done: 1 of 3.")
    assert {"not ended", "1 of 3"} <= set(page.texts)
    assert len(page.elements("svg")) == 2
    assert len(page.tables["Peer by peer"]) == PEERS + 1
    assert "Digests at the end" not in page.tables


def test_a_run_that_has_just_begun_is_shown(folder: Path) -> None:
    for name in ("summary.json", "accumulator.npz", "rounds.jsonl", "links.csv"):
        (folder / name).unlink()
    page = read(folder)
    ended, links = page.warnings
    assert ended.startswith("The run has not ended. Rounds done: 0 of 3.")
    assert "links.csv is missing" in links
    assert [svg["class"] for svg in page.elements("svg")] == ["picture links"]
    assert any("What the links have carried is not known." in text for text in page.texts)


def test_a_summary_from_before_a_resumption_is_not_taken_for_the_run_s(folder: Path) -> None:
    config = folder / "config.toml"
    config.write_text(write_toml(read_toml(config) | {"rounds": 9}))
    page = read(folder)
    ended, note = page.warnings
    assert ended.startswith("The run has not ended. Rounds done: 3 of 9.")
    assert "summary.json is of the run's first 3 rounds" in note


def test_rolled_back_and_resumed_runs_are_shown(folder: Path, tmp_path: Path) -> None:
    back = tmp_path / "back"
    rollback(folder, 2, back)
    page = read(back)
    ended, links = page.warnings
    assert ended.startswith("The run has not ended. Rounds done: 2 of 3.")
    assert "links.csv is missing" in links
    before = [row[:3] for row in page.tables["Round by round"]]
    simulate(experiment_from(read_toml(back / "config.toml") | {"out": str(back), "resume": True}))
    page = read(back)
    (note,) = page.warnings
    assert "Before round 3 the counting of bytes began anew" in note
    rounds = page.tables["Round by round"]
    assert [row[:3] for row in rounds[:-1]] == before
    assert number(rounds[-1][1]) == summary_of(back)["bytes"]["wire_total"]


def test_a_launched_run_that_was_killed_has_the_bytes_of_its_peers(folder: Path) -> None:
    links = (folder / "links.csv").read_text().splitlines()
    for name in ("summary.json", "accumulator.npz", "rounds.jsonl", "links.csv"):
        (folder / name).unlink()
    shutil.rmtree(folder / "sim")
    for peer in range(PEERS):
        member = folder / "launch" / f"peer-{peer}"
        member.mkdir(parents=True)
        own = [line for line in links[1:] if line.startswith(f"{peer},")]
        (member / "links.csv").write_text("\n".join([links[0], *own]) + "\n")
    page = read(folder)
    (warning,) = page.warnings
    assert warning.startswith("The run has not ended. It wants 3 rounds and is under way, or was")
    shown = number(page.tables["Bytes by what they were for"][-1][1])
    assert shown == sum(
        int(cells[3]) + int(cells[5]) + int(cells[6]) + int(cells[7])
        for cells in (line.split(",") for line in links[1:])
    )


def test_a_folder_of_one_peer_started_by_hand_is_shown(folder: Path) -> None:
    for name in ("summary.json", "rounds.jsonl"):
        (folder / name).unlink()
    (folder / "sim").rename(folder / "peer")
    page = read(folder)
    (warning,) = page.warnings
    assert warning.startswith("One peer's folder.")
    assert {"one of the peers", "3 wanted"} <= set(page.texts)
    assert len(page.tables["The busiest links"]) == 13


@pytest.mark.slow
def test_a_launched_run_has_its_processes(tmp_path: Path) -> None:
    options = {"trainer": "synthetic", "peers": 3, "rounds": 2, "local_steps": 3, "out": "run"}
    assert run_command("launch", "--json", *flags(options), folder=tmp_path).status == 0
    page = read(tmp_path / "run")
    assert page.warnings == []
    assert "run: one process a peer" in page.texts
    processes = summary_of(tmp_path / "run")["processes"]
    assert [row[1] for row in page.tables["Processes"][1:]] == [str(p["pid"]) for p in processes]


def test_what_a_scenario_did_is_told(tmp_path: Path) -> None:
    scenario = [{"verb": "crash", "peers": [2], "round": 1}]
    options = {"trainer": "synthetic", "peers": 5, "rounds": 2, "local_steps": 3, "loss": 0.05}
    experiment = experiment_from(
        options | {"scenario": scenario, "round_timeout": 5.0, "out": str(tmp_path / "run")}
    )
    summary = simulate(experiment)
    page = read(tmp_path / "run")
    assert page.tables["What was to befall the run"][1:] == [["crash", "2", "round 1"]]
    befallen = {what: number(times) for what, times in page.tables["What has befallen the run"][1:]}
    assert befallen == {"crashes": 1, "frames lost": summary["network"]["lost"]}
    titles = [warning.split(".")[0] for warning in page.warnings]
    assert {"Missing peers", "Absent peers", "Time-outs"} <= set(titles)
    assert page.tables["Peer by peer"][3][-1] == "absent at the end, log missing"


HOSTILE = '"><script>alert(1)</script><img src=x onerror=alert(2)>&lt;{{ 7 * 7 }}'


def test_nothing_that_a_user_has_named_becomes_part_of_the_page(tmp_path: Path) -> None:
    graph = topology.build("ring", 5)
    names = tuple(f"{HOSTILE}{peer}" for peer in range(5))
    topology.save(topology.Topology(HOSTILE, graph.edges, names), tmp_path / "graph.json")
    folder = tmp_path / "<script>alert(3)<"
    options = {"trainer": "synthetic", "rounds": 1, "local_steps": 3, "model": HOSTILE}
    simulate(
        experiment_from(options | {"topology": str(tmp_path / "graph.json"), "out": str(folder)})
    )
    liar = {"peer": 1, "named_by": [0], "reasons": [f"</li>{HOSTILE}"]}
    change(folder, lambda s: s.update(liars=[liar]))
    text = write_report(folder).read_text(encoding="utf-8")
    page = PageReader(text)
    assert {tag for tag, _ in page.tags}.isdisjoint({"script", "img"})
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)
    assert f"FedKSeed on {HOSTILE}, 5 peers" in page.texts
    assert [row[0] for row in page.tables["Peer by peer"][1:]] == [
        f"{peer} ({name})" for peer, name in enumerate(names)
    ]
    (warning,) = page.warnings
    assert f"Peer 1 ({names[1]}) was found guilty. Named by peer 0: </li>{HOSTILE}." == warning
    assert HOSTILE in "".join(page.texts)
    assert any(row[1] == HOSTILE for row in page.tables["Options that differ from the defaults"])


def test_half_a_character_does_not_spoil_a_report(folder: Path) -> None:
    liar = {"peer": 1, "named_by": [0], "reasons": ["half: \ud800"]}
    change(folder, lambda s: s.update(liars=[liar]))
    (warning,) = read(folder).warnings
    assert warning.endswith("half: ?.")


def test_long_tables_are_cut_and_say_so(folder: Path) -> None:
    run = RunFolder(folder)
    record = run.read_rounds()[0]
    run.write_rounds([record | {"round": r, "wire_bytes": 10_000 + r} for r in range(250)])
    page = read(folder)
    rounds = page.tables["Round by round"]
    assert [row[0] for row in rounds[1:]] == [str(r) for r in (*range(100), *range(150, 250))]
    assert any(
        "50 rows in the middle are left out; rounds.jsonl has them." in t for t in page.texts
    )


@given(st.sets(st.integers(0, 30), min_size=1))
def test_ranges_name_every_peer_once(peers: set[int]) -> None:
    text, _, rest = ranges(peers).partition(" and ")
    named = []
    for part in text.split(", "):
        first, _, last = part.partition("–")
        named += range(int(first), int(last or first) + 1)
    assert named == sorted(peers)[: len(named)]
    assert len(peers) - len(named) == (int(rest.removesuffix(" more")) if rest else 0)
