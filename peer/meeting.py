"""How two neighbours meet: greetings, what must be equal, and the refusal where it is not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final
from typing import Protocol as Interface

from peer import wire
from peer.errors import MalformedMessage
from peer.events import ClockAhead, LinkRefused
from peer.links import Link, differing
from peer.outbox import Outbox
from peer.protocol import Protocol

CLOCK_TOLERANCE: Final = 600.0
"""Seconds that two neighbours' clocks may differ by before it is told."""

LONGEST_RETRY: Final = 64
"""Ticks between greetings to a neighbour that has not answered for long, at most."""


class Held(Interface):
    """What a greeting tells of: what this peer holds."""

    def digest(self) -> bytes:
        """Return 8 bytes; neighbours with the same have nothing to tell each other."""

    def versions(self) -> wire.Versions:
        """Return what tells a neighbour with another digest more."""


class Meeting:
    """The greetings of one peer.

    Args:
        me: its place in the roster.
        protocol: the agreement of the run.
        held: what it holds.
        links: to all neighbours.
        outbox: takes the messages.
    """

    def __init__(
        self,
        me: int,
        protocol: Protocol,
        held: Held,
        links: Mapping[int, Link],
        outbox: Outbox,
    ) -> None:
        self._me = me
        self._protocol = protocol
        self._held = held
        self._links = links
        self._outbox = outbox
        self._ahead: set[int] = set()

    def greet(self, neighbour: int, now: float) -> None:
        """Say HELLO to a neighbour, and expect it to answer."""
        link = self._links[neighbour]
        link.greeted_at = now
        link.retry = min(2 * link.retry or self._protocol.tick, LONGEST_RETRY * self._protocol.tick)
        self._hello(neighbour, now, answer=False)

    def greet_again(self, now: float) -> None:
        """Say HELLO once more where it, or the answer, may have been lost.

        Ever more seldom, as each waits in the queue of a neighbour that is not there yet.
        """
        for neighbour, link in self._links.items():
            if not link.met and not link.deaf and now >= link.greeted_at + link.retry:
                self.greet(neighbour, now)

    def stray(self, neighbour: int, link: Link, now: float) -> None:
        """Answer a neighbour that takes this peer for an acquaintance from before a restart."""
        if not link.refused and now >= link.greeted_at + self._protocol.tick:
            self.greet(neighbour, now)

    def greeted(self, hello: wire.Hello, neighbour: int, link: Link, now: float) -> None:
        """Open the link to a neighbour that says HELLO, or refuse it.

        Raises:
            MalformedMessage: it speaks for another peer.
        """
        if hello.sender != neighbour:
            raise MalformedMessage(f"peer {hello.sender} greets on the link of peer {neighbour}")
        # A greeting may have waited for long, so what it says is at most too early.
        if hello.clock > now + CLOCK_TOLERANCE and neighbour not in self._ahead:
            self._ahead.add(neighbour)
            self._outbox.emit(ClockAhead(neighbour, hello.clock - now))
        if hello.agreement != self._protocol.digest:
            link.open, link.refused = False, False
            self._outbox.send(neighbour, wire.Refusal(self._protocol.fields))
            link.refused = True
            return
        link.open, link.refused, link.left, link.up = True, False, False, True
        link.digest, link.complete, link.told = hello.digest, False, None
        link.opened_at = now
        link.behind, link.versions = hello.digest != self._held.digest(), {}
        if not hello.answer:
            self._hello(neighbour, now, answer=True)
        if link.behind:
            link.versions_at = now
            self._outbox.send(neighbour, self._held.versions())

    def refused(self, refusal: wire.Refusal, neighbour: int, link: Link) -> None:
        """Shut the link to a neighbour that says what it runs; tell it the same once."""
        names = differing(self._protocol.fields, refusal.fields)
        if not names:
            # The answer to an earlier life of this peer, which has been mended since.
            return
        if not link.refused:
            link.open = False
            self._outbox.send(neighbour, wire.Refusal(self._protocol.fields))
            link.refused = True
        self._outbox.emit(LinkRefused(neighbour, names))

    def _hello(self, neighbour: int, now: float, *, answer: bool) -> None:
        digest = self._held.digest()
        hello = wire.Hello(self._me, self._protocol.digest, digest, answer, now)
        self._outbox.send(neighbour, hello)
