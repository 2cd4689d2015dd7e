"""`kseed bench`: what a rebuild, a local step and a round's memory cost on this machine.

Every figure of these stands beside two others that are measured with it: what the published
program's way of doing the same costs, and a limit. All works of a bench take turns, so that
whatever else goes on hits each of them, and how much else did go on is measured too (`load`). Two
more benches are of the protocol: what gossip costs on a network, and how fast that is simulated;
and one is of runs through Ray.
"""

from __future__ import annotations

import logging
from typing import Any

from sim.bench.options import BENCHES, CLUSTER, BenchOptions

__all__ = ["BENCHES", "CLUSTER", "BenchOptions", "bench"]

LOG = logging.getLogger("kseed")


def bench(name: str | None, options: BenchOptions) -> dict[str, Any]:
    """Measure, and return what `kseed bench --json` prints.

    Args:
        name: one of `BENCHES` or CLUSTER, or None for all of `BENCHES`, each then under its name.
        options: what to measure.

    Returns:
        The fields of a bench are in its module's docstring. Those that depend on the distribution
        are at the top for one of them: the one asked for, or else the default of an experiment.
        "results" has them for each distribution that was measured, by its name. The benches of the
        protocol have their figures in "figures", each beside its limit.

    Raises:
        UserError: this cannot be measured here.
    """
    from peer.model import resolve_device
    from sim.bench import gossip, load, memory, overhead, rebuild, simulator, step

    measure = {
        "rebuild": rebuild.bench_rebuild,
        "step": step.bench_step,
        "memory": memory.bench_memory,
        "gossip": gossip.bench_gossip,
        "simulator": simulator.bench_simulator,
        CLUSTER: overhead.bench_overhead,
    }
    names = BENCHES if name is None else (name,)
    if "memory" in names:
        memory.check_system(resolve_device(options.device))
    if "simulator" in names:
        memory.check_system(resolve_device("cpu"))
    reports = {}
    for each in names:
        reports[each] = measure[each](options)
        if reports[each]["quiet"] is False:
            LOG.warning("%s", load.warning(reports[each]))
    return reports if name is None else reports[name]
