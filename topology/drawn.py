"""Random graphs of a million peers by array operations: the families that networkx takes long for.

`random-regular` is drawn as networkx does, by the algorithm of Steger and Wormald, "Generating
random regular graphs quickly" (1999): every peer has as many stubs as its degree, all stubs are
paired at random, and the stubs of loops and repeated links are paired anew, until none is left. Kim
and Vu (STOC 2003) show that for degrees well below N^(1/3) all regular graphs are then about as
likely. `erdos-renyi` has a binomial number of links, and each set of so many is as likely.

Both follow from the seed through numpy's PCG64, so they are other graphs than those of
`topology.build` at the same seed, drawn from the same distribution.
"""

from __future__ import annotations

from math import exp

import numpy as np
from numpy.typing import NDArray

from topology.families import TRIES, fit_degree, not_connected
from topology.graph import TopologyError

Ends = NDArray[np.int64]

_HOPELESS = 30.0
"""Peers without a link to expect above which a graph is connected once in e^30 draws."""


def draw_pairs(
    name: str, peers: int, *, degree: int, seed: int
) -> tuple[tuple[Ends, Ends], tuple[str, ...]]:
    """Return the two ends of every link of a connected graph, and notes.

    Args:
        name: random-regular or erdos-renyi.
        peers: N, below 2**31.
        degree: as for `topology.build`; well below N.
        seed: where to start; the same arguments give the same graph.

    Returns:
        Shapes (E,): each link once, as the lower end and the higher one.

    Raises:
        TopologyError: as `topology.build` does.
    """
    fitted, notes = fit_degree(name, peers, degree)
    if name == "erdos-renyi" and peers * exp(-fitted) > _HOPELESS:
        raise TopologyError(
            f"{name} of {peers} peers with degree {fitted} is not connected: about "
            f"{peers * exp(-fitted):,.0f} peers have no link; try a degree of 20 or more"
        )
    random = np.random.default_rng(seed)
    for _ in range(TRIES):
        keys = _regular(peers, fitted, random) if name == "random-regular" else None
        if name == "erdos-renyi":
            keys = _gnp(peers, fitted / (peers - 1), random)
        if keys is not None and _is_connected(peers, keys):
            drawn = f"The graph is another draw than that of a run: {name} by arrays, seed {seed}."
            return (keys // peers, keys % peers), (*notes, drawn)
    raise not_connected(name, peers, fitted)


def _regular(peers: int, degree: int, random: np.random.Generator) -> Ends | None:
    """Return sorted numbers a N + b of links a < b, or None if the last stubs cannot be paired."""
    links = np.empty(0, dtype=np.int64)
    stubs = np.repeat(np.arange(peers), degree)
    while len(stubs):
        random.shuffle(stubs)
        a, b = stubs[0::2], stubs[1::2]
        drawn = np.sort(np.minimum(a, b) * peers + np.maximum(a, b))
        a, b = drawn // peers, drawn % peers
        kept = (a != b) & ~_among(drawn, links)
        # The first of equal pairs is kept.
        kept[1:] &= drawn[1:] != drawn[:-1]
        links = np.sort(np.concatenate([links, drawn[kept]]))
        stubs = np.concatenate([a[~kept], b[~kept]])
        if not _can_go_on(stubs, peers, links):
            return None
    return links


def _among(keys: Ends, known: Ends) -> NDArray[np.bool_]:
    """Tell which keys are among the known ones, which are sorted."""
    if not len(known):
        return np.zeros(len(keys), dtype=bool)
    places = np.minimum(np.searchsorted(known, keys), len(known) - 1)
    return np.equal(known[places], keys)


def _can_go_on(stubs: Ends, peers: int, links: Ends) -> bool:
    """Tell whether no stub is left, or two peers that have some are not linked yet."""
    waiting = distinct(stubs)
    # So many peers cannot all be linked to each other; only the last few are looked at.
    if not len(waiting) or len(waiting) * (len(waiting) - 1) // 2 > len(links):
        return True
    a, b = np.triu_indices(len(waiting), 1)
    return not _among(waiting[a] * peers + waiting[b], links).all()


def distinct(keys: Ends) -> Ends:
    """Return the different ones, sorted: as `np.unique`, which takes 80 times as long on links."""
    keys = np.sort(keys)
    first = np.ones(len(keys), dtype=bool)
    first[1:] = keys[1:] != keys[:-1]
    return keys[first]


def _gnp(peers: int, probability: float, random: np.random.Generator) -> Ends:
    """Return sorted numbers a N + b of links a < b, each there with the same probability."""
    wanted = int(random.binomial(peers * (peers - 1) // 2, probability))
    keys = np.empty(0, dtype=np.int64)
    while len(keys) < wanted:
        ends = random.integers(peers, size=(2, wanted - len(keys) + 1024))
        ends = ends[:, ends[0] != ends[1]]
        keys = distinct(np.concatenate([keys, ends.min(axis=0) * peers + ends.max(axis=0)]))
    return np.sort(random.choice(keys, wanted, replace=False, shuffle=False))


def _is_connected(peers: int, keys: Ends) -> bool:
    """Tell whether paths join all peers, level by level: few levels, since the graph is random."""
    both = np.concatenate([keys, keys % peers * peers + keys // peers])
    both.sort()
    ends = both % peers
    starts = np.searchsorted(both, np.arange(peers + 1) * peers)
    reached = np.zeros(peers, dtype=bool)
    reached[0] = True
    level = np.array([0])
    while len(level):
        counts = starts[level + 1] - starts[level]
        firsts = np.repeat(starts[level] - np.cumsum(counts) + counts, counts)
        found = ends[firsts + np.arange(len(firsts))]
        level = distinct(found[~reached[found]])
        reached[level] = True
    return bool(reached.all())
