"""Which place in the roster is this host's: given as a number, or derived from its surroundings.

slurm     the number of the task that `srun` has started
ordinal   the number that the host's name ends with, as in a StatefulSet: kseed-3 -> 3
host      the place in the roster whose address has this host's name
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from peer.addresses import host_of
from peer.errors import UserError
from peer.options import refuse

SLURM: Final = "SLURM_PROCID"
"""The variable in which `srun` tells each task its number."""

_ENDS_WITH: Final = re.compile(r"[0-9]+$", re.ASCII)
_MOST_DIGITS: Final = 18


def find_index(
    rule: str,
    addresses: Sequence[str],
    environment: Mapping[str, str],
    host: str,
    full_name: Callable[[], str],
) -> int:
    """Return a peer's place in the roster.

    Args:
        rule: a number, or slurm, ordinal or host.
        addresses: of all peers, by place.
        environment: variables of this process.
        host: what this host calls itself.
        full_name: returns its fully qualified name; asked where it matters only, as a name server
            can take its time.

    Raises:
        UserError: the rule is none, or leads nowhere.
    """
    peers = len(addresses)
    if rule == "slurm":
        return _of_slurm(environment, peers)
    if rule == "ordinal":
        return _ordinal(host, peers)
    if rule == "host":
        return _of_host(host, full_name(), addresses)
    number = _number(rule)
    if number is None:
        refuse("index", rule, "must be a number, slurm, ordinal or host")
    return _within(number, peers, f"index = {number}")


def _of_slurm(environment: Mapping[str, str], peers: int) -> int:
    text = environment.get(SLURM)
    if text is None:
        raise UserError(f"index = 'slurm' needs the variable {SLURM}, which `srun` gives its tasks")
    number = _number(text)
    if number is None:
        raise UserError(f"index = 'slurm': {SLURM} = {text!r} is no number")
    return _within(number, peers, f"index = 'slurm': {SLURM} = {number}")


def _ordinal(name: str, peers: int) -> int:
    found = _ENDS_WITH.search(name.partition(".")[0])
    number = None if found is None else _number(found[0])
    if number is None:
        raise UserError(f"index = 'ordinal': the name of this host, {name}, ends with no number")
    return _within(number, peers, f"index = 'ordinal': the name of this host, {name},")


def _of_host(host: str, full_name: str, addresses: Sequence[str]) -> int:
    called = {_same(host), _same(host).partition(".")[0], _same(full_name)}
    # Where a resolver knows nothing better, every host is called this.
    called.discard("localhost")
    found = [peer for peer, at in enumerate(addresses) if _same(host_of(at)) in called]
    if len(found) == 1:
        return found[0]
    told = " or ".join(dict.fromkeys((host, full_name)))
    if not found:
        raise UserError(f"index = 'host': no address of the roster is at {told}, this host")
    who = ", ".join(map(str, found))
    raise UserError(f"index = 'host': peers {who} are all at {told}, this host; give a number")


def _same(name: str) -> str:
    """Return a host's name as it compares: capitals and a last dot make no difference."""
    return name.lower().removesuffix(".")


def _number(text: str) -> int | None:
    plain = text.isascii() and text.isdigit() and len(text) <= _MOST_DIGITS
    return int(text) if plain else None


def _within(number: int, peers: int, told: str) -> int:
    if number >= peers:
        raise UserError(f"{told} is not allowed: there are peers 0 to {peers - 1}")
    return number
