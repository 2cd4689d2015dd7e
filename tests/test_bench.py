"""`kseed bench`: its figures add up and are of what they say; no time is tested."""

from __future__ import annotations

import json
import math
import mmap
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from peer.config import Experiment
from peer.data.encode import batch
from peer.errors import UserError
from peer.perturbation import DISTRIBUTIONS
from sim.bench import bench, limits, load, private_memory, published, timing
from sim.bench.llama import llama_config, parameter_shapes, random_llama, random_rows
from sim.bench.load import ForeignLoad, Reading, busy_seconds, foreign_cores
from sim.bench.options import BENCHES, BenchOptions, bench_options
from sim.bench.private_memory import PrivateMemory
from sim.bench.table import in_words
from sim.cli import main

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has /proc")
CPU = torch.device("cpu")
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


def check_common(report: dict[str, Any], name: str, distributions: list[str]) -> None:
    """What every report has; what is at the top is one of the results."""
    assert report["bench"] == name
    assert sorted(report["results"]) == distributions
    first = report["results"][report["perturbation"]]
    assert {key: report[key] for key in first} == first
    assert abs(report["parameters"] / TINY["parameters"] - 1) < 0.02
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


@LINUX
@pytest.mark.slow
def test_the_figures_of_memory_add_up_and_hold_the_weights() -> None:
    wanted = 4_000_000
    report = measured("memory", parameters=wanted, repeats=1)
    assert sorted(report["results"]) == ["gaussian", "rademacher"]
    assert report["parameters"] > 0.98 * wanted
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
    assert "round without imports" in in_words(report)


