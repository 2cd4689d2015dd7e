"""Run folders that something has damaged: what can be made again is, the rest is told."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import sim
from peer.errors import UserError
from peer.export import export
from peer.records import RunFolder

OPTIONS: dict[str, Any] = {
    "trainer": "synthetic",
    "peers": 4,
    "rounds": 2,
    "local_steps": 3,
    "candidate_seeds": 16,
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole") / "run"
    sim.run(**OPTIONS, out=str(folder))
    return folder


@pytest.fixture
def folder(whole: Path, tmp_path: Path) -> Path:
    copy = tmp_path / "run"
    shutil.copytree(whole, copy)
    return copy


def resume(folder: Path, **changes: Any) -> dict[str, Any]:
    return sim.run(**(OPTIONS | changes), out=str(folder), resume=True)


@pytest.mark.parametrize(
    "content",
    [
        b"5",
        b"[]",
        b"null",
        b'{"round": "x"}',
        b'{"a": 1}',
        b'{"round": 0}',
        b"\xff\xfe",
        b"[" * 10**5,
    ],
)
def test_rounds_are_made_again_from_the_log(whole: Path, folder: Path, content: bytes) -> None:
    (folder / "rounds.jsonl").write_bytes(content + b"\n")
    resume(folder)
    made = [
        [record["accumulator"] for record in RunFolder(path).read_rounds()]
        for path in (whole, folder)
    ]
    assert made[0] == made[1]
    assert len(made[0]) == OPTIONS["rounds"] + 1


@pytest.mark.parametrize(
    "content",
    [b"sender,receiver\na,b\n", b"x\n", b"\xff\xfe", b"", b"sender,receiver,odd\n0,1,2\n"],
)
def test_damaged_counts_are_told(folder: Path, content: bytes) -> None:
    (folder / "links.csv").write_bytes(content)
    with pytest.raises(UserError, match=r"links\.csv is damaged"):
        resume(folder)


@pytest.mark.parametrize(
    "changes", [{"local_steps": 7}, {"gradient_bytes": 1}, {"seed": 9, "peers": 12}, {"rounds": 5}]
)
def test_the_log_of_another_experiment_is_refused(
    folder: Path, tmp_path: Path, changes: dict[str, Any]
) -> None:
    other = tmp_path / "other"
    sim.run(**(OPTIONS | changes), out=str(other))
    shutil.copy(other / "sim" / "log.sqlite", folder / "sim" / "log.sqlite")
    with pytest.raises(UserError, match="does not belong to this experiment"):
        resume(folder)


def test_an_accumulator_of_texts_is_refused(tmp_path: Path, tiny_options: dict[str, Any]) -> None:
    run = tmp_path / "run"
    sim.run(**tiny_options | {"rounds": 1, "out": str(run)})
    with np.load(run / "accumulator.npz") as arrays:
        kept = dict(arrays)
    np.savez(run / "accumulator.npz", **kept | {"sums": np.array(["a"] * len(kept["sums"]))})
    with pytest.raises(UserError, match=r"accumulator\.npz cannot be read"):
        export(run, tmp_path / "to")
