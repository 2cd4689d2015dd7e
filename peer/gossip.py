"""The protocol of one peer, as a state machine without I/O (C5).

It takes frames, the neighbour that they came from, and the time; it gives back frames to send and
events. It has no socket, no clock, no thread and no random numbers, so the ZeroMQ process and the
simulator drive this one class with the same bytes. A driver calls `start`, then `receive` for each
frame, `publish` when a round's local steps are done, and `advance` whenever `timer` is due; after
each call it stores the entries, sends the messages and looks at the events of the output.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from peer import wire
from peer.dissemination import MODES
from peer.entry import CUT_BYTES, Entry, make_end, make_history, pack_indices
from peer.errors import Gap, MalformedMessage, NeighbourError
from peer.events import (
    EntryAdded,
    Event,
    Finished,
    LinkRefused,
    Output,
    Rejected,
    RoundStarted,
    RoundTimedOut,
)
from peer.gradients import encode
from peer.links import Link, differing
from peer.log import EntryLog
from peer.protocol import Protocol
from peer.repair import PATIENCE_TICKS, Repair
from peer.rounds import Rounds

ALIVE_TICKS = 10
"""A neighbour that was silent for this many ticks is not waited for at the end."""


IDLE_PATIENCE = 10
"""Until a round's first entry is here, an idle peer waits for so many round time-outs."""


