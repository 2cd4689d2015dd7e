"""The roster file: where every peer of a network is reached, and which keys it has.

One file for all hosts. It says of each peer, in the order of their places:

    [[peer]] # 0
    address = "tcp://a:5555"
    metrics = "a:9464"          # where it offers its metrics, if it does
    curve = "<64 digits>"       # its public keys, see `peer.keys`; without them all addresses
    ed25519 = "<64 digits>"     # are of one machine
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from peer.addresses import check_reachable, is_place, is_remote
from peer.errors import UserError
from peer.experiment_file import read_toml, write_toml
from peer.keys import KINDS, PublicKeys, public_keys_in
from peer.protocol import field_digest

ROSTER: Final = "roster.toml"
"""The usual name of the file."""

_KEYS: Final = ("address", "metrics", *KINDS)


@dataclass(frozen=True)
class RosterFile:
    """What a roster file says of all peers, by place.

    Attributes:
        addresses: where each can be dialled.
        metrics: `host:port` where each offers its metrics; empty: it does not.
        keys: everybody's public ones; None: links are not encrypted, and nothing is signed.
    """

    addresses: tuple[str, ...]
    metrics: tuple[str, ...]
    keys: PublicKeys | None = None

    @cached_property
    def digest(self) -> bytes:
        """8 bytes for what must be equal everywhere: addresses and keys.

        Who watches a peer where is not the others' business, so metrics are left out.
        """
        keys = None if self.keys is None else (self.keys.curve, self.keys.ed25519)
        return field_digest((self.addresses, keys))

    def text(self) -> str:
        """Return the file that says this."""
        text = "# The peers of a network, in the order of their places: the same for every host.\n"
        for peer, (address, metrics) in enumerate(zip(self.addresses, self.metrics, strict=True)):
            text += f"\n[[peer]] # {peer}\n" + write_toml({"address": address})
            text += write_toml({"metrics": metrics}) if metrics else ""
            text += "" if self.keys is None else self.keys.lines(peer)
        return text


def read_roster(path: Path) -> RosterFile:
    """Return what a roster file says.

    Raises:
        UserError: it cannot be read, or something in it is not as it should be.
    """
    values = read_toml(path)
    tables = values.pop("peer", [])
    if values:
        raise UserError(f"{path}: {next(iter(values))} is no key of a roster, which has [[peer]]")
    if not isinstance(tables, list) or not all(isinstance(table, Mapping) for table in tables):
        raise UserError(f"{path} does not hold a table [[peer]] for each peer")
    if len(tables) < 2:
        raise UserError(f"{path} holds {len(tables)} tables [[peer]]: at least 2 are wanted")
    for peer, table in enumerate(tables):
        _check_names(path, peer, table)
    addresses = tuple(_address(path, peer, table) for peer, table in enumerate(tables))
    metrics = tuple(_metrics(path, peer, table) for peer, table in enumerate(tables))
    _refuse_twins(path, "address", addresses)
    _refuse_twins(path, "metrics address", metrics)
    return RosterFile(addresses, metrics, _public_keys(path, tables, addresses))


def _check_names(path: Path, peer: int, table: Mapping[str, Any]) -> None:
    for key in table:
        if key not in _KEYS:
            known = ", ".join(_KEYS)
            raise UserError(f"{path}: {key} of peer {peer} is no key of a roster: it has {known}")


def _address(path: Path, peer: int, table: Mapping[str, Any]) -> str:
    address = table.get("address")
    if not isinstance(address, str):
        raise UserError(f"{path}: peer {peer} has no address, or one that is no text")
    try:
        check_reachable(address)
    except UserError as error:
        raise UserError(f"{path}: address = {address!r} of peer {peer}: {error}") from None
    return address


def _metrics(path: Path, peer: int, table: Mapping[str, Any]) -> str:
    metrics = table.get("metrics", "")
    if not isinstance(metrics, str) or (metrics and not is_place(metrics)):
        raise UserError(
            f"{path}: metrics = {metrics!r} of peer {peer}: must be host:port, by name or IPv4"
        )
    return metrics


def _refuse_twins(path: Path, what: str, places: Sequence[str]) -> None:
    owners: dict[str, int] = {}
    for peer, place in enumerate(places):
        # Names of hosts are the same in capitals.
        if place and owners.setdefault(place.lower(), peer) != peer:
            first = owners[place.lower()]
            raise UserError(f"{path}: peers {first} and {peer} have one {what}, {place}")


def _public_keys(
    path: Path, tables: Sequence[Mapping[str, Any]], addresses: Sequence[str]
) -> PublicKeys | None:
    own = [{kind: table[kind] for kind in KINDS if kind in table} for table in tables]
    if any(own):
        return public_keys_in(path, own)
    beyond = [address for address in addresses if is_remote(address)]
    if beyond:
        raise UserError(f"{path}: {beyond[0]} is beyond this machine, so all peers need keys")
    return None
