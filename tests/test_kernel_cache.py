"""Compiled code outlives a process, and no change of the sources."""

import importlib.util
import subprocess
import sys

import numpy as np
import pytest

from peer.perturbation import cpu_kernel

SOURCE = """
from peer.perturbation.cpu_kernel import kernel

@kernel
def double(number):
    return 2 * number
"""


def imported_anew(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def is_found(tmp_path):
    """Imports a module with a kernel anew, and tells whether it was compiled already."""
    path = tmp_path / "doubled.py"
    path.write_text(SOURCE)

    def imported():
        double = imported_anew(path).double
        assert double(21) == 42
        return sum(double.stats.cache_hits.values()) == 1

    return imported


def test_compiled_code_is_kept_for_the_sources_that_it_was_made_of(is_found, monkeypatch):
    assert not is_found()
    assert is_found()
    # Another file, which this kernel is built on, says something else now.
    monkeypatch.setattr(cpu_kernel._Cache, "sources", "others")
    assert not is_found()
    assert is_found()


def test_where_compiled_code_cannot_be_kept_it_is_compiled_each_time(is_found, monkeypatch):
    # So it is if the program and the user's folder may only be read, as in many containers.
    monkeypatch.setattr(cpu_kernel._Cache._impl_class, "_locator_classes", [])
    assert not is_found()
    assert not is_found()


TYPED = """
from peer.perturbation.cpu_kernel import kernel

@kernel
def fourth(numbers):
    return numbers[3]
"""


def test_processes_that_compile_for_different_types_at_once_keep_their_code_apart(
    tmp_path, monkeypatch
):
    path = tmp_path / "typed.py"
    path.write_text(TYPED)

    def imported():
        return imported_anew(path).fourth

    narrow, wide = np.arange(8, dtype=np.int16), np.arange(8, dtype=np.int32)
    one, other = imported(), imported()
    mine, theirs = one._cache._cache_file, other._cache._cache_file
    save_index = type(mine)._save_index
    # Both have read the index before either writes it.
    monkeypatch.setattr(theirs, "_load_index", dict)

    def save_together(overloads):
        save_index(mine, overloads)
        other(narrow)

    monkeypatch.setattr(mine, "_save_index", save_together)
    assert one(wide) == 3
    for numbers in (narrow, wide):
        assert imported()(numbers) == 3


@pytest.mark.parametrize("kept", ["*.nbi", "*.nbc"])
@pytest.mark.parametrize("share", [0, 0.5])
def test_kept_code_that_was_cut_short_is_compiled_again(kept, share, is_found, tmp_path):
    assert not is_found()
    for file in (tmp_path / "__pycache__").glob(kept):
        data = file.read_bytes()
        file.write_bytes(data[: int(share * len(data))])
    assert not is_found()
    assert is_found()


USE = """
import sys
import numpy as np, torch
from peer.perturbation import (
    cpu_exact,
    cpu_gaussian,
    cpu_project,
    cpu_rademacher,
    perturbation,
)

dtype = getattr(torch, sys.argv[1])
for name, module, project in (
    ("gaussian", cpu_gaussian, cpu_project.gaussian),
    ("rademacher", cpu_rademacher, cpu_project.signs),
):
    kernel = perturbation(name, "cpu", threads=2)

    def compiled():
        kernels = module.passes, module.rebuild, cpu_exact.first_not_finite, project
        return [list(kernel.signatures) for kernel in kernels]

    kernel.warm_up(dtype)
    before = compiled()
    w0, out = torch.zeros(2, 70_000, dtype=dtype)
    kernel.rebuild(out[5:], w0[5:], np.arange(9, dtype=np.uint64), np.arange(9), -20, 5)
    kernel.passes_(out[7:], [(1, 0.5), (2, 0.5)], 7)
    kernel.project(torch.zeros(70_000)[3:], np.arange(40, dtype=np.uint64)[2:], 5)
    assert all(len(signatures) == 1 for signatures in before), before
    assert compiled() == before
"""


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_after_a_warm_up_nothing_is_left_to_compile(dtype):
    subprocess.run([sys.executable, "-c", USE, dtype], check=True)
