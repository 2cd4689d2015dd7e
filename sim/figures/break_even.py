"""Where a round's histories begin to take more bytes than sums up and down one tree would.

Histories of N peers take N (N - 1) tau b bytes, one copy for every peer; b is 4 bytes or fewer of a
scalar gradient, and the bytes of its seed index where that travels (FedKSeed-Pro). Sums are a cost
model only, which is in `sim.volume.tree_sum` with its formula. They grow with the number of
different seeds that are drawn, so the two break even at some N tau in units of K: on a torus, with
6 bytes a step and K = 4096, at 1.32 K with 100 peers, 1.25 K with 256, and towards 1.13 K as N
grows; with 4 bytes, indices derived, at 2.24, 2.15 and towards 2 K. These last are where
b x = min(10 (1 - e^-x), 8) with x = N tau / K, what goes down each link against a history's bytes,
for what goes up becomes little beside it.

The report's fields, all bytes of one round over all links together:

    setting      topology, peers, links, height of the tree, candidate_seeds, gradient_bytes,
                 index_bytes, sum_bytes
    rows         for some tau: histories (indices sent), histories_derived (they are not), sums,
                 sums_up, sums_down; sums_simulated: the mean of `rounds_simulated` rounds with the
                 seeds that peers really draw, and simulated_error, its standard error; or None for
                 both where there are too many peers and seeds; sums_along_pushes: least and most,
                 along the trees that the entries of some peers take
    curve        the same lines for more tau, to be drawn: each a list
    break_even   "sent" and "derived": local_steps, steps_per_seed (N tau / K), bytes
    by_peers     peers, and steps_per_seed of both, for the same family and other numbers of peers
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import numpy as np

import topology
from peer.errors import UserError
from peer.seeds import draw_uniform
from sim.figures.options import BreakEvenOptions
from sim.volume.tree_sum import (
    SUM_BYTES,
    SumTree,
    breadth_first,
    break_even,
    histories_bytes,
    index_bytes,
    push_tree,
    simulated_sums_bytes,
    sums_bytes,
)
from topology.arrays import build_links, links_of
from topology.counts import count_links

_Crossings = dict[str, dict[str, float]]

LOCAL_STEPS: Final = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
OTHER_PEERS: Final = (16, 64, 256, 1024, 4096)

_CURVE_POINTS: Final = 61
_ROUNDS_SIMULATED: Final = 8
_MOST_SIMULATED: Final = 2**22
"""Peers times seeds, and peers times steps, of a round that is simulated."""

_PUSH_TREES: Final = 16
_MOST_LINKS: Final = 2**20
"""Of a family's graph: some 20 seconds and 1 GB."""


def report_break_even(options: BreakEvenOptions) -> dict[str, Any]:
    """Return the report; see this module's docstring.

    Raises:
        UserError: the topology varies over time, or has too many links.
        TopologyError: there is no such topology.
    """
    wanted = options.peers if options.topology in topology.FAMILIES else None
    if wanted is not None and options.topology not in topology.VARYING:
        links = count_links(options.topology, wanted, degree=options.degree)
        if links > _MOST_LINKS:
            raise UserError(
                f"{options.topology} of {wanted:,} peers has {links:,} links, and at most "
                f"{_MOST_LINKS:,} are compared"
            )
    graph = topology.resolve(options.topology, wanted, degree=options.degree, seed=options.seed)
    if isinstance(graph, topology.Varying):
        raise UserError(f"topology = {graph.name!r} varies over time: a tree needs links that stay")
    tree = breadth_first(links_of(graph))
    candidates, peers = options.candidate_seeds, len(graph.nodes)
    sent = options.gradient_bytes + index_bytes(candidates)
    crossings = _crossings(options, tree)
    # Both crossings lie well within what is drawn.
    first = min(LOCAL_STEPS[0], crossings["sent"]["local_steps"] / 4)
    last = max(LOCAL_STEPS[-1], crossings["derived"]["local_steps"] * 4)
    steps = np.geomspace(first, last, _CURVE_POINTS).tolist()
    return {
        "figure": "break-even",
        "setting": {
            "topology": graph.name,
            "peers": peers,
            "links": len(graph.edges),
            "height": tree.height(),
            "candidate_seeds": candidates,
            "gradient_bytes": options.gradient_bytes,
            "index_bytes": index_bytes(candidates),
            "sum_bytes": SUM_BYTES,
        },
        "rounds_simulated": _ROUNDS_SIMULATED,
        "rows": list(_rows(options, graph, tree)),
        "curve": {
            "local_steps": steps,
            "histories": [histories_bytes(peers, tau, sent) for tau in steps],
            "histories_derived": [
                histories_bytes(peers, tau, options.gradient_bytes) for tau in steps
            ],
            "sums": [sums_bytes(tree, tau, candidates).total for tau in steps],
        },
        "break_even": crossings,
        "by_peers": list(_by_peers(options, graph, crossings)),
    }


