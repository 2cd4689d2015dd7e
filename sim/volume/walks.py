"""How entries of many origins spread over a graph: hops, and what each directed link carries.

Links are all alike, nothing is lost, everybody is there, and the graph stays as it is: then the
simulator's counts follow from one walk over the graph for each origin, and no event is needed.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from threading import Lock
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sim.volume.walk_kernels import Counts, flood, push
from topology.arrays import Links

HALVES: Final = 2
"""The origins are walked in two parts, side by side; what the parts differ by tells the error."""

_KERNELS: Final = {"flood": flood, "tree": push}


@dataclass(frozen=True, eq=False)
class Walks:
    """What came of walking n origins, each with W weights.

    Attributes:
        last_hops: shape (n,), hops to the last peer.
        sum_hops: shape (n,), the sum of the hops to each peer.
        weights: shape (2, W), the sums over the origins of either half.
        firsts: shape (2, 2E, W): in either half, the weights of the origins whose entries somebody
            gets first over this link; links are in the order of `Links.ends`.
    """

    last_hops: Counts
    sum_hops: Counts
    weights: Counts
    firsts: Counts


def walk(
    links: Links,
    gossip: str,
    origins: NDArray[np.int64],
    weights: Counts,
    walked: Callable[[], None] = lambda: None,
) -> Walks:
    """Walk over a graph from each of these origins, on two cores.

    Args:
        links: the graph.
        gossip: flood or tree.
        origins: shape (n,); the halves are those at even and at odd places.
        weights: shape (n, W), what to count for each.
        walked: called after each origin, by one thread at a time.
    """
    kernel = _KERNELS[gossip]
    firsts = np.zeros((HALVES, len(links.ends), weights.shape[1]), dtype=np.int64)
    hops = np.zeros((len(origins), 2), dtype=np.int64)

    telling = Lock()

    def walk_half(half: int) -> None:
        for place in range(half, len(origins), HALVES):
            hops[place] = kernel(
                links.starts, links.ends, origins[place], weights[place], firsts[half]
            )
            with telling:
                walked()

    with ThreadPoolExecutor(HALVES) as pool:
        for done in [pool.submit(walk_half, half) for half in range(HALVES)]:
            done.result()
    sums = np.stack([weights[half::HALVES].sum(axis=0) for half in range(HALVES)])
    return Walks(hops[:, 0], hops[:, 1], sums, firsts)


def link_loads(links: Links, gossip: str, firsts: NDArray[Any], whole: int) -> NDArray[Any]:
    """Return what each directed link carries, shape (..., 2E).

    The last index k is the link to links.ends[k] from links.senders()[k]. Pushed along a tree an
    entry goes over the links of the tree. Flooded, it goes over all but those back to where a peer
    has it from.

    Args:
        links: the graph.
        gossip: flood or tree.
        firsts: what each link brings to somebody first, shape (..., 2E).
        whole: what all entries weigh, each counted once.
    """
    if gossip == "tree":
        return firsts
    # Sorted by receiver and then by sender, links are in the order of their opposites.
    opposite = np.argsort(links.ends, kind="stable")
    return whole - firsts[..., opposite]