@LINUX
@pytest.mark.slow
@pytest.mark.usefixtures("_quick")
def test_all_benches_in_one_command(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", *FLAGS, "--repeats", "1", "--perturbation", "gaussian", "--json"]) == 0
    output = capfd.readouterr()
    report = json.loads(output.out, parse_constant=pytest.fail)
    assert output.out.count("\n") == 1
    assert tuple(report) == BENCHES
    for name in BENCHES:
        check_common(report[name], name, ["gaussian"])
    assert output.err.count("measuring ") == 3
    text = in_words(report)
    assert all(f"{name}: " in text for name in BENCHES)


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


SHAPES = [(3, 5), (64,), (7, 4, 2), (1,)]


def own_numbers(seed: int, dtype: torch.dtype) -> list[torch.Tensor]:
    """The numbers of a seed: a stream over the parameters, from a generator of its own."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.empty(shape, dtype=dtype).normal_(generator=generator) for shape in SHAPES]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_published_loop_subtracts_each_seeds_numbers(dtype: torch.dtype) -> None:
    w0 = own_numbers(99, dtype)
    parameters = [w.clone() for w in w0]
    coefficients = [0.5, -0.25, 0.125]
    published.rebuild_(parameters, [7, 8, 2**64 - 1], coefficients)
    numbers = [own_numbers(seed, dtype) for seed in (7, 8, 2**64 - 1)]
    tolerance = 1e-6 if dtype == torch.float32 else 0.03
    for i, parameter in enumerate(parameters):
        moved = w0[i].double()
        for c, z in zip(coefficients, numbers, strict=True):
            moved = moved - c * z[i].double()
        torch.testing.assert_close(parameter.double(), moved, rtol=tolerance, atol=tolerance)


def test_the_published_step_goes_down_its_scalar_gradient() -> None:
    w0 = own_numbers(99, torch.float32)
    parameters = [torch.nn.Parameter(w.clone(), requires_grad=False) for w in w0]

    def loss_of(weights: list[torch.Tensor]) -> float:
        return sum(float((w.double() ** 2).sum()) for w in weights)

    gradient = published.step(parameters, 5, 1e-2, 1e-3, lambda: loss_of(list(parameters)))
    z = own_numbers(5, torch.float32)
    # The loss is a square, so the difference of two losses is exactly its slope along z.
    slope = sum(float((2 * w.double() * u.double()).sum()) for w, u in zip(w0, z, strict=True))
    assert gradient == pytest.approx(slope, rel=1e-3)
    for parameter, w, u in zip(parameters, w0, z, strict=True):
        expected = w - 1e-3 * gradient * u
        torch.testing.assert_close(parameter.data, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "wanted", [10_000, 33_333, 200_000, 999_999, 1_000_000, 22_700_000, 1_300_000_000]
)
def test_a_llama_is_about_as_large_as_wanted(wanted: int) -> None:
    config = llama_config(wanted, tokens=5000)
    size = sum(map(math.prod, parameter_shapes(config)))
    assert abs(size / wanted - 1) < 0.02
    assert config.max_position_embeddings >= 5000


def test_shapes_are_those_of_the_model_that_is_made() -> None:
    config = llama_config(20_000, tokens=16)
    model = random_llama(config, "bfloat16", CPU)
    assert [tuple(p.shape) for p in model.parameters()] == parameter_shapes(config)
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}
    again = random_llama(config, "bfloat16", CPU)
    pairs = zip(model.parameters(), again.parameters(), strict=True)
    assert all(torch.equal(p, q) for p, q in pairs)


def test_rows_have_exactly_the_wanted_tokens() -> None:
    encoded = random_rows(3, 9, vocabulary=50)
    assert len(encoded) == 3
    ids, mask, labels = batch(encoded, [0, 1, 2], 0)
    assert ids.shape == (3, 9)
    assert 0 <= int(ids.min()) <= int(ids.max()) < 50
    assert bool(mask.all())
    assert (labels != -100).sum(dim=1).tolist() == [5, 5, 5]


@pytest.mark.usefixtures("_quick")
def test_works_take_turns_after_all_have_been_called() -> None:
    calls: list[str] = []
    works = {name: lambda name=name: calls.append(name) for name in "ab"}
    samples, in_a_row = timing.measure("turns", works, 3, CPU)
    assert calls == ["a", "a", "b", "b", *"ababab"]
    assert in_a_row == {"a": 1, "b": 1}
    assert {name: len(each) for name, each in samples.items()} == {"a": 3, "b": 3}


def test_a_quick_work_is_called_many_times_in_a_row() -> None:
    calls: list[int] = []
    samples, in_a_row = timing.measure("calls", {"a": lambda: calls.append(1)}, 2, CPU)
    assert in_a_row["a"] > 1
    assert len(calls) == 2 + 2 * in_a_row["a"]
    assert len(samples["a"]) == 2


def test_a_limit_is_the_best_that_was_seen() -> None:
    copy, triad = limits.ARRAY_BYTES * 2, limits.ARRAY_BYTES * 3
    slow, quick = {"copy": [2.0, 4.0], "triad": [4.0, 9.0]}, {"copy": [2.0], "triad": [1.0, 5.0]}
    assert limits.bandwidth(slow) == copy / 2
    assert limits.bandwidth(quick) == triad
    assert limits.philox_seconds_per_block(slow, threads=2) is None
    once = limits.philox_seconds_per_block({"philox": [3.0, 1.0]}, threads=1)
    twice = limits.philox_seconds_per_block({"philox": [3.0, 1.0]}, threads=2)
    assert once is not None
    assert twice == once / 2
    assert limits.philox_works(torch.device("cuda")) == {}


STAT = """cpu  100 20 30 4000 500 6 7 8 50 60
cpu0 50 10 15 2000 250 3 3 4 25 30
cpu1 50 10 15 2000 250 3 4 4 25 30
intr 12345 0 9
ctxt 999
"""


def test_busy_is_neither_idle_nor_waiting_nor_counted_twice() -> None:
    # user, nice, system, interrupts of both kinds, and stolen; a guest's are among user and nice.
    assert busy_seconds(STAT, ticks=100) == ((100 + 20 + 30 + 6 + 7 + 8) / 100, 2)


def test_foreign_load_is_what_is_not_ours() -> None:
    before = Reading(wall=10.0, busy=100.0, own=5.0, processors=2)
    after = Reading(wall=14.0, busy=107.0, own=10.0, processors=2)
    assert foreign_cores(before, after) == 0.5
    assert foreign_cores(before, after._replace(own=13.0)) == 0.0


BURN = """
import time
while True:
    began = time.process_time()
    while time.process_time() - began < 0.5:
        pass
    print("burnt", flush=True)
"""


@LINUX
def test_a_busy_process_of_somebody_else_is_noticed() -> None:
    with subprocess.Popen([sys.executable, "-c", BURN], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        with ForeignLoad() as foreign:
            began = time.perf_counter()
            for _ in range(2):
                child.stdout.readline()
            wall = time.perf_counter() - began
        child.kill()
    fields, now = foreign.fields(), load.read()
    assert now is not None
    # It has burnt a second meanwhile; the system's counters go by hundredths, and by samples.
    assert fields["foreign_load"] * wall > 0.7
    assert fields["quiet"] == (fields["foreign_load"] < 0.05 * now.processors)


@LINUX
def test_our_own_work_and_that_of_ended_children_is_not_foreign() -> None:
    before = load.read()
    began = time.process_time()
    while time.process_time() - began < 0.3:
        pass
    subprocess.run([sys.executable, "-c", BURN.replace("while True", "for _ in 'a'")], check=True)
    after = load.read()
    assert before is not None
    assert after is not None
    assert after.own - before.own > 0.75


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


def wait_until_over(watch: PrivateMemory, size: int) -> bool:
    """Whether the watcher has seen so much before long."""
    deadline = time.monotonic() + 60
    while watch.peak <= size and time.monotonic() < deadline:
        time.sleep(0.001)
    return watch.peak > size


@LINUX
def test_private_memory_that_is_freed_again_is_seen() -> None:
    size = 2**26
    before = private_memory.private_now(CPU)
    with PrivateMemory(CPU) as watch:
        taken = np.ones(size, np.uint8)
        assert wait_until_over(watch, before + size // 2)
        del taken
    assert watch.peak < before + 2 * size


@LINUX
def test_a_mapped_file_is_private_only_where_it_is_written_to(tmp_path: Path) -> None:
    size = 2**26
    (tmp_path / "weights").write_bytes(bytes(size))
    with (tmp_path / "weights").open("rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    array = np.frombuffer(mapped, np.uint8)
    before = private_memory.private_now(CPU)
    assert int(array.sum()) == 0
    assert private_memory.private_now(CPU) < before + size // 4
    assert private_memory.largest_resident() > size
    array[: size // 2] = 1
    assert private_memory.private_now(CPU) > before + size // 4
