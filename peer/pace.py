"""How a peer goes through the rounds: when one begins, when it is closed, and who is given up.

The first round begins when all neighbours have answered; each next one when the one before it is
closed; after the last one the peer closes its log. Nobody is waited for without end.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from peer.entry import Entry, Sign, make_ack, make_end
from peer.events import RoundStarted, RoundTimedOut
from peer.folding import IDLE_ROUNDS
from peer.links import Link
from peer.outbox import Outbox
from peer.replica import Replica

IDLE_PATIENCE = 10
"""Until a round's first entry is here, an idle peer waits for so many round time-outs."""

Publish = Callable[[Entry, float], None]
"""Adds an entry of this peer's own to its log, and pushes it."""


class Pace:
    """Where a peer is in its run.

    Args:
        replica: this peer's.
        links: to all neighbours.
        outbox: takes the events.
        publish: see `Publish`.
        sign: makes this peer's signatures, if any.

    Attributes:
        started: whether the first round has begun.
        deadline: when somebody or other is waited for no longer; None: nobody is.
        timeouts: how many rounds were closed without somebody's entry.
        claimed: how many of this peer's own entries neighbours hold, as they say.
    """

    def __init__(
        self,
        replica: Replica,
        links: Mapping[int, Link],
        outbox: Outbox,
        publish: Publish,
        sign: Sign | None,
    ) -> None:
        self._replica = replica
        self._protocol = replica.protocol
        self._links = links
        self._outbox = outbox
        self._publish = publish
        self._sign = sign
        self._last_round = self._protocol.roster.last_of(replica.me, self._protocol.rounds)
        self._started_from: dict[int, bytes] = {}
        self.started = False
        self.deadline: float | None = None
        self._long_patience = False
        self.timeouts = 0
        self.claimed = 0

    @property
    def trains(self) -> bool:
        """Whether local steps are under way."""
        return bool(self._started_from)

    def meet(self, now: float) -> None:
        """Begin the first round if all neighbours have answered, and this peer's log is whole."""
        if self.started or self._replica.log.length(self._replica.me) < self.claimed:
            return
        roster = self._protocol.roster
        # Who joins later does not need those that will have left by then, dead ones among them.
        first = max(self._replica.rounds.current, roster.first_of(self._replica.me))
        links = self._links.items()
        if all(link.met or not link.up for n, link in links if roster.is_member(n, first)):
            self._begin(now)

    def trained(self, round_: int, now: float) -> bytes:
        """Return the digest of the cut that a round's local steps, now done, have started from."""
        if round_ == self._replica.rounds.current:
            self.deadline = now + self._protocol.patience(round_)
        return self._started_from.pop(round_)

    def enter(self, now: float) -> None:
        """Start the current round, or after the last one close this peer's log."""
        replica, rounds, protocol = self._replica, self._replica.rounds, self._protocol
        if replica.over:
            self._end(now)
            return
        replica.entered()
        train = replica.trains() and rounds.current > replica.last_word
        # Who trains sets the clock when its own entry is out, however long its steps take.
        patience = self._patience()
        self.deadline = None if train else now + patience
        self._long_patience = self._waits_long()
        if not train and not rounds.awaited():
            return
        if train:
            self._started_from[rounds.current] = rounds.cut.digest
        else:
            self._acknowledge(now)
        accumulator = rounds.cut.accumulator
        indices = protocol.draw(replica.me, rounds.current, accumulator) if train else None
        self._outbox.emit(RoundStarted(rounds.current, accumulator, indices))

    def close(self, now: float) -> None:
        """Close the current round, and those after it, as far as everything is there."""
        replica = self._replica
        while not replica.rounds.awaited() and self.started and replica.may_close():
            replica.close_round()
            self.enter(now)
        if replica.over and self.started and self.deadline is None:
            self._end(now)

    def heard(self, now: float) -> None:
        """Close what an entry that has come has completed, and set the clock anew."""
        if not self._replica.rounds.awaited():
            self.close(now)
        if self._replica.over:
            # Whoever is still heard of is waited for; only silence counts against the time.
            self._settle_by(now)
        elif self._long_patience and not self._waits_long():
            self._long_patience = False
            self.deadline = now + self._patience()

    def give_up(self, now: float) -> None:
        """Go on without those who have not been heard in time."""
        self.timeouts += 1
        if not self.started:
            self._begin(now)
            return
        rounds = self._replica.rounds
        self._outbox.emit(RoundTimedOut(rounds.current, rounds.missing()))
        self._replica.close_round()
        self.enter(now)
        self.close(now)

    def _end(self, now: float) -> None:
        """Close this peer's log, once the steps that are under way have been published."""
        replica = self._replica
        self._settle_by(now)
        if replica.awaits_end(replica.me) and not self._started_from:
            sequence = replica.log.length(replica.me)
            self._publish(make_end(replica.me, sequence, self._last_round, self._sign), now)

    def _settle_by(self, now: float) -> None:
        """Wait for what is missing at the end, but while own steps are under way without limit."""
        self.deadline = None if self._started_from else now + self._protocol.settle_timeout

    def _begin(self, now: float) -> None:
        self.started = True
        self.enter(now)
        self.close(now)

    def _acknowledge(self, now: float) -> None:
        """Say that this peer is up to date, if its histories have not said so for long."""
        replica, current = self._replica, self._replica.rounds.current
        member = self._protocol.roster.is_member(replica.me, current) and not replica.trains()
        if replica.folds and member and current - replica.last_word >= IDLE_ROUNDS:
            sequence, digest = replica.log.length(replica.me), replica.rounds.cut.digest
            self._publish(make_ack(replica.me, sequence, current, digest, self._sign), now)

    def _patience(self) -> float:
        """Return how long to wait for the others' entries from when this peer has nothing to do."""
        patience = self._protocol.patience(self._replica.rounds.current)
        return patience * (IDLE_PATIENCE if self._waits_long() else 1)

    def _waits_long(self) -> bool:
        """Return whether nothing says yet how long this round's steps take."""
        # Who is idle has no steps of its own to tell how long steps take; the first entry does.
        return not (self._replica.trains() or self._replica.rounds.under_way())
