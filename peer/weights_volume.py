"""What peers that average have to send: one copy of their weights to whom each exchange names."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache

import msgpack

from peer import wire
from peer.protocol import Protocol
from peer.weights import PART_BYTES
from peer.zmtp import framing_bytes


@dataclass(frozen=True)
class WeightsVolume:
    """The payload of a run in which nothing is lost.

    Attributes:
        published: how often a peer has sent its weights to anybody.
        copies: how often they have been sent.
        frames: how many frames that takes.
        bytes: of all of them.
        framing: what ZMTP adds to them, in bytes.
    """

    published: int
    copies: int
    frames: int
    bytes: int
    framing: int


def weights_volume(protocol: Protocol) -> WeightsVolume:
    """Return what the peers of a run that averages send, to the byte; links are not encrypted."""
    return volume_of(_sends(protocol), protocol.weights_bytes)


def volume_of(
    exchanges: Iterable[tuple[int, int]], size: int, *, curve: bool = False
) -> WeightsVolume:
    """Return the payload of a run.

    Args:
        exchanges: of each, in order, how many peers send, and how many copies they send together.
        size: of weights, in bytes.
        curve: whether links are encrypted.
    """
    published = copies = frames = total = framing = 0
    for number, (senders, receivers) in enumerate(exchanges):
        published += senders
        copies += receivers
        for length, count in frames_of(_number_bytes(number), size).items():
            frames += count * receivers
            total += length * count * receivers
            framing += framing_bytes(length, curve=curve) * count * receivers
    return WeightsVolume(published, copies, frames, total, framing)


def _sends(protocol: Protocol) -> Iterator[tuple[int, int]]:
    assert protocol.averaging is not None
    mixing = protocol.averaging.mixing
    for round_ in range(protocol.rounds):
        for within in range(mixing.exchanges):
            receivers = [
                len(mixing.exchange(peer, round_, within).sends_to)
                for peer in range(len(protocol.roster.rows))
            ]
            yield sum(map(bool, receivers)), sum(receivers)


@lru_cache(maxsize=2**10)
def frames_of(number_bytes: int, size: int) -> Counter[int]:
    """Return how many frames of which length carry weights of so many bytes.

    Args:
        number_bytes: what the number of the exchange takes.
        size: of the weights.
    """
    lengths: Counter[int] = Counter()
    whole, rest = divmod(size, PART_BYTES)
    around = len(wire.encode(wire.Part(0, 0, b""))) - 2 * _number_bytes(0) - _header(0)
    for part, length in enumerate([PART_BYTES] * whole + ([rest] if rest else [])):
        lengths[around + number_bytes + _number_bytes(part) + _header(length) + length] += 1
    return lengths


def _number_bytes(number: int) -> int:
    return len(msgpack.packb(number))


def _header(length: int) -> int:
    return 2 if length < 2**8 else 3 if length < 2**16 else 5
