"""The protocol of one peer, as a state machine without I/O (C5).

It takes frames, the neighbour that they came from, and the time; it gives back frames to send and
events. It has no socket, no clock, no thread and no random numbers, so the ZeroMQ process and the
simulator drive this one class with the same bytes. A driver calls `start`, then `receive` for each
frame, `publish` when a round's local steps are done, and `advance` whenever `timer` is due; after
each call it stores the entries, sends the messages and looks at the events of the output.

    frame -> wire.decode -> _take -> log -> rounds -> RoundStarted -> ... -> publish
                              |       +---> dissemination -> outbox -> frames
                              +-> meeting, repair, folding, ending
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from peer import wire
from peer.base import Base
from peer.conduct import Conduct
from peer.dissemination import MODES
from peer.ending import Ending
from peer.entry import Entry, Sign, make_ack, make_end, make_history, pack_indices
from peer.errors import Equivocation, Gap, MalformedMessage, NeighbourError, RefusedEntry
from peer.events import (
    Convicted,
    EntryAdded,
    Finished,
    Output,
    RoundStarted,
    RoundTimedOut,
    SnapshotTaken,
)
from peer.folding import IDLE_ROUNDS
from peer.gradients import encode
from peer.links import Link
from peer.log import EntryLog
from peer.meeting import Meeting
from peer.outbox import Outbox
from peer.protocol import Protocol
from peer.reconciliation import Reconciliation
from peer.repair import Repair
from peer.replica import Replica
from peer.rounds import Rounds

IDLE_PATIENCE = 10
"""Until a round's first entry is here, an idle peer waits for so many round time-outs."""


