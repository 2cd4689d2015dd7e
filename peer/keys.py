"""The keys of peers: made by `kseed keys` or `kseed roster`, read by each peer.

    public.toml            every peer's public keys, in the roster's order: for everybody
    peer-<i>.secret.toml   the secret keys of peer i: for that peer alone

A roster file has everybody's public keys beside their addresses, and then there is no public.toml.

Each peer has two pairs. Its Curve25519 pair is for its links: CURVE admits known keys and encrypts.
Its Ed25519 pair signs its entries, which travel further than its links.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from peer.errors import UserError
from peer.experiment_file import read_toml

PUBLIC: Final = "public.toml"
KEY_BYTES: Final = 32

KINDS: Final = ("curve", "ed25519")
"""Of each peer's keys, as the files name them."""

_OTHERS: Final = 0o077
"""The bits of a file's mode that let others than its owner at it."""


@dataclass(frozen=True)
class PublicKeys:
    """Everybody's public keys, by place in the roster, 32 bytes each.

    Attributes:
        curve: Curve25519, of the peers' links.
        ed25519: of the signatures of their entries.
    """

    curve: tuple[bytes, ...]
    ed25519: tuple[bytes, ...]

    def lines(self, peer: int) -> str:
        """Return one peer's keys as lines of TOML."""
        return _toml(self.curve[peer], self.ed25519[peer])


@dataclass(frozen=True, repr=False)
class SecretKeys:
    """The secret keys of one peer, 32 bytes each; see `PublicKeys`."""

    curve: bytes
    ed25519: bytes

    @property
    def public_curve(self) -> bytes:
        """The public key of `curve`."""
        return X25519PrivateKey.from_private_bytes(self.curve).public_key().public_bytes_raw()

    @property
    def public_ed25519(self) -> bytes:
        """The public key of `ed25519`."""
        return Ed25519PrivateKey.from_private_bytes(self.ed25519).public_key().public_bytes_raw()


@dataclass(frozen=True)
class Security:
    """What a peer needs to know others by their keys, and to be known.

    Attributes:
        secret: its own keys.
        public: everybody's, its own among them.
    """

    secret: SecretKeys
    public: PublicKeys

    @classmethod
    def read(cls, folder: Path, peer: int, peers: int) -> Security:
        """Read both from a folder.

        Raises:
            UserError: see `read_public_keys` and `read_secret_keys`.
        """
        return cls.among(read_public_keys(folder, peers), folder, peer)

    @classmethod
    def among(cls, public: PublicKeys, folder: Path, peer: int) -> Security:
        """Read a peer's secret keys from a folder, where everybody's public ones are known.

        Raises:
            UserError: see `read_secret_keys`.
        """
        return cls(read_secret_keys(folder, peer, public), public)


def secret_name(peer: int) -> str:
    """Return the name of the file with a peer's secret keys."""
    return f"peer-{peer}.secret.toml"


def make_keys(peers: int, folder: Path) -> None:
    """Make the keys of a run's peers.

    Raises:
        UserError: the folder cannot be written to, or holds a file of that name already.
    """
    make_keys_with(peers, folder, PUBLIC, _public_toml)


def make_keys_with(peers: int, folder: Path, name: str, text: Callable[[PublicKeys], str]) -> None:
    """Make the keys of a run's peers: their secret ones, and a file that has all public ones.

    Args:
        peers: how many.
        folder: where to; made, if it is not there.
        name: of the file with the public keys.
        text: returns what it says.

    Raises:
        UserError: the folder cannot be written to, or holds a file of that name already.
    """
    for file in (name, *map(secret_name, range(peers))):
        if (folder / file).exists():
            raise UserError(f"{folder / file} is there already, and keys are never overwritten")
    secrets = [_draw() for _ in range(peers)]
    public = PublicKeys(
        tuple(secret.public_curve for secret in secrets),
        tuple(secret.public_ed25519 for secret in secrets),
    )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for peer, keys in enumerate(secrets):
            about = f"# The secret keys of peer {peer}: for this peer alone.\n"
            lines = about + _toml(keys.curve, keys.ed25519)
            write_new(folder / secret_name(peer), lines, 0o600)
        # The last one, so that where it is all others are.
        write_new(folder / name, text(public), 0o644)
    except OSError as error:
        raise UserError(f"cannot write keys to {folder}: {error.strerror or error}") from None


