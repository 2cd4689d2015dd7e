"""`kseed study` in this process: rows, tables, pictures, and what is found again in a folder."""

from __future__ import annotations

import csv
import json
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from runs import SYNTHETIC, links

import sim.study
from sim.bench.spreading import spread
from sim.bench.worlds import experiment
from sim.cli import main
from sim.study import conduct, errands, figures
from sim.study.measuring import COLUMNS
from sim.study.workers import WorkerDied

SMALL: dict[str, Any] = {key: SYNTHETIC[key] for key in ("local_steps", "candidate_seeds")} | {
    "rounds": 2
}
DRAW = figures.draw_study
FLAGS = [f"--{key.replace('_', '-')}={value}" for key, value in SMALL.items()]


@pytest.fixture(autouse=True)
def computed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Compute in this process; return the names of the settings that are."""
    names: list[str] = []

    def here(work: Callable[[Any], Any], items: Iterable[Any], _workers: int) -> Iterator[Any]:
        for item in items:
            names.append(item.name)
            yield item, work(item)

    monkeypatch.setattr(errands, "done_by_workers", here)
    # Most of the time of a small study, and few tests look.
    monkeypatch.setattr(figures, "draw_study", lambda *_: [])
    return names


@pytest.fixture
def _with_pictures(computed: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    del computed
    monkeypatch.setattr(figures, "draw_study", DRAW)


def study(out: Path, *flags: str) -> int:
    return main(["study", *FLAGS, *flags, "--out", str(out)])


def table(out: Path) -> list[dict[str, str]]:
    with (out / "table.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def without_times(out: Path) -> list[dict[str, str]]:
    return [{k: v for k, v in row.items() if k != "wall_seconds"} for row in table(out)]


def test_a_row_says_what_a_setting_was_and_what_it_cost(tmp_path: Path) -> None:
    data = sim.study.run(
        out=str(tmp_path / "s"),
        topology=["ring", "complete"],
        peers=[5],
        gossip=["flood", "tree"],
        latency="uniform:0.02-0.08",
        **SMALL,
    )
    assert [*data.topology] == ["ring", "ring", "complete", "complete"]
    assert [*data.gossip] == ["flood", "tree"] * 2
    assert [*data.edges] == [5, 5, 10, 10]
    assert [*data.diameter] == [2, 2, 1, 1]
    assert [*data.status] == ["done"] * 4
    for row in data.itertuples():
        total = row.payload_bytes + row.control_bytes + row.framing_bytes + row.handshake_bytes
        assert row.wire_bytes == total
        assert row.bytes_per_peer_round == pytest.approx(2 * total / 5 / 2)
        # Of entries of one length each, flooding sends 2E - N + 1 copies, a tree N - 1.
        copies = 2 * row.edges - 5 + 1 if row.gossip == "flood" else 5 - 1
        assert row.redundancy == pytest.approx(copies / (5 - 1))
        counted = links(tmp_path / "s" / "settings" / row.setting)
        assert sum(each["payload_messages"] for each in counted) == row.payload_messages
        over = {}
        for each in counted:
            ends = frozenset((each["sender"], each["receiver"]))
            sent = sum(n for key, n in each.items() if key.endswith("_bytes"))
            over[ends] = over.get(ends, 0) + sent
        assert row.hottest_link_bytes == max(over.values())
        assert row.mean_link_bytes == sum(over.values()) / row.edges
        changes = SMALL | {"topology": row.topology, "gossip": row.gossip, "peers": 5}
        found = spread(experiment(latency="uniform:0.02-0.08", **changes))
        mean = (found.cold.mean + found.warm.mean) / 2
        assert row.spread_seconds_mean == pytest.approx(mean)
        assert row.spread_seconds_max == max(found.cold.worst, found.warm.worst)
        # Six local steps of 0.1 s, and an entry's way.
        assert 0.6 < row.round_seconds_mean < 0.6 + 0.08 * 4
        assert row.digests_equal
        assert (row.timeouts, row.missing_peers) == (0, 0)


@pytest.mark.usefixtures("_with_pictures")
def test_whole_runs_have_losses_and_a_run_folder_each(
    tmp_path: Path, tiny_options: dict[str, Any]
) -> None:
    varied = {"gradient_bytes": [1, 4]}
    data = sim.study.run(out=str(tmp_path), measure="sim", **(tiny_options | varied))
    for row in data.itertuples():
        folder = tmp_path / "settings" / row.setting
        summary = json.loads((folder / "summary.json").read_text())
        assert row.eval_loss_initial == summary["eval_loss"]["initial"]
        assert row.eval_loss_final == summary["eval_loss"]["final"]
        assert row.wire_bytes == summary["bytes"]["wire_total"]
        assert row.bytes_per_peer_round == summary["bytes"]["per_peer_round_mean"]
        assert row.virtual_seconds == summary["seconds"]["virtual"]
        assert not row.resumed
    assert (tmp_path / "figures" / "loss-against-bytes.svg").exists()


def test_the_table_is_whole_and_parquet_has_the_same(tmp_path: Path) -> None:
    import pandas as pd

    flags = ("--sweep", "topology=torus,ring", "--sweep", "peers=4,7", "--sweep=fold=true,false")
    assert study(tmp_path, *flags, "--format", "parquet") == 0
    rows = table(tmp_path)
    assert [*rows[0]][:6] == ["setting", "status", "reason", "topology", "peers", "fold"]
    assert [*rows[0]][-len(COLUMNS) :] == [*COLUMNS]
    assert [row["status"] for row in rows] == ["done"] * 2 + ["impossible"] * 2 + ["done"] * 4
    assert "rows x columns peers" in rows[2]["reason"]
    assert rows[2]["edges"] == rows[2]["wire_bytes"] == ""
    assert [(row["peers"], row["fold"]) for row in rows[:3]] == [
        ("4", "True"),
        ("4", "False"),
        ("7", "True"),
    ]
    data = pd.read_parquet(tmp_path / "table.parquet")
    assert data.edges.dtype == pd.Int64Dtype()
    from_csv = pd.read_csv(tmp_path / "table.csv", dtype=dict(data.dtypes))
    pd.testing.assert_frame_equal(data, from_csv)


def test_closing_words_count_what_is_not_possible(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert study(tmp_path, "--sweep", "topology=hypercube,ring", "--sweep", "peers=5,6,8") == 0
    words = capsys.readouterr().out
    assert "4 of 6 done" in words
    assert "1: a hypercube needs a power of two peers, which 5 is not" in words
    assert "(with topology = hypercube, peers = 6)" in words


def test_if_nothing_is_possible_it_is_a_mistake(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert study(tmp_path, "--sweep", "peers=5,7", "--topology", "torus") == 2
    [line] = [line for line in capsys.readouterr().err.splitlines() if "kseed:" in line]
    assert "no setting is possible; the first one, peers = 5: a torus needs" in line
    # So the folder is free for the study that was meant.
    assert study(tmp_path, "--sweep", "peers=5,7") == 0


@pytest.mark.parametrize("out", [["--out", "a/b"], []])
def test_a_mistake_leaves_no_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, out: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["study", *FLAGS, "--sweep", "peers=5,7", "--topology", "torus", *out]) == 2
    assert not list(tmp_path.iterdir())


def test_what_is_finished_is_not_computed_again(tmp_path: Path, computed: list[str]) -> None:
    assert study(tmp_path, "--sweep", "peers=4,5") == 0
    before = table(tmp_path)
    assert study(tmp_path, "--sweep", "peers=4,5") == 0
    assert table(tmp_path) == before
    assert main(["study", "--out", str(tmp_path)]) == 0
    assert table(tmp_path) == before
    assert computed == ["peers = 4", "peers = 5"]


def test_a_study_that_has_grown_computes_what_is_new(tmp_path: Path, computed: list[str]) -> None:
    assert study(tmp_path, "--sweep", "peers=4,5") == 0
    assert study(tmp_path, "--sweep", "gossip=tree,flood", "--sweep", "peers=3,4,5") == 0
    assert len(computed) == 2 + 4
    assert "gossip = tree, peers = 4" not in computed
    whole = tmp_path / "whole"
    assert study(whole, "--sweep", "gossip=tree,flood", "--sweep", "peers=3,4,5") == 0
    assert without_times(whole) == without_times(tmp_path)


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda text: text[: len(text) // 2], True),
        (lambda _text: "", True),
        (lambda _text: "[1]", True),
        (lambda text: text.replace('"wire_bytes": ', '"wire_bytes": 1'), True),
        (lambda text: text, False),
    ],
)
def test_a_damaged_result_is_named_and_computed_again(
    tmp_path: Path,
    computed: list[str],
    capsys: pytest.CaptureFixture[str],
    damage: Callable[[str], str],
    told: bool,
) -> None:
    assert study(tmp_path, "--sweep", "peers=4,5") == 0
    before = without_times(tmp_path)
    path = tmp_path / "settings" / f"{before[1]['setting']}.json"
    path.write_text(damage(path.read_text()))
    other = tmp_path / "settings" / f"{before[0]['setting']}.json"
    written = other.stat().st_mtime_ns
    assert study(tmp_path, "--sweep", "peers=4,5") == 0
    assert without_times(tmp_path) == before
    assert computed == ["peers = 4", "peers = 5"] + ["peers = 5"] * told
    assert (f"{path} is damaged: peers = 5 is computed again" in capsys.readouterr().err) == told
    assert other.stat().st_mtime_ns == written


def test_a_half_run_is_gone_on_with_and_the_table_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sim import runner

    class Killed(BaseException):
        pass

    def kill(*_arguments: Any) -> None:
        raise Killed

    flags = ("--measure", "sim", "--trainer", "synthetic", "--sweep", "peers=4,5")
    with monkeypatch.context() as patch:
        patch.setattr(runner.Chronicle, "finish", kill)
        with pytest.raises(Killed):
            study(tmp_path, *flags)
    assert study(tmp_path, *flags) == 0
    assert [row["resumed"] for row in table(tmp_path)] == ["True", "False"]
    assert [row["digests_equal"] for row in table(tmp_path)] == ["True", "True"]


def test_a_run_whose_result_was_lost_is_not_done_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sim import runner

    flags = ("--measure", "sim", "--trainer", "synthetic", "--sweep", "peers=4,5")
    assert study(tmp_path, *flags) == 0
    before = without_times(tmp_path)
    for path in (tmp_path / "settings").glob("*.json"):
        path.unlink()
    monkeypatch.setattr(runner, "simulate", lambda *_: pytest.fail("it was done again"))
    assert study(tmp_path, *flags) == 0
    assert without_times(tmp_path) == before


@pytest.mark.parametrize("measure", ["protocol", "sim"])
@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.unlink(),
        lambda path: path.write_bytes(path.read_bytes()[:30]),
        # Cut where a line ends.
        lambda path: path.write_bytes(b"".join(path.read_bytes().splitlines(True)[:-1])),
        lambda path: path.with_name("topology.json").write_text("{"),
    ],
    ids=["gone", "cut", "shorter", "no graph"],
)
def test_a_setting_whose_links_are_lost_is_computed_anew(
    tmp_path: Path, computed: list[str], measure: str, damage: Callable[[Path], Any]
) -> None:
    flags = ("--measure", measure, "--trainer", "synthetic", "--sweep", "peers=4,5")
    assert study(tmp_path, *flags) == 0
    before = without_times(tmp_path)
    damage(tmp_path / "settings" / before[0]["setting"] / "links.csv")
    for _ in range(2):
        assert study(tmp_path, *flags) == 0
        assert without_times(tmp_path) == before
    assert computed == ["peers = 4", "peers = 5", "peers = 4"]


def test_a_run_that_cannot_be_gone_on_with_is_done_anew(tmp_path: Path) -> None:
    flags = ("--measure", "sim", "--trainer", "synthetic", "--sweep", "peers=4")
    assert study(tmp_path, *flags) == 0
    before = without_times(tmp_path)
    folder = tmp_path / "settings" / before[0]["setting"]
    folder.with_suffix(".json").unlink()
    (folder / "summary.json").unlink()
    (folder / "config.toml").write_text("peers = ")
    assert study(tmp_path, *flags) == 0
    assert without_times(tmp_path) == before


def test_a_setting_that_fails_is_told_and_the_others_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def die(work: Callable[[Any], Any], items: Iterable[Any], _workers: int) -> Iterator[Any]:
        for item in items:
            yield item, WorkerDied() if item.swept["peers"] == 5 else work(item)

    with monkeypatch.context() as patch:
        patch.setattr(errands, "done_by_workers", die)
        assert study(tmp_path, "--sweep", "peers=4,5,6") == 1
    said = capsys.readouterr()
    assert "peers = 5: failed: its process was ended" in said.err
    assert "2 of 3 done" in said.out
    assert [row["status"] for row in table(tmp_path)] == ["done", "failed", "done"]
    assert study(tmp_path, "--sweep", "peers=4,5,6") == 0
    assert "3 of 3 done, 2 of them before" in capsys.readouterr().out


def test_a_defect_in_one_setting_does_not_stop_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = conduct.measure

    def measure(setting: Any, folder: Path) -> Any:
        if setting.swept["peers"] == 4:
            raise ZeroDivisionError("of\ntwo lines")
        return real(setting, folder)

    monkeypatch.setattr(conduct, "measure", measure)
    assert study(tmp_path, "--sweep", "peers=4,5") == 1
    assert [row["reason"] for row in table(tmp_path)] == ["ZeroDivisionError: of", ""]


def test_peers_that_do_not_end_alike_are_an_incomplete_study(tmp_path: Path) -> None:
    file = tmp_path / "study.toml"
    file.write_text(
        'topology = "line"\nround_timeout = 1.0\nsettle_timeout = 1.0\n[sweep]\npeers = [4]\n'
        '[[scenario]]\nverb = "crash"\npeer = 1\nround = 1\n'
    )
    assert study(tmp_path / "s", str(file)) == 3
    [row] = table(tmp_path / "s")
    assert int(row["missing_peers"]) > 0


def test_the_scenario_and_speeds_of_peers_count(tmp_path: Path) -> None:
    assert study(tmp_path, "--sweep", "stragglers=0.0,0.5", "--slowdown", "3") == 0
    fast, slow = (float(row["round_seconds_mean"]) for row in table(tmp_path))
    assert slow == pytest.approx(fast + 2 * 0.6)


@pytest.mark.usefixtures("_with_pictures")
def test_pictures_are_drawn_where_there_is_what_they_show(tmp_path: Path) -> None:
    def drawn(*flags: str) -> set[str]:
        out = tmp_path / str(len(list(tmp_path.iterdir())))
        assert study(out, *flags) == 0
        for path in (out / "figures").glob("*.svg"):
            ElementTree.parse(path)
        return {path.stem for path in (out / "figures").glob("*.svg")}

    assert drawn("--sweep", "peers=3,6", "--sweep", "gossip=tree,flood") == {
        "bytes-against-peers",
        "time-against-diameter",
        "links-ring-3-tree",
        "links-ring-3-flood",
        "links-ring-6-tree",
        "links-ring-6-flood",
    }
    assert drawn("--sweep", "seed=0,1") == {"links-ring-8-tree"}


@pytest.mark.usefixtures("_with_pictures")
@pytest.mark.parametrize("key", ["local_steps", "candidate_seeds"])
def test_bytes_are_drawn_against_what_varies(tmp_path: Path, key: str) -> None:
    varied = SMALL | {key: [16, 32]}
    sim.study.run(out=str(tmp_path), peers=4, **varied)
    stem = f"bytes-against-{key.replace('_', '-')}"
    assert {path.stem for path in (tmp_path / "figures").iterdir()} == {stem, "links-ring-4-tree"}


@pytest.mark.usefixtures("_with_pictures")
def test_the_same_study_draws_the_same_bytes(tmp_path: Path) -> None:
    flags = ("--sweep", "topology=ring,star", "--sweep", "peers=4,6", "--sweep", "seed=0,1")
    pictures = []
    for name in ("a", "b"):
        assert study(tmp_path / name, *flags) == 0
        found = sorted((tmp_path / name / "figures").iterdir())
        pictures.append([(path.name, path.read_bytes()) for path in found])
    assert pictures[0] == pictures[1]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--sweep", "peers="], "sweep.peers is empty"),
        (["--sweep", "peers"], "--sweep 'peers' is not allowed: must be KEY=V1,V2"),
        (["--sweep", "peers=4,,5"], "--sweep 'peers=4,,5' has an empty value"),
        (["--sweep", "peers=4,five"], "peers = 'five' is not allowed: must be a whole number"),
        (["--sweep", "fold=perhaps"], "fold = 'perhaps' is not allowed: must be true or false"),
        (["--sweep", "peers=4", "--sweep", "peers=5"], "peers is varied twice"),
        (["--sweep", "pers=4"], "pers = ['4']: there is no such option; did you mean peers?"),
        (["--sweep", "peers=4", "--peers", "5"], "peers is both varied and set to 5"),
        (["--sweep", "peers=4", "--workers", "0"], "workers = '0' is not allowed"),
        (["--sweep", "peers=4", "--format", "xls"], "invalid choice: 'xls'"),
        (["--sweep", "peers=4", "--measure", "all"], "measure = 'all' is not allowed"),
        (["--sweep", "topology=ring,rnig"], "'rnig' is neither a family"),
        (["missing.toml"], "cannot read missing.toml: No such file"),
        ([], "a study varies something"),
        (["--resume", "--sweep", "peers=4"], "there is no studies/study to resume"),
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
    assert main(["study", *flags]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert message in line
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("text", ["peers = ", "\x00", "[sweep]\npeers = [1", "sweep.sweep = {"])
def test_a_file_that_is_no_toml_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    file = tmp_path / "a.toml"
    file.write_text(text)
    assert main(["study", str(file)]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert f"{file} is no TOML file" in line


def test_a_folder_that_holds_something_else_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = ("--sweep", "peers=4,5")
    file = tmp_path / "file"
    file.write_text("")
    for out in (file, file / "below", tmp_path):
        assert study(out, *mine) == 2
    out = tmp_path / "s"
    assert study(out, *mine) == 0
    capsys.readouterr()
    for other, message in (
        (("--sweep", "peers=4,6"), "peers is 4, 5 there and 4, 6 here"),
        ((*mine, "--degree", "3"), "degree is 4 there and 3 here"),
        (
            (*mine, "--measure", "sim", "--trainer", "synthetic"),
            "measure is 'protocol' there and 'sim' here",
        ),
    ):
        assert study(out, *other) == 2
        [line] = capsys.readouterr().err.splitlines()[-1:]
        assert line == f"kseed: {out} holds another study: {message}"
    assert study(out, *mine) == 0


def test_new_studies_of_a_name_get_numbers_and_the_newest_is_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, computed: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    flags = ["study", *FLAGS, "--name", "mine", "--sweep", "peers=4"]
    for _ in range(2):
        assert main(flags) == 0
    assert main([*flags, "--resume"]) == 0
    assert {path.name for path in Path("studies").iterdir()} == {"mine", "mine-2"}
    assert len(computed) == 2


def test_two_cannot_work_in_one_folder_at_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from sim.study.definition import define
    from sim.study.folder import StudyFolder

    wanted = define({"sweep": {"peers": [4]}})
    with StudyFolder(tmp_path).held(wanted):
        assert study(tmp_path, "--sweep", "peers=4") == 2
    assert "is in use by another `kseed study`" in capsys.readouterr().err
    assert study(tmp_path, "--sweep", "peers=4") == 0


def test_options_without_effect_in_any_setting_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ("--sweep", "topology=ring,random-regular", "--degree", "3", "--alpha", "0.1")
    assert study(tmp_path, *flags, "--peers", "6") == 0
    assert "without effect in this study, and ignored: alpha\n" in capsys.readouterr().err


def test_ctrl_c_says_how_to_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(work: Callable[[Any], Any], items: list[Any], _workers: int) -> Iterator[Any]:
        yield items[0], work(items[0])
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(errands, "done_by_workers", interrupted)
        assert study(tmp_path, "--sweep", "peers=4,5") == 130
    said = f"1 of 2 settings are kept; to go on: kseed study --out {tmp_path}"
    assert said in capsys.readouterr().err
    assert main(["study", "--out", str(tmp_path)]) == 0
