"""The control of a run whose times nobody follows: links' ends greet, tell digests, and part."""

from __future__ import annotations

from peer import wire
from peer.log import DIGEST_BYTES
from peer.protocol import Protocol
from peer.traffic import LinkCount
from peer.zmtp import framing_bytes


def quiet_control(protocol: Protocol, links: int, digests: int, *, curve: bool) -> LinkCount:
    """Return what all ends of links send beside payload.

    Args:
        protocol: the agreement of the run.
        links: how many there are.
        digests: how often each end tells one.
        curve: whether links are encrypted.
    """
    hello = wire.Hello(0, protocol.digest, bytes(DIGEST_BYTES), False, 0.0)
    digest = wire.Digest(bytes(DIGEST_BYTES), False)
    count = LinkCount()
    for message, times in ((hello, 2), (digest, digests), (wire.Bye(), 1)):
        frame = wire.encode(message)
        sends = 2 * links * times
        count.control_messages += sends
        count.control_bytes += len(frame) * sends
        count.framing_bytes += framing_bytes(len(frame), curve=curve) * sends
    return count
