"""Compile the kernels of a GPU that need not be there, and tell what is in the code.

A program of its own, because the tests beside it have Triton interpret the same kernels:
`python gpu_code.py CAPABILITY/KERNEL/DTYPE/DISTRIBUTION/REPLICAS ...` prints a line of JSON each.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from peer.perturbation import gpu, gpu_kernels
from peer.perturbation.reference import GAUSSIAN, RADEMACHER

WEIGHTS = {"float32": "*fp32", "bfloat16": "*i16", "float16": "*fp16"}
TYPES = {
    "out": "*i16",
    "table": "*i32",
    "seed": "*i64",
    "seeds": "*i64",
    "coefficients": "*fp32",
    "digits": "*i8",
    "digit_sums": "*i32",
    "scale": "*fp64",
    "count": "i32",
    "replicas": "i32",
    "start": "i64",
    "n": "i64",
}


def compiled(capability: int, name: str, dtype: str, distribution: str, replicas: int) -> Any:
    """Compile a kernel as `gpu` has it compiled."""
    kernel = getattr(gpu_kernels, name)
    known = GAUSSIAN if distribution == "gaussian" else RADEMACHER
    tiling = gpu.TILINGS[distribution]
    constants: dict[str, Any] = {"gaussian": known is GAUSSIAN, "blocks": tiling.walk}
    if name == "rebuild":
        cut = tiling.of_rebuild(known.weights_per_block, replicas)
        constants |= zip(("blocks", "per_block", "at_once", "columns"), cut, strict=True)
        constants |= {"groups": 1, "group": gpu.GROUP}
    types = TYPES | dict.fromkeys(("weights", "outs", "w0"), WEIGHTS[dtype])
    signature = {argument: types.get(argument, "constexpr") for argument in kernel.arg_names}
    aligned = {
        (at,): [["tt.divisibility", 16]]
        for at, kind in enumerate(signature.values())
        if kind.startswith("*")
    }
    return triton.compile(
        ASTSource(kernel, signature, constants, aligned),
        target=GPUTarget("cuda", capability, 32),
        options=gpu.COMPILED,
    )


def machine_code(cubin: bytes) -> str:
    """Return the instructions for the GPU itself."""
    disassembler = Path(triton.__file__).parent / "backends/nvidia/bin/nvdisasm"
    with tempfile.NamedTemporaryFile() as file:
        file.write(cubin)
        file.flush()
        return subprocess.run(
            [disassembler, "-c", file.name], check=True, capture_output=True, text=True
        ).stdout


def about(code: Any) -> dict[str, Any]:
    """Return what is in a kernel: arithmetic on floats, its flags, fused and spilled registers."""
    ptx, machine = code.asm["ptx"], machine_code(code.asm["cubin"])
    return {
        "arithmetic": sorted(set(re.findall(r"\b(?:add|sub|mul|fma)[.\w]*\.f\d\w+", ptx))),
        "flushes": ".ftz" in ptx,
        "bytes multiplied": bool(re.search(r"mma[.\w]*\.s8\.s8|mma[.\w]*kind::i8", ptx)),
        "fused": sorted(set(re.findall(r"\b[DF]FMA\b", machine))),
        "spills": len(re.findall(r"\b(?:STL|LDL)\b", machine)),
        "instructions": len(re.findall(r"^\s+/\*[0-9a-f]+\*/\s", machine, re.MULTILINE)),
    }


def compiled_as(argument: str) -> Any:
    """Compile what an argument of the command asks for."""
    capability, name, dtype, distribution, replicas = argument.split("/")
    return compiled(int(capability), name, dtype, distribution, int(replicas))


if __name__ == "__main__":
    # One kernel's code is looked at while the next is compiled.
    with ThreadPoolExecutor(1) as pool:
        for found in pool.map(about, map(compiled_as, sys.argv[1:])):
            print(json.dumps(found))
