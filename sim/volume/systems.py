"""Every system of the papers in one setting: bytes and sends, compute and memory, as rows.

A row is a plain dictionary, the same for tables, JSON and CSV. Each system has one for its server,
where it has one, and one for gossip on the setting's graph:

    system, title, sent, source, note
    via                        server or gossip
    how                        how it spreads, or why it cannot without a server
    up_bytes, down_bytes       of an active client and round; with gossip of a mean peer: what it
                               sends and receives
    peer_round_bytes           sent plus received, mean over all N peers
    edge_round_bytes           both ways, mean over the links: the graph's, or the N to the server
    round_bytes, run_bytes     of everybody
    round_sends, run_sends     messages of everybody
    latest_multiply_adds       to obtain the latest model
    latest_per_weight          the same, divided by d
    memory, memory_bytes       M_infer, M_peft or M_full, and its least: without activations

What is not known, or not possible, is None.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Any, Final

from peer.errors import UserError
from sim.volume.costs import Costs, Gossip, Number, Server, System
from sim.volume.scalars import SCALARS
from sim.volume.setting import Setting
from sim.volume.weights import WEIGHTS

_ORDER: Final = (
    "fedkseed",
    "fedkseed-pro",
    "infinite-seeds",
    "fedavg",
    "fedzo",
    "fedmezo",
    "fedit",
    "fedit-sgd",
    "fedptuning",
    "fedprompt",
    "ferret",
    "fwdllm",
    "baffle",
    "fedzen",
    "evofed",
    "blockddl",
    "decomfl",
    "seedflood",
    "fate-fedkseed",
    "tree-sum",
)
_BY_NAME: Final = {each.name: each for each in (*SCALARS, *WEIGHTS)}

_TOTALS: Final = (
    "up_bytes",
    "down_bytes",
    "peer_round_bytes",
    "edge_round_bytes",
    "round_bytes",
    "run_bytes",
    "round_sends",
    "run_sends",
    "latest_multiply_adds",
)

SYSTEMS: Final = {name: _BY_NAME[name] for name in _ORDER}
"""All of them by name, in the order of the papers."""

ALIASES: Final = {
    "gossip": "fedkseed",
    "histories": "fedkseed",
    "zelikman": "infinite-seeds",
    "d-psgd": "fedavg",
    "d-psgd-lora": "fedit-sgd",
}
"""Other names: without a server FedKSeed's histories are this project, and FedAvg is D-PSGD."""


def find_system(name: str) -> System:
    """Return the system of this name, in any case.

    Raises:
        UserError: there is none; names the nearest ones.
    """
    plain = name.strip().casefold().replace(" ", "-")
    plain = ALIASES.get(plain, plain)
    if plain in SYSTEMS:
        return SYSTEMS[plain]
    near = difflib.get_close_matches(plain, [*SYSTEMS, *ALIASES], n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else "there are " + ", ".join(SYSTEMS)
    raise UserError(f"system = {name!r}: there is no such system; {hint}")


def systems_rows(setting: Setting, names: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Return the rows of some systems; the module's legend says what is in them.

    Args:
        setting: in which they are compared.
        names: of systems; none: all of them.

    Raises:
        UserError: there is no such system.
    """
    rows = []
    for system in [find_system(name) for name in names] or SYSTEMS.values():
        costs = system.costs(setting)
        if costs.server is not None:
            rows.append(_row(system, setting, costs, _by_server(setting, costs.server)))
        rows.append(_row(system, setting, costs, _by_gossip(setting, costs.gossip)))
    return rows


def _by_server(setting: Setting, server: Server) -> dict[str, Any]:
    """Return the totals with a server: each client sends one message a round, and gets one."""
    clients = setting.active if server.clients is None else server.clients
    both = None if server.up is None or server.down is None else server.up + server.down
    total = _times(both, clients)
    each = _over(total, setting.peers)
    return {
        "via": "server",
        "how": f"{clients:,} of {setting.peers:,} clients a round",
        "up_bytes": server.up,
        "down_bytes": server.down,
        "peer_round_bytes": each,
        "edge_round_bytes": each,
        "round_bytes": total,
        "run_bytes": _times(total, setting.rounds),
        "round_sends": 2 * clients,
        "run_sends": 2 * clients * setting.rounds,
        "latest_multiply_adds": server.latest,
    }


def _by_gossip(setting: Setting, gossip: Gossip | str) -> dict[str, Any]:
    """Return the totals without a server: what one peer sends, another one receives."""
    if isinstance(gossip, str):
        return {"via": "gossip", "how": gossip} | dict.fromkeys(_TOTALS)
    total = gossip.round_bytes
    each = _over(total, setting.peers)
    return {
        "via": "gossip",
        "how": gossip.how,
        "up_bytes": each,
        "down_bytes": each,
        "peer_round_bytes": _times(each, 2),
        "edge_round_bytes": _over(total, setting.edges),
        "round_bytes": total,
        "run_bytes": _times(total, setting.rounds),
        "round_sends": gossip.sends,
        "run_sends": gossip.sends * setting.rounds,
        "latest_multiply_adds": gossip.latest,
    }


def _row(system: System, setting: Setting, costs: Costs, totals: dict[str, Any]) -> dict[str, Any]:
    latest = totals["latest_multiply_adds"]
    possible = totals["round_sends"] is not None
    row = {
        "system": system.name,
        "title": system.title,
        "sent": system.sent,
        **totals,
        "latest_per_weight": _over(latest, setting.model.parameters),
        "memory": costs.memory.name if possible else None,
        "memory_bytes": costs.memory.bytes if possible else None,
        "source": system.source,
        "note": costs.note,
    }
    return {key: _plain(value) for key, value in row.items()}


def _times(number: Number | None, factor: Number) -> Number | None:
    return None if number is None else number * factor


def _over(number: Number | None, by: int) -> Number | None:
    return None if number is None else number / by


def _plain(value: Any) -> Any:
    """Return a float that is a whole number as one."""
    return int(value) if isinstance(value, float) and value.is_integer() else value
