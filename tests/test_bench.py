"""`kseed bench`: its figures add up and are of what they say; no time is tested."""

from __future__ import annotations

import json
import math
import statistics
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from peer.config import Experiment
from peer.errors import UserError
from peer.perturbation import DISTRIBUTIONS
from sim.bench import bench, limits, load, private_memory, timing, volume
from sim.bench.load import Reading
from sim.bench.options import BENCHES, NUMERICS, PROTOCOL, BenchOptions, bench_options
from sim.bench.table import in_words
from sim.cli import main

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has /proc")
TINY: dict[str, Any] = {
    "parameters": 20_000,
    "candidate_seeds": 20,
    "device": "cpu",
    "threads": 1,
    "repeats": 3,
    "replicas": 3,
    "tokens": 16,
}
FLAGS = [text for key, value in TINY.items() for text in (f"--{key.replace('_', '-')}", str(value))]


@pytest.fixture
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take samples of one call, and arrays that are too small to tell of memory."""
    monkeypatch.setattr(timing, "LEAST_SECONDS", 0.0)
    monkeypatch.setattr(limits, "ARRAY_BYTES", 2**16)


def measured(name: str, **changes: Any) -> dict[str, Any]:
    """The report of a bench, after JSON."""
    text = json.dumps(bench(name, BenchOptions(**TINY | changes)))
    report: dict[str, Any] = json.loads(text, parse_constant=pytest.fail)
    return report


def middle(report: dict[str, Any], name: str) -> float:
    return statistics.median(report["samples"][name])


def check_common(
    report: dict[str, Any],
    name: str,
    distributions: list[str],
    parameters: int = TINY["parameters"],
) -> None:
    """What every report has; what is at the top is one of the results."""
    assert report["bench"] == name
    assert sorted(report["results"]) == distributions
    first = report["results"][report["perturbation"]]
    assert {key: report[key] for key in first} == first
    assert abs(report["parameters"] / parameters - 1) < 0.02
    assert report["machine"]["torch"] == torch.__version__
    assert report["machine"]["cpu"]
    assert report["machine"]["threads"] == report["threads"] == 1
    assert all(len(samples) == report["repeats"] for samples in report["samples"].values())


@pytest.mark.usefixtures("_quick")
@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_the_figures_of_rebuilds_add_up(name: str) -> None:
    state = torch.get_rng_state()
    report = measured("rebuild", perturbation=name)
    assert torch.equal(torch.get_rng_state(), state)
    check_common(report, "rebuild", [name])
    assert report["perturbation"] == name
    one = report["seconds"]
    assert one == middle(report, f"{name}_one") > 0
    assert report["reference_seconds"] == middle(report, "published_1") * 20 / 2
    assert report["ratio"] == report["reference_seconds"] / one
    each = one / report["parameters"] / 20 * 1e9
    assert math.isclose(report["nanoseconds_per_weight_and_seed"], each)
    assert report["worst"]["seconds"] == middle(report, f"{name}_worst")
    many, perturb, limit = report["many"], report["perturb"], report["limit"]
    assert many["replicas"] == 3
    assert many["ratio_to_one"] == many["seconds"] / one
    assert many["reference_seconds"] == 3 * report["reference_seconds"]
    assert perturb["ratio_to_axpy"] == perturb["seconds"] / middle(report, "axpy")
    assert perturb["ratio"] == middle(report, "published_pass") / perturb["seconds"]
    assert limit["seconds"] == max(limit["memory_seconds"], limit["philox_seconds"])
    assert limit["seconds"] == limit[f"{limit['name']}_seconds"] > 0
    assert report["ratio_to_limit"] == one / limit["seconds"]


@pytest.mark.usefixtures("_quick")
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_rebuilds_of_other_types_and_of_one_seed(dtype: str) -> None:
    changes = {"dtype": dtype, "perturbation": "rademacher", "candidate_seeds": 1, "repeats": 1}
    report = measured("rebuild", **changes)
    check_common(report, "rebuild", ["rademacher"])
    assert report["dtype"] == dtype
    assert report["reference_seeds"] == 1
    assert report["reference_seconds"] == middle(report, "published_1")


@pytest.mark.usefixtures("_quick")
def test_the_published_loop_counts_with_as_many_threads_as_are_best() -> None:
    report = measured("rebuild", threads=2, perturbation="rademacher")
    by_threads = {n: middle(report, f"published_{n}") * 20 / 2 for n in (1, 2)}
    assert report["reference_seconds"] == min(by_threads.values())
    assert by_threads[report["reference_threads"]] == report["reference_seconds"]
    assert report["threads"] == 2


@pytest.mark.usefixtures("_quick")
def test_the_figures_of_steps_add_up() -> None:
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    report = measured("step")
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_num_threads() == threads
    check_common(report, "step", sorted(DISTRIBUTIONS))
    assert report["perturbation"] == Experiment().perturbation
    for name, result in report["results"].items():
        rounds, cuts = (report["samples"][f"{name}_{part}"] for part in ("round", "cut"))
        pairs = zip(rounds, cuts, strict=True)
        seconds = statistics.median((round_ - cut) / 20 for round_, cut in pairs)
        assert result["seconds"] == seconds > 0
        assert result["two_forwards_seconds"] == 2 * middle(report, "forward") > 0
        assert result["ratio_to_two_forwards"] == seconds / result["two_forwards_seconds"]
        assert result["ratio_to_two_losses"] == seconds / (2 * middle(report, "loss"))
        assert result["reference_seconds"] == middle(report, "published")
        assert result["ratio"] == result["reference_seconds"] / seconds


def check_memory(report: dict[str, Any]) -> None:
    """The figures of memory add up, and hold the weights."""
    weights = report["parameters"] * 4
    assert report["inference_bytes"] > weights
    assert report["reference_bytes"] > 2 * weights
    for name, result in report["results"].items():
        (mine,), (inference,) = report["samples"][f"round {name}"], report["samples"]["inference"]
        assert result["round"] == mine
        assert result["bytes"] == mine["peak_bytes"] - mine["import_bytes"] > weights
        assert result["ratio_to_inference"] == result["bytes"] / result["inference_bytes"]
        assert result["ratio_with_imports"] == mine["peak_bytes"] / inference["peak_bytes"]
        assert result["ratio"] == result["reference_bytes"] / result["bytes"]
        assert mine["resident_bytes"] > mine["peak_bytes"]


@LINUX
@pytest.mark.slow
@pytest.mark.usefixtures("_quick")
def test_all_benches_in_one_command(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(volume, "PEERS", 40)
    # Memory is measured here alone: each of its programs is a process that imports everything.
    wanted = 4_000_000
    changes = ["--parameters", str(wanted), "--repeats", "1", "--perturbation", "gaussian"]
    changes += ["--peers", "12"]
    assert main(["bench", *FLAGS, *changes, "--json"]) == 0
    output = capfd.readouterr()
    report = json.loads(output.out, parse_constant=pytest.fail)
    assert output.out.count("\n") == 1
    assert tuple(report) == BENCHES
    for name in NUMERICS:
        check_common(report[name], name, ["gaussian"], wanted)
    check_memory(report["memory"])
    for name in PROTOCOL:
        assert report[name]["bench"] == name
        assert report[name]["peers"] == 12
    assert output.err.count("measuring ") == len(BENCHES)
    text = in_words(report)
    assert all(f"{name}: " in text for name in BENCHES)
    assert "round without imports" in text


@pytest.mark.usefixtures("_quick")
def test_the_command_prints_json_alone_or_a_table(capfd: pytest.CaptureFixture[str]) -> None:
    flags = ["bench", "rebuild", *FLAGS, "--repeats", "1"]
    assert main([*flags, "--json", "--perturbation", "rademacher"]) == 0
    output = capfd.readouterr()
    report = json.loads(output.out, parse_constant=pytest.fail)
    assert output.out.count("\n") == 1
    assert report["perturbation"] == "rademacher"
    assert report["seconds"] > 0
    assert "measuring rebuilds\n" in output.err
    assert "kseed: without effect in this bench, and ignored: tokens\n" in output.err
    assert main(flags) == 0
    text = capfd.readouterr().out
    for figure in ("rebuild", "sums near 2^50", "3 at once", "pass in place"):
        assert f"gaussian: {figure} " in text
        assert f"rademacher: {figure} " in text


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["rebild"], "invalid choice: 'rebild'"),
        (["rebuild", "step"], "unrecognized arguments: step"),
        (["--parameters", "9999"], "parameters = 9999 is not allowed: must be a whole number at"),
        (["--parameters", "many"], "parameters = 'many' is not allowed"),
        (["--parameters", "1e6"], "parameters = '1e6' is not allowed"),
        (["--candidate-seeds", "0"], "candidate_seeds = 0 is not allowed"),
        (["--perturbation", "normal"], "must be one of both, gaussian, rademacher"),
        (["--dtype", "float64"], "dtype = 'float64' is not allowed"),
        (["--device", "tpu"], "device = 'tpu' is not allowed: must be one of auto, cpu, cuda"),
        (["--threads", "-1"], "threads = -1 is not allowed"),
        (["--repeats", "0"], "repeats = 0 is not allowed"),
        (["--replicas", "1"], "replicas = 1 is not allowed"),
        (["--tokens", "1"], "tokens = 1 is not allowed"),
        (["--peers", "-1"], "peers = -1 is not allowed: must be a whole number"),
        (["rebuild", "--parameters", str(2**40)], "GB: ask for fewer parameters, replicas or"),
        (["step", "--parameters", str(2**40)], "GB: ask for fewer parameters, replicas or"),
        (["memory", "--parameters", str(2**40)], "GB: ask for fewer parameters, replicas or"),
        (
            [
                "rebuild",
                "--parameters",
                "10000",
                "--replicas",
                "4096",
                "--candidate-seeds",
                "16777216",
            ],
            "GB: ask for fewer parameters, replicas or candidate seeds",
        ),
        pytest.param(
            ["rebuild", "--device", "cuda"],
            "has no GPU that torch can use",
            marks=pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU"),
        ),
    ],
    ids=str,
)
def test_a_mistake_is_told_in_one_line(
    arguments: list[str], expected: str, capfd: pytest.CaptureFixture[str]
) -> None:
    if arguments[-1] == str(2**40):
        arguments = [*arguments, "--device", "cpu"]
    assert main(["bench", *arguments]) == 2
    output = capfd.readouterr()
    assert output.out == ""
    assert expected in output.err
    assert output.err.startswith("kseed: ")
    assert output.err.count("\n") == 1


def test_without_word_of_private_memory_nothing_is_measured(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(private_memory, "_STATUS", tmp_path / "status")
    for arguments in (["bench"], ["bench", "memory"]):
        assert main([*arguments, "--device", "cpu"]) == 2
        output = capfd.readouterr()
        assert output.err.startswith("kseed: this system has no /proc/self/status that tells")
        assert output.err.count("\n") == 1


def test_help_names_every_option_with_its_default(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "1000")
    with pytest.raises(SystemExit):
        main(["bench", "--help"])
    text = " ".join(capfd.readouterr().out.split())
    for item in bench_options():
        assert f"{item.metadata['help']} (default: {item.default})" in text


def test_a_wrong_type_is_refused() -> None:
    with pytest.raises(UserError, match=r"repeats = 1\.5 is not allowed"):
        BenchOptions(repeats=1.5)  # type: ignore[arg-type]


@pytest.mark.usefixtures("_quick")
@pytest.mark.parametrize("foreign", [None, 0.0, 1.0])
def test_a_bench_warns_of_others_alone(
    foreign: float | None, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    seconds = iter(range(1000))

    def reading() -> Reading | None:
        now = next(seconds)
        return None if foreign is None else Reading(now, now * foreign, 0.0, processors=2)

    monkeypatch.setattr(load, "read", reading)
    flags = ["bench", "step", *FLAGS, "--repeats", "1", "--perturbation", "rademacher"]
    assert main([*flags, "--json"]) == 0
    output = capfd.readouterr()
    report = json.loads(output.out)
    assert report["foreign_load"] == foreign
    assert report["quiet"] == {None: None, 0.0: True, 1.0: False}[foreign]
    warned = "kseed: others used 1.00 cores while this was measured"
    assert (warned in output.err) == (foreign == 1.0)
    assert ("others used 1.00 cores" in in_words(report)) == (foreign == 1.0)
