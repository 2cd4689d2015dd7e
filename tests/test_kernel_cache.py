"""Compiled code outlives a process, and no change of the sources."""

import importlib.util
import subprocess
import sys

import pytest

from peer.perturbation import cpu_kernel

SOURCE = """
from peer.perturbation.cpu_kernel import kernel

@kernel
def double(number):
    return 2 * number
"""


def test_compiled_code_is_kept_for_the_sources_that_it_was_made_of(tmp_path, monkeypatch):
    path = tmp_path / "doubled.py"
    path.write_text(SOURCE)

    def is_found():
        spec = importlib.util.spec_from_file_location("doubled", path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        assert module.double(21) == 42
        return sum(module.double.stats.cache_hits.values()) == 1

    assert not is_found()
    assert is_found()
    # Another file, which this kernel is built on, says something else now.
    monkeypatch.setattr(cpu_kernel._Cache, "sources", "others")
    assert not is_found()
    assert is_found()


USE = """
import sys
import numpy as np, torch
from peer.perturbation import cpu_exact, cpu_gaussian, cpu_rademacher, perturbation

dtype = getattr(torch, sys.argv[1])
for name, module in {"gaussian": cpu_gaussian, "rademacher": cpu_rademacher}.items():
    kernel = perturbation(name, "cpu", threads=2)

    def compiled():
        kernels = module.passes, module.rebuild, cpu_exact.first_not_finite
        return [list(kernel.signatures) for kernel in kernels]

    kernel.warm_up(dtype)
    before = compiled()
    w0, out = torch.zeros(2, 70_000, dtype=dtype)
    kernel.rebuild(out[5:], w0[5:], np.arange(9, dtype=np.uint64), np.arange(9), -20, 5)
    kernel.passes_(out[7:], [(1, 0.5), (2, 0.5)], 7)
    assert all(len(signatures) == 1 for signatures in before), before
    assert compiled() == before
"""


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_after_a_warm_up_nothing_is_left_to_compile(dtype):
    subprocess.run([sys.executable, "-c", USE, dtype], check=True)
