"""What it takes to bring entries to everybody: volumes by graph algorithms, to a million peers.

    links = build_links("random-regular", 10**6)
    origins = np.array(Roster((1,) * 10**6, 0.05, 0).active(0))
    with WalkProgress(f"walking over {links.name}") as progress:
        volume = spread_volume(
            links, "flood", origins, np.full(len(origins), 834), walked=progress.walked
        )
    print(in_words(volume))

For graphs that stay as they are, links that are all alike and lose nothing, and peers that are all
there. How often an entry is sent is then a closed form (`sim.volume.sends`), so the volume is exact
whatever the size. Hops, and what each link carries, are exact where every origin is walked
(`sim.volume.walks`), and equal what the simulator counts. In larger graphs a sample of the origins
is walked, and the error is stated (`sim.volume.loads`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from peer.errors import UserError
from sim.volume.loads import Loads, loads_of
from sim.volume.sends import BY_THE_GRAPH, sends_per_entry
from sim.volume.walks import Walks, link_loads, walk
from topology.arrays import Links
from topology.counts import count_links

WORK: Final = {"flood": 3e8, "tree": 1.2e8}
"""Links and peers that all walks together pass where no sample is given: 5 to 10 s on 2 cores."""

LEAST_SAMPLE: Final = 16
"""Origins that are walked at least, if there are so many."""

MEASURED_LIMIT: Final = 2**20
"""The most peers whose graph is made: a million; beyond, `extrapolate` does without."""

Counts = NDArray[np.int64]


@dataclass(frozen=True)
class SpreadVolume:
    """What it takes to bring entries to everybody.

    Bytes are those of the lengths that were given. Errors are standard errors of the sample, 0
    where all origins were walked; None stands for what an extrapolation does not tell.

    Attributes:
        topology: the graph's name.
        gossip: flood or tree.
        peers: N.
        links: E.
        entries: how many were spread.
        sends_per_entry: messages for each, everywhere together.
        sends: messages for all.
        payload_bytes: bytes of all sends.
        redundancy: sends over the fewest possible, N - 1 for each entry.
        peer_bytes_mean: sent plus received, of a peer.
        link_bytes_mean: of a directed link.
        extrapolated: no graph was made, everything follows from the family's number of links.
        origins: how many peers published the entries.
        walked: of how many origins the rest is known; fewer than `origins`: it is a sample.
        last_hops_mean: hops to the last peer, the mean over entries by their bytes.
        last_hops_error: of that.
        last_hops_max: the most of those walked.
        last_hops_above: with 95% confidence, at most this share of the entries takes more.
        hops_mean: hops to any peer, the mean over entries by their bytes.
        hops_error: of that.
        peer_bytes: how the bytes of peers, sent plus received, differ.
        link_bytes: how the bytes of directed links differ.
    """

    topology: str
    gossip: str
    peers: int
    links: int
    entries: int
    sends_per_entry: int
    sends: int
    payload_bytes: int
    redundancy: float
    peer_bytes_mean: float
    link_bytes_mean: float
    extrapolated: bool
    origins: int | None = None
    walked: int | None = None
    last_hops_mean: float | None = None
    last_hops_error: float | None = None
    last_hops_max: int | None = None
    last_hops_above: float | None = None
    hops_mean: float | None = None
    hops_error: float | None = None
    peer_bytes: Loads | None = None
    link_bytes: Loads | None = None

    @property
    def exact(self) -> bool:
        """Whether nothing of it is estimated."""
        return not self.extrapolated and self.walked == self.origins


def spread_volume(
    links: Links,
    gossip: str,
    origins: Counts,
    lengths: Counts,
    *,
    sample: int | None = None,
    seed: int = 0,
    walked: Callable[[int, int], None] = lambda _done, _total: None,
) -> SpreadVolume:
    """Return what it takes to bring entries to everybody.

    Args:
        links: the graph.
        gossip: flood or tree.
        origins: shape (M,), who publishes each entry; a peer may come more than once.
        lengths: shape (M,), bytes of each entry's frame, positive.
        sample: how many origins to walk at most, at least 2; None: as many as `WORK` allows.
        seed: of the sample.
        walked: called with (origins walked, origins to walk), by one thread at a time.

    Raises:
        UserError: another mode, no entries, or a sample of less than two.
    """
    _check(gossip, len(origins))
    if sample is not None and sample < 2:
        raise UserError(f"sample = {sample} is not allowed: must be a whole number at least 2")
    own = np.bincount(origins, weights=lengths, minlength=links.peers).astype(np.int64)
    authors = np.flatnonzero(own)
    most = sample or max(LEAST_SAMPLE, int(WORK[gossip] / (len(links.ends) + links.peers)))
    chosen, weights = _choose(authors, own, most, seed)
    done = 0

    def count() -> None:
        nonlocal done
        done += 1
        walked(done, len(chosen))

    walks = walk(links, gossip, chosen, weights[:, None], count)
    left = 1 - len(chosen) / len(authors)
    # Whole numbers: that all of a sample are alike is no proof. As if one more were off by one.
    last_hops = _mean(walks.last_hops, weights, left, 1 / (len(chosen) + 1))
    hops = _mean(walks.sum_hops / (links.peers - 1), weights, left)
    whole = int(lengths.sum())
    firsts = _firsts(walks, whole, left)
    volume = _closed_form(links.name, links.peers, links.count, gossip, len(origins), whole)
    return replace(
        volume,
        extrapolated=False,
        origins=len(authors),
        walked=len(chosen),
        last_hops_mean=last_hops[0],
        last_hops_error=last_hops[1],
        last_hops_max=int(walks.last_hops.max()),
        # If it were more, none of it would be in the sample in less than 5 cases of 100.
        last_hops_above=1 - 0.05 ** (1 / len(chosen)) if left else 0.0,
        hops_mean=hops[0],
        hops_error=hops[1],
        peer_bytes=loads_of(_peer_bytes(links, gossip, firsts, own, whole), left),
        link_bytes=loads_of(link_loads(links, gossip, firsts, whole), left),
    )


def extrapolate(
    name: str, peers: int, gossip: str, entries: int, entry_bytes: int, *, degree: int = 4
) -> SpreadVolume:
    """Return what can be told of a family's graph that is too large to be made.

    That is the volume, which follows from the number of links; of erdos-renyi, whose number is left
    to chance, from the one to expect. Hops and how loads differ are left out.

    Args:
        name: the family.
        peers: N.
        gossip: flood or tree.
        entries: how many are spread.
        entry_bytes: bytes of the frames of all entries together, each once.
        degree: of the families that have one.

    Raises:
        UserError: another mode, or no entries.
        TopologyError: as for `topology.build`.
    """
    _check(gossip, entries)
    links = count_links(name, peers, degree=degree)
    return _closed_form(name, peers, links, gossip, entries, entry_bytes)


def _check(gossip: str, entries: int) -> None:
    if gossip not in BY_THE_GRAPH:
        raise UserError(
            f"gossip = {gossip!r} is not allowed here: {' and '.join(BY_THE_GRAPH)} are, "
            "whose volume follows from the graph"
        )
    if entries == 0:
        raise UserError("no peer publishes anything: there is nothing to spread")


def _closed_form(
    name: str, peers: int, links: int, gossip: str, entries: int, entry_bytes: int
) -> SpreadVolume:
    sends = sends_per_entry(gossip, peers, links)
    return SpreadVolume(
        topology=name,
        gossip=gossip,
        peers=peers,
        links=links,
        entries=entries,
        sends_per_entry=sends,
        sends=entries * sends,
        payload_bytes=entry_bytes * sends,
        redundancy=sends / (peers - 1),
        peer_bytes_mean=2 * entry_bytes * sends / peers,
        link_bytes_mean=entry_bytes * sends / (2 * links),
        extrapolated=True,
    )


def _choose(authors: Counts, own: Counts, most: int, seed: int) -> tuple[Counts, Counts]:
    """Return the origins to walk, and what each one counts for.

    All with their bytes; or a sample in which an origin has places in proportion to its bytes, so
    that each place counts for one: systematic sampling, in random order.
    """
    if most >= len(authors):
        return authors, own[authors]
    random = np.random.default_rng(seed)
    order = random.permutation(authors)
    until = np.cumsum(own[order])
    places = (np.arange(most) + random.random()) * (until[-1] / most)
    return order[np.searchsorted(until, places, side="right")], np.ones(most, dtype=np.int64)


def _mean(
    values: NDArray[Any], weights: Counts, left: float, least_variance: float = 0.0
) -> tuple[float, float]:
    """Return the mean over entries, and its standard error.

    Args:
        values: of each origin walked.
        weights: what each counts for.
        left: the share of origins that were not walked.
        least_variance: to take where those walked differ less.
    """
    mean = float(np.average(values, weights=weights))
    variance = max(float(np.var(values, ddof=1)), least_variance) if left else 0.0
    return mean, float(np.sqrt(variance * left / len(values)))


def _firsts(walks: Walks, whole: int, left: float) -> NDArray[np.float64]:
    """Return the bytes that each link brings to somebody first.

    Returns:
        Shape (1, 2E) if all origins were walked, else (2, 2E): as the halves of the sample tell it.
    """
    firsts, weights = walks.firsts[:, :, 0], walks.weights
    if not left:
        firsts, weights = firsts.sum(axis=0, keepdims=True), weights.sum(axis=0, keepdims=True)
    return np.asarray(firsts * (whole / weights), dtype=np.float64)


def _peer_bytes(
    links: Links, gossip: str, firsts: NDArray[np.float64], own: Counts, whole: int
) -> NDArray[np.float64]:
    """Return what peers send and receive: shape (1 or 2, N)."""
    # Each peer's links follow one another, and it has one at least.
    brought: NDArray[np.float64] = np.add.reduceat(firsts, links.starts[:-1], axis=1)
    others = (whole - own).astype(np.float64)
    if gossip == "tree":
        return brought + others
    # Over each of a peer's links an entry goes both ways, but for the link it has come by, and
    # those by which it has brought it to others: they carry it one way.
    return 2 * whole * links.degrees - others - brought
