"""How two neighbours whose digests differ come to the same log.

At a tick each is told the digest, if there is something new. Where a neighbour's differs, it is
answered with what is new here, and when that did not help with the whole version vector; what is
missing is asked for, and what lies below a base comes with the base.
"""

from __future__ import annotations

from collections.abc import Mapping

from peer import wire
from peer.links import HEARTBEAT_TICKS, Link
from peer.outbox import Outbox
from peer.proofs import Proofs
from peer.repair import Repair
from peer.replica import Replica


class Reconciliation:
    """The exchange of digests, news, versions and bases with all neighbours.

    Args:
        replica: this peer's.
        repair: what is new, awaited and asked for.
        proofs: of origins' equivocations.
        links: to all neighbours.
        outbox: takes the messages.

    Attributes:
        next_tick: when the neighbours are to be told something again.
    """

    def __init__(
        self,
        replica: Replica,
        repair: Repair,
        proofs: Proofs,
        links: Mapping[int, Link],
        outbox: Outbox,
    ) -> None:
        self._replica = replica
        self._repair = repair
        self._proofs = proofs
        self._links = links
        self._outbox = outbox
        self._tick = replica.protocol.tick
        self._digest_at_tick = b""
        self.next_tick = 0.0

    @property
    def changed(self) -> bool:
        """Whether something has come since the last tick."""
        return self._replica.log.digest() != self._digest_at_tick

    def wake(self, now: float) -> None:
        """Have a tick soon: something has to be told."""
        soon = now + self._tick
        if soon < self.next_tick:
            self.next_tick = soon

    def tick(self, now: float) -> None:
        """Tell every neighbour that needs it the digest, and set the time of the next tick."""
        digest = self._digest_at_tick = self._replica.log.digest()
        complete = self._replica.complete
        restless = self._replica.over
        last_told = now
        for neighbour, link in self._links.items():
            if link.deaf:
                continue
            if link.digest == digest:
                link.versions = {}
            restless |= not link.open or link.digest != digest
            if link.open and link.digest_is_due(digest, complete, now, self._tick):
                self._outbox.send(neighbour, wire.Digest(digest, complete))
            last_told = min(last_told, link.told_at)
        self._proofs.tell_waiting()
        self._repair.turn()
        quiet = last_told + HEARTBEAT_TICKS * self._tick
        self.next_tick = now + self._tick if restless else max(now + self._tick, quiet)

    def differ(self, neighbour: int, link: Link, now: float) -> None:
        """Tell a neighbour whose digest differs what is new here, or where nothing is, all."""
        self.wake(now)
        if now < link.answered_at + self._tick:
            return
        digest = self._replica.log.digest()
        news = self._repair.news()
        if news and link.announced != digest:
            link.announced, link.answered_at = digest, now
            self._outbox.send(neighbour, wire.Announce(news))
        elif not self.changed:
            link.answered_at = now
            self._tell_all(neighbour, link, now)
            self._proofs.tell_all(neighbour)

    def compare(
        self, message: wire.Versions, neighbour: int, link: Link, now: float, wait: float
    ) -> None:
        """Ask for what a neighbour has and this peer lacks, or for the base that it is in.

        Where it lacks something itself it is told so, or it would have to wait for a digest.

        Args:
            message: the neighbour's.
            neighbour: who it is.
            link: to it.
            now: the time.
            wait: for so long what is missing may still come by itself.
        """
        replica, theirs = self._replica, message.versions
        link.behind, link.versions = False, theirs
        mine = replica.base.round if replica.base is not None else 0
        # Who has yet to begin is in round 0, whatever it holds.
        whole = replica.rounds.whole_before(message.round)
        lost = not whole and bool(replica.log.missing(theirs))
        if replica.folds and message.round > mine and (lost or replica.disputed(theirs)):
            link.asked = True
            self._outbox.send(neighbour, wire.Behind(message.round))
        elif wait > 0.0:
            self._repair.announced(neighbour, theirs, now + wait)
        else:
            self.pull(neighbour, theirs, now)
        held = replica.log.versions().items()
        lacks = any(theirs.get(origin, 0) < length for origin, length in held)
        if lacks and now >= link.versions_at + self._tick:
            self._tell_all(neighbour, link, now)
        elif dict(theirs) == replica.log.versions():
            self._doubt(neighbour, link, now)

    def _doubt(self, neighbour: int, link: Link, now: float) -> None:
        """Look for what a neighbour holds under the same numbers, if its digest is another."""
        log = self._replica.log
        quiet = link.digest != log.digest() and not self.changed
        if self._replica.protocol.public_keys and quiet and now >= link.heads_at + self._tick:
            link.heads_at = now
            self._outbox.send(neighbour, wire.Heads(tuple(log.heads())))

    def look(self, message: wire.Heads, neighbour: int, link: Link, now: float) -> None:
        """Ask for the logs that are other ones here; one of the two contents is a lie."""
        log = self._replica.log
        known = [one for one in message.heads if log.base_length(one[0]) <= one[1]]
        ranges = tuple(
            (origin, start, log.length(origin))
            for origin, start, head in known
            if start < log.length(origin) and log.head(origin, start) != head
        )
        if ranges:
            self._outbox.send(neighbour, wire.Want(ranges))
        elif len(known) < len(message.heads):
            # The neighbour can look at what lies above the base that is here.
            self._doubt(neighbour, link, now)

    def _tell_all(self, neighbour: int, link: Link, now: float) -> None:
        link.versions_at = now
        self._outbox.send(neighbour, self._replica.versions())

    def pull(self, neighbour: int, versions: Mapping[int, int], now: float) -> None:
        """Ask a neighbour for what it has and this peer lacks."""
        want = self._repair.want(neighbour, versions, now)
        if want is not None:
            self._links[neighbour].asked = True
            self._outbox.send(neighbour, want)

    def ask(self, now: float) -> None:
        """Ask for what has been announced and has not come in time."""
        for neighbour, want in self._repair.overdue(now, lambda n: self._links[n].deaf).items():
            self._links[neighbour].asked = True
            self._outbox.send(neighbour, want)

    def answer(self, want: wire.Want, neighbour: int, link: Link, now: float) -> None:
        """Send what a neighbour asks for; the base, too, where that begins below it.

        The same entries are sent to it once a tick, or a short question could cost a whole log.
        """
        log = self._replica.log
        if any(start < log.base_length(origin) for origin, start, _ in want.ranges):
            self.send_base(neighbour, link, now)
        if link.answers is None or now >= link.answers_at + self._tick:
            link.answers, link.answers_at = {}, now
        ranges = []
        for origin, start, stop in want.ranges:
            sent, stop = link.answers.get(origin, 0), min(stop, log.length(origin))
            if max(start, sent) < stop:
                ranges.append((origin, max(start, sent), stop))
                link.answers[origin] = stop
        for batch in self._repair.answer(ranges):
            self._outbox.send(neighbour, batch)

    def send_base(self, neighbour: int, link: Link, now: float) -> None:
        """Send the base with those who acknowledge it, at most once a tick."""
        base = self._replica.base
        if base is None or now < link.base_sent_at + self._tick:
            return
        link.base_sent_at = now
        self._outbox.send(neighbour, wire.Snapshot(base, self._replica.witnesses))
