"""What an authorised neighbour gone bad sends: each attack is a stream of frames without end."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from random import Random

from peer import wire
from peer.entry import CUT_BYTES, Entry, Sign, decode_entry, make_history
from peer.errors import MalformedMessage
from peer.protocol import Protocol


@dataclass
class Means:
    """What an attacker has.

    Attributes:
        me: its number.
        protocol: of the run.
        sign: makes its signatures.
        round: in which it is a member.
        heard: valid frames that it has got from its victim, the latest last.
        dice: the same in every run.
    """

    me: int
    protocol: Protocol
    sign: Sign
    round: int
    heard: list[bytes] = field(default_factory=list)
    dice: Random = field(default_factory=lambda: Random(1))


Attack = Callable[[Means], Iterator[bytes]]
_LONGEST_RUBBISH = 400
_KEPT = 64


def rubbish(means: Means) -> Iterator[bytes]:
    """Random bytes, often with the beginning of a message."""
    dice = means.dice
    while True:
        frame = dice.randbytes(dice.randrange(_LONGEST_RUBBISH))
        if dice.random() < 0.5:
            frame = bytes((0x90 + dice.randrange(8), dice.randrange(14))) + frame
        yield frame


def mutated(means: Means) -> Iterator[bytes]:
    """Valid frames with bytes changed, left out, doubled or exchanged."""
    dice = means.dice
    while True:
        frame = bytearray(dice.choice(means.heard[-_KEPT:]))
        for _ in range(dice.randrange(1, 4)):
            place, other = (
                dice.randrange(len(frame) + 1),
                dice.randrange(len(frame) + 1),
            )
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
        yield bytes(frame[: means.protocol.sizes.largest])


def replayed(means: Means) -> Iterator[bytes]:
    """All that was ever heard, again and again, in any order."""
    while True:
        yield means.dice.choice(means.heard)


def forged(means: Means) -> Iterator[bytes]:
    """Another peer's entries with other contents, under its signature."""
    dice = means.dice
    while True:
        entry = dice.choice(_entries(means.heard))
        content = bytearray(entry.content)
        start = content.find(entry.gradients) if entry.gradients else len(content) - 70
        content[start + dice.randrange(max(1, len(entry.gradients)))] ^= 1 << dice.randrange(7)
        try:
            yield wire.encode(wire.Entries((decode_entry(bytes(content)),)))
        except MalformedMessage:
            continue


def equivocating(means: Means) -> Iterator[bytes]:
    """Ever other entries of the attacker's own under one number, each with its signature."""
    protocol = means.protocol
    while True:
        entry = make_history(
            means.me,
            0,
            means.round,
            weight=protocol.roster.weight(means.me, means.round, protocol.step_size),
            cut=means.dice.randbytes(CUT_BYTES),
            scale=0,
            gradients=bytes(protocol.local_steps * protocol.gradient_bytes),
            indices=None,
            sign=means.sign,
        )
        yield wire.encode(wire.Entries((entry,)))


def oversized(means: Means) -> Iterator[bytes]:
    """The largest frames that are read at all: rubbish, and messages with no end of items."""
    items = wire.encode(wire.Versions({0: 1}))[:2] + b"\xdf\x00\x0f\xff\xff"
    while True:
        beginning = items if means.dice.random() < 0.5 else means.dice.randbytes(8)
        yield beginning + bytes(means.protocol.sizes.largest - len(beginning))


def requests(means: Means) -> Iterator[bytes]:
    """Valid messages that are cheap to send and dear to answer."""
    lengths: dict[int, int] = {}
    for entry in _entries(means.heard):
        lengths[entry.origin] = max(lengths.get(entry.origin, 0), entry.sequence + 1)
    while True:
        match means.dice.randrange(4):
            case 0:
                ranges = tuple((origin, 0, stop) for origin, stop in sorted(lengths.items()))
                yield wire.encode(wire.Want(ranges))
            case 1:
                yield wire.encode(wire.Behind(0))
            case 2:
                yield wire.encode(wire.Versions({}))
            case _:
                yield wire.encode(wire.Digest(means.dice.randbytes(8), complete=False))


def _entries(heard: list[bytes]) -> list[Entry]:
    found: list[Entry] = []
    for frame in heard:
        message = wire.decode(frame)
        if isinstance(message, wire.Entries):
            found += message.entries
    return found


ATTACKS: Mapping[str, Attack] = {
    attack.__name__: attack
    for attack in (rubbish, mutated, replayed, forged, equivocating, oversized, requests)
}
