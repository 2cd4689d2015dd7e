"""Many peers in one process: the `Gossip` and the bytes of the ZeroMQ peer, in virtual time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from peer.entry import Entry
from peer.events import Event, Output, RoundStarted
from peer.gossip import Gossip
from peer.log import EntryLog
from peer.protocol import Protocol
from peer.traffic import Traffic
from peer.trainer import Trainer
from sim.network import Network
from sim.schedule import Schedule

Observer = Callable[[int, Event], None]


class World:
    """All peers of a run, from their first HELLO to their last BYE.

    Args:
        neighbours: for each peer, whom it has links to.
        protocol: the agreement of the run.
        trainer: makes every peer's histories.
        step_seconds: the virtual time that one local step takes.
        known: entries of an earlier life, held by every peer at the start.
        observe: called with (peer, event), in the order in which things happen.
        traffic: continues earlier counts, if given.
    """

    def __init__(
        self,
        neighbours: Mapping[int, Sequence[int]],
        protocol: Protocol,
        trainer: Trainer,
        *,
        step_seconds: float,
        known: Sequence[Entry] = (),
        observe: Observer = lambda _peer, _event: None,
        traffic: Traffic | None = None,
    ) -> None:
        self.schedule = Schedule()
        self.traffic = traffic or Traffic()
        self.peers = [
            Gossip(peer, neighbours[peer], protocol, EntryLog(known)) for peer in sorted(neighbours)
        ]
        self._network = Network(self.schedule, self._deliver, self.traffic)
        self._trainer = trainer
        self._train_seconds = step_seconds * protocol.local_steps
        self._observe = observe
        self._alarms: dict[int, float] = {}

    def run(self) -> None:
        """Let all peers run until each has left."""
        for gossip in self.peers:
            self._follow(gossip, gossip.start(self.schedule.now))
        while self.schedule.step():
            pass

    def _deliver(self, sender: int, receiver: int, frame: bytes) -> None:
        gossip = self.peers[receiver]
        if gossip.finished is None:
            self._follow(gossip, gossip.receive(frame, sender, self.schedule.now))

    def _follow(self, gossip: Gossip, output: Output) -> None:
        """Do what an output asks for, and set the peer's alarm."""
        for event in output.events:
            self._observe(gossip.me, event)
        for neighbour, frame in output.messages:
            self._network.send(gossip.me, neighbour, frame)
        for event in output.events:
            if isinstance(event, RoundStarted) and event.indices is not None:
                self._train(gossip, event)
        due = gossip.timer
        if due is not None and due < self._alarms.get(gossip.me, float("inf")):
            self._alarms[gossip.me] = due
            self.schedule.at(due, lambda: self._ring(gossip, due))

    def _ring(self, gossip: Gossip, due: float) -> None:
        # An alarm that an earlier one has replaced, or that has been put off, does nothing.
        if self._alarms.get(gossip.me) != due:
            return
        del self._alarms[gossip.me]
        self._follow(gossip, gossip.advance(self.schedule.now))

    def _train(self, gossip: Gossip, start: RoundStarted) -> None:
        indices = start.indices
        assert indices is not None

        def publish() -> None:
            made = self._trainer.train(gossip.me, start.round, start.cut, indices)
            now = self.schedule.now
            self._follow(gossip, gossip.publish(start.round, indices, made.gradients, now))

        self.schedule.at(self.schedule.now + self._train_seconds, publish)
