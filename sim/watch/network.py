"""What is known of a network from its peers' answers: who is here, who is silent, who has ended.

No sockets and no clock: answers and the time go in, pictures come out.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Final

from peer.participant import Phase
from peer.status import PeerStatus
from sim.watch.answers import Heard, Silence

CLOCKS: Final = 60.0
"""Seconds that a peer's clock may be away from this host's."""


LOOKS: Final = 6
"""Over which a rate is taken: peers speak in bursts, once a round."""


class Presence(StrEnum):
    """Whether a peer answers."""

    UNSEEN = "unseen"
    HERE = "here"
    SILENT = "silent"
    ENDED = "ended"


@dataclass(frozen=True)
class Row:
    """One peer that is watched.

    Attributes:
        address: where it is asked.
        presence: whether it answers.
        status: what it has said last; None: nothing yet.
        silent_seconds: since then, or since it was first asked; 0 where it answers.
        why: why it does not; empty: it does.
        differs: whether its digest is not what most have after as many rounds.
        rate: bytes a second that it has sent lately; None: not known.
        clock_ahead: of this host's, in seconds.
    """

    address: str
    presence: Presence
    status: PeerStatus | None = None
    silent_seconds: float = 0.0
    why: str = ""
    differs: bool = False
    rate: float | None = None
    clock_ahead: float = 0.0

    @property
    def name(self) -> str:
        """The peer's number, or its address while that is not known."""
        return self.address if self.status is None else str(self.status.peer)


@dataclass(frozen=True)
class LinkRow:
    """A link between peers `low` and `high`, and bytes sent each way; None: nobody told."""

    low: int
    high: int
    upward: int | None
    downward: int | None

    @property
    def total(self) -> int:
        """Bytes sent both ways, as far as they are known."""
        return (self.upward or 0) + (self.downward or 0)


@dataclass(frozen=True)
class Picture:
    """The network at one moment.

    Attributes:
        rows: all that are watched, by number, unseen ones last.
        links: those with most bytes first.
        compared: how many peers' digests could be held against another's.
        sent: bytes by all peers, in all.
        rate: bytes a second by all; None: not known.
        over: whether nobody is there any more who could go on.
    """

    rows: tuple[Row, ...]
    links: tuple[LinkRow, ...]
    compared: int
    sent: int
    rate: float | None
    over: bool

    @property
    def known(self) -> list[PeerStatus]:
        """What was heard last of those who answer, or have ended."""
        present = (Presence.HERE, Presence.ENDED)
        return [row.status for row in self.rows if row.status and row.presence in present]

    @property
    def differing(self) -> list[Row]:
        """Whose digests are not what they have to be."""
        return [row for row in self.rows if row.differs]

    @property
    def silent(self) -> list[Row]:
        """Who does not answer, though it has not ended."""
        return [r for r in self.rows if r.presence in (Presence.SILENT, Presence.UNSEEN)]

    @property
    def well(self) -> bool:
        """Whether everybody answers or has ended, and none differs."""
        return not self.silent and not self.differing

    @property
    def loss(self) -> float | None:
        """The mean of the peers' last training losses; None: none has any."""
        losses = [status.loss for status in self.known if status.loss is not None]
        return math.fsum(losses) / len(losses) if losses else None

    @property
    def rounds(self) -> tuple[int, int, int] | None:
        """The first and the last round that a peer is in, from 1, and R; None: nobody told."""
        known = self.known
        if not known:
            return None
        at = [at_round(status) for status in known]
        return min(at), max(at), max(status.rounds for status in known)

    @property
    def wrong_clocks(self) -> list[Row]:
        """Whose clocks are too far from this host's."""
        here = (row for row in self.rows if row.presence is Presence.HERE)
        return [row for row in here if abs(row.clock_ahead) > CLOCKS]

    @property
    def strangers(self) -> list[Row]:
        """Who takes part in another experiment than most."""
        told = [row for row in self.rows if row.status is not None]
        usual = _usual(row.status.agreement for row in told if row.status is not None)
        return [row for row in told if row.status and row.status.agreement != usual]

    @property
    def twins(self) -> list[Row]:
        """Who says to be a peer that somebody else says to be."""
        numbers = Counter(row.status.peer for row in self.rows if row.status is not None)
        return [row for row in self.rows if row.status and numbers[row.status.peer] > 1]

    @property
    def concerns(self) -> frozenset[tuple[str, str]]:
        """What is wrong with whom, as (what, address)."""
        found = {
            "silent": self.silent,
            "differs": self.differing,
            "clock": self.wrong_clocks,
            "stranger": self.strangers,
            "twin": self.twins,
            "accuses": [row for row in self.rows if row.status and row.status.accused],
        }
        return frozenset((what, row.address) for what, rows in found.items() for row in rows)


