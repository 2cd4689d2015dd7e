"""Seconds of works that take turns, so that whatever else goes on hits them all alike."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Final

import torch

from sim.bench.progress import BenchProgress

Work = Callable[[], object]
Samples = dict[str, list[float]]
"""Seconds of one call of each work, one for each repeat."""

LEAST_SECONDS: Final = 0.05
"""A work that is done sooner is called several times in a row for one sample."""

_MOST_CALLS: Final = 1000


def measure(
    title: str, works: Mapping[str, Work], repeats: int, device: torch.device
) -> tuple[Samples, dict[str, int]]:
    """Return the seconds of each work, and how many calls in a row a sample is the mean of.

    Each work is called before anything is measured, so that nothing is compiled, and no memory
    comes into use, in measured time.
    """
    calls = {}
    samples: Samples = {name: [] for name in works}
    with BenchProgress(title, len(works) * (repeats + 1)) as progress:
        for name, work in works.items():
            work()
            once = seconds_of(work, 1, device)
            calls[name] = max(1, min(_MOST_CALLS, math.ceil(LEAST_SECONDS / max(once, 1e-9))))
            progress.advance()
        for _ in range(repeats):
            for name, work in works.items():
                samples[name].append(seconds_of(work, calls[name], device))
                progress.advance()
    return samples, calls


def seconds_of(work: Work, calls: int, device: torch.device) -> float:
    """Return the seconds of a call, the mean of some in a row; what a GPU still does is awaited."""
    _synchronise(device)
    began = time.perf_counter()
    for _ in range(calls):
        work()
    _synchronise(device)
    return (time.perf_counter() - began) / calls


def medians(samples: Samples) -> dict[str, float]:
    """Return the median of each work's samples."""
    return {name: statistics.median(seconds) for name, seconds in samples.items()}


def _synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
