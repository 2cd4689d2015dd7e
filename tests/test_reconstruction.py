"""`kseed figure reconstruction`: appendix C.4 at a hundredth of its size."""

from __future__ import annotations

import csv
import io
import json
import math
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from peer.config import Experiment
from peer.perturbation import perturbation
from peer.perturbation.base import BlockSums
from sim.cli import main
from sim.figures import reconstruction
from sim.figures.drawing import draw
from sim.figures.options import ReconstructionOptions
from sim.figures.reconstruction import (
    BASES,
    BLOCKS,
    DIMENSIONS,
    EPSILONS,
    FERRET,
    STEPS,
    expected_cosine,
    measure_reconstruction,
)
from sim.figures.words import in_csv, in_words

DIVIDE = 50
K = 100


@pytest.fixture(
    scope="module", params=["rademacher", pytest.param("gaussian", marks=pytest.mark.slow)]
)
def report(request: pytest.FixtureRequest) -> dict[str, Any]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reconstruction, "BASES", BASES[:3])
        patch.setattr(reconstruction, "EPSILONS", (10.0, 0.1))
        patch.setattr(reconstruction, "FIXED_BASES", K)
        options = ReconstructionOptions(perturbation=request.param, draws=4, divide=DIVIDE)
        made: dict[str, Any] = json.loads(json.dumps(measure_reconstruction(options)))
    return made


def panel(report: dict[str, Any], name: str, epsilon: float | None = None) -> list[dict[str, Any]]:
    return [row for row in report["rows"] if (row["panel"], row["epsilon"]) == (name, epsilon)]


def cosines(rows: list[dict[str, Any]]) -> list[float]:
    return [row["cosine"] for row in rows]


