"""What a pass over the weights cannot do without: bytes through memory, and words of Philox.

The bandwidth of memory is that of torch's copy or of its triad (a + c b into a third array),
whichever moves more; on arrays far larger than a cache. The bound of arithmetic is Philox alone, as
fast as the kernels make it, into a buffer that stays in the cache, by one thread; more threads are
taken to share it without loss. It is a bound for any rebuild by this generator: what is done with
the words comes on top.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import torch

from peer.perturbation.cpu_words import fill_halves
from sim.bench.timing import Samples, Work

ARRAY_BYTES: Final = 2**28
"""Size of each of the three arrays that memory is measured with."""

_BLOCKS: Final = 1024
_CALLS: Final = 64


def memory_works(device: torch.device) -> dict[str, Work]:
    """Return the works that measure the bandwidth of memory."""
    a, b, c = (torch.ones(ARRAY_BYTES // 4, device=device) for _ in range(3))
    return {"copy": lambda: a.copy_(b), "triad": lambda: torch.add(a, b, alpha=0.5, out=c)}


def bandwidth(samples: Samples) -> float:
    """Return the bytes that memory moves in a second: the best of all samples, as it is a limit."""
    copy, triad = min(samples["copy"]), min(samples["triad"])
    return max(2 * ARRAY_BYTES / copy, 3 * ARRAY_BYTES / triad)


def philox_works(device: torch.device) -> dict[str, Work]:
    """Return the work that measures Philox; none on a GPU, where kernels cannot be told apart."""
    if device.type != "cpu":
        return {}
    halves, others = np.empty((2, 2, _BLOCKS), np.uint64)

    def make() -> None:
        for i in range(_CALLS):
            fill_halves(np.uint64(1), np.uint64(2), 0, i * _BLOCKS, halves, others)

    return {"philox": make}


def philox_seconds_per_block(samples: Samples, threads: int) -> float | None:
    """Return the seconds that threads take for one block of 128 bits, at best; None: not known."""
    if "philox" not in samples:
        return None
    return min(samples["philox"]) / (2 * _BLOCKS * _CALLS * threads)
