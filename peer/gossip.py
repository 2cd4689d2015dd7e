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
from peer.accumulator import Accumulator
from peer.base import Base
from peer.conduct import Conduct
from peer.dissemination import MODES
from peer.ending import Ending
from peer.entry import Entry, Sign, make_history
from peer.errors import Equivocation, Gap, MalformedMessage, NeighbourError, RefusedEntry
from peer.events import (
    EntryAdded,
    Finished,
    Output,
    RoundStarted,
    SnapshotTaken,
)
from peer.gradients import encode
from peer.links import Link
from peer.log import EntryLog
from peer.meeting import Meeting
from peer.outbox import Outbox
from peer.pace import Pace
from peer.participant import Phase
from peer.proofs import Proofs
from peer.protocol import Protocol
from peer.reconciliation import Reconciliation
from peer.repair import Repair
from peer.replica import Replica
from peer.rounds import Rounds
from peer.trainer import LocalRound


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
        self.duplicates = 0
        self.finished: Finished | None = None
        self._back = bool(self.log.versions()) or base is not None
        self._sign = None if sign is None else lambda body: sign(protocol.signed(body))
        self._replica = Replica(me, protocol, self.log, base)
        self._links = {neighbour: Link() for neighbour in sorted(neighbours)}
        self._outbox = Outbox(self._links)
        self._meeting = Meeting(me, protocol, self._replica, self._links, self._outbox)
        self._conduct = Conduct(protocol, self._links, self._outbox)
        self._dissemination = MODES[protocol.gossip](me, tuple(self._links), protocol)
        self._repair = Repair(self.log, protocol.tick)
        self._proofs = Proofs(self._replica, self._conduct, self._links, self._outbox)
        self._reconciliation = Reconciliation(
            self._replica, self._repair, self._proofs, self._links, self._outbox
        )
        self._pace = Pace(
            self._replica,
            self._links,
            self._outbox,
            lambda entry, now: self._add(entry, None, now),
            self._sign,
        )
        self._ending = Ending(self._replica, self._links)
        for proof in proofs:
            self._proofs.recall(proof)

    @property
    def timer(self) -> float | None:
        """When `advance` is next due; None after the end."""
        if self.finished is not None:
            return None
        due = self._reconciliation.next_tick
        if self._pace.deadline is not None and self._pace.deadline < due:
            due = self._pace.deadline
        asking = self._repair.due
        if asking is not None and asking < due:
            due = asking
        settled = self._ending.due
        if settled is not None and settled < due:
            due = settled
        return due

    @property
    def rounds(self) -> Rounds:
        """The round that this peer is in, and the cut that it trains from."""
        return self._replica.rounds

    @property
    def state(self) -> Accumulator:
        """The sums of the cut that it trains from; not to be changed."""
        return self.rounds.accumulator

    @property
    def phase(self) -> Phase:
        """What it does now; local steps that go on beyond their round count too."""
        if self.finished is not None:
            return Phase.ENDED
        if not self._pace.started:
            return Phase.GREETING
        if self._pace.trains:
            return Phase.TRAINING
        return Phase.ENDING if self._replica.over else Phase.WAITING

    @property
    def round(self) -> int:
        """The round that it is in, from 0; the number of rounds after the last."""
        return self.rounds.current

    @property
    def cut_round(self) -> int | None:
        """After how many rounds every peer's sums are these; async: after all, or it is not so."""
        if self.protocol.schedule == "sync":
            return self.rounds.current
        return self.protocol.rounds if self._replica.over and self.complete else None

    @property
    def links(self) -> Mapping[int, Link]:
        """What is known of each neighbour; not to be changed."""
        return self._links

    @property
    def held(self) -> int:
        """How many entries are in the log, folded ones too."""
        return len(self.log)

    @property
    def received(self) -> int:
        """How many entries of others are in the log."""
        return len(self.log) - self.log.length(self.me)

    @property
    def timeouts(self) -> int:
        """How often this peer has gone on without somebody."""
        return self._pace.timeouts

    @property
    def base(self) -> Base | None:
        """What this peer keeps of the entries that everybody has, if it has folded any."""
        return self._replica.base

    @property
    def rejections(self) -> Counter[int]:
        """How many messages of each neighbour could not be taken."""
        return self._conduct.rejections

    @property
    def accused(self) -> Mapping[int, str]:
        """Peers that have lied or cost too much, and how."""
        return self._conduct.accused

    @property
    def complete(self) -> bool:
        """Whether every log of the roster is held up to the END record of the run."""
        return self._replica.complete

    @property
    def waiting_for(self) -> tuple[int, ...]:
        """The peers that hold this one up now: neighbours, then origins of the round, then ENDs."""
        if not self._pace.started:
            return tuple(n for n, link in self._links.items() if not link.met)
        if not self._replica.over:
            return self.rounds.missing()
        return self._replica.open_logs

    def start(self, now: float) -> Output:
        """Greet the neighbours; the first round begins when all of them have answered."""
        self._reconciliation.next_tick = now + self.protocol.tick
        # A peer that comes back is not one of many that are about to come up.
        self._pace.deadline = now + self.protocol.patience(1 if self._back else 0)
        for neighbour in self._links:
            self._meeting.greet(neighbour, now)
        self._pace.meet(now)
        return self._outbox.take()

    def receive(self, frame: bytes, neighbour: int, now: float) -> Output:
        """Take a frame from a neighbour; whatever is in it, nothing is raised."""
        link, replica = self._links.get(neighbour), self._replica
        if link is None:
            stranger = MalformedMessage(f"peer {neighbour} is no neighbour")
            self._conduct.reject(neighbour, stranger, now, replica.taken)
        elif not link.banned:
            taken = replica.taken
            try:
                self.protocol.sizes.check(frame)
                message = wire.decode(frame)
                link.last_heard = now
                if link.open or isinstance(message, wire.Hello | wire.Refusal):
                    self._take(message, neighbour, link, now)
                else:
                    self._meeting.stray(neighbour, link, now)
            except NeighbourError as error:
                self._conduct.reject(neighbour, error, now, replica.taken)
            if replica.taken == taken:
                self._conduct.charge(neighbour, now, taken, len(frame))
        if replica.over:
            self._settle(now)
        return self._outbox.take()

    def publish(
        self, round_: int, indices: NDArray[np.int64], gradients: NDArray[np.float64], now: float
    ) -> Output:
        """Publish what the local steps of a round gave, each round once.

        Args:
            round_: as in `RoundStarted`.
            indices: of the sums, as in `RoundStarted`; where the local steps decide them, what they
                have decided, as `Seeding.pack` takes it.
            gradients: the scalar gradients; shape (numbers,), within the bound, NaN for a skipped
                step.
            now: the time.
        """
        protocol = self.protocol
        cut = self._pace.trained(round_, now)
        if round_ <= self._replica.last_word:
            # A neighbour has brought back this round's entry, which an earlier life had published.
            return self._outbox.take()
        data, scale = encode(gradients, protocol.gradient_bytes)
        entry = make_history(
            self.me,
            self.log.length(self.me),
            round_,
            weight=protocol.roster.weight(self.me, round_, protocol.step_size),
            cut=cut,
            scale=scale,
            gradients=data,
            indices=protocol.seeds.pack(indices),
            sign=self._sign,
        )
        self._add(entry, None, now)
        self._pace.close(now)
        self._settle(now)
        return self._outbox.take()

    def trained(self, start: RoundStarted, made: LocalRound, now: float) -> Output:
        """Publish what the local steps of a round gave; see `publish`."""
        assert start.indices is not None
        indices = start.indices if made.counts is None else made.counts
        return self.publish(start.round, indices, made.gradients, now)

    def advance(self, now: float) -> Output:
        """Do what is due at `now`."""
        if self.finished is not None:
            return self._outbox.take()
        late = now - (self.timer or now)
        if late > self.protocol.tick / 2:
            # What has come while this peer could not run has yet to be looked at.
            self._repair.put_off(late)
        if self._pace.deadline is not None and now >= self._pace.deadline:
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
                if not self._pace.started:
                    # The last of a log that an earlier life had lost may be among them.
                    self._pace.meet(now)
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
                self.protocol.check_versions({origin: stop for origin, _, stop in ranges})
                self._reconciliation.answer(message, neighbour, link, now)
                for origin, _, _ in ranges if graft else ():
                    self._dissemination.graft(origin, neighbour)
            case wire.Prune(origins):
                self.protocol.check_versions(dict.fromkeys(origins, 0))
                for origin in origins:
                    self._dissemination.prune(origin, neighbour)
            case wire.Versions(versions):
                self.protocol.check_versions(versions)
                self._pace.claimed = max(self._pace.claimed, versions.get(self.me, 0))
                # Those who have met before a new peer are pushing their first entries, to it too.
                patience = self._dissemination.patience * self.protocol.tick
                wait = 0.0 if self._back else link.opened_at + patience - now
                self._reconciliation.compare(message, neighbour, link, now, wait)
                self._pace.meet(now)
            case wire.Hello():
                self._meeting.greeted(message, neighbour, link, now)
                if self._replica.over and not link.returned:
                    # What it has yet to publish in a new life is waited for; once, or it could
                    # hold this peer for ever.
                    link.returned = True
                    self._pace.heard(now)
                self._pace.meet(now)
            case wire.Refusal():
                self._meeting.refused(message, neighbour, link)
                self._pace.meet(now)
            case wire.Bye():
                link.left = True
            case wire.Proof():
                self._proofs.check(message)
                self._convict(message, neighbour, now)
            case wire.Behind():
                self._reconciliation.send_base(neighbour, link, now)
            case wire.Heads():
                self._reconciliation.look(message, neighbour, link, now)
            case wire.Snapshot():
                self._take_base(message, neighbour, link, now)

    def _take_entry(self, entry: Entry, neighbour: int, now: float) -> None:
        log = self.log
        next_ = log.length(entry.origin)
        if entry.sequence < next_ and log.holds(entry):
            self._take_again(entry, neighbour, now)
            return
        try:
            self.protocol.check(entry)
            if log.convictions and log.convicted(entry.origin, entry.sequence):
                return
            if entry.sequence == next_ > 0:
                self.protocol.check_order(entry, log.last(entry.origin), self.base)
            self._add(entry, neighbour, now)
        except Gap:
            # What stands before it is under way, or was lost.
            self._expect({entry.origin: entry.sequence + 1}, neighbour, now)
        except Equivocation as error:
            self._conduct.reject(neighbour, error, now, self._replica.taken)
            if self.protocol.public_keys:
                self._convict(wire.Proof(error.held, error.other), None, now)
        except NeighbourError as error:
            self._conduct.reject(neighbour, error, now, self._replica.taken)
        else:
            self._pace.heard(now)

    def _take_again(self, entry: Entry, neighbour: int, now: float) -> None:
        """Count a second copy, and see to it that there will be no third."""
        self.duplicates += 1
        # It has come in a message with others, as the answers to what was asked several times do.
        self._conduct.charge(neighbour, now, self._replica.taken, len(entry.content), messages=0)
        # What was asked for may come from there and, late, by itself: not for the last time.
        asked = self._repair.was_asked(entry)
        if not asked and self._dissemination.duplicate(entry.origin, neighbour):
            self._outbox.prune(neighbour, entry.origin)

    def _add(self, entry: Entry, sender: int | None, now: float) -> None:
        """Add an entry that is not held yet, and push it on."""
        self._replica.add(entry)
        self._outbox.emit(EntryAdded(entry))
        self._repair.added(entry)
        self._reconciliation.wake(now)
        children = self._dissemination.push_to(entry, sender)
        if not children:
            return
        if sender is not None and self._repair.was_asked(entry, sender):
            # Others may have had it for long: only who lacks it is brought the past. What comes by
            # itself goes to all, or bytes would hang on who has met first (C5).
            links = self._links
            children = [c for c in children if links[c].met and not links[c].holds(entry)]
        self._outbox.push(children, entry)

    def _expect(self, versions: Mapping[int, int], neighbour: int, now: float) -> None:
        """Give entries that a neighbour has some time to come by themselves."""
        patience = self._dissemination.patience * self.protocol.tick
        self._repair.announced(neighbour, versions, now + patience)
        if patience == 0:
            self._reconciliation.ask(now)

    def _time_out(self, now: float) -> None:
        if not self._replica.over or not self._pace.started:
            self._pace.give_up(now)
            return
        same = self.log.digest()
        live = self._ending.live(now)
        missing = self._replica.open_logs
        unlike = (n for n, link in live if link.digest not in (same, b"") and n not in missing)
        self._finish(Finished(missing, tuple(unlike)))

    def _take_base(self, message: wire.Snapshot, neighbour: int, link: Link, now: float) -> None:
        if not self._replica.folds:
            raise RefusedEntry("nothing is folded in this run")
        if not link.asked:
            # The answer to an earlier life: no fault of the neighbour's.
            return
        self.protocol.check_base(message.base, message.witnesses)
        if not self._replica.needs(message.base):
            # What was missing in it has come by itself while it was on its way.
            self._reconciliation.pull(neighbour, link.versions, now)
            return
        left = self.rounds.current
        self._replica.take(message.base, message.witnesses)
        self._outbox.emit(SnapshotTaken(message.base))
        if self._pace.started and self.rounds.current > left:
            self._pace.enter(now)
        for entry in message.witnesses:
            self._take_entry(entry, neighbour, now)
        self._reconciliation.pull(neighbour, link.versions, now)
        self._pace.close(now)
        self._pace.meet(now)

    def _convict(self, proof: wire.Proof, sender: int | None, now: float) -> None:
        """Drop what an origin has published from a number on; go on where it was waited for."""
        if self._proofs.take(proof, sender):
            if self._proofs.waiting:
                self._reconciliation.wake(now)
            self._pace.close(now)
            self._pace.heard(now)

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
        self._outbox.emit(finished)
        for neighbour, link in self._links.items():
            if link.open:
                self._outbox.send(neighbour, wire.Bye())
