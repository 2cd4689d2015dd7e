"""What one call of the protocol wants done: collected by its parts, handed over at its end."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from peer import wire
from peer.entry import Entry
from peer.events import Event, Output
from peer.links import Link


class Outbox:
    """Messages and events of the call under way.

    Args:
        links: by neighbour; nothing is sent to the deaf ones.
    """

    def __init__(self, links: Mapping[int, Link]) -> None:
        self._links = links
        self._messages: list[tuple[int, bytes]] = []
        self._events: list[Event] = []
        self._prunes: dict[int, set[int]] = {}

    def send(self, neighbour: int, message: wire.Message) -> None:
        """Send a message to a neighbour."""
        self.spread((neighbour,), message)

    def spread(self, neighbours: Iterable[int], message: wire.Message) -> None:
        """Send a message to several neighbours; its one frame is shared, however large it is."""
        hearing = [neighbour for neighbour in neighbours if not self._links[neighbour].deaf]
        if hearing:
            frame = wire.encode(message)
            self._messages += [(neighbour, frame) for neighbour in hearing]

    def push(self, neighbours: Iterable[int], entry: Entry) -> None:
        """Push an entry to neighbours, but for those that are not there.

        It travels alone, even if another goes the same way: which do is a matter of timing, and
        simulator and process are to send the same bytes (C5).
        """
        frame = wire.encode_entry(entry)
        for neighbour in neighbours:
            if not self._links[neighbour].deaf:
                self._messages.append((neighbour, frame))

    def prune(self, neighbour: int, origin: int) -> None:
        """Ask a neighbour to push an origin's entries no more."""
        self._prunes.setdefault(neighbour, set()).add(origin)

    def emit(self, event: Event) -> None:
        """Tell the driver of an event."""
        self._events.append(event)

    def take(self) -> Output:
        """Return what the call has collected, and begin anew."""
        messages, events = self._messages, self._events
        if self._prunes:
            for neighbour, origins in self._prunes.items():
                self.send(neighbour, wire.Prune(tuple(sorted(origins))))
            self._prunes = {}
        if messages:
            self._messages = []
        if events:
            self._events = []
        return Output(messages, events)