class Gossip:
    """One replica and its links.

    Args:
        me: this peer's place in the roster.
        neighbours: the peers that it has links to.
        protocol: the agreement of the run.
        log: what is known from an earlier life of this peer.
    """

    def __init__(
        self,
        me: int,
        neighbours: Iterable[int],
        protocol: Protocol,
        log: EntryLog | None = None,
    ) -> None:
        self.me = me
        self.protocol = protocol
        self.log = log if log is not None else EntryLog()
        self.rounds = Rounds(protocol)
        self.timeouts = 0
        self.duplicates = 0
        self.rejections: Counter[int] = Counter()
        self.finished: Finished | None = None
        self._dissemination = MODES[protocol.gossip]()
        self._links = {neighbour: Link() for neighbour in sorted(neighbours)}
        self._repair = Repair(self.log, PATIENCE_TICKS * protocol.tick)
        self._closed_logs: set[int] = set()
        self._started = False
        self._next_tick = 0.0
        self._ticks = 0
        self._deadline: float | None = None
        self._settled_since: float | None = None
        self._digest_at_tick = b""
        self._messages: list[tuple[int, bytes]] = []
        self._events: list[Event] = []

    @property
    def timer(self) -> float | None:
        """When `advance` is next due; None after the end."""
        if self.finished is not None:
            return None
        due = [self._next_tick]
        if self._deadline is not None:
            due.append(self._deadline)
        if self._settled_since is not None:
            due.append(self._settled_since + self.protocol.linger)
        return min(due)

    @property
    def complete(self) -> bool:
        """Whether every log of the roster is held up to the END record of the run."""
        return len(self._closed_logs) == len(self.protocol.roster.rows)

    @property
    def waiting_for(self) -> tuple[int, ...]:
        """The peers that hold this one up now: neighbours, then origins of the round, then ENDs."""
        if not self._started:
            return tuple(n for n, link in self._links.items() if not link.met)
        if not self.rounds.over:
            return self.rounds.missing()
        return self._open_logs()

    def start(self, now: float) -> Output:
        """Greet the neighbours; the first round begins when all of them have answered."""
        for entry in self.log:
            self._note(entry)
        self._next_tick = now + self.protocol.tick
        self._deadline = now + self.protocol.round_timeout
        for neighbour in self._links:
            self._send(neighbour, self._hello(answer=False))
        self._begin_if_met(now)
        return self._output()

    def receive(self, frame: bytes, neighbour: int, now: float) -> Output:
        """Take a frame from a neighbour; whatever is in it, nothing is raised."""
        link = self._links.get(neighbour)
        try:
            if link is None:
                raise MalformedMessage(f"peer {neighbour} is no neighbour")
            message = wire.decode(frame)
            link.last_heard = now
            self._take(message, neighbour, link, now)
        except NeighbourError as error:
            self._reject(neighbour, error)
        self._settle(now)
        return self._output()

    def publish(
        self,
        round_: int,
        indices: NDArray[np.int64],
        gradients: NDArray[np.float64],
        cut_digest: str,
        now: float,
    ) -> Output:
        """Publish the local steps of a round, each round once.

        Args:
            round_: as in `RoundStarted`.
            indices: the seed index of each step, as in `RoundStarted`; shape (tau,).
            gradients: the scalar gradients; shape (tau,), within the bound, NaN for a skipped step.
            cut_digest: of the accumulator that the steps started from, in hexadecimal.
            now: the time.
        """
        protocol = self.protocol
        if round_ == self.rounds.current:
            self._deadline = now + protocol.round_timeout
        if any(e.round == round_ and not e.is_end for e in self.log.entries(self.me)):
            # A neighbour has brought back this round's entry, which an earlier life had published.
            return self._output()
        data, scale = encode(gradients, protocol.gradient_bytes)
        packed = pack_indices(indices, protocol.candidate_seeds)
        entry = make_history(
            self.me,
            self.log.length(self.me),
            round_,
            weight=protocol.roster.weight(self.me, round_, protocol.step_size),
            cut=bytes.fromhex(cut_digest)[:CUT_BYTES],
            scale=scale,
            gradients=data,
            indices=packed if protocol.weighted_draws else None,
        )
        self._add(entry, None)
        self._close_rounds(now)
        self._settle(now)
        return self._output()

    def advance(self, now: float) -> Output:
        """Do what is due at `now`."""
        if self.finished is not None:
            return self._output()
        if self._deadline is not None and now >= self._deadline:
            self._time_out(now)
        if now >= self._next_tick:
            self._tick(now)
        self._settle(now)
        return self._output()

    def _take(self, message: wire.Message, neighbour: int, link: Link, now: float) -> None:
        match message:
            case wire.Hello():
                self._greet(message, neighbour, link, now)
                return
            case wire.Refusal(names):
                link.open, link.refused = False, True
                self._events.append(LinkRefused(neighbour, names))
                self._begin_if_met(now)
                return
        if not link.open:
            if not link.refused and now >= link.greeted + self.protocol.tick:
                # It takes this peer for an old acquaintance, from before a restart.
                link.greeted = now
                self._send(neighbour, self._hello(answer=False))
            raise MalformedMessage(f"peer {neighbour} has not said HELLO")
        match message:
            case wire.Entries(entries):
                for entry in entries:
                    self._take_entry(entry, neighbour, now)
            case wire.Digest(digest, complete):
                link.digest, link.complete = digest, complete
                quiet = self._digest_at_tick == self.log.digest()
                if digest != self.log.digest() and quiet:
                    self._send(neighbour, wire.Versions(self.log.versions()))
            case wire.Versions(versions):
                self.protocol.check_versions(versions)
                self._pull(neighbour, versions, now)
            case wire.Want():
                for batch in self._repair.answer(message):
                    self._send(neighbour, batch)
            case wire.Bye():
                link.left = True

    def _greet(self, hello: wire.Hello, neighbour: int, link: Link, now: float) -> None:
        if hello.sender != neighbour:
            raise MalformedMessage(f"peer {hello.sender} greets on the link of peer {neighbour}")
        names = differing(self.protocol.fields, hello.fields)
        if names:
            link.open, link.refused = False, False
            self._send(neighbour, wire.Refusal(names))
            link.refused = True
            self._events.append(LinkRefused(neighbour, names))
        else:
            self.protocol.check_versions(hello.versions)
            link.open, link.refused, link.left = True, False, False
            if not hello.answer:
                self._send(neighbour, self._hello(answer=True))
            self._pull(neighbour, hello.versions, now)
        self._begin_if_met(now)

    def _begin_if_met(self, now: float) -> None:
        if not self._started and all(link.met for link in self._links.values()):
            self._begin(now)

    def _begin(self, now: float) -> None:
        self._started = True
        self._enter_round(now)
        self._close_rounds(now)

    def _enter_round(self, now: float) -> None:
        """Start the current round, or after the last one close this peer's log."""
        rounds, protocol = self.rounds, self.protocol
        if rounds.over:
            self._deadline = now + protocol.settle_timeout
            if self.me not in self._closed_logs:
                sequence = self.log.length(self.me)
                self._add(make_end(self.me, sequence, protocol.rounds), None)
            return
        train = self._trains() and not rounds.has(self.me)
        # Who trains sets the clock when its own entry is out, however long its steps take.
        self._deadline = None if train else now + self._patience()
        if not train and not rounds.awaited():
            return
        cut = rounds.accumulator.copy()
        indices = protocol.draw(self.me, rounds.current, cut) if train else None
        self._events.append(RoundStarted(rounds.current, cut, indices))

    def _close_rounds(self, now: float) -> None:
        while self._started and not self.rounds.over and self._may_close():
            self.rounds.close()
            self._enter_round(now)

    def _may_close(self) -> bool:
        rounds = self.rounds
        published = rounds.has(self.me) or not self._trains()
        return published and not rounds.awaited()

    def _trains(self) -> bool:
        return self.protocol.roster.is_active(self.me, self.rounds.current)

    def _patience(self) -> float:
        """Return how long to wait for the others' entries from when this peer has nothing to do."""
        # Who is idle has no steps of its own to tell how long steps take; the first entry does.
        knows = self._trains() or len(self.rounds.missing()) < self.rounds.expected()
        return self.protocol.round_timeout * (1 if knows else IDLE_PATIENCE)

    def _take_entry(self, entry: Entry, neighbour: int, now: float) -> None:
        if self.log.holds(entry):
            self.duplicates += 1
            return
        try:
            self.protocol.check(entry)
            for previous in self.log.entries(entry.origin, entry.sequence - 1, entry.sequence):
                self.protocol.check_order(entry, previous)
            self._add(entry, neighbour)
        except Gap as gap:
            self._pull(neighbour, {entry.origin: entry.sequence + 1}, now)
            self._reject(neighbour, gap)
        except NeighbourError as error:
            self._reject(neighbour, error)
        else:
            self._close_rounds(now)
            if self._deadline is not None and not self.rounds.over and self._started:
                self._deadline = min(self._deadline, now + self._patience())
            if self.rounds.over and self.finished is None:
                # Whoever is still heard of is waited for; only silence counts against the time.
                self._deadline = now + self.protocol.settle_timeout

    def _add(self, entry: Entry, sender: int | None) -> None:
        """Add an entry that is not held yet to the log, note it, and push it on."""
        self.log.add(entry)
        self._events.append(EntryAdded(entry))
        self._note(entry)
        for neighbour in self._dissemination.push_to(entry.origin, sender, self._links):
            self._send(neighbour, wire.Entries((entry,)))

    def _note(self, entry: Entry) -> None:
        if not entry.is_end:
            self.rounds.add(entry)
        elif entry.round == self.protocol.rounds:
            self._closed_logs.add(entry.origin)

    def _time_out(self, now: float) -> None:
        if not self._started:
            self.timeouts += 1
            self._begin(now)
        elif self.rounds.over:
            same = self.log.digest()
            unlike = tuple(n for n, link in self._live(now) if link.digest not in (same, b""))
            self._finish(Finished(self._open_logs(), unlike))
        else:
            self.timeouts += 1
            self._events.append(RoundTimedOut(self.rounds.current, self.rounds.missing()))
            self.rounds.close()
            self._enter_round(now)
            self._close_rounds(now)

    def _tick(self, now: float) -> None:
        self._next_tick = now + self.protocol.tick
        self._ticks += 1
        self._digest_at_tick = self.log.digest()
        for neighbour, link in self._links.items():
            if link.open:
                self._send(neighbour, wire.Digest(self.log.digest(), self.complete))
            elif self._ticks & (self._ticks - 1) == 0:
                # The first HELLO, or the answer to it, may have been lost. Ever more seldom, as
                # each waits in the queue of a neighbour that is not there yet.
                self._send(neighbour, self._hello(answer=False))

    def _settle(self, now: float) -> None:
        """Leave when all logs are closed and every live neighbour has reported the same."""
        if self.finished is not None or not self.complete or not self.rounds.over:
            return
        digest = self.log.digest()
        if self._settled_since is None and digest != self._digest_at_tick:
            # A complete log does not grow any more, so this is said once, ahead of the tick.
            self._tick(now)
        if not all(link.agrees(digest) for _, link in self._live(now)):
            self._settled_since = None
            return
        if self._settled_since is None:
            self._settled_since = now
        if now >= self._settled_since + self.protocol.linger:
            self._finish(Finished(()))

    def _finish(self, finished: Finished) -> None:
        self.finished = finished
        self._deadline = None
        self._events.append(finished)
        for neighbour, link in self._links.items():
            if link.open:
                self._send(neighbour, wire.Bye())

    def _live(self, now: float) -> list[tuple[int, Link]]:
        """Return the neighbours that have been heard lately and have not left."""
        since = now - ALIVE_TICKS * self.protocol.tick
        return [(peer, link) for peer, link in self._links.items() if link.alive(since)]

    def _open_logs(self) -> tuple[int, ...]:
        peers = range(len(self.protocol.roster.rows))
        return tuple(peer for peer in peers if peer not in self._closed_logs)

    def _pull(self, neighbour: int, versions: Mapping[int, int], now: float) -> None:
        want = self._repair.want(versions, now)
        if want is not None:
            self._send(neighbour, want)

    def _hello(self, *, answer: bool) -> wire.Hello:
        return wire.Hello(self.me, self.protocol.fields, self.log.versions(), answer)

    def _reject(self, neighbour: int, error: NeighbourError) -> None:
        self.rejections[neighbour] += 1
        self._events.append(Rejected(neighbour, str(error)))

    def _send(self, neighbour: int, message: wire.Message) -> None:
        link = self._links[neighbour]
        if not link.refused and not link.left:
            self._messages.append((neighbour, wire.encode(message)))

    def _output(self) -> Output:
        output = Output(self._messages, self._events)
        self._messages, self._events = [], []
        return output
