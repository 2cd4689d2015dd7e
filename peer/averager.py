"""One peer of a run that averages weights, as a state machine without I/O (C5).

The same drivers and the same links carry it as `peer.gossip.Gossip`. A round is the local steps of
an active peer, and then the exchanges that `peer.mixing` lays down. Exchanges are numbered through
the run; a peer takes them one after the other, and those of neighbours that are ahead are kept.

    RoundStarted -> trained -> exchange k: send parts, await parts, mix -> k + 1 ... -> next round

What is lost is asked for again; who stays away is left out after `round_timeout`, and waited for
again once it is heard. Every peer ends with weights of its own: equal bits are not promised.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Final

import numpy as np

from peer import wire
from peer.conduct import Conduct
from peer.errors import MalformedMessage, NeighbourError, RefusedEntry
from peer.events import Finished, Output, RoundStarted, RoundTimedOut
from peer.inbound import AHEAD, Inbound
from peer.links import ALIVE_TICKS, HEARTBEAT_TICKS, Link
from peer.log import DIGEST_BYTES
from peer.meeting import Meeting
from peer.mixing import Exchange
from peer.outbound import KEPT_ROUNDS, PARTS_ASKED, Outbound
from peer.outbox import Outbox
from peer.pace import IDLE_PATIENCE
from peer.participant import Phase
from peer.protocol import Protocol
from peer.trainer import LocalWeights
from peer.weights import Weights, weighted_sum

_NO_LOG: Final = bytes(DIGEST_BYTES)


class Averager:
    """One peer's weights and its links.

    Args:
        me: this peer's place in the roster.
        neighbours: the peers that it has links to.
        protocol: the agreement of the run, with `averaging`.

    Attributes:
        state: the weights that it holds.
        received: how often whole weights have come.
        timeouts: how often it has gone on without somebody.
        finished: how the run has ended for this peer, None while it goes on.
    """

    def __init__(self, me: int, neighbours: Iterable[int], protocol: Protocol) -> None:
        assert protocol.averaging is not None
        self.me = me
        self.protocol = protocol
        self.state = protocol.averaging.initial
        self.received = 0
        self.timeouts = 0
        self.finished: Finished | None = None
        self._mixing = protocol.averaging.mixing
        self._links = {neighbour: Link() for neighbour in sorted(neighbours)}
        self._outbox = Outbox(self._links)
        self._meeting = Meeting(me, protocol, _Nothing(), self._links, self._outbox)
        self._conduct = Conduct(protocol, self._links, self._outbox)
        self._inbound = Inbound(self.state.dtype, len(self.state))
        self._last = protocol.rounds * self._mixing.exchanges
        self._kept = KEPT_ROUNDS * self._mixing.exchanges
        self._outbound = Outbound(
            self._outbox,
            parts=len(self._inbound.sizes),
            exchanges=self._last,
            kept=self._kept,
            tick=protocol.tick,
        )
        self._silent: set[int] = set()
        self._asked: dict[int, tuple[float, float]] = {}
        self._brought: Counter[int] = Counter()
        self._due = 0
        self._number = -1
        self._exchange: Exchange | None = None
        self._training = False
        self._tick = 0.0
        self._entered = 0.0
        self._deadline: float | None = None
        self._settled_since: float | None = None

    @property
    def rejections(self) -> Counter[int]:
        """How many messages of each neighbour could not be taken."""
        return self._conduct.rejections

    @property
    def accused(self) -> Mapping[int, str]:
        """Peers that have cost too much, and how."""
        return self._conduct.accused

    @property
    def timer(self) -> float | None:
        """When `advance` is next due; None after the end."""
        if self.finished is not None:
            return None
        due = [self._tick]
        if self._deadline is not None:
            due.append(self._deadline)
        elif self._exchange is not None:
            due += [self._limit(n) for n in self._missing() if self._awaited(n)]
        if self._settled_since is not None:
            due.append(self._settled_since + self.protocol.linger)
        return min(due)

    @property
    def phase(self) -> Phase:
        """What it does now."""
        if self.finished is not None:
            return Phase.ENDED
        if self._number < 0:
            return Phase.GREETING
        if self._over:
            return Phase.ENDING
        return Phase.TRAINING if self._training else Phase.WAITING

    @property
    def round(self) -> int:
        """The round that it is in, from 0; the number of rounds after the last."""
        return max(0, self._number) // self._mixing.exchanges

    @property
    def cut_round(self) -> int | None:
        """After how many rounds every peer's weights are these: after all, where they equalise."""
        return self.protocol.rounds if self._over and self._mixing.equalises else None

    @property
    def links(self) -> Mapping[int, Link]:
        """What is known of each neighbour; not to be changed."""
        return self._links

    @property
    def held(self) -> int:
        """How many neighbours' whole weights are kept for an exchange."""
        return len(self._inbound.whole)

    @property
    def waiting_for(self) -> tuple[int, ...]:
        """The peers that hold this one up now."""
        if self._number < 0:
            return tuple(n for n, link in self._links.items() if not link.met)
        if self._over:
            return tuple(n for n, link in self._links.items() if not link.complete)
        return self._missing()

    def start(self, now: float) -> Output:
        """Greet the neighbours; the first round begins when all of them have answered."""
        self._tick = now + self.protocol.tick
        self._deadline = now + self.protocol.patience(0)
        for neighbour in self._links:
            self._meeting.greet(neighbour, now)
        self._meet(now)
        return self._outbox.take()

    def receive(self, frame: bytes, neighbour: int, now: float) -> Output:
        """Take a frame from a neighbour; whatever is in it, nothing is raised."""
        link, due = self._links.get(neighbour), self._due
        if link is None:
            stranger = MalformedMessage(f"peer {neighbour} is no neighbour")
            self._conduct.reject(neighbour, stranger, now, due)
        elif not link.banned:
            try:
                self.protocol.sizes.check(frame)
                message = wire.decode(frame)
                link.last_heard = now
                if link.open or isinstance(message, wire.Hello | wire.Refusal):
                    self._take(message, neighbour, link, now)
                else:
                    self._meeting.stray(neighbour, link, now)
            except NeighbourError as error:
                self._conduct.reject(neighbour, error, now, due)
            if self._due == due:
                self._conduct.charge(neighbour, now, due, len(frame))
            if self._over:
                # Whoever is still heard of is waited for; only silence counts against the time.
                self._deadline = now + self.protocol.settle_timeout
        self._settle(now)
        return self._outbox.take()

    def trained(self, start: RoundStarted, made: LocalWeights, now: float) -> Output:
        """Take the weights that the local steps of a round gave, and begin its exchanges."""
        del start
        self._training = False
        self.state = made.weights
        self._enter(now)
        self._go_on(now)
        return self._outbox.take()

    def advance(self, now: float) -> Output:
        """Do what is due at `now`."""
        if self.finished is None:
            if self._deadline is None or now >= self._deadline:
                self._give_up(now)
            if now >= self._tick:
                self._tick = now + self.protocol.tick
                self._meeting.greet_again(now)
                self._ask(now)
                self._tell(now)
            self._settle(now)
        return self._outbox.take()

    def link_up(self, neighbour: int, now: float) -> Output:
        """Take note that there is a link to a neighbour from now on."""
        self._links[neighbour].up = True
        if not self._links[neighbour].open:
            self._meeting.greet(neighbour, now)
        return self._outbox.take()

    def link_down(self, neighbour: int, now: float) -> Output:
        """Take note that there is no link to a neighbour for some time."""
        del now
        self._links[neighbour].up = False
        return self._outbox.take()

    @property
    def _over(self) -> bool:
        return self._number >= self._last

    def _take(self, message: wire.Message, neighbour: int, link: Link, now: float) -> None:
        match message:
            case wire.Part():
                self._take_part(message, neighbour, now)
            case wire.Missing(number, parts):
                self._outbound.answer(neighbour, number, parts, now)
            case wire.Digest(_, complete):
                link.complete = complete
            case wire.Hello():
                self._meeting.greeted(message, neighbour, link, now)
                self._meet(now)
            case wire.Refusal():
                self._meeting.refused(message, neighbour, link)
                self._meet(now)
            case wire.Bye():
                link.left = link.complete = True
            case _:
                raise RefusedEntry(f"{type(message).__name__} belongs to methods that keep logs")

    def _take_part(self, part: wire.Part, neighbour: int, now: float) -> None:
        if part.exchange >= self._last:
            raise RefusedEntry(f"exchange {part.exchange}, the run has {self._last}")
        if not self._sends(neighbour, part.exchange):
            raise RefusedEntry(f"peer {neighbour} sends nothing here in exchange {part.exchange}")
        if part.exchange < self._number:
            self._count(neighbour)
            return
        taken = self._inbound.taken
        self.received += self._inbound.take(neighbour, part)
        if self._inbound.taken > taken:
            self._count(neighbour)
        following = self._inbound.following(part.exchange, neighbour, part.part)
        if following:
            self._outbox.send(neighbour, wire.Missing(part.exchange, tuple(following)))
        self._silent.discard(neighbour)
        self._asked.pop(neighbour, None)
        self._go_on(now)

    def _count(self, neighbour: int) -> None:
        """Let a part be free that a neighbour owes: too late, it is no less what it had to send."""
        owed = (self._number + AHEAD) * len(self._inbound.sizes)
        if self._brought[neighbour] < owed:
            self._brought[neighbour] += 1
            self._due += 1

    def _sends(self, neighbour: int, number: int) -> bool:
        """Tell whether a neighbour's weights are awaited here in an exchange."""
        return neighbour in self._part_in(number).coefficients

    def _part_in(self, number: int) -> Exchange:
        round_, within = divmod(number, self._mixing.exchanges)
        return self._mixing.exchange(self.me, round_, within)

    def _meet(self, now: float) -> None:
        """Begin the first round when all neighbours have answered."""
        if self._number < 0 and all(link.met or not link.up for link in self._links.values()):
            self._begin(now)

    def _begin(self, now: float) -> None:
        self._next(now)
        self._go_on(now)

    def _next(self, now: float) -> None:
        """Come to the next exchange, which may begin a round, or to the end."""
        self._number += 1
        self._exchange, self._deadline = None, None
        self._inbound.forget(self._number)
        if self._over:
            self._deadline = now + self.protocol.settle_timeout
            self._tell(now)
            return
        round_, within = divmod(self._number, self._mixing.exchanges)
        if within == 0:
            self._training = self.protocol.roster.is_active(self.me, round_)
            indices = np.empty(0, dtype=np.int64) if self._training else None
            self._outbox.emit(RoundStarted(round_, self.state, indices))
        if not self._training:
            self._enter(now)

    def _enter(self, now: float) -> None:
        """Send what this exchange asks for, and begin to wait for what it brings."""
        self._exchange = self._part_in(self._number)
        self._outbound.publish(self._number, self.state, self._exchange.sends_to, now)
        self._entered = now
        self._asked = dict.fromkeys(self._exchange.coefficients, (now, self.protocol.tick))

    def _limit(self, neighbour: int) -> float:
        """Return until when a neighbour's weights of this exchange are waited for.

        Who is heard of may be waiting itself, for somebody who is gone: so only silence counts, but
        nobody is waited for without end.
        """
        round_ = self._number // self._mixing.exchanges
        patience = self.protocol.patience(round_)
        if not self.protocol.roster.is_active(self.me, round_):
            # Who is idle has no steps of its own to tell how long steps take.
            patience *= IDLE_PATIENCE
        heard = max(self._entered, self._links[neighbour].last_heard)
        return min(heard + patience, self._entered + IDLE_PATIENCE * patience)

    def _go_on(self, now: float) -> None:
        """Mix in this exchange and the next ones, as far as nobody has to be awaited."""
        while self._exchange is not None and not any(map(self._awaited, self._missing())):
            self._mix(self._exchange)
            self._next(now)

    def _missing(self) -> tuple[int, ...]:
        """Return whose weights of this exchange are awaited, silent ones and all."""
        if self._exchange is None:
            return ()
        whole = self._inbound.whole
        return tuple(n for n in self._exchange.coefficients if (self._number, n) not in whole)

    def _awaited(self, neighbour: int) -> bool:
        link = self._links[neighbour]
        gone = link.refused or link.left or link.banned or not link.up
        # Who is so far ahead has gone on without waiting, and keeps these weights no more.
        past = self._inbound.newest(neighbour) >= self._number + self._kept
        return neighbour not in self._silent and not gone and not past

    def _mix(self, exchange: Exchange) -> None:
        missing = self._missing()
        shares = {n: c for n, c in exchange.coefficients.items() if n not in missing}
        if not shares:
            return
        own = exchange.own + sum(exchange.coefficients[neighbour] for neighbour in missing)
        # In the order of peers' numbers, so that simulator and process round alike.
        terms = sorted([*shares.items(), (self.me, own)])
        self.state = weighted_sum([(c, self._weights(peer)) for peer, c in terms if c])

    def _weights(self, peer: int) -> Weights:
        return self.state if peer == self.me else self._inbound.whole[self._number, peer]

    def _give_up(self, now: float) -> None:
        """Go on without those who have not been heard in time."""
        if self._over:
            self._finish(tuple(n for n, link in self._links.items() if not link.complete))
            return
        if self._number < 0:
            self.timeouts += 1
            self._begin(now)
            return
        late = tuple(n for n in self._missing() if self._awaited(n) and now >= self._limit(n))
        if late:
            self.timeouts += 1
            self._outbox.emit(RoundTimedOut(self._number // self._mixing.exchanges, late))
            self._silent.update(late)
            self._go_on(now)

    def _ask(self, now: float) -> None:
        """Ask for what has not come, ever more seldom: it may not have been made yet."""
        for neighbour in self._missing():
            since, wait = self._asked.get(neighbour, (now, self.protocol.tick))
            if self._awaited(neighbour) and now >= since + wait:
                lacking = self._inbound.lacking(self._number, neighbour)[:PARTS_ASKED]
                self._outbox.send(neighbour, wire.Missing(self._number, tuple(lacking)))
                longest = HEARTBEAT_TICKS * self.protocol.tick
                since, wait = now, min(2 * wait, longest)
            self._asked[neighbour] = (since, wait)

    def _tell(self, now: float) -> None:
        """Let neighbours know that this peer is there, and at the end that it has everything."""
        for neighbour, link in self._links.items():
            # Often enough for whoever waits not to take silence for death.
            beat = min(HEARTBEAT_TICKS * self.protocol.tick, self.protocol.round_timeout / 4)
            due = now >= link.told_at + beat
            if link.open and (due or link.told != (_NO_LOG, self._over)):
                link.told, link.told_at = (_NO_LOG, self._over), now
                self._outbox.send(neighbour, wire.Digest(_NO_LOG, self._over))

    def _settle(self, now: float) -> None:
        """Leave when everything is over, here and with every neighbour that lives."""
        if not self._over or self.finished is not None:
            return
        since = now - ALIVE_TICKS * self.protocol.tick
        live = [link for link in self._links.values() if link.alive(since)]
        if not all(link.complete for link in live):
            self._settled_since = None
            return
        if self._settled_since is None:
            self._settled_since = now
        if now >= self._settled_since + self.protocol.linger:
            self._finish(())

    def _finish(self, missing: tuple[int, ...]) -> None:
        for neighbour, link in self._links.items():
            if link.open:
                self._outbox.send(neighbour, wire.Bye())
        self.finished = Finished(missing)
        self._outbox.emit(self.finished)


class _Nothing:
    """What a peer without a log tells of it."""

    def digest(self) -> bytes:
        return _NO_LOG

    def versions(self) -> wire.Versions:
        return wire.Versions({})