def test_every_panel_has_its_points(report: dict[str, Any]) -> None:
    assert [row["bases"] for row in panel(report, "bases")] == list(BASES[:3])
    assert [row["steps"] for row in panel(report, "steps")] == list(STEPS)
    sizes = [row["dimensions"] for row in panel(report, "dimensions")]
    assert sizes == [size // DIVIDE for size in DIMENSIONS]
    assert [row["blocks"] for row in panel(report, "blocks")] == list(BLOCKS)


@pytest.mark.parametrize("name", ["bases", "steps", "dimensions", "blocks"])
def test_cosines_are_what_independent_bases_make_expected(
    name: str, report: dict[str, Any]
) -> None:
    for row in panel(report, name):
        assert row["expected"] == math.sqrt(row["bases"] / (row["bases"] + row["dimensions"]))
        # The relative deviation of a draw is that of a mean of K squares, halved.
        error = math.sqrt(1 / (2 * row["bases"] * 4))
        assert row["cosine"] == pytest.approx(row["expected"], rel=0.02 + 3 * error)
    mean = sum(row["cosine"] / row["expected"] for row in panel(report, name))
    assert mean / len(panel(report, name)) == pytest.approx(1.0, abs=0.05)


def test_reconstructions_are_unbiased(report: dict[str, Any]) -> None:
    assert report["ratio"]["draws"] == 200
    assert report["ratio"]["mean"] == pytest.approx(1.0, abs=0.02)
    assert 0.007 < report["ratio"]["standard_error"] < 0.013


def test_zeroth_order_is_as_good_for_a_small_epsilon_and_worse_for_a_large_one(
    report: dict[str, Any],
) -> None:
    ferret, near, far = (cosines(panel(report, "bases", each)) for each in (None, 0.1, 10.0))
    assert near == pytest.approx(ferret, rel=0.02)
    assert all(a < 0.5 * b for a, b in zip(far, ferret, strict=True))
    assert cosines(panel(report, "dimensions", 0.1)) == pytest.approx(
        cosines(panel(report, "dimensions")), rel=0.02
    )


def test_zeroth_order_gets_worse_with_local_steps_and_ferret_does_not(
    report: dict[str, Any],
) -> None:
    ferret, zeroth = (cosines(panel(report, "steps", each)) for each in (None, 0.1))
    assert min(ferret) > 0.93 * ferret[0]
    assert zeroth[0] == pytest.approx(ferret[0], rel=0.02)
    assert zeroth[-1] < 0.95 * zeroth[0]
    assert zeroth[-1] < zeroth[-2] < zeroth[-3]


def test_times_are_taken_of_blocks_alone(report: dict[str, Any]) -> None:
    for row in report["rows"]:
        assert (row["seconds"] is not None) == (row["panel"] == "blocks")
    assert all(row["seconds"] > 0 for row in panel(report, "blocks"))


def test_the_work_falls_with_blocks_as_proposition_1_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """L blocks of equal size make d K / L numbers, once to project and once to reconstruct."""
    made = []
    kernel = perturbation("rademacher", "cpu", 1)

    def project(
        _vector: torch.Tensor,
        seeds: NDArray[np.uint64],
        firsts: NDArray[np.int64],
        offsets: NDArray[np.int64],
    ) -> NDArray[np.float64]:
        made.append(int(np.diff(offsets) @ np.diff(firsts)))
        return np.ones(len(seeds))

    def rebuild(_outs: torch.Tensor, _w0: torch.Tensor, blocks: BlockSums, _scale: float) -> None:
        made.append(int(np.diff(blocks.offsets) @ np.diff(blocks.firsts)))

    monkeypatch.setattr(kernel, "_project_blocks", project)
    monkeypatch.setattr(kernel, "_rebuild_blocks", rebuild)
    options = ReconstructionOptions(divide=100)
    for measured in reconstruction.over_blocks(kernel, options, 0):
        blocks = measured.point.blocks
        # One call each, however many blocks there are.
        assert made == [5120 * 512 // blocks] * 2
        made.clear()


def test_words_csv_and_picture(report: dict[str, Any], tmp_path: Path) -> None:
    words = in_words(report)
    assert "over T: sum sin(x_i)^2, d = 1,000, K = 100" in words
    assert "over L: sum sin(x_i)^2, d = 10,240, K = 512" in words
    assert f"= {report['ratio']['mean']:.4f} in the mean of 200 draws" in words
    farthest = max(
        abs(row["cosine"] / row["expected"] - 1)
        for row in report["rows"]
        if row["method"] == FERRET
    )
    assert f"within {100 * farthest:.1f} % of sqrt(K / (K + d))" in words
    error = max(row["cosine_error"] / row["expected"] for row in report["rows"] if row["expected"])
    assert f"their standard errors are up to {100 * error:.1f} %" in words
    times = {row["blocks"]: row["seconds"] for row in panel(report, "blocks")}
    best = min(times, key=times.__getitem__)
    assert f"L = {best} takes {times[1] / times[best]:.1f} times less than one block" in words
    rows = list(csv.DictReader(io.StringIO(in_csv(report))))
    assert len(rows) == len(report["rows"])
    assert float(rows[3]["cosine"]) == report["rows"][3]["cosine"]
    draw(report, tmp_path / "figure.svg")
    drawn = {item.get("id") for item in ET.parse(tmp_path / "figure.svg").iter()}
    assert {"bases-ferret", "bases-10", "steps-0.1", "dimensions-expected"} <= drawn
    assert {"blocks-ferret", "blocks-seconds"} <= drawn
    first = (tmp_path / "figure.svg").read_bytes()
    draw(report, tmp_path / "figure.svg")
    assert (tmp_path / "figure.svg").read_bytes() == first


def test_the_formula() -> None:
    assert expected_cosine(500, 50_000) == pytest.approx(0.0995, abs=1e-4)
    assert {*EPSILONS} >= {10.0, 0.1}


def test_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    few = {"BASES": BASES[:2], "EPSILONS": (0.1,), "FIXED_BASES": 20, "RATIO_DRAWS": 2}
    for name, some in few.items():
        monkeypatch.setattr(reconstruction, name, some)
    flags = ["figure", "reconstruction", "--draws", "1", "--divide", "100", "--json"]
    assert main(flags) == 0
    made = json.loads(capsys.readouterr().out)
    assert made["setting"]["divide"] == 100
    # Of 250 bases there are two groups of 125, of all others one.
    for row in made["rows"]:
        assert (row["cosine_error"] > 0.0) == (row["bases"] == 125)
    assert not list(tmp_path.iterdir())
    assert main(["figure", "reconstruction", "--divide", "0"]) == 2
    assert "divide = 0 is not allowed" in capsys.readouterr().err


def test_options_are_those_of_experiments_where_they_mean_the_same() -> None:
    own = {"draws", "divide"}
    assert set(ReconstructionOptions.__dataclass_fields__) - own <= set(
        Experiment.__dataclass_fields__
    )
