"""Experiments: options, what is refused and how that is told, and TOML in both directions."""

from __future__ import annotations

import dataclasses
import math
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from peer.config import Experiment, experiment_from
from peer.declarations import groups, options
from peer.errors import UserError
from peer.experiment_file import write_toml
from peer.importance import MOST_SEEDS
from peer.methods import METHODS
from peer.options import allowed, kind
from peer.presets import PRESETS
from sim.cli import _parser

OPTIONS = {item.name: item for item in options()}
NUMBERS = [name for name, item in OPTIONS.items() if kind(item) in (int, float)]
DEFAULTS = dataclasses.asdict(Experiment())

MAY_CHANGE = {
    "engine",
    "ray_address",
    "ray_workers",
    "ray_cpus",
    "ray_gpus",
    "rounds",
    "rouge_every",
    "round_timeout",
    "settle_timeout",
    "start_timeout",
    "disconnect",
    "device",
    "threads",
    "curve",
    "isolate",
    "metrics_port",
    "out",
    "trace",
    "resume",
    "dry_run",
    "tune",
    "log_level",
    "json",
}
"""What a resumed run may do in another way; it decides nothing about the model's bits in C5."""


def told(values: dict[str, Any]) -> str:
    """The one line that an experiment is refused with."""
    with pytest.raises(UserError) as refusal:
        experiment_from(values)
    line = str(refusal.value)
    assert len(line.splitlines()) == 1
    return line


texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))


def values_of(name: str) -> st.SearchStrategy[Any]:
    """Allowed values of an option, extremes included."""
    item, limits = OPTIONS[name], OPTIONS[name].metadata
    if limits["choices"]:
        return st.sampled_from(limits["choices"])
    if kind(item) is bool:
        return st.booleans()
    if name == "latency":
        return st.sampled_from(["0", "0.01", "uniform:0.02-0.08", "lognormal:1:0.5", "a b.csv"])
    if kind(item) is str:
        return texts
    least = limits["least"] if limits["least"] is not None else limits["above"]
    if name == "gradient_bound":
        return st.integers(0, 15).map(lambda power: 2.0**power)
    if kind(item) is int:
        most = {"local_steps": 1000, "candidate_seeds": MOST_SEEDS}.get(name, limits["most"])
        return st.integers(least, most)
    return st.floats(least, limits["most"], exclude_min=limits["above"] is not None)


@st.composite
def experiments(draw: st.DrawFn) -> dict[str, Any]:
    names = draw(st.sets(st.sampled_from(sorted(OPTIONS))))
    values = {name: draw(values_of(name)) for name in sorted(names)}
    if METHODS[values.get("method", "fedkseed")].averages:
        for name in ("trainer", "schedule", "sign", "resume"):
            values.pop(name, None)
    if values.get("aggregation") == "server":
        values["topology"] = "star"
    if values.get("resume"):
        values["out"] = values.get("out") or "runs/here"
    if values.get("tune"):
        values["trainer"] = "zeroth-order"
    if values.get("engine") == "ray":
        values.pop("side_by_side", None)
        values.pop("device", None)
    return values


def test_an_experiment_without_any_option_is_allowed() -> None:
    assert experiment_from({}) == Experiment()
    assert all(type(DEFAULTS[name]) is kind(item) for name, item in OPTIONS.items())


@pytest.mark.parametrize("name", OPTIONS)
def test_every_option_is_a_flag_and_a_key_and_the_flag_wins(name: str, tmp_path: Path) -> None:
    from sim.commands.parsing import experiment

    item = OPTIONS[name]
    flag = "--" + name.replace("_", "-")
    if kind(item) is bool:
        in_file, given_, wanted = True, [flag.replace("--", "--no-")], False
    else:
        other = {
            "topology": ("star", "line"),
            "latency": ("uniform:0.02-0.08", "links.csv"),
            "gradient_bound": (2.0, 4.0),
            "participation": (0.5, 0.25),
            "gossip": ("flood", "flood"),
            "method": ("fedkseed", "fedkseed-pro"),
            "aggregation": ("gossip", "gossip"),
            "slowdown": (2.0, 4.0),
        }
        if item.metadata["choices"]:
            pair = (item.metadata["choices"][0], item.metadata["choices"][-1])
        else:
            pair = {str: ("a b", "c\td"), int: (5, 6), float: (0.25, 0.5)}[kind(item)]
        in_file, wanted = other.get(name, pair)
        given_ = [flag, str(wanted)]
    path = tmp_path / "experiment.toml"
    path.write_text(write_toml({name: in_file} | ({"out": "o"} if name == "resume" else {})))
    from_file = experiment(_parser().parse_args(["sim", str(path)]))
    assert getattr(from_file, name) == in_file
    both = experiment(_parser().parse_args(["sim", str(path), *given_]))
    assert getattr(both, name) == wanted
    assert dataclasses.replace(both, **{name: in_file}) == from_file


