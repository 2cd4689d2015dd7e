"""What an authorised neighbour gone bad sends: each attack is a stream of frames without end."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from random import Random

from peer import wire
from peer.entry import Entry, decode_entry
from peer.errors import MalformedMessage
from peer.wire import FRAME_LIMIT

Heard = list[bytes]
"""Valid frames that the attacker has got from its victim, the latest last."""

Attack = Callable[[Random, Heard], Iterator[bytes]]
_LONGEST_RUBBISH = 400
_KEPT = 64


def rubbish(dice: Random, _heard: Heard) -> Iterator[bytes]:
    """Random bytes, often with the beginning of a message."""
    while True:
        frame = dice.randbytes(dice.randrange(_LONGEST_RUBBISH))
        if dice.random() < 0.5:
            frame = bytes((0x90 + dice.randrange(8), dice.randrange(14))) + frame
        yield frame


def mutated(dice: Random, heard: Heard) -> Iterator[bytes]:
    """Valid frames with bytes changed, left out, doubled or exchanged."""
    while True:
        frame = bytearray(dice.choice(heard[-_KEPT:]))
        for _ in range(dice.randrange(1, 4)):
            place, other = dice.randrange(len(frame) + 1), dice.randrange(len(frame) + 1)
            match dice.randrange(5):
                case 0 if place < len(frame):
                    frame[place] ^= 1 << dice.randrange(8)
                case 1:
                    frame[place:place] = dice.randbytes(dice.randrange(1, 9))
                case 2:
                    del frame[min(place, other) : max(place, other)]
                case 3:
                    frame += frame[min(place, other) : max(place, other)]
                case _:
                    frame = frame[place:] + frame[:place]
        yield bytes(frame[:FRAME_LIMIT])


def replayed(dice: Random, heard: Heard) -> Iterator[bytes]:
    """All that was ever heard, again and again, in any order."""
    while True:
        yield dice.choice(heard)


def forged(dice: Random, heard: Heard) -> Iterator[bytes]:
    """Another peer's entries with other contents, under its signature."""
    while True:
        entry = dice.choice(_entries(heard))
        content = bytearray(entry.content)
        start = content.find(entry.gradients) if entry.gradients else len(content) - 70
        content[start + dice.randrange(max(1, len(entry.gradients)))] ^= 1 << dice.randrange(7)
        try:
            yield wire.encode(wire.Entries((decode_entry(bytes(content)),)))
        except MalformedMessage:
            continue


def oversized(dice: Random, _heard: Heard) -> Iterator[bytes]:
    """The largest frames that are read at all: rubbish, and messages with no end of items."""
    items = wire.encode(wire.Versions({0: 1}))[:2] + b"\xdf\x00\x0f\xff\xff"
    while True:
        beginning = items if dice.random() < 0.5 else dice.randbytes(8)
        yield beginning + bytes(FRAME_LIMIT - len(beginning))


def requests(dice: Random, heard: Heard) -> Iterator[bytes]:
    """Valid messages that are cheap to send and dear to answer."""
    lengths: dict[int, int] = {}
    for entry in _entries(heard):
        lengths[entry.origin] = max(lengths.get(entry.origin, 0), entry.sequence + 1)
    while True:
        match dice.randrange(4):
            case 0:
                ranges = tuple((origin, 0, stop) for origin, stop in sorted(lengths.items()))
                yield wire.encode(wire.Want(ranges))
            case 1:
                yield wire.encode(wire.Behind(0))
            case 2:
                yield wire.encode(wire.Versions({}))
            case _:
                yield wire.encode(wire.Digest(dice.randbytes(8), complete=False))


def _entries(heard: Heard) -> list[Entry]:
    found: list[Entry] = []
    for frame in heard:
        message = wire.decode(frame)
        if isinstance(message, wire.Entries):
            found += message.entries
    return found


ATTACKS: Mapping[str, Attack] = {
    attack.__name__: attack for attack in (rubbish, mutated, replayed, forged, oversized, requests)
}
