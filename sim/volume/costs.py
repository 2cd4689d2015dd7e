"""What a system costs in a setting, and the few ways of sending that systems have in common."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from sim.volume.sends import sends_per_entry
from sim.volume.setting import Setting

Number = int | float
SCALAR: Final = 4
"""Bytes of a scalar, a sum or a seed, where a paper says nothing else: float32 and 32 bits."""

PAIR: Final = 2 * SCALAR
"""Bytes of a seed and its scalar gradient (FedKSeed, Table 3 with section 5.3)."""

DOWNLOAD: Final = 0
"""Multiply-adds for a model that comes ready."""

NO_SHAPE: Final = "the size of the adapter is not known without the model's shape"


@dataclass(frozen=True)
class Server:
    """A round with a server, of each client that takes part in it.

    Attributes:
        up: bytes to the server in one message; None: not known.
        down: bytes from it in one message; None: not known.
        latest: multiply-adds with which a client obtains the latest model; None: not known.
        clients: how many take part; None: the setting's active ones.
    """

    up: Number | None
    down: Number | None
    latest: Number | None
    clients: int | None = None


@dataclass(frozen=True)
class Gossip:
    """A round without a server, on the setting's graph.

    Attributes:
        how: in a few words.
        round_bytes: that all peers send; None: not known.
        sends: messages that all peers send.
        latest: multiply-adds with which a peer obtains the latest model; None: not known.
    """

    how: str
    round_bytes: Number | None
    sends: int
    latest: Number | None


@dataclass(frozen=True)
class Memory:
    """What a client has to hold.

    Attributes:
        name: M_infer, M_peft or M_full, as in FedKSeed's Table 1, or a multiple of one.
        bytes: at least: weights, and where they are trained by backpropagation their gradients and
            the optimiser's state. Activations come on top. None: not known.
    """

    name: str
    bytes: Number | None


@dataclass(frozen=True)
class Costs:
    """What one system costs in one setting.

    Attributes:
        server: None: it has none.
        gossip: or why it cannot do without a server.
        memory: of a client.
        note: what had to be taken where the paper is silent, and what one should know.
    """

    server: Server | None
    gossip: Gossip | str
    memory: Memory
    note: str = ""


def entries(
    setting: Setting, message_bytes: Number, latest: Number, *, each: int = 1, mode: str = ""
) -> Gossip:
    """Return the cost of spreading each active peer's update to everybody.

    Args:
        setting: whose active peers publish.
        message_bytes: of a message.
        latest: multiply-adds for the latest model.
        each: messages of an active peer in a round.
        mode: flood, tree or antientropy; empty: the setting's.
    """
    mode = mode or setting.gossip
    sends = setting.active * each * sends_per_entry(mode, setting.peers, setting.edges)
    how = {
        "flood": "entries flooded",
        "tree": "entries along trees",
        "antientropy": "entries one by one, at most",
    }[mode]
    return Gossip(how, sends * message_bytes, sends, latest)


def averaging(setting: Setting, numbers: int | None, number_bytes: int | None = None) -> Gossip:
    """Return the cost of averaging weights with all neighbours once a round.

    D-PSGD (Lian et al., 2017, algorithm 1): every peer, active or not, sends its weights over each
    of its links, 2 E sends, and adds up what came with its own. One such step does not make all
    models equal; how far it gets is the graph's spectral gap. A run of this project sends these
    very copies (`peer.mixing`), and a few bytes of head with each mebibyte. With `aggregation =
    server` it sends less than a round with a server does here: the centre is one of the clients.

    Args:
        setting: with the graph.
        numbers: that are averaged; None: not known.
        number_bytes: of each; None: as a weight of the model.
    """
    sends = 2 * setting.edges
    how = "D-PSGD: averaged by links"
    if numbers is None:
        return Gossip(how, None, sends, None)
    degree = sends / setting.peers
    each = setting.weight_bytes if number_bytes is None else number_bytes
    return Gossip(how, sends * numbers * each, sends, (degree + 1) * numbers)


def inference(setting: Setting, models: int = 1) -> Memory:
    """Return M_infer: the weights, which forward passes alone need (FedKSeed, Table 1)."""
    name = "M_infer" if models == 1 else f"{models} M_infer"
    return Memory(name, models * setting.model.parameters * setting.weight_bytes)


def full_backpropagation(setting: Setting) -> Memory:
    """Return M_full: weights and as many gradients, SGD keeping nothing (FedKSeed, Table 1)."""
    return Memory("M_full", 2 * setting.model.parameters * setting.weight_bytes)


def adapter_backpropagation(setting: Setting, numbers: int | None, state: int) -> Memory:
    """Return M_peft: the weights; the adapter, its gradients and the optimiser's state.

    Args:
        setting: with the model.
        numbers: P; None: not known.
        state: numbers that the optimiser keeps for each of them: Adam 2, SGD 0.
    """
    if numbers is None:
        return Memory("M_peft", None)
    held = setting.model.parameters * setting.weight_bytes + (2 + state) * numbers * SCALAR
    return Memory("M_peft", held)


@dataclass(frozen=True)
class System:
    """A system of the papers.

    Attributes:
        name: by which it is asked for.
        title: as its authors write it.
        sent: what travels, in a few words.
        source: paper, table or equation that its numbers are from.
        costs: the formula; its docstring says how it comes about.
    """

    name: str
    title: str
    sent: str
    source: str
    costs: Callable[[Setting], Costs]
