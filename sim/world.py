"""Many peers in one process: the protocol and the bytes of the ZeroMQ peer, in virtual time.

What a scenario does to a peer is what a signal does to a process. A frame that comes to a peer that
is not there is lost; one that was under way when a peer crashed and comes after its restart is
taken by the new life, as a socket's queue would bring it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from math import inf

from peer.entry import Entry, Sign
from peer.events import EntryAdded, Event, Finished, Output, RoundStarted
from peer.participant import Participant
from peer.protocol import Protocol
from peer.scenario import Incident, Script
from peer.stored import Stored
from peer.traffic import Traffic
from peer.trainer import Trainer
from sim.collection import seldom_collected
from sim.link_model import LinkModel
from sim.network import Network
from sim.schedule import Schedule
from sim.seats import Presence, Seat, Training
from sim.slots import Slots

Observer = Callable[[int, Event], None]
FrameObserver = Callable[[str, int, int, bytes], None]
IncidentObserver = Callable[[Incident, tuple[int, ...]], None]


class World:
    """All peers of a run, from their first HELLO to their last BYE.

    Args:
        neighbours: for each peer, whom it has links to.
        protocol: the agreement of the run.
        trainer: takes every peer's local steps.
        step_seconds: the virtual time that one local step takes.
        steps: how many each peer takes in a round; empty: as many as the protocol says.
        known: entries of an earlier life, held by every peer at the start.
        observe: called with (peer, event), in the order in which things happen.
        traffic: continues earlier counts, if given.
        links: what the links are like.
        slots: when which links are up; None: all always.
        slowness: by what factor each peer's local steps take longer; empty: 1 for all.
        scenario: what befalls the run.
        begun: the highest round that an earlier life of the run had begun; what befell it up to
            there is taken as having happened. Incidents by time count from the start of this one.
        observe_incident: called with each incident and those of its peers that it could befall.
        signer: makes each peer's signatures; None: entries are not signed.
        observe_frame: called with "delivered", "lost" or "held", sender, receiver and frame.

    Attributes:
        schedule: the virtual clock.
        traffic: what was sent, with the earlier counts.
        network: all links.
        seats: one for each peer, by its number.
        befallen: by verb, how many peers it has befallen, or how many cuts there were.
        ended_at: when the last peer has left, in virtual seconds.
        protocol_events: frames that peers have taken, and timers of theirs that have rung.
    """

    def __init__(
        self,
        neighbours: Mapping[int, Sequence[int]],
        protocol: Protocol,
        trainer: Trainer,
        *,
        step_seconds: float,
        steps: Sequence[int] = (),
        known: Sequence[Entry] = (),
        observe: Observer = lambda _peer, _event: None,
        traffic: Traffic | None = None,
        links: LinkModel | None = None,
        slots: Slots | None = None,
        slowness: Sequence[float] = (),
        scenario: Sequence[Incident] = (),
        begun: int = -1,
        observe_incident: IncidentObserver = lambda _incident, _befallen: None,
        observe_frame: FrameObserver | None = None,
        signer: Callable[[int], Sign] | None = None,
    ) -> None:
        self.schedule = Schedule()
        self.traffic = traffic or Traffic()
        self.befallen: Counter[str] = Counter()
        self.ended_at = 0.0
        self.protocol_events = 0
        self._neighbours = neighbours
        self._protocol = protocol
        self._trainer = trainer
        self._known = known
        self._observe = observe
        self._observe_incident = observe_incident
        self._observe_frame = observe_frame
        self._signer = signer
        count = len(neighbours)
        slow = slowness or [1.0] * count
        taken = steps or [protocol.local_steps] * count
        self._train_seconds = [
            step_seconds * number * factor for number, factor in zip(taken, slow, strict=True)
        ]
        # Looked up for every frame, hence apart from the seats: who takes frames now, and alarms.
        self._awake: list[Participant | None] = [None] * count
        self._alarms = [inf] * count
        self.network = Network(
            self.schedule,
            self._deliver if observe_frame is None else self._deliver_observed,
            self.traffic,
            links,
            self._lose,
        )
        self._slots = slots
        self._running = False
        self._highest_round = -1
        self._striking = False
        self._begun = begun
        self._script = Script(scenario)
        self.seats = [Seat() for _ in range(count)]
        for incident in scenario:
            for peer in incident.peers:
                if incident.verb == "join":
                    self.seats[peer].presence = Presence.ABSENT
                elif incident.verb == "restart":
                    self.seats[peer].stored = Stored(list(known))

    @property
    def peers(self) -> list[Participant]:
        """The last life of every peer that has had one, by their numbers."""
        return [seat.participant for seat in self.seats if seat.participant is not None]

    @property
    def absent(self) -> tuple[int, ...]:
        """Who is not there to the end: crashed, frozen, gone, evicted, or never come."""
        return tuple(
            peer
            for peer, seat in enumerate(self.seats)
            if seat.presence is not Presence.UP or seat.removed
        )

    def run(self) -> None:
        """Let all peers run until each has left."""
        for incident in self._script.due(-1.0, self._begun):
            self._carry_out(incident)
        self._running = True
        if self._slots is not None:
            self._turn(self._slots)
        for peer, seat in enumerate(self.seats):
            if seat.presence is Presence.HELD:
                seat.presence = Presence.UP
                self._begin_life(peer, Stored(list(self._known)))
                self._hold(peer)
            elif seat.presence is Presence.UP:
                self._begin_life(peer, Stored(list(self._known)))
        self._await_incident()
        with seldom_collected():
            self.schedule.run()

    def _begin_life(self, peer: int, stored: Stored) -> None:
        if not self._running:
            return
        for other in self._neighbours[peer]:
            if self.seats[other].running and self.seats[other].participant is not None:
                self._connect(peer, other)
        sign = self._signer(peer) if self._signer is not None else None
        participant = stored.recall().revive(peer, self._neighbours[peer], self._protocol, sign)
        self.seats[peer].participant = self._awake[peer] = participant
        now = self.schedule.now
        for other in self._neighbours[peer]:
            if self.network.is_down(peer, other):
                participant.link_down(other, now)
        self._follow(peer, participant, participant.start(now))

    def _connect(self, a: int, b: int) -> None:
        """Count the two connections of a link, one dialled by each end."""
        for sender, receiver in ((a, b), (b, a)):
            self.traffic.count_handshake(sender, receiver, dialled=True)
            self.traffic.count_handshake(sender, receiver, dialled=False)

    def _turn(self, slots: Slots) -> None:
        """Begin the next slot, and go on doing so while anybody is there or may still come."""
        up, down = slots.turn()
        now = self.schedule.now
        for a, b in down:
            self.network.link_down(a, b)
        for a, b in up:
            self.network.link_up(a, b)
        for edges, comes in ((down, False), (up, True)):
            for a, b in edges:
                for me, other in ((a, b), (b, a)):
                    participant = self._awake[me]
                    if participant is not None:
                        turn = participant.link_up if comes else participant.link_down
                        self._follow(me, participant, turn(other, now))
        anybody = now == 0.0 or any(participant is not None for participant in self._awake)
        if anybody or self._script.next_time is not None:
            self.schedule.at(slots.next_time, self._turn, slots)

    def _deliver(self, sender: int, receiver: int, frame: bytes) -> None:
        participant = self._awake[receiver]
        if participant is not None:
            self.protocol_events += 1
            self._follow(
                receiver, participant, participant.receive(frame, sender, self.schedule.now)
            )
        elif self.seats[receiver].presence is Presence.HELD:
            self.seats[receiver].waiting.append((sender, frame))

    def _deliver_observed(self, sender: int, receiver: int, frame: bytes) -> None:
        assert self._observe_frame is not None
        held = self.seats[receiver].presence is Presence.HELD
        what = "held" if held else "lost" if self._awake[receiver] is None else "delivered"
        self._observe_frame(what, sender, receiver, frame)
        self._deliver(sender, receiver, frame)

    def _lose(self, sender: int, receiver: int, frame: bytes) -> None:
        if self._observe_frame is not None:
            self._observe_frame("lost", sender, receiver, frame)

    def _follow(self, peer: int, participant: Participant, output: Output) -> None:
        """Do what an output asks for, and set the peer's alarm."""
        events, heeds = output.events, False
        if events:
            stored = self.seats[peer].stored
            for event in events:
                if stored is not None:
                    stored.take(event)
                self._observe(peer, event)
                # Almost all are of this kind, and nothing more is to be done.
                if type(event) is not EntryAdded:
                    heeds = True
        for neighbour, frame in output.messages:
            self.network.send(peer, neighbour, frame)
        higher = heeds and self._heed(peer, events)
        due = participant.timer
        if due is not None and due < self._alarms[peer]:
            self._alarms[peer] = due
            self.schedule.at(due, self._ring, peer, due)
        if higher:
            self._strike()

    def _heed(self, peer: int, events: Sequence[Event]) -> bool:
        """Do what events ask for; tell whether a round has begun that nobody was in before."""
        before = self._highest_round
        for event in events:
            if isinstance(event, RoundStarted):
                self._highest_round = max(self._highest_round, event.round)
                if event.indices is not None:
                    self._train(peer, event)
            elif isinstance(event, Finished):
                self._awake[peer] = None
                self.ended_at = self.schedule.now
        return self._highest_round > before

    def _ring(self, peer: int, due: float) -> None:
        participant = self._awake[peer]
        # An alarm that an earlier one has replaced, or whose peer has gone, does nothing.
        if participant is None or self._alarms[peer] != due:
            return
        self._alarms[peer] = inf
        self.protocol_events += 1
        self._follow(peer, participant, participant.advance(self.schedule.now))

    def _train(self, peer: int, start: RoundStarted) -> None:
        trainings = self.seats[peer].trainings
        # A peer takes local steps in one thread.
        begin = trainings[-1].end if trainings else self.schedule.now
        self._under_way(peer, Training(start, begin + self._train_seconds[peer]))

    def _under_way(self, peer: int, training: Training) -> None:
        self.seats[peer].trainings.append(training)
        self.schedule.at(training.end, self._publish, peer, training)

    def _publish(self, peer: int, training: Training) -> None:
        participant, trainings = self._awake[peer], self.seats[peer].trainings
        if participant is None or training not in trainings:
            return
        trainings.remove(training)
        start = training.start
        assert start.indices is not None
        made = self._trainer.train(peer, start.round, start.cut, start.indices)
        self._follow(peer, participant, participant.trained(start, made, self.schedule.now))

    def _await_incident(self) -> None:
        time = self._script.next_time
        if time is not None:
            self.schedule.at(time, self._strike_in_time)

    def _strike_in_time(self) -> None:
        self._strike()
        self._await_incident()

    def _strike(self) -> None:
        # One incident may let a round begin that others wait for: they come after it.
        if self._striking:
            return
        self._striking = True
        while due := self._script.due(self.schedule.now, self._highest_round):
            for incident in due:
                self._carry_out(incident)
        self._striking = False

    def _carry_out(self, incident: Incident) -> None:
        verb, peers = incident.verb, incident.peers
        if verb == "partition":
            self.network.cut(frozenset(peers))
        elif verb == "repair":
            self.network.mend()
        else:
            # Whether it can befall a peer has to be known before it does, for the trace's order.
            peers = tuple(peer for peer in peers if self._can(verb, self.seats[peer]))
        self.befallen[verb] += 1 if verb in ("partition", "repair") else len(peers)
        self._observe_incident(incident, peers)
        act = {
            "crash": self._crash,
            "restart": self._restart,
            "join": self._join,
            "leave": self._remove,
            "evict": self._remove,
            "hold": self._hold,
            "release": self._release,
        }.get(verb)
        if act is not None:
            for peer in peers:
                act(peer)

    def _can(self, verb: str, seat: Seat) -> bool:
        """Tell whether a peer is in the state that a verb is for; by then it may have ended."""
        match verb:
            case "restart":
                return seat.presence is Presence.DOWN and not seat.removed
            case "join":
                return seat.presence is Presence.ABSENT
            case "evict":
                return seat.presence in (Presence.DOWN, Presence.HELD)
            case "hold":
                return seat.running and seat.presence is Presence.UP
            case "release":
                return seat.presence is Presence.HELD
            case _:
                return seat.running

    def _sleep(self, peer: int) -> None:
        self._awake[peer] = None
        self._alarms[peer] = inf

    def _crash(self, peer: int) -> None:
        seat = self.seats[peer]
        self._sleep(peer)
        seat.presence = Presence.DOWN
        seat.trainings.clear()
        for sender, frame in seat.waiting:
            self._lose(sender, peer, frame)
        seat.waiting.clear()

    def _restart(self, peer: int) -> None:
        seat = self.seats[peer]
        seat.presence = Presence.UP
        seat.earlier_timeouts = seat.timeouts
        seat.participant = None
        self._begin_life(peer, seat.stored or Stored())

    def _join(self, peer: int) -> None:
        self.seats[peer].presence = Presence.UP
        self._begin_life(peer, Stored())

    def _remove(self, peer: int) -> None:
        # What this means to the protocol is in the roster; the peer goes by itself, or has gone.
        self.seats[peer].removed = True

    def _hold(self, peer: int) -> None:
        seat = self.seats[peer]
        self._sleep(peer)
        seat.presence = Presence.HELD
        seat.held_since = self.schedule.now

    def _release(self, peer: int) -> None:
        seat = self.seats[peer]
        seat.presence = Presence.UP
        participant = seat.participant
        if participant is None:
            return
        self._awake[peer] = participant
        trainings, waiting = seat.trainings, seat.waiting
        seat.trainings, seat.waiting = [], []
        frozen = self.schedule.now - seat.held_since
        for training in trainings:
            self._under_way(peer, Training(training.start, training.end + frozen))
        # Frames come before what has been due for long, as in a process that reads its sockets.
        deliver = self._deliver if self._observe_frame is None else self._deliver_observed
        for sender, frame in waiting:
            deliver(sender, peer, frame)
        if self._awake[peer] is participant:
            self._follow(peer, participant, Output([], []))
