"""`--tune`: what is tried and chosen, on which rows, and the run that is begun with it."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from runs import without_costs

import sim
import sim.tuning
from peer.config import experiment_from
from peer.data.apart import set_apart
from peer.errors import UserError
from peer.methods import METHODS
from peer.records import RunFolder
from peer.setup import load_corpus, prepare
from sim.cli import main
from sim.cluster import session as cluster_session
from sim.runner import simulate
from sim.tuning import short_run, tune
from sim.tuning.records import in_words, read_chosen, write
from sim.tuning.search import Found, Ladder, Losses, Values, ladders, runs, search
from sim.tuning.short_run import rows_apart, shortened

GIVEN = {"learning_rate": 1e-4, "epsilon": 1e-3}
ZEROTH, FIRST = "fedkseed", "fedit"


def bowl(rate: float, epsilon: float) -> Callable[[Values], Losses]:
    """Losses that are the lower the nearer values are to these, by their ratio."""

    def losses(values: Values) -> Losses:
        apart = abs(math.log(values["learning_rate"] / rate))
        return Losses(9.0, 1 + apart + abs(math.log(values.get("epsilon", epsilon) / epsilon)))

    return losses


# What is tried


@given(st.floats(-9, 1), st.floats(-9, 1), st.floats(-6, 0), st.sampled_from([ZEROTH, FIRST]))
def test_a_search_tries_no_values_twice_and_chooses_the_lowest_loss(
    best_rate: float, best_epsilon: float, start: float, method: str
) -> None:
    losses = bowl(10**best_rate, 10**best_epsilon)
    names = [ladder.option for ladder in ladders(method)]
    given_ = dict.fromkeys(names, 10**start)
    found = search(given_, ladders(method), losses)
    tried = [tuple(trial.values.items()) for trial in found.trials]
    assert len(set(tried)) == len(tried)
    assert found.trials[0].losses == losses(found.trials[0].values)
    least, most = runs(method)
    assert least <= len(found.trials) <= most
    lowest = min(trial.losses.final for trial in found.trials)
    if found.lowered:
        assert losses(found.chosen).final == lowest
    else:
        assert found.chosen == given_


def test_learning_rates_come_first_and_the_best_is_kept_for_epsilon() -> None:
    found = search(GIVEN, ladders(ZEROTH), bowl(3.3e-5, 1e-3))
    assert [(t.values["learning_rate"], t.values["epsilon"]) for t in found.trials] == [
        *((rate, 1e-3) for rate in (1e-5, 3.3e-5, 1e-4, 3e-4, 1e-3)),
        *((3.3e-5, epsilon) for epsilon in (1e-4, 1e-2)),
    ]
    assert found.chosen == {"learning_rate": 3.3e-5, "epsilon": 1e-3}
    assert found.at_edge == ()


@pytest.mark.parametrize(
    ("best", "tried", "chosen", "at_edge"),
    [
        (3e-3, [1e-5, 3.3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2], 3e-3, ()),
        (1.0, [1e-5, 3.3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2], 1e-2, ("learning_rate",)),
        (3.3e-6, [1e-5, 3.3e-5, 1e-4, 3e-4, 1e-3, 1e-6, 3.3e-6], 3.3e-6, ()),
    ],
)
def test_where_the_best_is_at_the_edge_the_range_is_widened_once(
    best: float, tried: list[float], chosen: float, at_edge: tuple[str, ...]
) -> None:
    found = search({"learning_rate": 1e-4}, ladders(FIRST), bowl(best, 1.0))
    assert sorted(t.values["learning_rate"] for t in found.trials) == sorted(tried)
    assert (found.chosen, found.at_edge) == ({"learning_rate": chosen}, at_edge)


def test_values_beyond_the_limits_of_an_option_are_not_tried() -> None:
    found = search({"learning_rate": 200.0}, ladders(FIRST), bowl(1e3, 1.0))
    assert max(trial.values["learning_rate"] for trial in found.trials) == 600.0


@pytest.mark.parametrize("worse", [math.nan, math.inf, 9.5])
def test_what_has_diverged_is_not_chosen(worse: float) -> None:
    def losses(values: Values) -> Losses:
        return Losses(9.0, worse if values["learning_rate"] > 2e-5 else 8.9)

    found = search({"learning_rate": 1e-4}, ladders(FIRST), losses)
    assert found.chosen["learning_rate"] <= 1e-5
    assert [t.losses.diverged for t in found.trials] == [
        t.values["learning_rate"] > 2e-5 for t in found.trials
    ]
    assert in_words(found, ["learning_rate"]).count("diverged") == 4


def test_if_nothing_lowers_the_loss_the_given_values_are_kept() -> None:
    found = search(GIVEN, ladders(ZEROTH), lambda _values: Losses(2.0, math.nan))
    assert found.chosen == GIVEN
    assert not found.lowered
    assert "No values lowered the loss" in in_words(found, [*GIVEN])


def test_equal_losses_leave_the_given_values() -> None:
    found = search(GIVEN, ladders(ZEROTH), lambda _values: Losses(2.0, 1.5))
    assert found.chosen == GIVEN


def test_epsilon_is_searched_where_steps_are_of_zeroth_order() -> None:
    with_epsilon = {name for name in METHODS if len(ladders(name)) == 2}
    assert with_epsilon == {"fedkseed", "fedkseed-pro", "fedkseed-infinite", "fedzo", "fedmezo"}
    assert runs(FIRST) == (5, 7)
    assert runs(ZEROTH) == (7, 10)


def test_what_was_found_is_read_again(tmp_path: Path) -> None:
    losses = {1e-3: math.inf, 3e-4: 1.0}
    found = search(
        {"learning_rate": 1e-4},
        ladders(FIRST),
        lambda values: Losses(2.0, losses.get(values["learning_rate"], 1.5)),
    )
    assert read_chosen(tmp_path) is None
    write(found, tmp_path)
    assert read_chosen(tmp_path) == found.chosen == {"learning_rate": 3e-4}
    told = json.loads((tmp_path / "tune.json").read_text())
    assert [run["diverged"] for run in told["runs"]] == [False] * 4 + [True]
    with (tmp_path / "tune.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["final_loss"] for row in rows] == ["1.5", "1.5", "1.5", "1.0", ""]
    for damaged in ("", "[]", '{"schema": 2, "chosen": {}}', '{"schema": 1, "chosen": 1}'):
        (tmp_path / "tune.json").write_text(damaged)
        with pytest.raises(UserError, match="is damaged"):
            read_chosen(tmp_path)


# The rows that it is judged on


@given(
    st.lists(st.integers(1, 40), min_size=1, max_size=8),
    st.floats(0.01, 0.99),
    st.integers(0, 2**63),
)
@settings(deadline=None)
def test_a_share_of_each_shard_is_set_apart(sizes: list[int], share: float, seed: int) -> None:
    ends = np.cumsum(sizes)
    shards = [np.arange(end - size, end) * 3 for size, end in zip(sizes, ends, strict=True)]
    if max(sizes) == 1:
        with pytest.raises(UserError, match="no peer has two rows"):
            set_apart(shards, share, seed)
        return
    rows, left = set_apart(shards, share, seed)
    for before, after in zip(shards, left, strict=True):
        given_ = np.setdiff1d(before, after)
        assert len(after) + len(given_) == len(before)
        assert len(after) >= 1
        assert np.isin(given_, rows).all()
        assert np.array_equal(after, np.sort(after))
        if len(before) > 1:
            expected = min(max(1, round(share * len(before))), len(before) - 1)
            assert len(given_) == expected
    gone = np.setdiff1d(np.concatenate(shards), np.concatenate(left))
    assert np.array_equal(rows, gone)
    assert np.array_equal(set_apart(shards, share, seed)[0], rows)


def test_rows_of_the_evaluation_are_in_no_short_run(tiny_options: dict[str, Any]) -> None:
    experiment = experiment_from(tiny_options)
    whole, apart = load_corpus(experiment).split, rows_apart(experiment).split
    assert len(apart.held_out) > 0
    for rows in (apart.held_out, *apart.shards):
        assert not np.isin(rows, whole.held_out).any()
    prepared = prepare(experiment, "sim", rows_apart(experiment))
    assert prepared.protocol.roster.rows == tuple(map(len, apart.shards))


@pytest.mark.parametrize(("rounds", "short"), [(1, 1), (4, 1), (8, 2), (40, 3)])
def test_a_short_run_has_a_quarter_of_the_rounds_and_at_most_a_few(rounds: int, short: int) -> None:
    crash = [{"verb": "crash", "peer": 1, "round": 1}]
    values = {"rounds": rounds, "scenario": crash if rounds > 1 else [], "trace": True}
    made = shortened(experiment_from(values | {"tune": True, "out": "x", "resume": True}))
    assert made == experiment_from({"rounds": short})


# The run that is begun


@pytest.fixture(scope="module")
def options(tiny_options: dict[str, Any]) -> dict[str, Any]:
    return tiny_options | {"rounds": 2, "peers": 3, "local_steps": 2}


def test_a_tuned_run_is_the_run_with_the_values_found(
    tmp_path: Path, options: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "a"
    flags = [f"--{key.replace('_', '-')}={value}" for key, value in options.items()]
    assert main(["sim", *flags, "--tune", "--out", str(out)]) == 0
    said = capsys.readouterr()
    found = json.loads((out / "tune.json").read_text())
    assert "Chosen: learning rate" in said.out
    assert said.err.count("tried learning rate") == len(found["runs"])
    experiment = RunFolder(out).experiment()
    assert not experiment.tune
    chosen = {name: getattr(experiment, name) for name in ("learning_rate", "epsilon")}
    assert chosen == found["chosen"]
    assert min(run["final_loss"] for run in found["runs"]) < found["runs"][0]["initial_loss"]
    # What is written says the same as the same run without a search.
    plain = simulate(experiment_from(options | chosen | {"out": str(tmp_path / "b")}))
    summary = json.loads((out / "summary.json").read_text())
    assert without_costs(summary) == without_costs(plain)
    assert {path.name for path in tmp_path.iterdir()} == {"a", "b"}
    # The values stay, whatever comes later.
    more = [*flags, "--tune", "--out", str(out), "--resume", "--rounds=3"]
    assert main(["sim", *more]) == 0
    assert "tried" not in capsys.readouterr().err
    assert RunFolder(out).experiment().learning_rate == chosen["learning_rate"]


def test_a_search_repeats_and_leaves_nothing(
    tmp_path: Path, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    few = (Ladder("learning_rate", (), (0.1, 1.0), ()),)
    monkeypatch.setattr(sim.tuning, "ladders", lambda _method: few)
    found: list[Found] = []
    for name in ("a", "b"):
        found.append(tune(experiment_from(options), tmp_path / name))
        assert not list((tmp_path / name).iterdir())
    assert found[0] == found[1]


def test_in_a_program_tune_is_an_option(
    tmp_path: Path, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[Values] = []

    def losses(_short: Any, _corpus: Any, values: Values, *_where: Any) -> Losses:
        tried.append(values)
        return Losses(2.0, abs(math.log(values["learning_rate"] / 3e-3)))

    monkeypatch.setattr(short_run, "try_values", losses)
    summary = sim.run(tune=True, out=str(tmp_path / "r"), **options)
    assert len(tried) == runs(ZEROTH)[0]
    assert RunFolder(Path(summary["folder"])).experiment().learning_rate == 3e-3


def test_on_a_cluster_workers_are_begun_once_for_all_short_runs(
    options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[object] = []
    tried: list[object] = []

    @contextmanager
    def session(_experiment: Any) -> Iterator[object]:
        begun.append(object())
        yield begun[-1]

    def losses(_short: Any, _corpus: Any, _values: Values, _scratch: Path, there: object) -> Losses:
        tried.append(there)
        return Losses(2.0, 1.0)

    monkeypatch.setattr(cluster_session, "session", session)
    monkeypatch.setattr(short_run, "try_values", losses)
    tune(experiment_from(options | {"engine": "ray"}))
    assert len(begun) == 1
    assert len(tried) > 1
    assert set(tried) == set(begun)
    tune(experiment_from(options))
    assert len(begun) == 1
    assert tried[-1] is None


@pytest.mark.slow
def test_launch_runs_with_the_values_found(
    tmp_path: Path,
    options: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def losses(_short: Any, _corpus: Any, values: Values, *_where: Any) -> Losses:
        return Losses(2.0, abs(math.log(values["learning_rate"] / 3e-3)))

    monkeypatch.setattr(short_run, "try_values", losses)
    wanted = options | {"peers": 2, "rounds": 1, "out": str(tmp_path / "r")}
    flags = [f"--{key.replace('_', '-')}={value}" for key, value in wanted.items()]
    assert main(["launch", *flags, "--tune", "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert (summary["engine"], summary["digests"]["all_equal"]) == ("launch", True)
    assert RunFolder(tmp_path / "r").experiment().learning_rate == 3e-3


def test_an_interrupted_search_leaves_nothing(
    tmp_path: Path, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_arguments: Any) -> Losses:
        raise KeyboardInterrupt

    monkeypatch.setattr(short_run, "try_values", interrupted)
    with pytest.raises(KeyboardInterrupt):
        sim.run(tune=True, out=str(tmp_path / "r"), **options)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("command", ["sim", "launch"])
def test_without_a_model_there_is_nothing_to_tune(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([command, "--tune", "--trainer", "synthetic"]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert "tune = True is not allowed: needs a model, and trainer = 'synthetic' has none" in line


def test_a_run_that_was_not_tuned_cannot_be_later(tmp_path: Path, options: dict[str, Any]) -> None:
    experiment = experiment_from(options | {"out": str(tmp_path / "r")})
    simulate(experiment)
    with pytest.raises(UserError, match="was begun without it"):
        sim.run(**options, out=str(tmp_path / "r"), resume=True, tune=True)
    with pytest.raises(UserError, match="already holds a run"):
        sim.run(**options, out=str(tmp_path / "r"), tune=True)


def test_a_dry_run_says_what_tuning_would_take(
    options: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    flags = [f"--{key.replace('_', '-')}={value}" for key, value in options.items()]
    assert main(["sim", *flags, "--tune", "--dry-run"]) == 0
    assert "Tuning before it would take 7 to 10 simulations of 1 round" in capsys.readouterr().out
    assert main(["sim", *flags, "--tune", "--dry-run", "--json"]) == 0
    cost = json.loads(capsys.readouterr().out)["tuning"]
    assert cost["runs"] == {"least": 7, "most": 10}
    assert cost["seconds"]["most"] == pytest.approx(10 * cost["seconds"]["each"])