@given(experiments(), st.sampled_from(NUMBERS), st.data())
@settings(deadline=None)
def test_numbers_outside_their_range_are_refused(
    values: dict[str, Any], name: str, data: st.DataObject
) -> None:
    limits = OPTIONS[name].metadata
    wrong: list[st.SearchStrategy[Any]] = []
    if limits["least"] is not None:
        wrong.append(st.integers(max_value=math.ceil(limits["least"]) - 1))
    if limits["above"] is not None:
        wrong.append(st.floats(max_value=limits["above"]))
    if limits["most"] is not None:
        wrong.append(st.integers(min_value=math.floor(limits["most"]) + 1, max_value=10**400))
    bad = data.draw(st.one_of(wrong))
    line = told(values | {name: bad})
    assert line == f"{name} = {bad!r} is not allowed: must be {allowed(OPTIONS[name])}"


@given(
    st.sampled_from(sorted(OPTIONS)),
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | texts
    | st.lists(st.integers())
    | st.dictionaries(st.text(), st.integers()),
)
def test_any_value_is_taken_or_refused_in_one_line(name: str, value: Any) -> None:
    if name == "resume" and value is True:
        return
    try:
        taken = getattr(experiment_from({name: value}), name)
    except UserError:
        line = told({name: value})
        # What is wrong with a whole number may show only after it became a float.
        assert line.startswith(f"{name} = {value!r}")
        assert " is not allowed: " in line
        return
    assert taken == value
    assert type(taken) is kind(OPTIONS[name])
    assert type(value) is type(taken) or (type(value) is int and type(taken) is float)


@pytest.mark.parametrize(
    ("key", "value", "must_be"),
    [
        ("peers", True, "a whole number at least 2 and at most 16777216"),
        ("peers", 1.5, "a whole number at least 2 and at most 16777216"),
        ("peers", 8.0, "a whole number at least 2 and at most 16777216"),
        ("peers", 1, "a whole number at least 2 and at most 16777216"),
        ("peers", 2**24 + 1, "a whole number at least 2 and at most 16777216"),
        ("peers", "8", "a whole number at least 2 and at most 16777216"),
        ("candidate_seeds", 0, "a whole number at least 1 and at most 16777216"),
        ("rounds", 0, "a whole number at least 1 and at most 16777216"),
        ("local_steps", -5, "a whole number at least 1 and at most 262144"),
        ("learning_rate", -1e-4, "a number at least 1e-30 and at most 1000"),
        ("learning_rate", 0.0, "a number at least 1e-30 and at most 1000"),
        ("learning_rate", math.nan, "a number at least 1e-30 and at most 1000"),
        ("learning_rate", math.inf, "a number at least 1e-30 and at most 1000"),
        ("learning_rate", True, "a number at least 1e-30 and at most 1000"),
        ("epsilon", 1e-60, "a number at least 1e-30 and at most 1000"),
        ("epsilon", 10**400, "a number at least 1e-30 and at most 1000"),
        ("participation", 1.5, "a number above 0 and at most 1"),
        ("participation", 0, "a number above 0 and at most 1"),
        ("alpha", math.nan, "a number above 0 and at most 1e+06"),
        ("gradient_bytes", 3, "one of 4, 2, 1"),
        ("gradient_bytes", True, "one of 4, 2, 1"),
        ("gradient_bytes", 4.0, "one of 4, 2, 1"),
        ("method", "fedsgd", f"one of {', '.join(METHODS)}"),
        ("dtype", "float64", "one of float32, bfloat16, float16"),
        ("json", 1, "true or false"),
        ("json", "yes", "true or false"),
        ("model", 7, "a text"),
        ("data", ["a.jsonl"], "a text"),
        ("out", {"folder": "x"}, "a text"),
        ("out", "a\0b", "a text without NUL and half surrogate pairs"),
        ("out", "caf\udce9", "a text without NUL and half surrogate pairs"),
        ("seed", 2**63, f"a whole number at least 0 and at most {2**63 - 1}"),
        ("seed", -1, f"a whole number at least 0 and at most {2**63 - 1}"),
    ],
)
def test_a_refusal_names_the_key_the_value_and_what_is_allowed(
    key: str, value: Any, must_be: str
) -> None:
    assert told({key: value}) == f"{key} = {value!r} is not allowed: must be {must_be}"


