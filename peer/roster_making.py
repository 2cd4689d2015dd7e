"""Writes a roster file, with new keys beside it or with those that there are."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from peer.addresses import is_remote
from peer.errors import UserError
from peer.keys import make_keys_with, read_public_keys, write_new
from peer.roster_file import ROSTER, RosterFile


def make_roster(roster: RosterFile, folder: Path) -> None:
    """Make new keys for all peers of a roster, and write both into a folder.

    Raises:
        UserError: the folder cannot be written to, or holds such a file already.
    """
    make_keys_with(
        len(roster.addresses), folder, ROSTER, lambda public: replace(roster, keys=public).text()
    )


def write_roster(roster: RosterFile, folder: Path, keys: Path | None) -> None:
    """Write a roster into a folder, whose peers keep the keys that they have.

    Args:
        roster: without keys.
        folder: made, if it is not there.
        keys: the folder with public.toml, see `peer.keys`; None: there are no keys.

    Raises:
        UserError: the folder cannot be written to, or holds a roster already; or these are no keys
            of so many peers, or there have to be some.
    """
    if keys is not None:
        roster = replace(roster, keys=read_public_keys(keys, len(roster.addresses)))
    elif beyond := [address for address in roster.addresses if is_remote(address)]:
        raise UserError(f"{beyond[0]} is beyond this machine, so the roster needs keys")
    path = folder / ROSTER
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_new(path, roster.text(), 0o644)
    except FileExistsError:
        raise UserError(f"{path} is there already, and is never overwritten") from None
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from None