class Gossip:
    """One replica and its links.

    Args:
        me: this peer's place in the roster.
        neighbours: the peers that it has links to.
        protocol: the agreement of the run.
        log: what is known from an earlier life of this peer, above `base`.
        base: what that life had of a neighbour's, if any.
        proofs: of equivocations, which that life knew of.
        sign: makes this peer's signatures; None: entries are not signed.

    Attributes:
        timeouts: how many rounds were closed without somebody's entry.
        duplicates: how many entries came that were held already.
        finished: how the run has ended for this peer, None while it goes on.
    """

    def __init__(
        self,
        me: int,
        neighbours: Iterable[int],
        protocol: Protocol,
        log: EntryLog | None = None,
        *,
        base: Base | None = None,
        proofs: Iterable[wire.Proof] = (),
        sign: Sign | None = None,
    ) -> None:
        self.me = me
        self.protocol = protocol
        self.log = log if log is not None else EntryLog()
        self.timeouts = 0
        self.duplicates = 0
        self.finished: Finished | None = None
        self._sign = sign
        self._replica = Replica(me, protocol, self.log, base)
        self._links = {neighbour: Link() for neighbour in sorted(neighbours)}
        self._outbox = Outbox(self._links)
        self._meeting = Meeting(self._replica, self._links, self._outbox)
        self._conduct = Conduct(protocol, self._links, self._outbox)
        self._dissemination = MODES[protocol.gossip](me, tuple(self._links), protocol)
        self._repair = Repair(self.log, protocol.tick)
        self._reconciliation = Reconciliation(
            self._replica, self._repair, self._links, self._outbox
        )
        self._ending = Ending(self._replica, self._links)
        self._last_round = protocol.roster.last_of(me, protocol.rounds)
        self._started_from: dict[int, bytes] = {}
        self._started = False
        self._deadline: float | None = None
        for proof in proofs:
            self._apply(proof)

    @property
    def timer(self) -> float | None:
        """When `advance` is next due; None after the end."""
        if self.finished is not None:
            return None
        due = self._reconciliation.next_tick
        if self._deadline is not None and self._deadline < due:
            due = self._deadline
        asking = self._repair.due
        if asking is not None and asking < due:
            due = asking
        settled = self._ending.settled_since
        if settled is not None and settled + self.protocol.linger < due:
            due = settled + self.protocol.linger
        return due

    @property
    def rounds(self) -> Rounds:
        """The round that this peer is in, and the cut that it trains from."""
        return self._replica.rounds

    @property
    def base(self) -> Base | None:
        """What this peer keeps of the entries that everybody has, if it has folded any."""
        return self._replica.base

    @property
    def rejections(self) -> Counter[int]:
        """How many messages of each neighbour could not be taken."""
        return self._conduct.rejections

    @property
    def complete(self) -> bool:
        """Whether every log of the roster is held up to the END record of the run."""
        return self._replica.complete

    @property
    def waiting_for(self) -> tuple[int, ...]:
        """The peers that hold this one up now: neighbours, then origins of the round, then ENDs."""
        if not self._started:
            return tuple(n for n, link in self._links.items() if not link.met)
        if not self._replica.over:
            return self.rounds.missing()
        return self._replica.open_logs

    def start(self, now: float) -> Output:
        """Greet the neighbours; the first round begins when all of them have answered."""
        self._reconciliation.next_tick = now + self.protocol.tick
        self._deadline = now + self.protocol.round_timeout
        for neighbour in self._links:
            self._meeting.greet(neighbour, now)
        self._begin_if_met(now)
        return self._outbox.take()

    def receive(self, frame: bytes, neighbour: int, now: float) -> Output:
        """Take a frame from a neighbour; whatever is in it, nothing is raised."""
        link = self._links.get(neighbour)
        if link is None:
            stranger = MalformedMessage(f"peer {neighbour} is no neighbour")
            self._conduct.reject(neighbour, stranger, now, self._replica.taken)
        elif not link.banned:
            taken = self._replica.taken
            try:
                message = wire.decode(frame)
                link.last_heard = now
                if link.open or isinstance(message, wire.Hello | wire.Refusal):
                    self._take(message, neighbour, link, now)
                else:
                    self._meeting.stray(neighbour, link, now)
            except NeighbourError as error:
                self._conduct.reject(neighbour, error, now, self._replica.taken)
            if self._replica.taken == taken:
                self._conduct.charge(neighbour, now, taken, len(frame))
        if self._replica.over:
            self._settle(now)
        return self._outbox.take()

    def publish(
        self, round_: int, indices: NDArray[np.int64], gradients: NDArray[np.float64], now: float
    ) -> Output:
        """Publish the local steps of a round, each round once.

        Args:
            round_: as in `RoundStarted`.
            indices: the seed index of each step, as in `RoundStarted`; shape (tau,).
            gradients: the scalar gradients; shape (tau,), within the bound, NaN for a skipped step.
            now: the time.
        """
        protocol = self.protocol
        if round_ == self.rounds.current:
            self._deadline = now + protocol.round_timeout
        cut = self._started_from.pop(round_)
        if round_ <= self._replica.last_word:
            # A neighbour has brought back this round's entry, which an earlier life had published.
            return self._outbox.take()
        data, scale = encode(gradients, protocol.gradient_bytes)
        packed = pack_indices(indices, protocol.candidate_seeds)
        entry = make_history(
            self.me,
            self.log.length(self.me),
            round_,
            weight=protocol.roster.weight(self.me, round_, protocol.step_size),
            cut=cut,
            scale=scale,
            gradients=data,
            indices=packed if protocol.weighted_draws else None,
            sign=self._sign,
        )
        self._add(entry, None, now)
        self._close_rounds(now)
        self._settle(now)
        return self._outbox.take()

    def advance(self, now: float) -> Output:
        """Do what is due at `now`."""
        if self.finished is not None:
            return self._outbox.take()
        if self._deadline is not None and now >= self._deadline:
            self._time_out(now)
        self._reconciliation.ask(now)
        if now >= self._reconciliation.next_tick:
            self._meeting.greet_again(now)
            self._reconciliation.tick(now)
        self._settle(now)
        return self._outbox.take()

    def link_up(self, neighbour: int, now: float) -> Output:
        """Take note that the graph has a link to a neighbour from now on."""
        link = self._links[neighbour]
        link.up = True
        if link.open:
            link.told = None
            self._reconciliation.next_tick = now
        else:
            self._meeting.greet(neighbour, now)
        return self._outbox.take()

    def link_down(self, neighbour: int, now: float) -> Output:
        """Take note that the graph has no link to a neighbour for some time."""
        del now
        self._links[neighbour].up = False
        return self._outbox.take()

    def _take(self, message: wire.Message, neighbour: int, link: Link, now: float) -> None:
        """Take a message of a neighbour that runs the same experiment, or says what it runs."""
        match message:
            case wire.Entries(entries):
                for entry in entries:
                    self._take_entry(entry, neighbour, now)
            case wire.Digest(digest, complete):
                link.digest, link.complete = digest, complete
                if digest != self.log.digest():
                    self._reconciliation.differ(neighbour, link, now)
                elif self._replica.over:
                    link.shared = True
            case wire.Announce(versions):
                self.protocol.check_versions(versions)
                self._expect(versions, neighbour, now)
            case wire.Want(ranges, graft):
                self._reconciliation.answer(message, neighbour, link, now)
                for origin, _, _ in ranges if graft else ():
                    self._dissemination.graft(origin, neighbour)
            case wire.Prune(origins):
                for origin in origins:
                    self._dissemination.prune(origin, neighbour)
            case wire.Versions(versions):
                self.protocol.check_versions(versions)
                self._reconciliation.compare(message, neighbour, link, now)
                self._begin_if_met(now)
            case wire.Hello():
                self._meeting.greeted(message, neighbour, link)
                self._begin_if_met(now)
            case wire.Refusal():
                self._meeting.refused(message, neighbour, link)
                self._begin_if_met(now)
            case wire.Bye():
                link.left = True
            case wire.Proof():
                self._take_proof(message, neighbour)
            case wire.Behind():
                self._reconciliation.send_base(neighbour, link, now)
            case wire.Snapshot():
                self._take_base(message, neighbour, link, now)

    def _take_entry(self, entry: Entry, neighbour: int, now: float) -> None:
        if self.log.holds(entry):
            self.duplicates += 1
            self._conduct.charge(neighbour, now, self._replica.taken, len(entry.content))
            asked = self._repair.was_asked(entry.origin, neighbour)
            if not asked and self._dissemination.duplicate(entry.origin, neighbour):
                self._outbox.prune(neighbour, entry.origin)
            return
        try:
            self.protocol.check(entry)
            if self.log.convicted(entry.origin, entry.sequence):
                return
            previous = self.log.last(entry.origin)
            if previous is not None and previous.sequence == entry.sequence - 1:
                self.protocol.check_order(entry, previous)
            self._add(entry, neighbour, now)
        except Gap:
            # What stands before it is under way, or was lost.
            self._expect({entry.origin: entry.sequence + 1}, neighbour, now)
        except Equivocation as error:
            self._conduct.reject(neighbour, error, now, self._replica.taken)
            if self.protocol.public_keys:
                self._convict(wire.Proof(error.held, error.other), None)
        except NeighbourError as error:
            self._conduct.reject(neighbour, error, now, self._replica.taken)
        else:
            self._close_rounds(now)
            self._extend_deadline(now)

    def _add(self, entry: Entry, sender: int | None, now: float) -> None:
        """Add an entry that is not held yet, and push it on."""
        self._replica.add(entry)
        self._outbox.emit(EntryAdded(entry))
        self._repair.added(entry)
        self._reconciliation.wake(now)
        for neighbour in self._dissemination.push_to(entry, sender):
            self._outbox.push(neighbour, entry)

    def _expect(self, versions: Mapping[int, int], neighbour: int, now: float) -> None:
        """Give entries that a neighbour has some time to come by themselves."""
        patience = self._dissemination.patience * self.protocol.tick
        self._repair.announced(neighbour, versions, now + patience)
        if patience == 0:
            self._reconciliation.ask(now)

    def _begin_if_met(self, now: float) -> None:
        if self._started or self.log.length(self.me) < self._reconciliation.claimed:
            return
        present = self.protocol.roster.is_member
        if all(link.met for n, link in self._links.items() if present(n, self.rounds.current)):
            self._begin(now)

    def _begin(self, now: float) -> None:
        self._started = True
        self._enter_round(now)
        self._close_rounds(now)

    def _enter_round(self, now: float) -> None:
        """Start the current round, or after the last one close this peer's log."""
        rounds, protocol = self.rounds, self.protocol
        if self._replica.over:
            self._deadline = now + protocol.settle_timeout
            if self.me in self._replica.open_logs:
                sequence = self.log.length(self.me)
                self._add(make_end(self.me, sequence, self._last_round, self._sign), None, now)
            return
        self._replica.entered()
        train = self._replica.trains() and rounds.current > self._replica.last_word
        # Who trains sets the clock when its own entry is out, however long its steps take.
        self._deadline = None if train else now + self._patience()
        if not train and not rounds.awaited():
            return
        if train:
            self._started_from[rounds.current] = rounds.cut.digest
        else:
            self._acknowledge(now)
        accumulator = rounds.cut.accumulator
        indices = protocol.draw(self.me, rounds.current, accumulator) if train else None
        self._outbox.emit(RoundStarted(rounds.current, accumulator, indices))

    def _acknowledge(self, now: float) -> None:
        """Say that this peer is up to date, if its histories have not said so for long."""
        replica, current = self._replica, self.rounds.current
        member = self.protocol.roster.is_member(self.me, current) and not replica.trains()
        if replica.folds and member and current - replica.last_word >= IDLE_ROUNDS:
            sequence, digest = self.log.length(self.me), self.rounds.cut.digest
            self._add(make_ack(self.me, sequence, current, digest, self._sign), None, now)

    def _close_rounds(self, now: float) -> None:
        while self._started and not self._replica.over and self._replica.may_close():
            self.rounds.close()
            self._enter_round(now)

    def _patience(self) -> float:
        """Return how long to wait for the others' entries from when this peer has nothing to do."""
        # Who is idle has no steps of its own to tell how long steps take; the first entry does.
        active = self.protocol.roster.active(self.rounds.current)
        knows = self._replica.trains() or len(self.rounds.missing()) < len(active)
        return self.protocol.round_timeout * (1 if knows else IDLE_PATIENCE)

    def _extend_deadline(self, now: float) -> None:
        """Set the clock anew after an entry has come."""
        if self._replica.over:
            # Whoever is still heard of is waited for; only silence counts against the time.
            self._deadline = now + self.protocol.settle_timeout
        elif self._deadline is not None and self._started:
            self._deadline = min(self._deadline, now + self._patience())

    def _time_out(self, now: float) -> None:
        if not self._started:
            self.timeouts += 1
            self._begin(now)
        elif self._replica.over:
            same = self.log.digest()
            live = self._ending.live(now)
            unlike = tuple(n for n, link in live if link.digest not in (same, b""))
            self._finish(Finished(self._replica.open_logs, unlike))
        else:
            self.timeouts += 1
            self._outbox.emit(RoundTimedOut(self.rounds.current, self.rounds.missing()))
            self.rounds.close()
            self._enter_round(now)
            self._close_rounds(now)

    def _take_base(self, message: wire.Snapshot, neighbour: int, link: Link, now: float) -> None:
        if not self._replica.folds or not link.asked_for:
            raise RefusedEntry("a base that was not asked for")
        link.asked_for = 0
        self.protocol.check_base(message.base, message.witnesses)
        if not self._replica.covers(message.base):
            return
        self._replica.take(message.base)
        self._outbox.emit(SnapshotTaken(message.base))
        for entry in message.witnesses:
            self._take_entry(entry, neighbour, now)
        self._reconciliation.pull(neighbour, link.versions, now)
        if self._started:
            self._enter_round(now)
            self._close_rounds(now)

    def _take_proof(self, proof: wire.Proof, neighbour: int) -> None:
        if not self.protocol.public_keys:
            raise RefusedEntry("entries are not signed in this run")
        for entry in (proof.first, proof.second):
            self.protocol.check(entry)
        self._convict(proof, neighbour)

    def _convict(self, proof: wire.Proof, sender: int | None) -> None:
        """Drop what an origin has published from a number on, and spread the proof."""
        origin = proof.first.origin
        if self.log.convicted(origin, proof.first.sequence):
            return
        self._apply(proof)
        self._outbox.emit(Convicted(proof.first, proof.second))
        for neighbour in self._links:
            if neighbour != sender:
                self._outbox.send(neighbour, proof)
        if origin in self._links:
            self._conduct.ban(origin, "has signed two contents under one number")

    def _apply(self, proof: wire.Proof) -> None:
        self._replica.convict(proof.first.origin, proof.first.sequence)
        self._reconciliation.proofs[proof.first.origin] = proof

    def _settle(self, now: float) -> None:
        """Leave when this peer's log is closed and nobody needs it any more."""
        if self.finished is not None or not self._replica.over:
            return
        first = self._ending.settled_since is None
        if first and self._replica.complete and self._reconciliation.changed:
            # A complete log does not grow any more, so this is said once, ahead of the tick.
            self._reconciliation.tick(now)
        if self._ending.settled(now):
            self._finish(Finished(()))

    def _finish(self, finished: Finished) -> None:
        self.finished = finished
        self._deadline = None
        self._outbox.emit(finished)
        for neighbour, link in self._links.items():
            if link.open:
                self._outbox.send(neighbour, wire.Bye())
