"""`kseed bench memory`: what a round of local training takes beyond plain inference.

Three programs, each in fresh processes, with the same model folder (a Llama of about the wanted
size with random weights, in a temporary folder) and the same row of the wanted number of tokens:

    inference    the weights in private memory, and forward passes over the row
    round        a peer's: w0 in the model's files, a rebuild from an accumulator, and local steps
    published    the published program's: w0 in private memory and a copy of it, its loop over two
                 seeds, and a local step

Bytes are private memory, see `private_memory`, in medians of the repeats. For each program:

    import_bytes      after doing all of it with a tiny model: imports, compiled kernels, threads
    loading_bytes     the most while the model is loaded and made ready
    peak_bytes        the most while inference or the round goes on
    resident_bytes    the largest resident set of the process, mapped files included, for
                      information

and of these

    bytes                   the round's peak_bytes less its import_bytes
    inference_bytes         the same of inference
    ratio_to_inference      bytes / inference_bytes
    ratio_with_imports      the round's peak_bytes / inference's
    reference_bytes         the published program's peak_bytes less its import_bytes
    ratio                   reference_bytes / bytes

What is imported does not grow with the model, so the first ratio leaves it out. On a GPU all bytes
but resident_bytes are those that torch has allocated there.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import torch

from peer.errors import UserError
from peer.model import resolve_device
from peer.perturbation.cpu import cores
from sim.bench import private_memory
from sim.bench.llama import llama_config, random_llama
from sim.bench.load import ForeignLoad
from sim.bench.machine import check_room
from sim.bench.memory_programs import Program, run
from sim.bench.options import BenchOptions
from sim.bench.process import in_a_process
from sim.bench.progress import BenchProgress
from sim.bench.report import report

_TINY: Final = 10_000

Bytes = dict[str, int]


def check_system(device: torch.device) -> None:
    """Notice before anything is measured that private memory cannot be.

    Raises:
        UserError: the system does not tell.
    """
    if device.type == "cpu" and not private_memory.is_told():
        raise UserError(
            "this system has no /proc/self/status that tells the anonymous memory of a process: "
            "only `kseed bench rebuild`, `kseed bench step` and `kseed bench gossip` work here"
        )


def bench_memory(options: BenchOptions) -> dict[str, Any]:
    """Measure the memory of a round; see `sim.bench.bench` and this module's docstring."""
    device = resolve_device(options.device)
    check_system(device)
    threads = options.threads or cores()
    programs = {
        name: Program(
            name.partition(" ")[0],
            name.partition(" ")[2],
            options.candidate_seeds,
            options.tokens,
            options.dtype,
            device.type,
            threads,
        )
        for name in ("inference", "published", *(f"round {p}" for p in options.perturbations))
    }
    samples: dict[str, list[Bytes]] = {name: [] for name in programs}
    with tempfile.TemporaryDirectory(prefix="kseed-bench-") as temporary:
        tiny, folder = Path(temporary, "tiny"), Path(temporary, "model")
        _make_model(_TINY, options, tiny)
        size = _make_model(options.parameters, options, folder)
        with (
            ForeignLoad() as load,
            BenchProgress("memory", len(programs) * options.repeats) as progress,
        ):
            for _ in range(options.repeats):
                for name, program in programs.items():
                    samples[name].append(in_a_process(program.name, run, program, tiny, folder))
                    progress.advance()
    typical = {name: _medians(each) for name, each in samples.items()}
    results = {name: _result(typical, f"round {name}") for name in options.perturbations}
    common = {
        "parameters": size,
        "tokens": options.tokens,
        "candidate_seeds": options.candidate_seeds,
        "dtype": options.dtype,
        "repeats": options.repeats,
        "samples": samples,
    }
    return report("memory", options, device, threads, common, results, load)


def _make_model(parameters: int, options: BenchOptions, folder: Path) -> int:
    """Write a model folder; return how many parameters the model has."""
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    host = torch.device("cpu")
    # Made in float32, whatever it is cast to then.
    check_room(host, parameters * 4)
    model = random_llama(llama_config(parameters, options.tokens), options.dtype, host)
    model.save_pretrained(folder)
    return sum(parameter.numel() for parameter in model.parameters())


def _medians(samples: list[Bytes]) -> Bytes:
    return {key: int(statistics.median(each[key] for each in samples)) for key in samples[0]}


def _result(typical: Mapping[str, Bytes], round_: str) -> dict[str, Any]:
    """Return the fields of one distribution."""
    mine, inference, reference = typical[round_], typical["inference"], typical["published"]
    bytes_, inference_bytes, reference_bytes = (
        each["peak_bytes"] - each["import_bytes"] for each in (mine, inference, reference)
    )
    return {
        "bytes": bytes_,
        "inference_bytes": inference_bytes,
        "ratio_to_inference": bytes_ / inference_bytes,
        "ratio_with_imports": mine["peak_bytes"] / inference["peak_bytes"],
        "reference_bytes": reference_bytes,
        "ratio": reference_bytes / bytes_,
        "round": mine,
        "inference": inference,
        "published": reference,
    }
