"""From an experiment to the agreement that every peer of its run comes to by itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import topology
from peer.block_count import block_count
from peer.config import SIMULATOR_ONLY, Experiment
from peer.corpus import Corpus
from peer.errors import UserError
from peer.latency import Edge
from peer.methods import METHODS
from peer.mixing import MIXINGS, Averaging
from peer.protocol import Protocol, field_digest
from peer.roster import Roster
from peer.scenario import evicted, membership
from peer.seeding import UNIFORM
from peer.trained_size import trained_size
from peer.trees import Trees
from peer.weights import Weights

if TYPE_CHECKING:
    from peer.tuned_model import TunedModel

LOCAL_NAMES: Final = (
    "model",
    "data",
    "topology",
    "max_length",
    "long_rows",
    "held_out",
    "eval_rows",
    "rouge_rows",
    "new_tokens",
    *SIMULATOR_ONLY,
)
"""Options that each host may spell in its own way; what they lead to is compared instead. Those of
the simulator alone are not compared."""


def build_roster(experiment: Experiment, rows: tuple[int, ...]) -> Roster:
    """Return who takes part, with how many rows, and in which rounds."""
    first, last = membership(experiment.scenario, len(rows))
    return Roster(
        rows,
        experiment.participation,
        experiment.seed,
        first if any(first) else (),
        last if any(round_ is not None for round_ in last) else (),
        evicted(experiment.scenario),
    )


def build_trees(
    graph: topology.Topology, roster: Roster, latencies: Mapping[Edge, float] | None
) -> Trees | None:
    """Return the first trees of all origins, None for a graph that varies over time."""
    if isinstance(graph, topology.Varying):
        return None
    if latencies is None or len(set(latencies.values())) == 1:
        return Trees(graph.adjacency, roster)
    return Trees(graph.adjacency, roster, lambda a, b: latencies[a, b])


def with_keys(protocol: Protocol, public_keys: tuple[bytes, ...]) -> Protocol:
    """Return the agreement of a run whose entries are signed.

    Args:
        protocol: without signatures.
        public_keys: Ed25519, 32 bytes each, by peer.
    """
    fields = {**protocol.fields, "public_keys": field_digest(public_keys)}
    # A run may be continued with more rounds, and its signatures must hold then, too.
    bound = sorted((name, digest) for name, digest in fields.items() if name != "rounds")
    context = field_digest(bound)
    return replace(protocol, fields=fields, public_keys=public_keys, context=context)


def with_roster_file(protocol: Protocol, digest: bytes) -> Protocol:
    """Return the agreement of peers that have to have the same roster file.

    To be called after `with_keys`: a peer that moves to another host changes the file, and what has
    been signed before must hold then, too.

    Args:
        protocol: without.
        digest: of the file, see `peer.roster_file.RosterFile`.
    """
    return replace(protocol, fields={**protocol.fields, "roster_file": digest})


def build_protocol(
    experiment: Experiment,
    graph: topology.Topology,
    corpus: Corpus | None,
    global_model: TunedModel | None,
    latencies: Mapping[Edge, float] | None = None,
) -> Protocol:
    """Return the agreement that every peer of the run comes to by itself.

    Args:
        experiment: the run's.
        graph: its topology.
        corpus: None without a model.
        global_model: None without a model.
        latencies: seconds that a frame is expected to take, by directed link, where that is known.
    """
    rows = (1,) * experiment.peers if corpus is None else tuple(map(len, corpus.split.shards))
    protocol = without_graph(experiment, rows)
    agreed: dict[str, Any] = {
        name: value for name, value in experiment.identity().items() if name not in LOCAL_NAMES
    }
    if corpus is not None:
        agreed["shards"] = corpus.digest()
    agreed |= {"rounds": experiment.rounds, "roster": rows, "units": protocol.units}
    agreed["edges"] = graph.edges
    if global_model is not None:
        agreed |= {"layout": global_model.model.layout.digest(), "w0": global_model.layout["w0"]}
        protocol = replace(protocol, blocks=global_model.blocks)
    # Too many sums for a run show here, before anything is written or a process started.
    assert protocol.seeds.sums
    return replace(
        protocol,
        fields={name: field_digest(value) for name, value in agreed.items()},
        trees=build_trees(graph, protocol.roster, latencies),
        averaging=build_averaging(experiment, graph, protocol.roster, global_model),
    )


def build_averaging(
    experiment: Experiment,
    graph: topology.Topology,
    roster: Roster,
    global_model: TunedModel | None,
) -> Averaging | None:
    """Return what peers that average weights agree on; None where the method has sums.

    Raises:
        UserError: the graph is none that they can average on, or without a model it is not known
            how many weights there are.
    """
    if not experiment.averages:
        return None
    if isinstance(graph, topology.Varying):
        raise UserError(
            f"topology = {graph.name!r} varies over time, on which {experiment.method} does not run"
        )
    mixing = MIXINGS[experiment.aggregation](graph.adjacency, roster, experiment.rounds)
    return Averaging(_initial_weights(experiment, global_model), mixing)


def _initial_weights(experiment: Experiment, global_model: TunedModel | None) -> Weights:
    """Return what all peers start from: a model's weights, or without one as many zeros."""
    if global_model is None:
        size = trained_size(experiment)
        return Weights.repeated(size.dtype, 0.0, size.count)
    from peer.averaged_model import AveragedModel

    assert isinstance(global_model, AveragedModel)
    return global_model.initial


def without_graph(experiment: Experiment, rows: tuple[int, ...]) -> Protocol:
    """Return as much of the agreement as follows from options and numbers of rows.

    Args:
        experiment: the run's.
        rows: of each peer.

    Raises:
        UserError: the run is too long for its accumulator.
    """
    return Protocol(
        roster=build_roster(experiment, rows),
        rounds=experiment.rounds,
        local_steps=experiment.local_steps,
        candidate_seeds=experiment.candidate_seeds,
        gradient_bytes=experiment.gradient_bytes,
        gradient_bound=experiment.gradient_bound,
        seeding=METHODS[experiment.method].seeding or UNIFORM,
        learning_rate=experiment.step,
        blocks=block_count(experiment),
        coordinates=experiment.coordinates,
        units=experiment.units(),
        round_timeout=experiment.round_timeout,
        settle_timeout=experiment.settle_timeout,
        start_timeout=experiment.start_timeout,
        schedule=experiment.schedule,
        gossip=experiment.gossip,
        tick=experiment.tick,
        folding=experiment.fold,
        disconnects=experiment.disconnect,
    )