@pytest.mark.parametrize("bound", [1, 2.0, 1024, 32768.0])
def test_a_power_of_two_bounds_scalar_gradients(bound: float) -> None:
    assert experiment_from({"gradient_bound": bound}).gradient_bound == bound


@pytest.mark.parametrize("bound", [3, 1000.0, 1.5, math.nextafter(2.0, 3.0)])
def test_another_bound_of_scalar_gradients_is_refused(bound: float) -> None:
    assert told({"gradient_bound": bound}) == (
        f"gradient_bound = {float(bound)!r} is not allowed: a power of two"
    )


def test_a_round_fits_in_a_message_with_explicit_indices() -> None:
    line = told({"local_steps": 2**18})
    assert line.startswith(f"local_steps = {2**18} is not allowed: at most ")
    most = int(line.split("at most ")[1].split()[0])
    assert experiment_from({"local_steps": most}).local_steps == most
    told({"local_steps": most + 1})
    # Narrower scalar gradients leave room for more of them.
    assert experiment_from({"local_steps": most + 1, "gradient_bytes": 1})


def test_drawing_by_importance_limits_the_candidate_seeds() -> None:
    pro = {"method": "fedkseed-pro", "candidate_seeds": MOST_SEEDS}
    assert experiment_from(pro).candidate_seeds == MOST_SEEDS
    line = told(pro | {"candidate_seeds": MOST_SEEDS + 1})
    assert line.startswith(
        f"candidate_seeds = {MOST_SEEDS + 1} is not allowed: at most {MOST_SEEDS}"
    )
    assert experiment_from({"candidate_seeds": MOST_SEEDS + 1})


def test_resuming_needs_a_folder() -> None:
    assert told({"resume": True}).startswith("resume = True is not allowed: ")
    assert experiment_from({"resume": True, "out": "runs/a"}).resume


@pytest.mark.parametrize(
    ("key", "hint"),
    [
        ("lerning_rate", "did you mean learning_rate?"),
        ("learning-rate", "did you mean learning_rate?"),
        ("Peers", "did you mean peers?"),
        ("local_step", "did you mean local_steps?"),
        ("zzz", "allowed are " + ", ".join(OPTIONS)),
        ("", "allowed are " + ", ".join(OPTIONS)),
    ],
)
def test_a_misspelt_key_is_told_with_its_value_and_what_is_near(key: str, hint: str) -> None:
    assert told({key: 3}) == f"{key} = 3: there is no such option; {hint}"


@given(texts.filter(lambda key: key not in OPTIONS), texts)
def test_every_unknown_key_is_told_in_one_line(key: str, value: str) -> None:
    assert repr(value) in told({key: value})


def test_every_option_is_in_a_group() -> None:
    assert [item for items in groups().values() for item in items] == list(options())
    assert all(groups())
    assert all(len(items) > 2 for items in groups().values())


@given(experiments())
@settings(deadline=None)
def test_identity_is_all_but_what_a_resumed_run_may_change(values: dict[str, Any]) -> None:
    experiment = experiment_from(values)
    identity = experiment.identity()
    assert set(identity) == set(OPTIONS) - MAY_CHANGE | {"scenario"}
    assert all(getattr(experiment, name) == value for name, value in identity.items())


def test_whole_numbers_and_floats_make_the_same_experiment() -> None:
    whole = Experiment(learning_rate=1, epsilon=2, gradient_bound=4)
    points = experiment_from({"learning_rate": 1.0, "epsilon": 2.0, "gradient_bound": 4.0})
    assert whole == points
    assert repr(whole.identity()) == repr(points.identity())


def test_a_value_may_be_a_table_and_is_refused() -> None:
    values = tomllib.loads("[peers]\ncount = 8")
    assert told(values).startswith("peers = {'count': 8} is not allowed: ")


def test_the_configuration_needs_neither_torch_nor_numba() -> None:
    import subprocess

    code = "import sys, peer.config; assert not {'torch', 'numba', 'zmq'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_preset_gives_options_that_what_is_written_wins_over() -> None:
    assert experiment_from({"preset": "paper"}).perturbation == "gaussian"
    chosen = experiment_from({"preset": "paper", "perturbation": "rademacher", "peers": 5})
    assert (chosen.perturbation, chosen.peers) == ("rademacher", 5)
    for name, values in PRESETS.items():
        alone = experiment_from(values.options(Experiment.method))
        assert experiment_from({"preset": name}) == alone


@pytest.mark.parametrize("preset", ["papre", "", 3, ["paper"]])
def test_an_unknown_preset_is_refused(preset: Any) -> None:
    assert told({"preset": preset}) == (
        f"preset = {preset!r} is not allowed: must be one of {', '.join(PRESETS)}"
    )
