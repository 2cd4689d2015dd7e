"""`kseed status` and `kseed watch`: peers that run, asked from anywhere that reaches them."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Final

from peer.errors import UserError
from sim.commands.parsing import Commands
from sim.exit_status import INCOMPLETE

_INTERVALS: Final = (0.1, 3600.0)


def add(commands: Commands) -> None:
    """Add both commands."""
    status = commands.add_parser("status", help="ask a running peer how it is")
    status.add_argument("address", help="host:port where it offers its status")
    status.add_argument("--json", action="store_true", help="print what it says as JSON")
    status.set_defaults(run=_status)
    watch = commands.add_parser("watch", help="draw the network of running peers in the terminal")
    watch.add_argument(
        "address", nargs="*", help="host:port where a peer offers its status, or host:first-last"
    )
    watch.add_argument("--roster", type=Path, metavar="FILE", help="a roster that tells addresses")
    watch.add_argument(
        "--interval", default="2", metavar="SECONDS", help="from one look to the next (default: 2)"
    )
    watch.add_argument("--once", action="store_true", help="look once; status 3 if all is not well")
    watch.set_defaults(run=_watch)


def _status(parsed: argparse.Namespace) -> int:
    from peer.metrics_address import metrics_address
    from sim.watch.one import as_json, heard_of, in_words
    from sim.watch.signs import replace_unknown_signs

    replace_unknown_signs()
    heard = heard_of(metrics_address(parsed.address))
    print(json.dumps(as_json(heard)) if parsed.json else in_words(heard))
    return 0


def _watch(parsed: argparse.Namespace) -> int:
    from sim.watch.conduct import look_once, watch
    from sim.watch.places import places

    interval = _interval(parsed.interval)
    addresses = places(parsed.address, parsed.roster)
    picture = look_once(addresses) if parsed.once else watch(addresses, interval)
    return 0 if picture.well else INCOMPLETE


def _interval(text: str) -> float:
    least, most = _INTERVALS
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not least <= seconds <= most:
        raise UserError(
            f"--interval {text!r} is not allowed: must be {least:g} to {most:g} seconds"
        )
    return seconds
