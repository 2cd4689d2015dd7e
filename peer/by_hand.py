"""One peer started by hand, from a TOML file of its own that says where the others are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from peer.config import experiment_from
from peer.errors import UserError
from peer.experiment_file import read_toml
from peer.process import PeerSettings
from peer.standalone import Standalone, in_folder, resolve, run_standalone, wants_curve
from peer.unused_options import deliberate


def run_by_hand(path: Path) -> bool:
    """Run the peer that a TOML file describes; tell whether it ended with everybody, all alike.

    The file is an experiment's, with keys more: `id`, this peer's place; `bind`, where it listens;
    `addresses`, where each peer can be reached, in the order of their places; and `keys`, the
    folder with public.toml and this peer's secret keys, needed for links beyond this machine. With
    `metrics`, a host and a port, its status is offered there.

    Raises:
        UserError, TopologyError: a mistake in the file; see `run_standalone`.
    """
    values = read_toml(path)
    me = _take(values, "id", int)
    bind = _take(values, "bind", str)
    addresses = _take(values, "addresses", list)
    keys = Path(_take(values, "keys", str)) if "keys" in values else None
    metrics = _take(values, "metrics", str) if "metrics" in values else ""
    experiment, graph = resolve(experiment_from(values), len(addresses))
    if len(addresses) != experiment.peers or not all(type(item) is str for item in addresses):
        raise UserError(
            f"addresses = {addresses!r} is not allowed: one text for each of the "
            f"{experiment.peers} peers is wanted"
        )
    how = f'make them with `kseed keys {experiment.peers} --to DIR`, and give keys = "DIR"'
    curve = wants_curve(experiment, [bind, *addresses], how, keys=keys is not None)
    experiment, state = in_folder(experiment, experiment.out or f"runs/peer-{me}")
    # A place that is out of bounds is told later on.
    address = addresses[me] if 0 <= me < len(addresses) else ""
    settings = PeerSettings(
        me, state, bind, keys=keys, curve=curve, address=address, metrics=metrics
    )
    return run_standalone(Standalone(experiment, graph, settings, addresses, deliberate(values)))


def _take(values: dict[str, Any], key: str, type_: type) -> Any:
    words = {int: "a whole number", str: "a text", list: "a list of texts"}[type_]
    if key not in values:
        raise UserError(f"there is no `{key}` in the file: a peer needs {words} there")
    if type(values[key]) is not type_:
        raise UserError(f"{key} = {values[key]!r} is not allowed: must be {words}")
    return values.pop(key)
