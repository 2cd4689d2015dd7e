"""From an experiment to the things that a run is made of, the same for simulator and process.

experiment -> topology, corpus -> agreement;  experiment, model -> tuned model -> trainer
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

import topology
from peer.agreement import build_protocol, with_keys, without_graph
from peer.blocks import block_offsets
from peer.choices import RAY
from peer.config import Experiment
from peer.corpus import Corpus, deal, encode_rows, with_a_peer_for_each_task
from peer.data.division import BY_TASK
from peer.entry import Entry
from peer.errors import UserError
from peer.link_latencies import link_latencies
from peer.methods import METHODS
from peer.options import refuse
from peer.protocol import Protocol
from peer.records import RunFolder
from peer.recovery import recall
from peer.scenario import check_scenario
from peer.seeding import BLOCKS, ENDLESS
from peer.seeds import candidate_seeds
from peer.signatures import public_key
from peer.store import EntryStore

if TYPE_CHECKING:
    from peer.model import FlatModel
    from peer.tuned_model import TunedModel

MOST_PEERS: Final = 2**18
"""In a run; what a larger one would cost can be said all the same."""


def resolve_topology(experiment: Experiment) -> tuple[Experiment, topology.Topology]:
    """Return the graph, and the experiment with the number of peers that a file may have set.

    Raises:
        TopologyError: no such graph.
        UserError: these are more than a run can have, or the scenario does not go with so many.
    """
    name = experiment.topology
    peers = experiment.peers if name in topology.FAMILIES else None
    check_peers(peers)
    graph = topology.resolve(name, peers, degree=experiment.degree, seed=experiment.seed)
    experiment = replace(experiment, peers=len(graph.nodes))
    check_peers(experiment.peers)
    check_scenario(experiment.scenario, experiment.peers, experiment.rounds)
    return experiment, graph


def check_peers(peers: int | None) -> None:
    """Refuse more peers than a run can have; None: their number is not known yet.

    Raises:
        UserError: there are more.
    """
    if peers is not None and peers > MOST_PEERS:
        refuse("peers", peers, f"a run has at most {MOST_PEERS}; `kseed volume` counts for more")


def refuse_varying(graph: topology.Topology, engine: str) -> None:
    """Refuse a graph that varies over time where links are real.

    Raises:
        UserError: it varies, and the engine is not the simulator.
    """
    if engine != "sim" and isinstance(graph, topology.Varying):
        raise UserError(f"{graph.name} varies over time, which only `kseed sim` can do")


def refuse_cluster(experiment: Experiment, engine: str) -> None:
    """Refuse a cluster to what starts processes of this machine.

    Raises:
        UserError: one is asked for, and the engine is not the simulator.
    """
    if engine == "launch" and experiment.engine == RAY:
        refuse("engine", RAY, "peers of `kseed launch` are processes of this machine")


def load_corpus(experiment: Experiment) -> Corpus:
    """Return the rows of an experiment, and who has which.

    Raises:
        UserError, TopologyError: data, model or graph cannot be read, or there are too few rows.
    """
    rows = encode_rows(experiment)
    if experiment.partition == BY_TASK:
        experiment = with_a_peer_for_each_task(experiment, rows[0])
    else:
        experiment, _ = resolve_topology(experiment)
    return deal(experiment, *rows)


def simulated_secret(experiment: Experiment, peer: int) -> bytes:
    """Return the Ed25519 secret key, 32 bytes, of a simulated peer: no secret at all."""
    return hashlib.blake2b(f"{experiment.seed} {peer}".encode(), digest_size=32).digest()


def build_global_model(
    experiment: Experiment, *, remember: bool, threads: int | None
) -> TunedModel:
    """Load the model, and make what sets its weights.

    Args:
        experiment: names model, type, device, method and distribution.
        remember: see `GlobalModel`.
        threads: of the kernel; None: as many as there are processors. It changes no bit.
    """
    import torch

    from peer.averaged_model import AveragedModel
    from peer.global_model import GlobalModel
    from peer.model import load_model, resolve_device
    from peer.perturbation import perturbation

    torch.set_num_threads(experiment.threads)
    device = resolve_device(experiment.device)
    model = load_model(experiment.model, experiment.dtype, device)
    if experiment.averages:
        return AveragedModel(with_adapter(experiment, model))
    kernel = perturbation(experiment.perturbation, device, threads)
    offsets = None
    if METHODS[experiment.method].seeding == BLOCKS:
        offsets = block_offsets([slot.size for slot in model.layout.slots], experiment.blocks)
    return GlobalModel(model, kernel, seeds_of(experiment), offsets=offsets, remember=remember)


def with_adapter(experiment: Experiment, model: FlatModel) -> FlatModel:
    """Return a model with the adapter that the method trains, if it trains one."""
    kind = METHODS[experiment.method].trains.adapter
    if kind is None:
        return model
    from peer.adapters import AdaptedModel, Adapter

    adapter = Adapter(kind, experiment.rank, experiment.lora_alpha, experiment.virtual_tokens)
    return AdaptedModel(model, adapter, experiment.seed)


def seeds_of(experiment: Experiment) -> NDArray[np.uint64]:
    """Return the seeds of an experiment: shape (K,), or as many as there are sums."""
    # Asked first: so many seeds that a run has no room for their sums take minutes to draw.
    sums = without_graph(experiment, (1,) * experiment.peers).seeds.sums
    endless = METHODS[experiment.method].seeding == ENDLESS
    return candidate_seeds(experiment.seed, sums if endless else experiment.candidate_seeds)


def known_entries(store: EntryStore, protocol: Protocol) -> list[Entry]:
    """Return what an earlier life has stored, held against the experiment of this one.

    Raises:
        UserError: the store is that of another experiment.
    """
    return list(recall(store, protocol).log)


@dataclass(frozen=True)
class Prepared:
    """Everything that an experiment needs to run; nothing has been written yet."""

    experiment: Experiment
    graph: topology.Topology
    folder: RunFolder
    corpus: Corpus | None
    global_model: TunedModel | None
    protocol: Protocol

    def create_folder(self, engine: str) -> None:
        """Make the run folder."""
        layout = None if self.global_model is None else self.global_model.layout
        self.folder.create(self.experiment, self.graph, engine, layout)


def prepare(experiment: Experiment, engine: str, corpus: Corpus | None = None) -> Prepared:
    """Return what a run of an experiment is made of.

    All mistakes that a user can make show here, before anything is written.

    Args:
        experiment: the run.
        engine: sim or launch.
        corpus: what to train and to judge on; None: what the experiment says.

    Raises:
        UserError, TopologyError: the mistake, in one line.
    """
    refuse_cluster(experiment, engine)
    rows = None
    if corpus is not None:
        experiment = replace(experiment, peers=len(corpus.split.shards))
    elif experiment.partition == BY_TASK and not experiment.is_synthetic:
        # Only here do the data come before the graph, whose size they say.
        rows = encode_rows(experiment)
        experiment = with_a_peer_for_each_task(experiment, rows[0])
    experiment, graph = resolve_topology(experiment)
    refuse_varying(graph, engine)
    folder = RunFolder.for_experiment(experiment, engine)
    global_model = None
    if not experiment.is_synthetic:
        corpus = corpus or deal(experiment, *(rows or encode_rows(experiment)))
        # In the simulator all peers train from the cut that is evaluated; a launcher trains nobody.
        global_model = build_global_model(experiment, remember=engine == "sim", threads=None)
        folder.check_model(experiment.model, global_model.layout)
        if engine == "sim" and experiment.shares_passes:
            from peer.side_by_side import check_room
            from peer.stacked import check_stackable

            check_stackable(global_model.model)
            check_room(global_model.model, min(experiment.side_by_side, experiment.peers))
    latencies = link_latencies(experiment, graph) if engine == "sim" else None
    protocol = build_protocol(experiment, graph, corpus, global_model, latencies)
    if experiment.sign and engine == "sim":
        secrets = (simulated_secret(experiment, peer) for peer in range(experiment.peers))
        protocol = with_keys(protocol, tuple(map(public_key, secrets)))
    return Prepared(experiment, graph, folder, corpus, global_model, protocol)
