"""What `kseed bench` measures with: the published loop, models, clocks, loads and memories."""

from __future__ import annotations

import math
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from peer.data.encode import batch
from sim.bench import limits, load, published, timing
from sim.bench.llama import llama_config, parameter_shapes, random_llama, random_rows
from sim.bench.load import ForeignLoad, Reading, busy_seconds, foreign_cores

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has /proc")
CPU = torch.device("cpu")
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


def test_works_take_turns_after_all_have_been_called(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "LEAST_SECONDS", 0.0)
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


IN_A_NEW_PROCESS = """
import mmap, sys, time
from pathlib import Path
import numpy as np, torch
from sim.bench.private_memory import PrivateMemory, largest_resident, private_now
CPU, SIZE = torch.device("cpu"), 2**26
before = private_now(CPU)
"""
"""In a process that has run other tests much may be given back meanwhile."""

FREED_AGAIN = """
with PrivateMemory(CPU) as watch:
    taken = np.ones(SIZE, np.uint8)
    deadline = time.monotonic() + 60
    while watch.peak <= before + SIZE // 2 and time.monotonic() < deadline:
        time.sleep(0.001)
    del taken
assert before + SIZE // 2 < watch.peak < before + 2 * SIZE, (before, watch.peak)
"""

MAPPED = """
path = Path(sys.argv[1])
path.write_bytes(bytes(SIZE))
with path.open("rb") as file:
    mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
array = np.frombuffer(mapped, np.uint8)
assert int(array.sum()) == 0
assert private_now(CPU) < before + SIZE // 4
assert largest_resident() > SIZE
array[: SIZE // 2] = 1
assert private_now(CPU) > before + SIZE // 4
"""


@LINUX
@pytest.mark.parametrize("program", [FREED_AGAIN, MAPPED])
def test_private_memory_is_what_was_taken_or_written_to(program: str, tmp_path: Path) -> None:
    command = [sys.executable, "-c", IN_A_NEW_PROCESS + program, tmp_path / "weights"]
    ended = subprocess.run(command, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
