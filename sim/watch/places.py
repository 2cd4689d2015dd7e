"""Whom to watch: addresses, ranges of ports, and a roster file."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from peer.errors import UserError
from peer.metrics_address import MetricsAddress, metrics_address
from peer.roster_file import read_roster

MOST: Final = 1024
"""Peers that are watched at a time."""

_RANGE: Final = re.compile(r"(.+):([0-9]{1,5})-([0-9]{1,5})")


def places(texts: Iterable[str], roster: Path | None) -> list[MetricsAddress]:
    """Return where to ask, each address once and in the order given.

    Args:
        texts: `host:port`, or `host:first-last` for a range of ports.
        roster: a roster file; None: there is none.

    Raises:
        UserError: there is no address, one is none, or there are too many.
    """
    found = dict.fromkeys(address for text in texts for address in _expanded(text))
    if roster is not None:
        told = [metrics for metrics in read_roster(roster).metrics if metrics]
        if not told:
            raise UserError(f"{roster} does not say where any peer offers its metrics")
        found |= dict.fromkeys(map(metrics_address, told))
    if not found:
        raise UserError("say whom to watch: addresses as 127.0.0.1:9464-9471, or --roster FILE")
    if len(found) > MOST:
        raise UserError(f"{len(found):,} addresses are too many: at most {MOST:,} are watched")
    return list(found)


def _expanded(text: str) -> list[MetricsAddress]:
    match = _RANGE.fullmatch(text)
    if match is None:
        return [metrics_address(text)]
    first, last = (metrics_address(f"{match[1]}:{port}") for port in match.groups()[1:])
    if last.port < first.port:
        raise UserError(f"{text!r} is no range: it ends before it begins")
    return [MetricsAddress(first.host, port) for port in range(first.port, last.port + 1)]
