"""`kseed peer` and `kseed keys`: peers that are run by hand, on one host or several."""

from __future__ import annotations

import argparse
from pathlib import Path

from peer.config import experiment_from
from peer.errors import UserError
from sim.commands.parsing import Commands, log_to_stderr, number, option
from sim.exit_status import INCOMPLETE


def add(commands: Commands) -> None:
    """Add both commands."""
    peer = commands.add_parser(
        "peer", help="run one peer: of an experiment and a roster, or of a file of its own"
    )
    peer.add_argument(
        "file", type=Path, nargs="?", help="the experiment, with id, bind and addresses"
    )
    on_host = peer.add_argument_group("in place of such a file")
    on_host.add_argument("--experiment", type=Path, metavar="FILE", help="as `kseed sim` takes it")
    on_host.add_argument(
        "--index",
        help="this peer's place in the roster: a number, slurm (SLURM_PROCID), ordinal (what this "
        "host's name ends with), or host (the place whose address has this host's name)",
    )
    on_host.add_argument(
        "--roster", type=Path, metavar="FILE", help="default: roster.toml beside the experiment"
    )
    on_host.add_argument(
        "--keys",
        type=Path,
        metavar="DIR",
        help="folder with its secret keys; default: the roster's",
    )
    on_host.add_argument(
        "--bind", metavar="ADDRESS", help="where to listen; default: everywhere, at its own port"
    )
    on_host.add_argument(
        "--out", metavar="DIR", help="its run folder; default: peer-I in `out`, or in runs/NAME"
    )
    peer.set_defaults(run=_peer)
    keys = commands.add_parser("keys", help="make the keys of peers that are run by hand")
    keys.add_argument("peers", metavar="N", help="number of peers")
    keys.add_argument("--to", type=Path, required=True, metavar="DIR", help="folder for the files")
    keys.set_defaults(run=_keys)


def _peer(parsed: argparse.Namespace) -> int:
    from peer.by_hand import run_by_hand
    from peer.on_host import run_on_host

    _check_form(parsed)
    log_to_stderr()
    if parsed.file is not None:
        return 0 if run_by_hand(parsed.file) else INCOMPLETE
    whole = run_on_host(
        parsed.experiment,
        parsed.index,
        roster_file=parsed.roster,
        keys=parsed.keys,
        bind=parsed.bind,
        out=parsed.out,
    )
    return 0 if whole else INCOMPLETE


def _check_form(parsed: argparse.Namespace) -> None:
    """Refuse a mixture of the two forms.

    Raises:
        UserError: it is one, or neither.
    """
    names = ("experiment", "index", "roster", "keys", "bind", "out")
    given = [f"--{name}" for name in names if getattr(parsed, name) is not None]
    if parsed.file is not None and given:
        raise UserError(f"{parsed.file} is a peer's own file, and goes without {given[0]}")
    if parsed.file is None and (parsed.experiment is None or parsed.index is None):
        raise UserError("a peer needs --experiment FILE and --index I, or a file of its own")


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
