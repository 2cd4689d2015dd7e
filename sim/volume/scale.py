"""What an experiment's entries take on its graph, whatever its size: nothing of it is run.

The graph is one of arrays, so a million peers fit. Only counts and lengths are needed of the run.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import topology
from peer.agreement import without_graph
from peer.config import Experiment
from peer.errors import UserError
from peer.protocol import Protocol
from sim.volume.frames import Published, check_countable
from sim.volume.spread import MEASURED_LIMIT, SpreadVolume, extrapolate, spread_volume
from topology.arrays import MOST_LINKS, Links, build_links, links_of
from topology.counts import count_links


def graph_of(experiment: Experiment) -> tuple[Experiment, Links | None]:
    """Return the graph of an experiment, None if it is too large to be made.

    The experiment comes back with the number of peers that a topology file may have set.

    Raises:
        TopologyError: there is no such graph, or it varies over time.
    """
    name, peers, degree = experiment.topology, experiment.peers, experiment.degree
    if name not in topology.FAMILIES:
        links = links_of(topology.resolve(name))
        return replace(experiment, peers=links.peers), links
    links_wanted = count_links(name, peers, degree=degree)
    if peers > MEASURED_LIMIT or 2 * links_wanted > MOST_LINKS:
        return experiment, None
    return experiment, build_links(name, peers, degree=degree, seed=experiment.seed)


def agreement(experiment: Experiment) -> Protocol:
    """Return what the peers of an experiment would agree on, as far as lengths hang on it.

    Raises:
        UserError: the run would be too long for its accumulator or to count, or has no rounds to
            count by.
    """
    if experiment.schedule != "sync":
        raise UserError("schedule = 'async' is not allowed: volumes are those of sync runs")
    # Before the peers are listed, of whom there may be any number.
    check_countable(experiment.peers, experiment.rounds, experiment.participation)
    protocol = without_graph(experiment, (1,) * experiment.peers)
    # That there are keys makes entries longer, whatever they are.
    return replace(protocol, public_keys=(bytes(32),) if experiment.sign else ())


def histories_spread(
    experiment: Experiment,
    links: Links | None,
    entries: Published,
    *,
    sample: int | None = None,
    walked: Callable[[int, int], None] = lambda _done, _total: None,
) -> SpreadVolume:
    """Return what it takes to bring the histories of a run to everybody.

    Args:
        experiment: the run, with flood or tree.
        links: its graph; None: what can be told without is extrapolated.
        entries: what the run publishes.
        sample: see `spread_volume`.
        walked: see `spread_volume`.

    Raises:
        UserError: the mode is another one.
    """
    origins, lengths = (
        column[entries.histories] for column in (entries.origins, entries.frame_bytes)
    )
    if links is not None:
        return spread_volume(
            links,
            experiment.gossip,
            origins,
            lengths,
            sample=sample,
            seed=experiment.seed,
            walked=walked,
        )
    return extrapolate(
        experiment.topology,
        experiment.peers,
        experiment.gossip,
        len(origins),
        int(lengths.sum()),
        degree=experiment.degree,
    )
