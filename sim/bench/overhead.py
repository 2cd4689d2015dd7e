"""`kseed bench ray`: what a simulation takes through a Ray cluster, against the plain one.

Whole commands take turns, each in a process of its own: `kseed sim` here, and with one and with two
workers, which share all processors, on a cluster of one node that is begun for the command and
ended with it. Medians of the repeats, in seconds by the clock:

    plain, workers_1, workers_2
      seconds               from the start of Python to its end
      without_start_up      from when everything is loaded to the last round's end
    samples                 the same of each repeat
    digests_equal           whether all have ended with the same digests

What others use of the processors meanwhile cannot be told from what Ray's own processes do.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from peer.errors import RunFailed
from sim.bench.held import Figure, held, held_report
from sim.bench.options import BenchOptions
from sim.bench.progress import BenchProgress
from sim.processors import processors

PEERS: Final = 8
SETTING: Final = {"local-steps": 50, "eval-rows": 20}
RATIO: Final = 1.3
"""What a run through one worker may take, over the plain one."""


Times = dict[str, float]


def bench_overhead(options: BenchOptions) -> dict[str, Any]:
    """Measure runs through Ray; see `sim.bench.bench` and this module's docstring."""
    peers = options.peers or PEERS
    common = SETTING | {"peers": peers, "rounds": options.rounds, "model": _place(options.model)}
    flags = [word for key, value in common.items() for word in (f"--{key}", str(value))]
    runs: dict[str, list[str]] = {"plain": [], "workers_1": _on_ray(1), "workers_2": _on_ray(2)}
    samples: dict[str, list[Times]] = {name: [] for name in runs}
    digests = set()
    with BenchProgress("runs through Ray", len(runs) * options.repeats) as progress:
        for _ in range(options.repeats):
            for name, where in runs.items():
                seconds, summary = _run([*flags, *where])
                wall = summary["seconds"]["wall"]
                samples[name].append({"seconds": seconds, "without_start_up": wall})
                digests.add(json.dumps(summary["digests"]))
                progress.advance()
    medians = {name: _medians(some) for name, some in samples.items()}
    report = {
        "peers": peers,
        "rounds": options.rounds,
        "model": options.model,
        **medians,
        "samples": samples,
        "digests_equal": len(digests) == 1,
    }
    return held_report("ray", _figures(medians, len(digests) == 1), report, None)


def _on_ray(workers: int) -> list[str]:
    """Return the flags for so many workers, which share the processors that a plain run has."""
    all_ = processors()
    share = all_ // workers or all_ / workers
    where = {"engine": "ray", "ray-address": "local", "ray-workers": workers, "ray-cpus": share}
    return [word for key, value in where.items() for word in (f"--{key}", str(value))]


def _place(model: str) -> str:
    """Return a model as a command names it that runs in another folder."""
    folder = Path(model).expanduser()
    return str(folder.absolute()) if folder.is_dir() else model


def _run(flags: list[str]) -> tuple[float, Mapping[str, Any]]:
    """Run a simulation; return the seconds of the whole command, and its summary.

    Raises:
        RunFailed: it has failed.
    """
    with TemporaryDirectory() as folder:
        began = time.perf_counter()
        command = [sys.executable, "-m", "sim", "sim", *flags, "--json", "--out", "run"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        seconds = time.perf_counter() - began
    if done.returncode:
        # Who is killed says nothing.
        why = done.stderr.strip().splitlines() or [f"it has ended with status {done.returncode}"]
        raise RunFailed(f"a run has failed: {why[-1]}")
    return seconds, json.loads(done.stdout)


def _medians(samples: list[Times]) -> Times:
    return {key: statistics.median(sample[key] for sample in samples) for key in samples[0]}


def _figures(medians: Mapping[str, Times], equal: bool) -> Iterator[Figure]:
    plain = medians["plain"]
    for name, workers, limit in (
        ("workers_1", "one worker", RATIO),
        ("workers_2", "two workers", None),
    ):
        whole, inner = (medians[name][key] / plain[key] for key in plain)
        yield held(f"{workers}: whole command over the plain one", whole, limit)
        yield held(f"{workers}: the same without start-up", inner, limit)
    yield held("digests equal", float(equal), 1, least=True)
