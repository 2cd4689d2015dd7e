"""`kseed peer` and `kseed keys`: peers that are run by hand, on one host or several."""

from __future__ import annotations

import argparse
from pathlib import Path

from peer.config import experiment_from
from sim.commands.parsing import Commands, log_to_stderr, number, option
from sim.exit_status import INCOMPLETE


def add(commands: Commands) -> None:
    """Add both commands."""
    peer = commands.add_parser("peer", help="run one peer by hand")
    peer.add_argument("file", type=Path, help="the experiment, with id, bind and addresses")
    peer.set_defaults(run=_peer)
    keys = commands.add_parser("keys", help="make the keys of peers that are run by hand")
    keys.add_argument("peers", metavar="N", help="number of peers")
    keys.add_argument("--to", type=Path, required=True, metavar="DIR", help="folder for the files")
    keys.set_defaults(run=_keys)


def _peer(parsed: argparse.Namespace) -> int:
    from peer.by_hand import run_by_hand

    log_to_stderr()
    return 0 if run_by_hand(parsed.file) else INCOMPLETE


def _keys(parsed: argparse.Namespace) -> int:
    from peer.keys import PUBLIC, make_keys, secret_name
    from peer.setup import check_peers

    peers = experiment_from({"peers": number(option("peers"), parsed.peers)}).peers
    check_peers(peers)
    make_keys(peers, parsed.to)
    print(
        f"{parsed.to / PUBLIC} is for every peer, {parsed.to / secret_name(0)} for peer 0 alone, "
        "and so on"
    )
    return 0
