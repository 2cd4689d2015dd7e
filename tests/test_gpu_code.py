"""The kernels as compiled for GPUs that are not there: what the interpreter cannot show."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton", minversion="3.7", reason="no (recent) Triton")
pytestmark = pytest.mark.slow

DTYPES = ["float32", "bfloat16", "float16"]
DISTRIBUTIONS = ["gaussian", "rademacher"]
OLDEST = [
    "80/passes/float32/gaussian/1",
    "80/passes/float32/rademacher/1",
    "80/rebuild/float32/gaussian/1",
    "80/rebuild/float32/rademacher/1",
    # As many accumulators as one rebuild takes.
    "80/rebuild/bfloat16/gaussian/2",
    "80/rebuild/bfloat16/rademacher/8",
]
"""Some kernels for the oldest GPUs that get any."""


@pytest.fixture(scope="module")
def code_of(tmp_path_factory):
    """Compile some kernels in a process of their own, and return what is in each."""
    # Not interpreted, and not remembered from a time when the compiler was another.
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    environment |= {
        "TRITON_CACHE_DIR": str(tmp_path_factory.mktemp("triton")),
        "PYTHONPATH": str(Path(__file__).parents[1]),
    }

    def code_of(kernels):
        program = [sys.executable, Path(__file__).with_name("gpu_code.py"), *kernels]
        done = subprocess.run(program, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        codes = [json.loads(line) for line in done.stdout.splitlines()]
        return dict(zip(kernels, codes, strict=True))

    return code_of


def check(kernel, code):
    """Hold a kernel's code to the contract on rounding, and to registers."""
    _, name, _, distribution, _ = kernel.split("/")
    # `.rn` forbids the assembler to fuse; a plain `mul` would allow it.
    expected = {
        "units": [],
        "passes": ["add.rn.f64", "mul.rn.f64"] if distribution == "gaussian" else ["add.rn.f32"],
        "rebuild": ["add.rn.f64", "mul.rn.f64", "sub.rn.f64"],
    }[name]
    assert code["arithmetic"] == expected
    assert code["fused"] == []
    assert not code["flushes"]
    assert code["spills"] == 0
    assert code["bytes multiplied"] == (name == "rebuild")


def test_nothing_is_fused_flushed_or_spilled(code_of):
    kernels = [f"90/passes/{d}/{z}/1" for d in DTYPES for z in DISTRIBUTIONS]
    kernels += [f"90/{k}/bfloat16/{z}/1" for k in ("units", "rebuild") for z in DISTRIBUTIONS]
    for kernel, code in code_of(kernels).items():
        check(kernel, code)


def test_nothing_is_fused_flushed_or_spilled_on_the_oldest_gpus_either(code_of):
    for kernel, code in code_of(OLDEST).items():
        check(kernel, code)
