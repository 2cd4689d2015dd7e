"""Studies from files and flags: grids, digests, and mistakes told in one line."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import topology
from peer.errors import UserError
from peer.importance import MOST_SEEDS
from sim.study.definition import MOST_SETTINGS, Study, define

VALUES: dict[str, tuple[Any, ...]] = {
    "peers": (4, 6, 9),
    "topology": ("ring", "torus", "star"),
    "gossip": ("flood", "tree"),
    "participation": (0.5, 1.0),
    "fold": (True, False),
}


def study(**values: Any) -> Study:
    return define({"sweep": {"peers": [4, 6]}} | values)


def sweeps() -> st.SearchStrategy[dict[str, list[Any]]]:
    some = {
        key: st.lists(st.sampled_from(values), min_size=1, unique=True)
        for key, values in VALUES.items()
    }
    return st.sets(st.sampled_from(sorted(VALUES)), min_size=1).flatmap(
        lambda keys: st.fixed_dictionaries({key: some[key] for key in sorted(keys)})
    )


@given(sweeps())
def test_the_grid_is_what_nested_loops_would_walk(sweep: dict[str, list[Any]]) -> None:
    points: list[dict[str, Any]] = [{}]
    for key, values in sweep.items():
        points = [point | {key: value} for point in points for value in values]
    settings = define({"rounds": 3, "sweep": sweep}).settings
    assert [dict(setting.swept) for setting in settings] == points
    for setting, point in zip(settings, points, strict=True):
        experiment = setting.experiment()
        assert experiment.rounds == 3
        assert experiment.is_synthetic
        assert {key: getattr(experiment, key) for key in point} == point
    assert len({setting.digest for setting in settings}) == len(points)


@given(sweeps())
def test_the_file_of_a_study_says_it_all(sweep: dict[str, list[Any]]) -> None:
    incident = {"verb": "crash", "peer": 1, "round": 1}
    first = define({"name": "a", "measure": "protocol", "sweep": sweep, "scenario": [incident]})
    assert define(tomllib.loads(first.toml())) == first


def test_a_digest_holds_for_a_setting_wherever_it_is_in_a_grid() -> None:
    small = define({"sweep": {"peers": [6]}, "topology": "ring"})
    large = define({"sweep": {"topology": ["star", "ring"], "peers": [4, 6]}, "rounds": 8})
    assert small.settings[0].digest == large.settings[3].digest
    other = define({"sweep": {"peers": [6]}, "measure": "sim", "trainer": "synthetic"})
    assert other.settings[0].digest != small.settings[0].digest


def test_whole_numbers_are_numbers_where_fractions_are_allowed() -> None:
    assert study(sweep={"participation": [1]}) == study(sweep={"participation": [1.0]})


def test_flags_win_over_a_file_in_both_ways() -> None:
    file = {"rounds": 3, "sweep": {"peers": [4, 6], "gossip": ["flood", "tree"]}}
    found = define(file, {"peers": 5}, {"rounds": [1, 2]})
    assert dict(found.sweep) == {"gossip": ("flood", "tree"), "rounds": (1, 2)}
    assert {setting.options["peers"] for setting in found.settings} == {5}
    again = define(file, {}, {"peers": [8]})
    assert dict(again.sweep) == {"peers": (8,), "gossip": ("flood", "tree")}


def test_contents_of_a_topology_file_count(tmp_path: Path) -> None:
    path = tmp_path / "graph.json"
    digests = []
    for peers in (4, 5):
        topology.save(topology.build("ring", peers), path)
        digests.append(study(topology=str(path), sweep={"rounds": [1]}).settings[0].digest)
    assert digests[0] != digests[1]


def test_a_combination_that_no_experiment_can_be_is_a_setting_with_a_refusal() -> None:
    seeds = [32, MOST_SEEDS + 1]
    found = study(sweep={"method": ["fedkseed", "fedkseed-pro"], "candidate_seeds": seeds})
    assert [bool(setting.refusal) for setting in found.settings] == [False, False, False, True]
    assert found.settings[3].refusal.startswith(f"candidate_seeds = {seeds[1]} is not allowed")
    with pytest.raises(UserError, match="candidate_seeds"):
        study(method="fedkseed-pro", sweep={"candidate_seeds": seeds})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"sweep": {"pers": [1, 2]}}, "pers = .*no such option; did you mean peers?"),
        ({"meassure": "sim"}, "meassure = 'sim': there is no such option; did you mean measure?"),
        ({"sweep": {"peers": [1]}}, "peers = 1 is not allowed: must be a whole number at least 2"),
        ({"sweep": {"gossip": ["tree", "shout"]}}, "gossip = 'shout' is not allowed"),
        ({"sweep": {"latency": ["soon"]}}, "latency = 'soon' is not allowed"),
        ({"sweep": {"gradient_bound": [3.0]}}, "gradient_bound = 3.0 is not allowed"),
        ({"sweep": {"peers": []}}, "sweep.peers is empty"),
        ({"sweep": {"peers": 8}}, "sweep.peers = 8 is not allowed: must be a list"),
        ({"sweep": {"gossip": "tree"}}, "sweep.gossip = 'tree' is not allowed: must be a list"),
        ({"sweep": [8]}, "sweep = .* is not allowed: must be a table"),
        ({"sweep": {}}, "a study varies something"),
        ({"sweep": {"peers": [8, 9, 8]}}, "sweep.peers has 8 twice"),
        ({"sweep": {"loss": [0, 0.0]}}, "sweep.loss has 0.0 twice"),
        (
            {"sweep": {"latency": ["0.1", "0.10"]}},
            "latency has '0.1' and '0.10', which are the same",
        ),
        (
            {"sweep": {"latency": ["1", "uniform:1-2", "uniform:1.0-2"]}},
            "uniform:1.0-2', which are",
        ),
        ({"peers": 4}, "peers is both varied and set to 4"),
        ({"out": "x"}, "out = 'x' is not allowed: it is of one run"),
        ({"sweep": {"resume": [True]}}, "resume = .* is not allowed: it is of one run"),
        ({"sweep": {"scenario": [[]]}}, "sweep.scenario is not allowed: scenario cannot be varied"),
        ({"trainer": "zeroth-order"}, "trainer = 'zeroth-order' is not allowed: measure"),
        ({"sweep": {"trainer": ["synthetic", "zeroth-order"]}}, "trainer = 'zeroth-order' is not"),
        ({"measure": "wire"}, "measure = 'wire' is not allowed: must be one of protocol, sim"),
        ({"name": "a/b"}, "name = 'a/b' is not allowed"),
        ({"name": ""}, "name = '' is not allowed"),
        ({"name": 7}, "name = 7 is not allowed"),
        ({"preset": "papers"}, "preset = 'papers' is not allowed"),
        (
            {"sweep": {"seed": list(range(101)), "peers": list(range(2, 102))}},
            f"a grid of 10,100 settings is too large: a study has at most {MOST_SETTINGS:,}",
        ),
    ],
)
def test_mistakes_are_told_in_one_line(values: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        study(**values)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("where", [{"topology": "rnig"}, {"sweep": {"topology": ["rnig"]}}])
def test_a_graph_that_is_none_is_a_mistake(where: dict[str, Any]) -> None:
    with pytest.raises(topology.TopologyError, match="'rnig' is neither a family"):
        study(**where)


def test_one_flag_cannot_vary_what_another_sets() -> None:
    with pytest.raises(UserError, match="rounds is both varied and set to 2"):
        define({"sweep": {"peers": [4]}}, {"rounds": 2}, {"rounds": [2, 3]})