def _rows(
    options: BreakEvenOptions, graph: topology.Topology, tree: SumTree
) -> Iterator[dict[str, Any]]:
    peers, candidates = len(graph.nodes), options.candidate_seeds
    origins = range(0, peers, -(-peers // _PUSH_TREES))
    push_trees = [push_tree(graph, origin) for origin in origins]
    for tau in LOCAL_STEPS:
        sums = sums_bytes(tree, tau, candidates)
        along_pushes = [sums_bytes(each, tau, candidates).total for each in push_trees]
        mean, error = _simulated(options, tree, tau)
        yield {
            "local_steps": tau,
            "histories": histories_bytes(
                peers, tau, options.gradient_bytes + index_bytes(candidates)
            ),
            "histories_derived": histories_bytes(peers, tau, options.gradient_bytes),
            "sums": sums.total,
            "sums_up": sums.up,
            "sums_down": sums.down,
            "sums_simulated": mean,
            "simulated_error": error,
            "sums_along_pushes": [min(along_pushes), max(along_pushes)],
        }


def _simulated(
    options: BreakEvenOptions, tree: SumTree, tau: int
) -> tuple[float, float] | tuple[None, None]:
    """Return mean and standard error over some rounds with seeds as peers draw them."""
    peers, candidates = len(tree.parents), options.candidate_seeds
    if peers * max(candidates, tau) > _MOST_SIMULATED:
        return None, None
    totals = [
        simulated_sums_bytes(
            tree,
            (draw_uniform(options.seed, peer, round_, tau, candidates) for peer in range(peers)),
            candidates,
        ).total
        for round_ in range(_ROUNDS_SIMULATED)
    ]
    return float(np.mean(totals)), float(np.std(totals, ddof=1) / np.sqrt(len(totals)))


def _crossings(options: BreakEvenOptions, tree: SumTree) -> _Crossings:
    """Return where histories break even whose indices are sent, and where they are derived."""
    candidates = options.candidate_seeds
    sent = options.gradient_bytes + index_bytes(candidates)
    return {
        name: _break_even(tree, step_bytes, candidates)
        for name, step_bytes in (("sent", sent), ("derived", options.gradient_bytes))
    }


def _break_even(tree: SumTree, step_bytes: int, candidates: int) -> dict[str, float]:
    peers = len(tree.parents)
    tau = break_even(tree, step_bytes, candidates)
    return {
        "local_steps": tau,
        "steps_per_seed": peers * tau / candidates,
        "bytes": histories_bytes(peers, tau, step_bytes),
    }


def _by_peers(
    options: BreakEvenOptions, graph: topology.Topology, crossings: _Crossings
) -> Iterator[dict[str, Any]]:
    """Yield the break-even of the same family with other numbers of peers, and of this one."""
    found = {len(graph.nodes): crossings}
    for peers in OTHER_PEERS if graph.name in topology.FAMILIES else ():
        if peers in found:
            continue
        try:
            if count_links(graph.name, peers, degree=options.degree) > _MOST_LINKS:
                break
            other = build_links(graph.name, peers, degree=options.degree, seed=options.seed)
        except topology.TopologyError:
            # A sparse random graph falls apart, and a larger one all the more.
            break
        found[peers] = _crossings(options, breadth_first(other))
    for peers, each in sorted(found.items()):
        yield {"peers": peers} | {name: at["steps_per_seed"] for name, at in each.items()}
