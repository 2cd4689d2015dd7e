"""The setting in which systems are compared: a few numbers, and nothing of a model but its size."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Final

from peer.config import Experiment
from peer.errors import UserError
from sim.volume.sizes import ModelSize, model_size
from topology import Topology, Varying

WEIGHT_BYTES: Final = {"float32": 4, "bfloat16": 2, "float16": 2}
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
        entry_bytes: of a frame with one history of FedKSeed, where it is known exactly.
        pro_entry_bytes: the same for FedKSeed-Pro.
        subtrees: of a spanning tree of the graph, for each peer but the root how many peers hang on
            its link to its parent, itself included; empty: not known.
        coordinates: sum of Ferret's K_l. Its paper does not say it; 3,900 is what gives the 7.8e3
            and 9.4e4 of its Table 3.
        blocks: Ferret's L (Figure 6: 194 in its Table 2).
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
    entry_bytes: int | None = None
    pro_entry_bytes: int | None = None
    subtrees: tuple[int, ...] = ()
    coordinates: int = 3_900
    blocks: int = 194

    @property
    def gap(self) -> float:
        """Rounds from one participation of a peer to its next, on average: N / m."""
        return self.peers / self.active

    @property
    def history_bytes(self) -> int:
        """Of a frame with one history of ours, whose seeds follow from origin and round."""
        if self.entry_bytes is not None:
            return self.entry_bytes
        return ENTRY_HEAD + self.gradient_bytes * self.local_steps

    @property
    def pro_history_bytes(self) -> int:
        """Of a frame with one history of ours whose seed indices travel, 2 bytes each or 4."""
        if self.pro_entry_bytes is not None:
            return self.pro_entry_bytes
        index = 2 if self.candidate_seeds <= 2**16 else 4
        return ENTRY_HEAD + (self.gradient_bytes + index) * self.local_steps


def setting_of(
    experiment: Experiment,
    graph: Topology,
    *,
    size: ModelSize | None = None,
    entry_bytes: int | None = None,
) -> Setting:
    """Return the setting that an experiment is.

    Args:
        experiment: whose `model` may also be a name or a count that `model_size` takes.
        graph: its topology; says how many peers there are.
        size: of the model, where it is known already.
        entry_bytes: of a frame with one history of the experiment's own method, where known.

    Raises:
        UserError: the model's size is not known, or the graph varies over time.
    """
    if isinstance(graph, Varying):
        raise UserError(f"topology = {graph.name!r} varies over time: cost models need one graph")
    peers = len(graph.nodes)
    is_pro = experiment.is_pro
    return Setting(
        model=model_size(experiment.model) if size is None else size,
        peers=peers,
        active=max(1, round(experiment.participation * peers)),
        rounds=experiment.rounds,
        local_steps=experiment.local_steps,
        candidate_seeds=experiment.candidate_seeds,
        edges=len(graph.edges),
        gossip=experiment.gossip,
        weight_bytes=WEIGHT_BYTES[experiment.dtype],
        gradient_bytes=experiment.gradient_bytes,
        entry_bytes=None if is_pro else entry_bytes,
        pro_entry_bytes=entry_bytes if is_pro else None,
        subtrees=subtree_sizes(graph),
    )


def subtree_sizes(graph: Topology, root: int = 0) -> tuple[int, ...]:
    """Return the sizes of the subtrees of a tree of shortest paths, shape (N - 1,).

    Args:
        graph: any.
        root: the peer at which sums end, and from which they are handed down.
    """
    parents = {root: root}
    waiting = deque([root])
    while waiting:
        peer = waiting.popleft()
        for other in graph.neighbours(peer):
            if other not in parents:
                parents[other] = peer
                waiting.append(other)
    sizes = dict.fromkeys(parents, 1)
    # Who was found last has nobody below that was found later.
    for peer in reversed(parents):
        if peer != root:
            sizes[parents[peer]] += sizes[peer]
    return tuple(size for peer, size in sizes.items() if peer != root)
