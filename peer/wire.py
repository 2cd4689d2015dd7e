"""The messages between neighbours: msgpack arrays, one frame each.

    code name      fields                                          payload or control
    1    HELLO     version, sender, agreement, digest, answer, clock   control
    2    ENTRIES   [entry, ...]                                    payload
    3    DIGEST    digest, complete                                control
    4    VERSIONS  versions, round                                 control
    5    WANT      [[origin, start, stop], ...], graft             control
    6    REFUSAL   fields                                          control
    7    BYE                                                       control
    8    ANNOUNCE  versions                                        control
    9    PRUNE     [origin, ...]                                   control
    10   PROOF     entry, entry                                    control
    11   BEHIND    round                                           control
    12   SNAPSHOT  base, [entry, ...]                              control
    13   HEADS     [[origin, start, digest], ...]                  control
    14   PART      exchange, part, bytes                           payload
    15   MISSING   exchange, [part, ...]                           control

Meeting (also after a restart: whoever is new asks, the other answers):

    A --HELLO(answer=False)--> B        equal agreements: the link is open; where the digests of
    A <--HELLO(answer=True)--- B        the logs differ, each side sends its VERSIONS too
    A <--REFUSAL(fields)------ B        they differ: the link stays shut, and the fields say why

Spreading: an entry is pushed to whom the mode says; PRUNE asks to be left out of an origin's tree.

    A --ENTRIES[e]--> B --ENTRIES[e]--> ...
    A <--PRUNE[origin of e]-- B         B had it already

Repair, when digests differ: first what is new, and when nothing is, whole version vectors.

    A --DIGEST--> B                     at a tick after something came; B has something newer, too
    A <--ANNOUNCE-- B
    A --WANT(graft)--> B                what has not come by itself; B pushes that origin to A now
    A <--ENTRIES--- B

Who lacks what the other has folded into its base gets the base itself:

    A --BEHIND--> B
    A <--SNAPSHOT-- B

Where version vectors are equal and digests are not, an origin has signed two contents under one
number, and each side holds one of them:

    A --HEADS--> B                      digests of each log from a number on, by ascending origin
    A <--WANT--- B
    A --ENTRIES--> B                    B holds both now, and proves it
    A <--PROOF--- B

Methods that average have no logs; they meet and end in the same way, with empty digests. Each
exchange of the run has a number, and weights travel in parts, the first of them unasked:

    A --PART(k, 0)--> B, A --PART(k, 1)--> B, ...
    A <--MISSING(k, parts)-- B          as parts come, the next ones; at a tick, what has not come

The end: `complete` in DIGEST says that every log is held up to its END. BYE: I am leaving.

`agreement` and `digest`: 8 bytes. `versions`: a map origin -> length; in VERSIONS with the round
of the sender's base, 0 if it has none. `fields`: a map name -> digest of what must be equal. Bytes
become a typed message or raise MalformedMessage; a frame past FRAME_LIMIT is not even parsed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any, Final, TypeAlias

import msgpack

from peer.base import Base
from peer.entry import NUMBER_LIMIT, Entry, decode_entry
from peer.errors import MalformedMessage
from peer.log import DIGEST_BYTES

VERSION: Final = 3
FRAME_LIMIT: Final = 2**21
"""The largest frame in bytes that a peer reads (2 MiB)."""

BATCH_BYTES: Final = 2**16
"""Several entries travel in messages of about this size in bytes."""

TIME_LIMIT: Final = 2.0**40
"""Seconds; 35,000 years."""

PAYLOAD: Final = (b"\x92\x02", b"\x94\x0e")
"""How a frame made by `encode` begins if it carries entries, or weights."""

_ITEMS_LIMIT: Final = 2**20
_FIELDS_LIMIT: Final = 256
_NAME_LIMIT: Final = 64
_CACHED_BYTES: Final = 2**12


@dataclass(frozen=True, slots=True)
class Hello:
    """Who I am, what must be equal, what I hold; `answer` ends the exchange.

    `clock` is what time it is for me, in seconds since the epoch where links are real.
    """

    sender: int
    agreement: bytes
    digest: bytes
    answer: bool
    clock: float
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
    """My version vector, because our digests differ, and the round of my base, 0: none."""

    versions: Mapping[int, int]
    round: int = 0


@dataclass(frozen=True, slots=True)
class Want:
    """Ranges (origin, start, stop) that you hold and I lack, by ascending origin."""

    ranges: tuple[tuple[int, int, int], ...]
    graft: bool = False


@dataclass(frozen=True, slots=True)
class Refusal:
    """We do not run the same experiment: these are the fields of mine."""

    fields: Mapping[str, bytes]


@dataclass(frozen=True, slots=True)
class Bye:
    """I am leaving."""


@dataclass(frozen=True, slots=True)
class Announce:
    """What is new to me: the lengths of the logs that have grown."""

    versions: Mapping[int, int]


@dataclass(frozen=True, slots=True)
class Prune:
    """Push these origins' entries to me no more: I have them from elsewhere."""

    origins: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Proof:
    """Two entries that one origin has signed under one number."""

    first: Entry
    second: Entry