def ensure_keys(peers: int, folder: Path) -> None:
    """Make the keys of a run's peers, unless that was done in an earlier life of the run.

    Raises:
        UserError: they cannot be made, or are those of another number of peers.
    """
    if (folder / PUBLIC).exists():
        read_public_keys(folder, peers)
        return
    for peer in range(peers):
        # What was interrupted before public.toml was there has never been used.
        (folder / secret_name(peer)).unlink(missing_ok=True)
    make_keys(peers, folder)


def read_public_keys(folder: Path, peers: int) -> PublicKeys:
    """Return the public keys of a run's peers.

    Raises:
        UserError: the file cannot be read, or does not hold the keys of so many peers.
    """
    path = folder / PUBLIC
    tables = read_toml(path).get("peer")
    if not isinstance(tables, list) or len(tables) != peers:
        raise UserError(f"{path} does not hold one table [[peer]] for each of {peers} peers")
    return public_keys_in(path, tables)


def public_keys_in(path: Path, tables: Sequence[Any]) -> PublicKeys:
    """Return the public keys that a file's tables hold, one for each peer.

    Raises:
        UserError: a table is not that of two keys, or a key is there twice.
    """
    read = [_keys(path, table, f" of peer {peer}") for peer, table in enumerate(tables)]
    keys = PublicKeys(*(tuple(kind) for kind in zip(*read, strict=True)))
    for kind in KINDS:
        owners: dict[bytes, int] = {}
        for peer, key in enumerate(getattr(keys, kind)):
            if owners.setdefault(key, peer) != peer:
                raise UserError(f"{path}: peers {owners[key]} and {peer} share their {kind} key")
    return keys


def read_secret_keys(folder: Path, peer: int, public: PublicKeys) -> SecretKeys:
    """Return a peer's secret keys.

    Args:
        folder: where they are.
        peer: its place in the roster.
        public: everybody's, of which some belong to these.

    Raises:
        UserError: the file cannot be read, or by too many; or these are not that peer's keys.
    """
    path = folder / secret_name(peer)
    values = read_toml(path)
    if os.name == "posix" and path.stat().st_mode & _OTHERS:
        raise UserError(f"{path} is open to others than its owner: chmod 600, or make new keys")
    keys = SecretKeys(*_keys(path, values, ""))
    if (keys.public_curve, keys.public_ed25519) != (public.curve[peer], public.ed25519[peer]):
        raise UserError(f"{path} holds other keys than those of peer {peer} that all know")
    return keys


def _keys(path: Path, table: Any, whose: str) -> list[bytes]:
    if not isinstance(table, Mapping) or set(table) != set(KINDS):
        raise UserError(f"{path}: the keys{whose} must be {' and '.join(KINDS)}")
    return [_key(path, kind + whose, table[kind]) for kind in KINDS]


def _key(path: Path, name: str, text: Any) -> bytes:
    try:
        key = bytes.fromhex(text)
    except (TypeError, ValueError):
        key = b""
    if len(key) != KEY_BYTES:
        # The value is not shown: it may be most of a secret.
        raise UserError(f"{path}: {name} is not a key of {2 * KEY_BYTES} hexadecimal digits")
    return key


def _draw() -> SecretKeys:
    return SecretKeys(
        X25519PrivateKey.generate().private_bytes_raw(),
        Ed25519PrivateKey.generate().private_bytes_raw(),
    )


def _public_toml(public: PublicKeys) -> str:
    text = "# The public keys of a run's peers, in the roster's order: for everybody.\n"
    for peer in range(len(public.curve)):
        text += f"\n[[peer]] # {peer}\n" + public.lines(peer)
    return text


def _toml(*keys: bytes) -> str:
    return "".join(f'{kind} = "{key.hex()}"\n' for kind, key in zip(KINDS, keys, strict=True))


def write_new(path: Path, text: str, mode: int) -> None:
    """Write a file that must not be there yet, and that at no time has more than this mode.

    Raises:
        OSError: it is there, or cannot be written.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with open(descriptor, "w", encoding="ascii") as file:
        file.write(text)
