"""Scenarios: what the tables of a file mean, what is refused, and in which order things happen."""

from __future__ import annotations

import dataclasses
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from runs import SYNTHETIC

from peer.config import Experiment, experiment_from
from peer.errors import UserError
from peer.experiment_file import commented_toml, write_toml
from peer.records import RunFolder
from peer.scenario import (
    ROSTER_CHANGES,
    VERBS,
    Incident,
    Script,
    check_scenario,
    evicted,
    membership,
    parse_scenario,
)
from peer.setup import prepare

PEERS, ROUNDS = 6, 5
Table = dict[str, Any]


def tables(*lines: str) -> list[Table]:
    """Tables from short lines: a verb, peers, and @round or +seconds."""
    found: list[Table] = []
    for line in lines:
        verb, *rest = line.split()
        table: Table = {"verb": verb}
        for word in rest:
            if word[0] == "@":
                table["round"] = int(word[1:])
            elif word[0] == "+":
                table["time"] = float(word[1:])
            else:
                table["peers"] = [int(peer) for peer in word.split(",")]
        found.append(table)
    return found


def script(*lines: str) -> tuple[Incident, ...]:
    return parse_scenario(tables(*lines))


def told(*lines: str | Table) -> str:
    """The one line that a scenario is refused with, by itself or for its run."""
    parsed = [tables(line)[0] if isinstance(line, str) else line for line in lines]
    with pytest.raises(UserError) as refusal:
        check_scenario(parse_scenario(parsed), PEERS, ROUNDS)
    line = str(refusal.value)
    assert len(line.splitlines()) == 1
    return line


@st.composite
def incidents(draw: st.DrawFn) -> Incident:
    """Any incident that a table can say, whether it can be played or not."""
    verb = draw(st.sampled_from(VERBS))
    peers = draw(st.sets(st.integers(0, 9), min_size=1))
    round_ = draw(st.none() | st.integers(1, 9)) if verb not in ROSTER_CHANGES else 1
    time = draw(st.floats(0, 1e9)) if round_ is None else None
    return Incident(verb, () if verb == "repair" else tuple(sorted(peers)), round_, time)


# Reading


def test_a_table_says_what_befalls_whom_and_when() -> None:
    text = """
    [[scenario]]
    verb = "crash"
    peer = 3
    round = 2
    [[scenario]]
    verb = "partition"
    peers = [4, 1]
    time = 30
    [[scenario]]
    verb = "repair"
    time = 40.5
    """
    assert experiment_from(tomllib.loads(text)).scenario == (
        Incident("crash", (3,), 2, None),
        Incident("partition", (1, 4), None, 30.0),
        Incident("repair", (), None, 40.5),
    )


@given(st.lists(incidents()))
def test_toml_brings_every_scenario_back(scenario: list[Incident]) -> None:
    experiment = Experiment(scenario=tuple(scenario), out="a")
    whole = dataclasses.asdict(experiment)
    assert experiment_from(whole) == experiment
    assert experiment_from(tomllib.loads(write_toml(whole))) == experiment
    values = {"scenario": experiment.scenario, "out": "a"}
    assert experiment_from(tomllib.loads(write_toml(values))) == experiment


def test_the_example_of_the_commented_file_can_be_played() -> None:
    lines = commented_toml().splitlines()
    example = lines[lines.index("# [[scenario]]") :]
    values = tomllib.loads("\n".join(line.removeprefix("#") for line in example))
    scenario = experiment_from(values).scenario
    assert [incident.verb for incident in scenario] == ["crash", "restart", "partition", "repair"]
    check_scenario(scenario, Experiment().peers, Experiment().rounds)


@pytest.mark.parametrize(
    ("table", "line"),
    [
        ({"verb": "crush"}, "scenario 1 ('crush'): no such verb; did you mean crash?"),
        ({"verb": 3}, "scenario 1 (3): no such verb; allowed are " + ", ".join(VERBS)),
        ({"peer": 3}, "scenario 1: a verb is missing"),
        (
            {"verb": "crash", "peer": 3, "rond": 2},
            "scenario 1 (crash): 'rond' = 2, no such key; did you mean round?",
        ),
        ({"verb": "crash", "peer": 3}, "scenario 1 (crash): wants either a round or a time"),
        (
            {"verb": "crash", "peer": 3, "round": 1, "time": 2.0},
            "scenario 1 (crash): wants either a round or a time",
        ),
        (
            {"verb": "crash", "peer": 3, "peers": [3], "round": 1},
            "scenario 1 (crash): has both peer and peers",
        ),
        ({"verb": "crash", "round": 1}, "scenario 1 (crash): wants a peer or peers"),
        (
            {"verb": "crash", "peers": [], "round": 1},
            "scenario 1 (crash): wants a peer or peers",
        ),
        (
            {"verb": "repair", "peer": 1, "round": 1},
            "scenario 1 (repair): takes no peers, it mends all cuts",
        ),
        *[
            (
                {"verb": verb, "peer": 1, "time": 1.0},
                f"scenario 1 ({verb}): wants a round and no time: it changes the roster",
            )
            for verb in ("join", "leave", "evict")
        ],
        (
            {"verb": "leave", "peer": 1, "round": 0},
            "scenario 1 (leave): round = 0, so it would never be active",
        ),
    ],
)
def test_a_wrong_table_is_told(table: Table, line: str) -> None:
    assert told(table) == line