@dataclass
class _Watched:
    """What is remembered of one address."""

    first_asked: float | None = None
    heard: Heard | None = None
    heard_at: float = 0.0
    silence: Silence | None = None
    sent: deque[tuple[float, int]] = field(default_factory=lambda: deque(maxlen=LOOKS))

    def take(self, answer: Heard | Silence, now: float) -> None:
        if self.first_asked is None:
            self.first_asked = now
        if isinstance(answer, Silence):
            self.silence = answer
            self.sent.clear()
            return
        self.heard, self.heard_at, self.silence = answer, now, None
        sent = sent_by(answer.status)
        if self.sent and sent < self.sent[-1][1]:
            # A new life may know less than the one before had counted.
            self.sent.clear()
        self.sent.append((now, sent))

    @property
    def rate(self) -> float | None:
        """Bytes a second over the last looks; None: there were not two."""
        if len(self.sent) < 2:
            return None
        (before, less), (now, more) = self.sent[0], self.sent[-1]
        return (more - less) / (now - before) if now > before else None

    @property
    def presence(self) -> Presence:
        if self.heard is None:
            return Presence.UNSEEN
        phase = self.heard.status.phase
        if phase == Phase.ENDED:
            return Presence.ENDED
        if self.silence is None:
            return Presence.HERE
        # Who has been through all rounds and listens no more has ended between two questions.
        ended = phase == Phase.ENDING and self.silence.gone
        return Presence.ENDED if ended else Presence.SILENT

    @property
    def may_go_on(self) -> bool:
        """Whether a process is there, as far as can be told from here."""
        gone = self.silence is not None and self.silence.gone
        return self.presence is not Presence.ENDED and not gone


class Network:
    """All peers that are watched.

    Args:
        addresses: where they are asked, each once.
    """

    def __init__(self, addresses: Sequence[str]) -> None:
        self._watched = {address: _Watched() for address in addresses}

    def take(self, answers: Mapping[str, Heard | Silence], now: float) -> None:
        """Take note of what was heard at a time, in seconds of a clock that never goes back."""
        for address, answer in answers.items():
            self._watched[address].take(answer, now)

    def picture(self, now: float) -> Picture:
        """Return what is known at a time."""
        rows = [_row(address, one, now) for address, one in self._watched.items()]
        rows.sort(key=lambda row: math.inf if row.status is None else row.status.peer)
        seen = any(one.heard is not None for one in self._watched.values())
        told = [row.status for row in rows if row.status is not None]
        rates = [row.rate for row in rows if row.rate is not None]
        compared, differing = _compared(rows)
        return Picture(
            rows=tuple(_marked(row, differing) for row in rows),
            links=links_of(told),
            compared=compared,
            sent=sum(map(sent_by, told)),
            rate=math.fsum(rates) if rates else None,
            over=seen and not any(one.may_go_on for one in self._watched.values()),
        )


def at_round(status: PeerStatus) -> int:
    """Return the round that a peer is in, from 1; the last one after the last."""
    return min(status.round + 1, status.rounds)


def sent_by(status: PeerStatus) -> int:
    """Return all bytes that a peer has sent."""
    return sum(neighbour.sent_bytes for neighbour in status.neighbours)


def links_of(told: Iterable[PeerStatus]) -> tuple[LinkRow, ...]:
    """Return the links between peers, those with most bytes first."""
    sent = {(one.peer, n.peer): n.sent_bytes for one in told for n in one.neighbours}
    pairs = {(min(pair), max(pair)) for pair in sent}
    rows = (LinkRow(a, b, sent.get((a, b)), sent.get((b, a))) for a, b in pairs)
    return tuple(sorted(rows, key=lambda row: (-row.total, row.low, row.high)))


def _row(address: str, one: _Watched, now: float) -> Row:
    presence = one.presence
    since = one.heard_at if one.heard is not None else one.first_asked
    mute = presence in (Presence.SILENT, Presence.UNSEEN)
    return Row(
        address=address,
        presence=presence,
        status=one.heard.status if one.heard is not None else None,
        silent_seconds=now - since if mute and since is not None else 0.0,
        why=_why(one) if mute else "",
        rate=one.rate if presence is Presence.HERE else None,
        clock_ahead=one.heard.clock_ahead if one.heard is not None else 0.0,
    )


def _why(one: _Watched) -> str:
    return one.silence.why if one.silence is not None else "not asked to the end yet"


def _marked(row: Row, differing: set[str]) -> Row:
    return replace(row, differs=True) if row.address in differing else row


def _compared(rows: Iterable[Row]) -> tuple[int, set[str]]:
    """Return how many peers have a digest to compare with another's, and the addresses of the odd.

    Digests are comparable after as many rounds only.
    """
    groups: defaultdict[int, list[Row]] = defaultdict(list)
    for row in rows:
        present = row.presence in (Presence.HERE, Presence.ENDED)
        if present and row.status is not None and row.status.cut_round is not None:
            groups[row.status.cut_round].append(row)
    compared, differing = 0, set()
    for group in groups.values():
        if len(group) > 1:
            compared += len(group)
            usual = _usual(row.status.digest for row in group if row.status is not None)
            differing |= {r.address for r in group if r.status and r.status.digest != usual}
    return compared, differing


def _usual(texts: Iterable[str]) -> str | None:
    """Return the most frequent text, of equally frequent ones the first."""
    most = Counter(texts).most_common(1)
    return most[0][0] if most else None
