"""The messages between neighbours: msgpack arrays, one frame each.

    code name      fields                                    payload or control
    1    HELLO     version, sender, fields, versions, answer control
    2    ENTRIES   [entry, ...]                              payload
    3    DIGEST    digest, complete                          control
    4    VERSIONS  versions                                  control
    5    WANT      [[origin, start, stop], ...]              control
    6    REFUSAL   [name, ...]                               control
    7    BYE                                                 control

Meeting (also after a restart: whoever is new asks, the other answers):

    A --HELLO(answer=False)--> B        equal fields: the link is open, and each side sees
    A <--HELLO(answer=True)--- B        from the other's versions what it lacks
    A <--REFUSAL(names)------- B        a field differs: the link stays shut, and says why

Flooding, one entry a message:

    A --ENTRIES[e]--> B --ENTRIES[e]--> every neighbour of B but A

Repair: the digest of each tick shows a difference, the versions show which, the one that lacks
something asks for it:

    A --DIGEST--> B     differs, and nothing new came to B for a tick
    A <--VERSIONS-- B   A sees what B holds beyond its own
    A --WANT--> B
    A <--ENTRIES--- B

The end: `complete` in DIGEST says that every log is held up to its END. BYE: I am leaving.

`versions` is a map origin -> length; `fields` a map name -> digest of what must be equal. Bytes
become a typed message or raise MalformedMessage; a frame past FRAME_LIMIT is not even parsed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final, TypeAlias

import msgpack

from peer.entry import NUMBER_LIMIT, Entry, decode_entry
from peer.errors import MalformedMessage
from peer.log import DIGEST_BYTES

VERSION: Final = 1
FRAME_LIMIT: Final = 2**21
"""The largest frame in bytes that a peer reads (2 MiB)."""

BATCH_BYTES: Final = 2**16
"""An answer to WANT goes out in messages of about this size."""

_ITEMS_LIMIT: Final = 2**20
_FIELDS_LIMIT: Final = 64
_NAME_LIMIT: Final = 64


@dataclass(frozen=True, slots=True)
class Hello:
    """Who I am, what must be equal, what I hold; `answer` ends the exchange."""

    sender: int
    fields: Mapping[str, bytes]
    versions: Mapping[int, int]
    answer: bool
    version: int = VERSION


@dataclass(frozen=True, slots=True)
class Entries:
    """Entries, in the order in which they are to be added."""

    entries: tuple[Entry, ...]


@dataclass(frozen=True, slots=True)
class Digest:
    """The digest of my log, and whether I hold every log to its end."""

    digest: bytes
    complete: bool


@dataclass(frozen=True, slots=True)
class Versions:
    """My version vector, because our digests differ."""

    versions: Mapping[int, int]


@dataclass(frozen=True, slots=True)
class Want:
    """Ranges (origin, start, stop) that you hold and I lack, by ascending origin."""

    ranges: tuple[tuple[int, int, int], ...]


@dataclass(frozen=True, slots=True)
class Refusal:
    """We do not run the same experiment: these fields differ."""

    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Bye:
    """I am leaving."""


Message: TypeAlias = Hello | Entries | Digest | Versions | Want | Refusal | Bye


def encode(message: Message) -> bytes:
    """Return the one frame that carries a message."""
    match message:
        case Hello(sender, fields, versions, answer, version):
            parts = [1, version, sender, dict(fields), dict(versions), answer]
        case Entries(entries):
            parts = [2, [entry.content for entry in entries]]
        case Digest(digest, complete):
            parts = [3, digest, complete]
        case Versions(versions):
            parts = [4, dict(versions)]
        case Want(ranges):
            parts = [5, ranges]
        case Refusal(names):
            parts = [6, names]
        case Bye():
            parts = [7]
    return bytes(msgpack.packb(parts))


def is_payload(frame: bytes) -> bool:
    """Tell whether a frame made by `encode` carries entries."""
    return frame[:2] == b"\x92\x02"


def decode(frame: bytes) -> Message:
    """Return the message that a frame carries.

    Raises:
        MalformedMessage: it carries none, or one past the limits.
    """
    if len(frame) > FRAME_LIMIT:
        raise MalformedMessage(f"a frame of {len(frame)} bytes, at most {FRAME_LIMIT} are read")
    try:
        parts = msgpack.unpackb(
            frame,
            # Every item takes a byte, and room for all that are announced is taken at once.
            max_array_len=min(_ITEMS_LIMIT, len(frame)),
            max_map_len=_ITEMS_LIMIT,
            max_ext_len=0,
            strict_map_key=False,
        )
    except (ValueError, TypeError, RecursionError, msgpack.UnpackException) as error:
        raise MalformedMessage(f"not msgpack: {type(error).__name__}") from None
    if not isinstance(parts, list) or not parts:
        raise MalformedMessage("a message is an array")
    code, *fields = parts
    reader = _READERS.get(code) if type(code) is int else None
    if reader is None:
        raise MalformedMessage("no such message")
    name, length, read = reader
    if len(fields) != length:
        raise MalformedMessage(f"{name} has {length} fields, not {len(fields)}")
    return read(fields)


def _number(value: Any, limit: int = NUMBER_LIMIT) -> int:
    if type(value) is not int or not 0 <= value < limit:
        raise MalformedMessage(f"a number below {limit} was expected")
    return value


def _flag(value: Any) -> bool:
    if type(value) is not bool:
        raise MalformedMessage("a flag was expected")
    return value


def _digest(value: Any) -> bytes:
    if type(value) is not bytes or len(value) != DIGEST_BYTES:
        raise MalformedMessage(f"a digest of {DIGEST_BYTES} bytes was expected")
    return value


def _name(value: Any) -> str:
    if type(value) is not str or not 0 < len(value) <= _NAME_LIMIT or not value.isidentifier():
        raise MalformedMessage("a name was expected")
    return value


def _list(value: Any, limit: int = _ITEMS_LIMIT) -> list[Any]:
    if type(value) is not list or len(value) > limit:
        raise MalformedMessage(f"an array of at most {limit} was expected")
    return value


def _map(value: Any, limit: int = _ITEMS_LIMIT) -> dict[Any, Any]:
    if type(value) is not dict or len(value) > limit:
        raise MalformedMessage(f"a map of at most {limit} was expected")
    return value


def _versions(value: Any) -> dict[int, int]:
    return {_number(origin): _number(length) for origin, length in _map(value).items()}


def _entry(value: Any) -> Entry:
    if type(value) is not bytes:
        raise MalformedMessage("an entry is binary")
    return decode_entry(value)


def _range(value: Any) -> tuple[int, int, int]:
    origin, start, stop = (_number(part) for part in _exactly(value, 3))
    if start >= stop:
        raise MalformedMessage("a range is not empty")
    return origin, start, stop


def _want(fields: list[Any]) -> Want:
    ranges = tuple(_range(r) for r in _list(fields[0]))
    # One range an origin, or a short message could ask for one log a thousand times.
    if any(one[0] >= next_[0] for one, next_ in pairwise(ranges)):
        raise MalformedMessage("ranges ascend by origin")
    return Want(ranges)


def _exactly(value: Any, length: int) -> list[Any]:
    if len(_list(value)) != length:
        raise MalformedMessage(f"an array of {length} was expected")
    return list(value)


def _hello(fields: list[Any]) -> Hello:
    version, sender, digests, versions, answer = fields
    if _number(version) != VERSION:
        raise MalformedMessage(f"protocol version {version}, this is version {VERSION}")
    named = {_name(name): _digest(d) for name, d in _map(digests, _FIELDS_LIMIT).items()}
    return Hello(_number(sender), named, _versions(versions), _flag(answer))


_READERS: Final[dict[int, tuple[str, int, Callable[[list[Any]], Message]]]] = {
    1: ("HELLO", 5, _hello),
    2: ("ENTRIES", 1, lambda f: Entries(tuple(_entry(e) for e in _list(f[0])))),
    3: ("DIGEST", 2, lambda f: Digest(_digest(f[0]), _flag(f[1]))),
    4: ("VERSIONS", 1, lambda f: Versions(_versions(f[0]))),
    5: ("WANT", 1, _want),
    6: ("REFUSAL", 1, lambda f: Refusal(tuple(_name(n) for n in _list(f[0], _FIELDS_LIMIT)))),
    7: ("BYE", 0, lambda _: Bye()),
}