@pytest.mark.parametrize("peers", [-1, True, 1.0, "1", [1, 1], [1, -1], [True], {"a": 1}, [[1]]])
@pytest.mark.parametrize("key", ["peer", "peers"])
def test_peers_are_different_whole_numbers(key: str, peers: Any) -> None:
    line = told({"verb": "hold", key: peers, "round": 1})
    assert line.endswith(f"peers = {peers!r}, must be different whole numbers from 0")


@pytest.mark.parametrize("round_", [-1, True, 1.0, "1", [1]])
def test_a_round_is_a_whole_number(round_: Any) -> None:
    line = told({"verb": "hold", "peer": 1, "round": round_})
    assert line == f"scenario 1 (hold): round = {round_!r}, must be a whole number from 0"


@pytest.mark.parametrize("time", [-0.5, True, "1", float("nan"), float("inf"), 2e9])
def test_a_time_is_a_number_of_seconds(time: Any) -> None:
    line = told({"verb": "hold", "peer": 1, "time": time})
    assert line == f"scenario 1 (hold): time = {time!r}, must be seconds from 0 to 1e9"


@pytest.mark.parametrize("value", [3, "crash", {"verb": "crash"}, [3], [{}, "crash"]])
def test_a_scenario_is_tables(value: Any) -> None:
    with pytest.raises(UserError, match=r"must be tables \[\[scenario\]\]$"):
        experiment_from({"scenario": value})


def test_the_number_of_the_wrong_table_is_told() -> None:
    assert told("crash 1 @1", "restart 1 @2", "hold 1").startswith("scenario 3 (hold): ")


def test_a_misspelt_scenario_is_told() -> None:
    with pytest.raises(UserError, match=r"there is no such option; did you mean scenario\?$"):
        experiment_from({"scenaro": []})


# What can be played


@pytest.mark.parametrize(
    "lines",
    [
        ["crash 1 @1", "restart 1 @1", "crash 1 @2", "restart 1 @4"],
        ["restart 1 @3", "crash 1 @2"],
        ["crash 1 +5", "restart 1 @1"],
        ["crash 1 @1", "evict 1 @2"],
        ["hold 1 @1", "evict 1 @2", "release 1 @3"],
        ["hold 1 @1", "crash 1 @2", "restart 1 @3", "hold 1 @3", "release 1 @4"],
        ["hold 1 @1", "leave 1 @2", "release 1 @3"],
        ["join 1 @2", "crash 1 @3", "restart 1 @4"],
        ["join 1,2 @1", "leave 1 @3"],
        ["partition 1,2 @1", "partition 3 @2", "repair @3", "partition 1 @3", "repair @4"],
        ["repair +8", "partition 1 +7.5"],
        ["leave 0,1,2 @1", "leave 3,4 @2"],
        ["join 0 @0", "leave 1,2,3,4,5 @1"],
    ],
)
def test_what_can_happen_is_allowed(lines: list[str]) -> None:
    check_scenario(script(*lines), PEERS, ROUNDS)


@pytest.mark.parametrize(
    ("lines", "line"),
    [
        (["crash 6 @1"], "scenario 1 (crash): peer 6, there are peers 0 to 5"),
        (["crash 1 @5"], "scenario 1 (crash): round 5, the last one is 4"),
        (["restart 1 @1"], "scenario 1 (restart): peer 1 has not crashed before"),
        (["restart 1 @1", "crash 1 @2"], "scenario 1 (restart): peer 1 has not crashed before"),
        (["restart 1 @1", "crash 1 +2"], "scenario 1 (restart): peer 1 has not crashed before"),
        (
            ["crash 1 @2", "crash 1 @3"],
            "scenario 2 (crash): peer 1 has crashed before, and not been restarted",
        ),
        (
            ["crash 1 @2", "hold 1 @3"],
            "scenario 2 (hold): peer 1 has crashed before, and not been restarted",
        ),
        (
            ["crash 1 @2", "leave 1 @3"],
            "scenario 2 (leave): peer 1 has crashed before, and not been restarted",
        ),
        (["crash 1 @1", "join 1 @2"], "scenario 1 (crash): peer 1 has not joined before"),
        (["join 1 @1", "join 1 @2"], "scenario 2 (join): peer 1 joins twice"),
        (["join 1 @1", "leave 1 @2"], "scenario 2 (leave): peer 1 would never be active"),
        (["leave 1 @1", "crash 1 @2"], "scenario 2 (crash): peer 1 has left before"),
        (["leave 1 @1", "join 1 @2"], "scenario 1 (leave): peer 1 has not joined before"),
        (
            ["evict 1 @2"],
            "scenario 1 (evict): peer 1 has neither crashed before nor is it held",
        ),
        (
            ["crash 1 @1", "evict 1 @2", "restart 1 @3"],
            "scenario 3 (restart): peer 1 has not crashed before",
        ),
        (
            ["crash 1 @1", "evict 1 @2", "evict 1 @3"],
            "scenario 3 (evict): peer 1 has neither crashed before nor is it held",
        ),
        (["release 1 @1"], "scenario 1 (release): peer 1 has not been held before"),
        (["hold 1 @1", "hold 1 @2"], "scenario 2 (hold): peer 1 is held already"),
        (
            ["hold 1 @1", "crash 1 @2", "release 1 @3"],
            "scenario 3 (release): peer 1 has not been held before",
        ),
        (["repair @1"], "scenario 1 (repair): no partition before it"),
        (
            ["partition 1 @1", "repair @2", "repair @3"],
            "scenario 3 (repair): no partition before it",
        ),
        (
            ["partition 0,1,2,3,4,5 @1"],
            "scenario 1 (partition): all peers, so there is nobody to cut them off from",
        ),
        (["join 0,1,2,3,4,5 @1"], "scenario: nobody is left to take part in round 0"),
        (["leave 0,1,2,3,4,5 @2"], "scenario: nobody is left to take part in round 2"),
        (
            ["join 0 @3", "leave 1,2,3,4,5 @2"],
            "scenario: nobody is left to take part in round 2",
        ),
    ],
)
def test_what_cannot_happen_is_told(lines: list[str], line: str) -> None:
    assert told(*lines) == line


