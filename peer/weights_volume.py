"""What peers that average have to send: one copy of their weights to whom each exchange names."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import msgpack

from peer.protocol import Protocol
from peer.weights import PART_BYTES


@dataclass(frozen=True)
class WeightsVolume:
    """The payload of a run in which nothing is lost.

    Attributes:
        published: how often a peer has sent its weights to anybody.
        copies: how often they have been sent.
        frames: how many frames that takes.
        bytes: of all of them.
    """

    published: int
    copies: int
    frames: int
    bytes: int


def weights_volume(protocol: Protocol) -> WeightsVolume:
    """Return what the peers of a run that averages send, to the byte."""
    published = copies = frames = total = 0
    for number, _, receivers in sends(protocol):
        count, size = frames_of(number, protocol.weights_bytes)
        published += 1
        copies += receivers
        frames += count * receivers
        total += size * receivers
    return WeightsVolume(published, copies, frames, total)


def sends(protocol: Protocol) -> Iterator[tuple[int, int, int]]:
    """Yield (exchange, peer, how many it sends to) wherever there is anybody."""
    assert protocol.averaging is not None
    mixing = protocol.averaging.mixing
    for round_ in range(protocol.rounds):
        for within in range(mixing.exchanges):
            for peer in range(len(protocol.roster.rows)):
                receivers = mixing.exchange(peer, round_, within).sends_to
                if receivers:
                    yield round_ * mixing.exchanges + within, peer, len(receivers)


@lru_cache(maxsize=2**12)
def frames_of(exchange: int, size: int) -> tuple[int, int]:
    """Return how many frames carry weights of so many bytes in an exchange, and their length."""
    whole, rest = divmod(size, PART_BYTES)
    lengths = [PART_BYTES] * whole + ([rest] if rest else [])
    around = sum(
        len(msgpack.packb([14, exchange, part, b""])) - len(msgpack.packb(b"")) + _header(length)
        for part, length in enumerate(lengths)
    )
    return len(lengths), around + size


def _header(length: int) -> int:
    return 2 if length < 2**8 else 3 if length < 2**16 else 5
