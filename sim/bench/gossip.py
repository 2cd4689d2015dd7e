"""`kseed bench gossip`: what spreading costs beyond what it cannot do without.

All peers publish in every round, tau = 200 in float32, over links of 20 to 80 ms, constant for each
link. On each graph, `flood` and `tree` with and without loss, and `tree` where the latencies are
not known, as on a real network. In "results", for each graph and run:

    cold, warm      the first history of each origin, and the later ones
      redundancy              copies sent over N - 1 for each history
      seconds, worst_seconds  from publishing to the last peer: mean of all histories, and longest
      time_to_flooding, worst_time_to_flooding
                              the same over those of flooding with the same loss
    control         control bytes over payload bytes of the whole run
    everywhere      whether every entry came to every peer

and in "volume" bytes per peer and round at the paper's setting, see `sim.bench.volume`, without and
with signatures. All is counted in virtual time, so the figures are the same everywhere.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from sim.bench import volume
from sim.bench.held import Figure, held, held_report
from sim.bench.options import BenchOptions
from sim.bench.progress import BenchProgress
from sim.bench.spreading import Spread, compared, spread
from sim.bench.worlds import experiment

PEERS: Final = 100
GRAPHS: Final[dict[str, dict[str, Any]]] = {
    "torus": {"topology": "torus"},
    "random regular, degree 4": {"topology": "random-regular", "degree": 4},
    "random regular, degree 8": {"topology": "random-regular", "degree": 8},
    "Watts-Strogatz": {"topology": "watts-strogatz", "degree": 4},
}
LOSS: Final = 0.05
RUNS: Final[dict[str, dict[str, Any]]] = {
    "flood": {"gossip": "flood"},
    "tree": {"gossip": "tree"},
    "tree, latencies unknown": {"gossip": "tree"},
    "flood, 5% lost": {"gossip": "flood", "loss": LOSS},
    "tree, 5% lost": {"gossip": "tree", "loss": LOSS},
}
SETTING: Final[dict[str, Any]] = {
    "local_steps": 200,
    "latency": "uniform:0.02-0.08",
    "latency_per": "link",
    "rounds": 5,
}

REDUNDANCY: Final = 1.02
REDUNDANCY_WITH_LOSS: Final = 1.35
TIME: Final = 1.15
CONTROL: Final = 0.15
VOLUME: Final = {"unsigned": 17_988, "signed": 23_500}

Results = dict[str, dict[str, dict[str, Any]]]


def bench_gossip(options: BenchOptions) -> dict[str, Any]:
    """Measure gossip; see `sim.bench.bench` and this module's docstring."""
    peers = options.peers or PEERS
    results: Results = {}
    with BenchProgress("gossip", len(GRAPHS) * len(RUNS) + len(VOLUME)) as progress:
        for name, graph in GRAPHS.items():
            spreads = {}
            for run, mode in RUNS.items():
                values = SETTING | graph | mode
                known = run != "tree, latencies unknown"
                spreads[run] = spread(experiment(peers=peers, **values), latencies_known=known)
                progress.advance()
            results[name] = {run: _fields(run, spreads) for run in RUNS}
        volumes = {}
        for kind in VOLUME:
            volumes[kind] = volume.volume(sign=kind == "signed")
            progress.advance()
    common = {
        "peers": peers,
        "volume_peers": volume.PEERS,
        "results": results,
        "volume": volumes,
    }
    return held_report("gossip", _figures(results, volumes), common, None)


def _fields(run: str, spreads: Mapping[str, Spread]) -> dict[str, Any]:
    here, flooded = spreads[run], spreads["flood, 5% lost" if "lost" in run else "flood"]
    return {
        "cold": compared(here.cold, flooded.cold),
        "warm": compared(here.warm, flooded.warm),
        "control": here.control,
        "everywhere": here.everywhere,
    }


def _figures(results: Results, volumes: Mapping[str, Mapping[str, float]]) -> Iterator[Figure]:
    for graph, runs in results.items():
        for run, fields in runs.items():
            limited, lossy = run == "tree", "lost" in run
            most = REDUNDANCY_WITH_LOSS if lossy else REDUNDANCY
            for phase in ("cold", "warm"):
                name, here = f"{graph}: {run}, {phase}", fields[phase]
                limit = most if run in ("tree", "tree, 5% lost") else None
                yield held(f"{name}: redundancy", here["redundancy"], limit)
                if not run.startswith("flood"):
                    limit = TIME if limited else None
                    yield held(f"{name}: time to flooding's", here["time_to_flooding"], limit)
                    worst = here["worst_time_to_flooding"]
                    yield held(f"{name}: worst time to flooding's", worst, limit)
            name, limit = f"{graph}: {run}", CONTROL if limited else None
            yield held(f"{name}: control over payload", fields["control"], limit)
            yield held(f"{name}: delivered everywhere", float(fields["everywhere"]), 1, least=True)
    for kind, limit in VOLUME.items():
        here = volumes[kind]["bytes"]
        yield held(f"paper's setting, {kind}: bytes per peer and round", here, limit)
