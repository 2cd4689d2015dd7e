"""Links between simulated peers: latency, bandwidth, and what a `LinkModel` lets go wrong.

A frame first waits until those before it have left, then leaves at the link's bandwidth, and takes
the link's latency from there. A link delivers in the order of sending, also where each frame draws
its own latency: a quick frame waits for a slow one before it. Frames that are held back leave this
order, and later ones may overtake them. A duplicate is a frame like any other, sent right after the
first, but never duplicated itself.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from peer.traffic import LinkCount, Traffic
from sim.link_model import BATCH, DOUBLED, HELD_BACK, LOST, NO_FATES, Fates, LinkModel
from sim.schedule import Schedule

Deliver = Callable[[int, int, bytes], None]


def _forget(sender: int, receiver: int, frame: bytes) -> None:
    """Let a lost frame be lost."""


@dataclass
class FrameCounts:
    """What has become of the frames of all links; each copy counts.

    Attributes:
        delivered: reached their receivers, or are on their way.
        lost: by chance, or on a link that was cut or down.
        duplicated: were sent on twice.
        overtaken: arrive after a frame that was sent later on the same link.
    """

    delivered: int = 0
    lost: int = 0
    duplicated: int = 0
    overtaken: int = 0


class _Link:
    """One directed link, from its first frame on."""

    __slots__ = ("count", "fates", "free", "held", "last", "latency", "sent", "up")

    def __init__(self, count: LinkCount, latency: float, up: bool) -> None:
        self.count = count
        self.latency = latency
        self.up = up
        self.sent = 0
        """Frames and copies that were put on it while it was up."""
        self.free = 0.0
        """When the last frame has left."""
        self.last = 0.0
        """When the last frame that was not held back arrives."""
        self.held: list[float] = []
        """When frames arrive that were held back and may yet be overtaken."""
        self.fates: Fates = NO_FATES


class Network:
    """All directed links.

    Args:
        schedule: the virtual clock that delivers.
        deliver: called with (sender, receiver, frame).
        traffic: where what is sent gets counted, lost or not; a duplicate is not sent.
        model: what the links are like.
        lose: called in the same way with each frame, or copy of one, that is lost on its way.
    """

    def __init__(
        self,
        schedule: Schedule,
        deliver: Deliver,
        traffic: Traffic,
        model: LinkModel | None = None,
        lose: Deliver = _forget,
    ) -> None:
        self._schedule = schedule
        self._deliver = deliver
        self.traffic = traffic
        self._lose = lose
        self._model = model or LinkModel()
        self._has_fates = self._model.has_fates
        self._bandwidth = self._model.bandwidth
        self._is_plain = not (self._has_fates or self._bandwidth)
        self._links: dict[tuple[int, int], _Link] = {}
        self._cuts: list[frozenset[int]] = []
        self._down: set[tuple[int, int]] = set()
        self._stopped = 0
        self._lost = 0
        self._duplicated = 0
        self._overtaken = 0

    def send(self, sender: int, receiver: int, frame: bytes) -> None:
        """Put a frame on a link."""
        link = self._links.get((sender, receiver)) or self._open(sender, receiver)
        framing = self.traffic.framing(len(frame))
        link.count.count(frame, framing)
        if not link.up:
            self._stopped += 1
            self._lose(sender, receiver, frame)
        elif self._is_plain:
            link.sent += 1
            schedule = self._schedule
            schedule.at(schedule.now + link.latency, self._deliver, sender, receiver, frame)
        elif self._transmit(link, sender, receiver, frame, framing) & DOUBLED:
            self._duplicated += 1
            self._transmit(link, sender, receiver, frame, framing)

    def cut(self, group: frozenset[int]) -> None:
        """Lose all frames that are sent between a group and all others, until `mend`.

        Several groups can be cut off one after the other. What is on its way still arrives.
        """
        self._cuts.append(group)
        self._update()

    def mend(self) -> None:
        """Undo all cuts."""
        self._cuts.clear()
        self._update()

    def link_up(self, a: int, b: int) -> None:
        """Let a link work in both directions, as it does from the start."""
        self._down.discard((min(a, b), max(a, b)))
        self._update_link(a, b)

    def link_down(self, a: int, b: int) -> None:
        """Lose all frames that are sent over a link in either direction, until it is up again."""
        self._down.add((min(a, b), max(a, b)))
        self._update_link(a, b)

    def is_down(self, a: int, b: int) -> bool:
        """Tell whether a link has been taken down by `link_down`; cuts do not count."""
        return (min(a, b), max(a, b)) in self._down

    def counts(self) -> FrameCounts:
        """Return what has become of all frames so far."""
        sent = sum(link.sent for link in self._links.values())
        lost = self._stopped + self._lost
        return FrameCounts(sent - self._lost, lost, self._duplicated, self._overtaken)

    def _open(self, sender: int, receiver: int) -> _Link:
        latency = self._model.expected_latency(sender, receiver)
        count = self.traffic.link(sender, receiver)
        link = _Link(count, latency, self._is_up(sender, receiver))
        self._links[sender, receiver] = link
        return link

    def _is_up(self, sender: int, receiver: int) -> bool:
        if (min(sender, receiver), max(sender, receiver)) in self._down:
            return False
        return all((sender in group) == (receiver in group) for group in self._cuts)

    def _update(self) -> None:
        for (sender, receiver), link in self._links.items():
            link.up = self._is_up(sender, receiver)

    def _update_link(self, a: int, b: int) -> None:
        for ends in ((a, b), (b, a)):
            link = self._links.get(ends)
            if link is not None:
                link.up = self._is_up(*ends)

    def _transmit(self, link: _Link, sender: int, receiver: int, frame: bytes, framing: int) -> int:
        """Send one copy of a frame; return the marks of its fate."""
        # Comparisons are written out: `max` would take a tenth of the whole.
        schedule, marks, latency = self._schedule, 0, link.latency
        extras: memoryview | None = None
        time = schedule.now
        if self._bandwidth:
            if time < link.free:
                time = link.free
            time += (len(frame) + framing) / self._bandwidth
            link.free = time
        if self._has_fates:
            place = link.sent % BATCH
            if place == 0:
                link.fates = self._model.fates(sender, receiver, link.sent // BATCH)
            fates, latencies, extras = link.fates
            marks = fates[place]
            if latencies is not None:
                latency = latencies[place]
        link.sent += 1
        if marks & LOST:
            self._lost += 1
            self._lose(sender, receiver, frame)
            return marks
        # A frame never arrives before one that was sent earlier and is not held back.
        time += latency
        if time < link.last:
            time = link.last
        if not marks & HELD_BACK:
            link.last = time
        elif extras is not None:
            time += extras[place]
        if link.held:
            self._overtaken += sum(held > time for held in link.held)
            link.held = [held for held in link.held if link.last < held <= time]
        if marks & HELD_BACK:
            link.held.append(time)
        schedule.at(time, self._deliver, sender, receiver, frame)
        return marks