@given(st.lists(incidents(), max_size=6))
def test_any_scenario_is_allowed_or_refused_in_one_line(scenario: list[Incident]) -> None:
    try:
        check_scenario(scenario, PEERS, ROUNDS)
    except UserError:
        with pytest.raises(UserError, match=r"^scenario[^\n]*$"):
            check_scenario(scenario, PEERS, ROUNDS)


def test_a_mistake_is_told_before_anything_is_written(tmp_path: Path) -> None:
    out = tmp_path / "run"
    values = SYNTHETIC | {"out": str(out), "scenario": tables("crash 5 @1")}
    with pytest.raises(UserError, match=r"there are peers 0 to 4$"):
        prepare(experiment_from(values), "sim")
    assert not out.exists()


def test_a_resumed_run_must_share_the_scenario(tmp_path: Path) -> None:
    values = SYNTHETIC | {"out": str(tmp_path), "scenario": tables("crash 4 @1", "restart 4 +2.5")}
    prepared = prepare(experiment_from(values), "sim")
    prepared.create_folder("sim")
    assert prepared.folder.experiment().scenario == script("crash 4 @1", "restart 4 +2.5")
    again = experiment_from(values | {"resume": True})
    assert RunFolder.for_experiment(again, "sim").path == tmp_path
    other = experiment_from(values | {"resume": True, "scenario": tables("crash 4 @1")})
    with pytest.raises(UserError, match="holds another experiment: scenario is "):
        RunFolder.for_experiment(other, "sim")


# Who belongs to the roster when


def test_joins_and_leaves_say_from_which_round_and_up_to_which_a_peer_is_active() -> None:
    scenario = script("join 3,1 @2", "crash 0 @1", "evict 0 @3", "leave 3 @4", "hold 2 @1")
    assert membership(scenario, 5) == ((0, 3, 0, 3, 0), (3, None, None, 4, None))
    assert membership((), 2) == ((0, 0), (None, None))
    assert evicted(scenario) == {0}


# When things happen


def test_incidents_are_due_by_time_or_by_round_and_each_once() -> None:
    timed = script("hold 1 +2", "crash 2 @1", "release 1 +3", "restart 2 @3")
    hold, crash, release, restart = timed
    play = Script(timed)
    assert play.next_time == 2.0
    assert play.due(1.9, -1) == []
    assert play.due(2.0, 0) == [hold]
    assert play.next_time == 3.0
    assert play.due(2.5, 2) == [crash]
    assert play.due(2.5, 2) == []
    assert play.due(9.0, 9) == [release, restart]
    assert play.next_time is None
    assert play.due(99.0, 99) == []


def test_what_is_due_at_once_comes_by_time_then_by_round_then_as_in_the_file() -> None:
    play = Script(script("hold 1 @2", "hold 2 +5", "hold 3 @1", "hold 4 +4", "hold 5 @1"))
    assert [incident.peers[0] for incident in play.due(5.0, 2)] == [4, 2, 3, 5, 1]


@given(
    st.lists(incidents(), max_size=8),
    st.lists(st.tuples(st.floats(0, 1e9), st.integers(-1, 9)), max_size=8),
)
def test_whoever_asks_often_hears_each_incident_once_and_none_too_early(
    scenario: list[Incident], moments: list[tuple[float, int]]
) -> None:
    play, heard = Script(scenario), []
    now, highest = 0.0, -1
    for step, round_ in [*moments, (1e9, 9)]:
        now, highest = max(now, step), max(highest, round_)
        due = play.due(now, highest)
        for incident in due:
            assert incident.time is None or incident.time <= now
            assert incident.round is None or incident.round <= highest
        heard += due
        assert play.next_time is None or play.next_time > now
    assert sorted(map(repr, heard)) == sorted(map(repr, scenario))
