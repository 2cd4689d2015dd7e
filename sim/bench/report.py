"""A bench's report: what its JSON is, and what its table is made of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from sim.bench.load import ForeignLoad
from sim.bench.machine import facts
from sim.bench.options import BenchOptions


def report(
    name: str,
    options: BenchOptions,
    device: torch.device,
    threads: int,
    common: Mapping[str, Any],
    results: Mapping[str, Mapping[str, Any]],
    load: ForeignLoad,
) -> dict[str, Any]:
    """Return a report; see `sim.bench.bench`.

    Args:
        name: of the bench.
        options: what was measured.
        device: on what.
        threads: by how many.
        common: the fields that are the same for all distributions.
        results: the fields of each distribution that was measured.
        load: of others, meanwhile.
    """
    first = options.shown_first
    return {
        "bench": name,
        "perturbation": first,
        **results[first],
        "results": dict(results),
        **common,
        "device": str(device),
        "threads": threads,
        **load.fields(),
        "machine": facts(device, threads),
    }