@dataclass(frozen=True, slots=True)
class Behind:
    """I lack what is in your base of this round: send me the base."""

    round: int


@dataclass(frozen=True, slots=True)
class Snapshot:
    """My base, and entries that have acknowledged it: those of the first round above it."""

    base: Base
    witnesses: tuple[Entry, ...]


@dataclass(frozen=True, slots=True)
class Heads:
    """What my logs hold: (origin, start, digest of the entries from there on), by origin."""

    heads: tuple[tuple[int, int, bytes], ...]


@dataclass(frozen=True, slots=True)
class Part:
    """A part of my weights in an exchange."""

    exchange: int
    part: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Missing:
    """Parts of your weights of an exchange that I lack, in ascending order: send them."""

    exchange: int
    parts: tuple[int, ...]


Message: TypeAlias = (
    Hello
    | Entries
    | Digest
    | Versions
    | Want
    | Refusal
    | Bye
    | Announce
    | Prune
    | Proof
    | Behind
    | Snapshot
    | Heads
    | Part
    | Missing
)


def encode(message: Message) -> bytes:
    """Return the one frame that carries a message."""
    match message:
        case Hello(sender, agreement, digest, answer, clock, version):
            parts = [1, version, sender, agreement, digest, answer, float(clock)]
        case Entries(entries):
            parts = [2, [entry.content for entry in entries]]
        case Digest(digest, complete):
            parts = [3, digest, complete]
        case Versions(versions, round_):
            parts = [4, dict(versions), round_]
        case Want(ranges, graft):
            parts = [5, ranges, graft]
        case Refusal(fields):
            parts = [6, dict(fields)]
        case Bye():
            parts = [7]
        case Announce(versions):
            parts = [8, dict(versions)]
        case Prune(origins):
            parts = [9, origins]
        case Proof(first, second):
            parts = [10, first.content, second.content]
        case Behind(round_):
            parts = [11, round_]
        case Snapshot(base, witnesses):
            parts = [12, base.pack(), [entry.content for entry in witnesses]]
        case Heads(heads):
            parts = [13, heads]
        case Part(exchange, part, data):
            parts = [14, exchange, part, data]
        case Missing(exchange, missing):
            parts = [15, exchange, missing]
    return bytes(msgpack.packb(parts))


def batches(entries: Iterable[Entry]) -> list[Entries]:
    """Return messages of moderate size that carry these entries in this order."""
    found: list[Entries] = []
    batch: list[Entry] = []
    size = 0
    for entry in entries:
        if batch and size + len(entry.content) > BATCH_BYTES:
            found.append(Entries(tuple(batch)))
            batch, size = [], 0
        batch.append(entry)
        size += len(entry.content)
    return [*found, Entries(tuple(batch))] if batch else found


def encode_entry(entry: Entry) -> bytes:
    """Return the frame of a message of one entry, as pushing sends it to one neighbour or more."""
    return _pushed(entry.content)


@lru_cache(maxsize=2**12)
def _pushed(content: bytes) -> bytes:
    return bytes(msgpack.packb([2, [content]]))


def is_payload(frame: bytes) -> bool:
    """Tell whether a frame made by `encode` carries entries, or weights."""
    return frame.startswith(PAYLOAD)


def kind_of(frame: bytes) -> str:
    """Return the name of the message that a frame seems to be; empty: of none."""
    code = frame[1] if len(frame) > 1 else 0
    name, length, _ = _READERS.get(code, ("", 0, None))
    return name if frame[:1] == bytes([0x91 + length]) else ""


def decode(frame: bytes) -> Message:
    """Return the message that a frame carries.

    Raises:
        MalformedMessage: it carries none, or one past the limits.
    """
    # The replicas of one process get the same bytes many times.
    if len(frame) <= _CACHED_BYTES:
        return _cached(frame)
    if len(frame) > FRAME_LIMIT:
        raise MalformedMessage(f"a frame of {len(frame)} bytes, at most {FRAME_LIMIT} are read")
    return _decode(frame)


