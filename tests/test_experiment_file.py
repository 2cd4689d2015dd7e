"""Experiments in TOML, in both directions, and the commented file."""

from __future__ import annotations

import dataclasses
import itertools
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_config import OPTIONS, experiments, texts

from peer.config import Experiment, experiment_from
from peer.errors import UserError
from peer.experiment_file import commented_toml, read_toml, write_toml
from peer.methods import METHODS


def test_the_commented_file_explains_every_option_and_is_the_default_experiment() -> None:
    text = commented_toml()
    own = {name for method in METHODS.values() for name in method.defaults}
    assert list(tomllib.loads(text)) == [name for name in OPTIONS if name not in own]
    lines = text.splitlines()
    values = tomllib.loads(re.sub(rf"^# ({'|'.join(own)}) = ", r"\1 = ", text, flags=re.MULTILINE))
    assert list(values) == list(OPTIONS)
    assert experiment_from(values) == Experiment() == experiment_from(tomllib.loads(text))
    for name, item in OPTIONS.items():
        prefix = "# " * (name in own)
        at = next(i for i, line in enumerate(lines) if line.startswith(f"{prefix}{name} = "))
        above = itertools.takewhile(lambda line: line.startswith("# "), reversed(lines[:at]))
        comment = " ".join(line.removeprefix("# ") for line in reversed(list(above)))
        assert comment.startswith(item.metadata["help"])
    assert max(map(len, lines)) <= 100


@pytest.mark.parametrize("method", METHODS)
def test_naming_a_method_in_the_commented_file_is_enough_to_have_its_values(method: str) -> None:
    values = tomllib.loads(commented_toml())
    assert experiment_from(values | {"method": method}) == experiment_from({"method": method})


@given(experiments())
@settings(deadline=None)
def test_toml_brings_every_experiment_back(values: dict[str, Any]) -> None:
    experiment = experiment_from(values)
    whole = dataclasses.asdict(experiment)
    assert experiment_from(tomllib.loads(write_toml(whole))) == experiment
    assert experiment_from(tomllib.loads(write_toml(values))) == experiment


@given(st.dictionaries(st.sampled_from(["a", "b_c"]), texts | st.booleans() | st.integers()))
def test_toml_holds_any_text(values: dict[str, Any]) -> None:
    assert tomllib.loads(write_toml(values)) == values


@pytest.mark.parametrize(
    "text", ['"', "\\", "\\u0041", "\n", "\r\n", "\x7f", "\x1b[0m", "\u2028", "\U000e0001", "'''"]
)
def test_toml_holds_awkward_texts(text: str) -> None:
    written = write_toml({"out": text})
    assert tomllib.loads(written) == {"out": text}
    assert len(written.splitlines()) == 1


@pytest.mark.parametrize("value", [1e-5, 1e16, 5e-324, 1.7976931348623157e308, 0.1])
def test_toml_holds_every_digit_of_a_number(value: float) -> None:
    assert tomllib.loads(write_toml({"a": value})) == {"a": value}


@pytest.mark.parametrize(
    "content",
    [
        b"peers = ",
        b"peers = 4\npeers = 5",
        b"[sim\n",
        b"\xff\xfe",
        b"peers = 1" + 5000 * b"0",
        b"out = " + 5000 * b"[",
    ],
    ids=["no value", "twice", "table", "no UTF-8", "5000 digits", "5000 arrays"],
)
def test_a_broken_file_is_told_with_its_name(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "broken.toml"
    path.write_bytes(content)
    with pytest.raises(UserError) as refusal:
        read_toml(path)
    assert str(refusal.value).startswith(f"{path} is no TOML file: ")
    assert len(str(refusal.value).splitlines()) == 1


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^cannot read .*missing\.toml: No such file"):
        read_toml(tmp_path / "missing.toml")
    with pytest.raises(UserError, match=f"^cannot read {tmp_path}: Is a directory"):
        read_toml(tmp_path)
