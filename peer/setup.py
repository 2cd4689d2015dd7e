"""From an experiment to the things that a run is made of, the same for simulator and process.

experiment -> topology, corpus -> roster -> protocol;  experiment, model -> global model -> trainer
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

import topology
from peer.block_count import block_count
from peer.blocks import block_offsets
from peer.config import SIMULATOR_ONLY, Experiment
from peer.data import encode as encoding
from peer.data.apart import set_apart
from peer.data.division import BY_TASK, Division, Split, count_training_tasks, divide
from peer.data.held_out import ROWS
from peer.data.rows import load_rows
from peer.entry import Entry
from peer.errors import UserError
from peer.latency import Edge
from peer.link_latencies import link_latencies
from peer.methods import METHODS
from peer.mixing import MIXINGS, Averaging
from peer.options import refuse
from peer.protocol import Protocol, field_digest
from peer.records import RunFolder
from peer.recovery import recall
from peer.roster import Roster
from peer.scenario import check_scenario, evicted, membership
from peer.seeding import BLOCKS, ENDLESS, UNIFORM
from peer.seeds import candidate_seeds
from peer.signatures import public_key
from peer.store import EntryStore
from peer.trained_size import trained_size
from peer.trees import Trees
from peer.weights import Weights

if TYPE_CHECKING:
    from peer.model import FlatModel
    from peer.tuned_model import TunedModel

MOST_PEERS: Final = 2**18
"""In a run; what a larger one would cost can be said all the same."""


@dataclass(frozen=True)
class Corpus:
    """The rows of an experiment as token ids, and who has which.

    Attributes:
        encoded: all usable rows.
        split: those held out, and each peer's shard.
        unusable: rows dropped because they have no response, or none within max_length, or, where
            long rows are dropped, are longer.
    """

    encoded: encoding.Encoded
    split: Split
    unusable: int

    def set_apart(self, share: float, seed: int) -> Corpus:
        """Return the same rows with some of each peer's own held out in place of those that are.

        Args:
            share: see `peer.data.apart.set_apart`.
            seed: the experiment's.

        Raises:
            UserError: no peer has two rows.
        """
        rows, shards = set_apart(self.split.shards, share, seed)
        return replace(self, split=replace(self.split, held_out=rows, shards=shards))

    def digest(self) -> str:
        """Return 32 hexadecimal digits over the token ids and who has which rows."""
        hasher = hashlib.blake2b(digest_size=16)
        rows = (self.encoded.tokens, self.encoded.offsets, self.encoded.prompt_lengths)
        arrays: list[NDArray[Any]] = [*rows, self.split.held_out, *self.split.shards]
        for numbers in arrays:
            hasher.update(len(numbers).to_bytes(8, "little") + numbers.tobytes())
        return hasher.hexdigest()


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


def encode_rows(experiment: Experiment) -> tuple[encoding.Encoded, int]:
    """Load and tokenise the data; return the rows and how many had no response."""
    # A missing data file is told before a model is looked for, and the other way round costs more.
    loaded = load_rows(experiment.data)
    from peer.model import load_tokenizer, positions

    most = positions(experiment.model) - experiment.virtual_positions
    if most < 2:
        refuse(
            "virtual_tokens",
            experiment.virtual_tokens,
            f"the model has {most + experiment.virtual_tokens} positions, and rows need 2 of them",
        )
    if experiment.max_length > most:
        raise UserError(
            f"max_length = {experiment.max_length} is not allowed: the model has {most} positions"
        )
    length = experiment.max_length or encoding.default_max_length(most)
    tokenizer = load_tokenizer(experiment.model)
    drop_long = experiment.long_rows == "drop"
    encoded = encoding.encode(loaded.rows, tokenizer, length, drop_long=drop_long)
    return replace(encoded, test_tasks=loaded.test_tasks), loaded.empty_responses


def with_a_peer_for_each_task(experiment: Experiment, encoded: encoding.Encoded) -> Experiment:
    """Return the experiment with the number of peers that `partition = by-task` makes.

    Raises:
        UserError: there are fewer than two training tasks.
    """
    return replace(experiment, peers=count_training_tasks(encoded, _division(experiment)))


def deal(experiment: Experiment, encoded: encoding.Encoded, empty: int) -> Corpus:
    """Hold rows out and deal others to the peers."""
    if experiment.held_out == ROWS and not experiment.eval_rows:
        refuse("eval_rows", 0, "at least 1, unless tasks are held out (held_out)")
    return Corpus(encoded, divide(encoded, _division(experiment)), empty + encoded.cut_away)


def _division(experiment: Experiment) -> Division:
    return Division(**{item.name: getattr(experiment, item.name) for item in fields(Division)})


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


def simulated_secret(experiment: Experiment, peer: int) -> bytes:
    """Return the Ed25519 secret key, 32 bytes, of a simulated peer: no secret at all."""
    return hashlib.blake2b(f"{experiment.seed} {peer}".encode(), digest_size=32).digest()


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
        schedule=experiment.schedule,
        gossip=experiment.gossip,
        tick=experiment.tick,
        folding=experiment.fold,
        disconnects=experiment.disconnect,
    )


LOCAL_NAMES = (
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
