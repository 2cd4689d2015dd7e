"""The setting in which systems are compared: a few numbers, and nothing of a model but its size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from peer.adapter_size import RANK, VIRTUAL_TOKENS
from peer.block_count import block_count
from peer.choices import WEIGHT_BYTES
from peer.config import Experiment
from peer.methods import METHODS
from peer.model_size import ModelSize, model_size
from peer.seeding import BLOCKS
from peer.seeds import active_count
from sim.volume.tree_sum import breadth_first
from topology import Topology
from topology.arrays import Links, links_of
from topology.counts import count_links

ENTRY_HEAD: Final = 32
"""About how many bytes a frame with one history has beside its numbers: 28 to 45, as numbers of
peers and rounds and lengths of fields go."""


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What the formulas of `sim.volume.systems` need. Everything is of one round unless said.

    Attributes:
        model: size of the model, d parameters.
        peers: N.
        active: m, how many of them train in a round.
        rounds: R of the run.
        local_steps: tau.
        candidate_seeds: K.
        edges: E, links of the graph for gossip.
        gossip: how entries spread: flood, tree or antientropy.
        weight_bytes: of a weight, as it lies in memory and as it is sent.
        gradient_bytes: of a scalar gradient in our entries.
        entry_bytes: of a frame with one history of FedKSeed, the mean, where it is known exactly.
        pro_entry_bytes: the same for FedKSeed-Pro.
        ferret_entry_bytes: the same for Ferret.
        subtrees: of a spanning tree of the graph, for each peer but the root how many peers hang on
            its link to its parent, itself included; empty: not known.
        coordinates: sum of Ferret's K_l. Its paper does not say it; 3,900 is what gives the 7.8e3
            and 9.4e4 of its Table 3. In a run of Ferret it is that of the run.
        rank: of LoRA's factors.
        virtual_tokens: of a trained prompt.
        blocks: Ferret's L (Figure 6: 194 in its Table 2), or that of a run of Ferret.
    """

    model: ModelSize
    peers: int
    active: int
    rounds: int
    local_steps: int
    candidate_seeds: int
    edges: int
    gossip: str = "tree"
    weight_bytes: int = 4
    gradient_bytes: int = 4
    entry_bytes: float | None = None
    pro_entry_bytes: float | None = None
    ferret_entry_bytes: float | None = None
    subtrees: tuple[int, ...] = ()
    coordinates: int = 3_900
    blocks: int = 194
    rank: int = RANK
    virtual_tokens: int = VIRTUAL_TOKENS

    @property
    def gap(self) -> float:
        """Rounds from one participation of a peer to its next, on average: N / m."""
        return self.peers / self.active

    @property
    def history_bytes(self) -> float:
        """Of a frame with one history of ours, whose seeds follow from origin and round."""
        if self.entry_bytes is not None:
            return self.entry_bytes
        return ENTRY_HEAD + self.gradient_bytes * self.local_steps

    @property
    def pro_history_bytes(self) -> float:
        """Of a frame with one history of ours whose seed indices travel, 2 bytes each or 4."""
        if self.pro_entry_bytes is not None:
            return self.pro_entry_bytes
        index = 2 if self.candidate_seeds <= 2**16 else 4
        return ENTRY_HEAD + (self.gradient_bytes + index) * self.local_steps

    @property
    def ferret_history_bytes(self) -> float:
        """Of a frame with one history of ours of Ferret's coordinates.

        How many of them each block has travels, 2 bytes each or 4.
        """
        if self.ferret_entry_bytes is not None:
            return self.ferret_entry_bytes
        count = 2 if self.candidate_seeds < 2**16 else 4
        return ENTRY_HEAD + self.gradient_bytes * self.coordinates + count * self.blocks


def setting_of(
    experiment: Experiment,
    graph: Topology | Links | None,
    *,
    entry_bytes: float | None = None,
    pro_entry_bytes: float | None = None,
    ferret_entry_bytes: float | None = None,
) -> Setting:
    """Return the setting that an experiment is.

    Args:
        experiment: whose `model` may also be a name or a count that `model_size` takes.
        graph: its topology, which says how many peers there are; None: too large to be made.
        entry_bytes: see `Setting`.
        pro_entry_bytes: see `Setting`.
        ferret_entry_bytes: see `Setting`; counts if the experiment is one of Ferret.

    Raises:
        UserError: the model's size is not known.
        TopologyError: the graph varies over time.
    """
    ferret = METHODS[experiment.method].seeding == BLOCKS
    links = links_of(graph) if isinstance(graph, Topology) else graph
    subtrees: tuple[int, ...] = ()
    if links is None:
        peers = experiment.peers
        edges = count_links(experiment.topology, peers, degree=experiment.degree)
    else:
        peers, edges = links.peers, links.count
        subtrees = tuple(map(int, breadth_first(links).below([1] * peers)))
    return Setting(
        model=model_size(experiment.model),
        peers=peers,
        active=active_count(peers, experiment.participation),
        rounds=experiment.rounds,
        local_steps=experiment.local_steps,
        candidate_seeds=experiment.candidate_seeds,
        edges=edges,
        gossip=experiment.gossip,
        weight_bytes=WEIGHT_BYTES[experiment.dtype],
        gradient_bytes=experiment.gradient_bytes,
        entry_bytes=entry_bytes,
        pro_entry_bytes=pro_entry_bytes,
        ferret_entry_bytes=ferret_entry_bytes if ferret else None,
        subtrees=subtrees,
        coordinates=experiment.coordinates if ferret else Setting.coordinates,
        blocks=block_count(experiment) if ferret else Setting.blocks,
        rank=experiment.rank,
        virtual_tokens=experiment.virtual_tokens,
    )
