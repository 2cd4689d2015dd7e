"""Whole runs on a GPU: their models are those that a CPU rebuilds from their accumulators."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from runs import Options, run
from scenarios.processes import flags
from scenarios.processes import run as run_command

from peer.records import RunFolder
from peer.setup import build_global_model

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"),
]


def rebuilt_on_the_cpu(folder: Path) -> str:
    """Return the digest of the model that a run's accumulator stands for."""
    experiment = replace(RunFolder(folder).experiment(), device="cpu")
    global_model = build_global_model(experiment, remember=False, threads=None)
    return global_model.digest(RunFolder(folder).read_accumulator())


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("perturbation", ["rademacher", "gaussian"])
@pytest.mark.parametrize("method", ["fedkseed", "fedkseed-pro"])
def test_models_are_the_cpus(
    method: str, perturbation: str, dtype: str, tiny_options: Options, tmp_path: Path
) -> None:
    options = tiny_options | {"method": method, "perturbation": perturbation, "dtype": dtype}
    summary = run(tmp_path / "run", options, device="cuda", topology="torus", peers=8)
    assert summary["digests"]["model"] == [rebuilt_on_the_cpu(tmp_path / "run")] * 8
    losses = summary["eval_loss"]["per_round"]
    assert len(set(losses)) == len(losses)


def test_side_by_side_models_are_the_cpus(tiny_options: Options, tmp_path: Path) -> None:
    summary = run(tmp_path / "run", tiny_options, device="cuda", side_by_side=4)
    assert summary["digests"]["model"] == [rebuilt_on_the_cpu(tmp_path / "run")] * 4


def test_processes_end_as_the_simulation_does(tiny_options: Options, tmp_path: Path) -> None:
    simulated = run(tmp_path / "simulated", tiny_options, device="cuda")
    arguments = flags(tiny_options | {"device": "cuda", "out": "launched"})
    launched = run_command("launch", "--json", *arguments, folder=tmp_path).summary
    assert launched["digests"] == simulated["digests"]
    assert launched["eval_loss"] == simulated["eval_loss"]
