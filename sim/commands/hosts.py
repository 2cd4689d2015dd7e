"""`kseed roster` and `kseed recipe`: what a network of hosts is started from."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Final

from peer.config import experiment_from
from peer.errors import UserError
from peer.experiment_file import read_toml
from peer.recipes import RECIPES, recipe
from sim.commands.parsing import Commands, whole_number

_PORT: Final = "5555"
_METRICS_PORT: Final = "9464"


def add(commands: Commands) -> None:
    """Add both commands."""
    roster = commands.add_parser("roster", help="make the roster of a network, and its keys")
    roster.add_argument("experiment", type=Path, help="as `kseed sim` takes it")
    roster.add_argument(
        "--hosts",
        required=True,
        help="of each peer in order, joined by commas: host or host:port; or one pattern with {} "
        "for the peer's number",
    )
    roster.add_argument("--to", type=Path, required=True, metavar="DIR", help="folder for them")
    roster.add_argument("--port", default=_PORT, help=f"of peers (default {_PORT})")
    roster.add_argument(
        "--metrics-port", default=_METRICS_PORT, help=f"0: no metrics (default {_METRICS_PORT})"
    )
    keys = roster.add_mutually_exclusive_group()
    keys.add_argument(
        "--keys", type=Path, metavar="DIR", help="take those that `kseed keys` has made there"
    )
    keys.add_argument("--no-keys", action="store_true", help="all peers are on this machine")
    roster.set_defaults(run=_roster)
    recipes = commands.add_parser("recipe", help="print how a network is started on hosts")
    recipes.add_argument("name", choices=RECIPES, metavar="NAME", help=", ".join(RECIPES))
    recipes.add_argument("experiment", type=Path, help="as `kseed sim` takes it")
    recipes.add_argument("--to", type=Path, metavar="FILE", help="write it there, to a new file")
    recipes.set_defaults(run=_recipe)


def _roster(parsed: argparse.Namespace) -> int:
    from peer.hosts import MOST, filled, is_pattern, roster_of, split_hosts
    from peer.keys import secret_name
    from peer.roster_file import ROSTER
    from peer.roster_making import make_roster, write_roster

    port = whole_number("port", parsed.port, 1, MOST)
    metrics_port = whole_number("metrics_port", parsed.metrics_port, 0, MOST)
    hosts = split_hosts(parsed.hosts)
    if is_pattern(hosts[0]):
        hosts = filled(hosts[0], _peers(parsed.experiment))
    peers = _peers(parsed.experiment, len(hosts))
    if peers != len(hosts):
        raise UserError(f"hosts = {parsed.hosts!r} are {len(hosts)}: the experiment has {peers}")
    roster = roster_of(hosts, port, metrics_port)
    path = parsed.to / ROSTER
    if parsed.keys is not None or parsed.no_keys:
        write_roster(roster, parsed.to, parsed.keys)
        print(f"{path} is for every host")
    else:
        make_roster(roster, parsed.to)
        secret = parsed.to / secret_name(0)
        print(f"{path} is for every host, {secret} for peer 0 on {hosts[0]} alone, and so on")
    return 0


def _recipe(parsed: argparse.Namespace) -> int:
    text = recipe(parsed.name, parsed.experiment, _peers(parsed.experiment))
    if parsed.to is None:
        print(text, end="")
        return 0
    try:
        with parsed.to.open("x", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise UserError(f"cannot write {parsed.to}: {error.strerror}") from None
    return 0


def _peers(path: Path, hosts: int | None = None) -> int:
    """Return how many peers an experiment has; see `peer.standalone.resolve`."""
    from peer.standalone import resolve

    return resolve(experiment_from(read_toml(path)), hosts)[0].peers