def _decode(frame: bytes) -> Message:
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


def _time(value: Any) -> float:
    # Not a number is no more within the limit than what is past it.
    if type(value) is not float or not abs(value) <= TIME_LIMIT:
        raise MalformedMessage("a time was expected")
    return value


def _digest(value: Any) -> bytes:
    if type(value) is not bytes or len(value) != DIGEST_BYTES:
        raise MalformedMessage(f"a digest of {DIGEST_BYTES} bytes was expected")
    return value


def _name(value: Any) -> str:
    if type(value) is not str or not 0 < len(value) <= _NAME_LIMIT or not value.isidentifier():
        raise MalformedMessage("a name was expected")
    return value


def _list(value: Any) -> list[Any]:
    if type(value) is not list or len(value) > _ITEMS_LIMIT:
        raise MalformedMessage(f"an array of at most {_ITEMS_LIMIT} was expected")
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
    _ascending([one[0] for one in ranges])
    return Want(ranges, _flag(fields[1]))


def _prune(fields: list[Any]) -> Prune:
    origins = tuple(_number(origin) for origin in _list(fields[0]))
    _ascending(origins)
    return Prune(origins)


def _ascending(numbers: Sequence[int]) -> None:
    if any(one >= next_ for one, next_ in pairwise(numbers)):
        raise MalformedMessage("numbers ascend")


def _proof(fields: list[Any]) -> Proof:
    first, second = (_entry(field) for field in fields)
    if (first.origin, first.sequence) != (second.origin, second.sequence) or first == second:
        raise MalformedMessage("a proof is two contents under one number")
    return Proof(first, second)


def _snapshot(fields: list[Any]) -> Snapshot:
    if type(fields[0]) is not bytes:
        raise MalformedMessage("a base is binary")
    witnesses = tuple(_entry(entry) for entry in _list(fields[1]))
    return Snapshot(Base.unpack(fields[0]), witnesses)


def _heads(fields: list[Any]) -> Heads:
    heads = []
    for one in _list(fields[0]):
        origin, start, digest = _exactly(one, 3)
        heads.append((_number(origin), _number(start), _digest(digest)))
    _ascending([origin for origin, _, _ in heads])
    return Heads(tuple(heads))


def _part(fields: list[Any]) -> Part:
    exchange, part, data = fields
    if type(data) is not bytes:
        raise MalformedMessage("weights are binary")
    return Part(_number(exchange), _number(part), data)


def _missing(fields: list[Any]) -> Missing:
    parts = tuple(_number(part) for part in _list(fields[1]))
    _ascending(parts)
    return Missing(_number(fields[0]), parts)


def _exactly(value: Any, length: int) -> list[Any]:
    if len(_list(value)) != length:
        raise MalformedMessage(f"an array of {length} was expected")
    return list(value)


def _hello(fields: list[Any]) -> Hello:
    version, sender, agreement, digest, answer, clock = fields
    if _number(version) != VERSION:
        raise MalformedMessage(f"protocol version {version}, this is version {VERSION}")
    return Hello(_number(sender), _digest(agreement), _digest(digest), _flag(answer), _time(clock))


def _refusal(value: Any) -> Refusal:
    return Refusal({_name(name): _digest(d) for name, d in _map(value, _FIELDS_LIMIT).items()})


_READERS: Final[dict[int, tuple[str, int, Callable[[list[Any]], Message]]]] = {
    1: ("HELLO", 6, _hello),
    2: ("ENTRIES", 1, lambda f: Entries(tuple(_entry(e) for e in _list(f[0])))),
    3: ("DIGEST", 2, lambda f: Digest(_digest(f[0]), _flag(f[1]))),
    4: ("VERSIONS", 2, lambda f: Versions(_versions(f[0]), _number(f[1]))),
    5: ("WANT", 2, _want),
    6: ("REFUSAL", 1, lambda f: _refusal(f[0])),
    7: ("BYE", 0, lambda _: Bye()),
    8: ("ANNOUNCE", 1, lambda f: Announce(_versions(f[0]))),
    9: ("PRUNE", 1, _prune),
    10: ("PROOF", 2, _proof),
    11: ("BEHIND", 1, lambda f: Behind(_number(f[0]))),
    12: ("SNAPSHOT", 2, _snapshot),
    13: ("HEADS", 1, _heads),
    14: ("PART", 3, _part),
    15: ("MISSING", 2, _missing),
}

_cached = lru_cache(maxsize=2**12)(_decode)
