"""`kseed bench`: what numerics, gossip and the simulator cost on this machine."""

from __future__ import annotations

import argparse
import json

from sim.bench.options import BENCHES, CLUSTER, BenchOptions, bench_options, unused_bench_options
from sim.commands.parsing import LOG, Commands, add_flags, given, log_to_stderr


def add(commands: Commands) -> None:
    """Add the command."""
    bench = commands.add_parser(
        "bench",
        help="measure rebuilds, local steps, memory, gossip and the simulator",
        description="Measure what a rebuild, a local step and a round's memory cost here, beside "
        "the published program and beside a limit; what gossip costs on simulated networks, and "
        "how fast these are simulated; by its name alone, what a simulation takes through Ray.",
        epilog="--json prints one object. Its fields hold for the distribution asked for, or for "
        "the default of an experiment; the object `results` has them for each one "
        "measured. The figures of gossip and simulator are in `figures`, with their limits. "
        "Without BENCH there is an object for each bench, by its name.",
    )
    bench.add_argument(
        "bench",
        nargs="?",
        choices=(*BENCHES, CLUSTER),
        metavar="BENCH",
        help=f"one of {', '.join(BENCHES)} (default: all), or {CLUSTER}",
    )
    add_flags(bench, bench_options())
    bench.set_defaults(run=_bench)


def _bench(parsed: argparse.Namespace) -> int:
    from sim.bench import bench
    from sim.bench.table import in_words

    wanted = given(parsed, bench_options())
    options = BenchOptions(**wanted)
    log_to_stderr()
    idle = unused_bench_options(parsed.bench, wanted)
    if idle:
        LOG.warning("without effect in this bench, and ignored: %s", ", ".join(idle))
    report = bench(parsed.bench, options)
    print(json.dumps(report) if options.json else in_words(report))
    return 0
