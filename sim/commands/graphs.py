"""`kseed topology`: a graph's measures and its picture."""

from __future__ import annotations

import argparse
from pathlib import Path

import topology
from sim.commands.parsing import Commands


def add(commands: Commands) -> None:
    """Add the command."""
    graph = commands.add_parser("topology", help="measure and draw a topology")
    graph.add_argument("name", help="a family, or a file: " + ", ".join(topology.FAMILIES))
    graph.add_argument("--peers", type=int, help="number of peers (default 8; a file sets it)")
    graph.add_argument("--degree", type=int, default=4, help="degree of the families with one")
    graph.add_argument("--seed", type=int, default=0, help="of the random families")
    graph.add_argument("--svg", type=Path, help="where to draw it (default: NAME-PEERS.svg)")
    graph.set_defaults(run=_topology)


def _topology(parsed: argparse.Namespace) -> int:
    from topology.drawing import draw

    peers = parsed.peers
    if peers is None and parsed.name in topology.FAMILIES:
        peers = 8
    graph = topology.resolve(parsed.name, peers, degree=parsed.degree, seed=parsed.seed)
    path = parsed.svg or Path(f"{graph.name}-{len(graph.nodes)}.svg")
    draw(graph, path)
    print(topology.describe(graph, topology.measure(graph)))
    print(f"drawn to {path}")
    return 0
