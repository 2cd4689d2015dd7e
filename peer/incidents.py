"""A scenario carried out on processes: what the simulator does to a peer, a signal does here.

crash is SIGKILL, hold SIGSTOP, release SIGCONT; restart and join are a new process. A leave and an
eviction are in the roster, so there is nothing to do but to count them. A partition is the work of
the places if these can drop packets, or else of the peers, which are told whom they are cut off
from.

An incident by round happens when the launcher hears that the first peer has started that round, one
by time so many seconds after it has heard that the first round was started. The peers go on
meanwhile, so what happens "in round 3" may happen while some are in round 4.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final

from peer.control import Message
from peer.fleet import Fleet, Member
from peer.places import Link, Places
from peer.scenario import Incident, Script

LOG = logging.getLogger("kseed")
_BEFORE: Final = -1.0
"""A time at which nothing has happened yet."""


class Incidents:
    """What befalls the processes of a run.

    Args:
        scenario: the run's.
        fleet: its processes.
        places: where these listen.
        links: of its topology.
        heard: called with what a peer had told before it was killed, and nobody had heard.

    Attributes:
        befallen: by verb, how many peers it has befallen, or how many cuts there were.
        removed: who has left or has been evicted.
    """

    def __init__(
        self,
        scenario: Sequence[Incident],
        fleet: Fleet,
        places: Places,
        links: Sequence[Link],
        heard: Callable[[Member, Message], None],
    ) -> None:
        self.befallen: Counter[str] = Counter()
        self.removed: set[int] = set()
        self._fleet = fleet
        self._places = places
        self._links = links
        self._heard = heard
        self._script = Script(scenario)
        self._began: float | None = None
        self._groups: list[frozenset[int]] = []
        self._cut: frozenset[Link] = frozenset()
        self._absent = {p for i in scenario if i.verb == "join" for p in i.peers}
        """Who is not there, and not because it has ended: not yet come, crashed, or held so far."""

    def begin(self, begun: int) -> None:
        """Start the peers that are there at the beginning.

        Args:
            begun: the highest round that an earlier life of the run had begun, -1 without one. What
                befell it up to there is taken as having happened; time counts from now on.
        """
        for incident in self._script.due(_BEFORE, begun):
            match incident.verb:
                case "crash" | "hold":
                    self._absent.update(incident.peers)
                case "restart" | "join" | "release":
                    self._absent.difference_update(incident.peers)
            self._count(incident, incident.peers)
        for member in self._fleet.members:
            if member.peer not in self._absent:
                self._fleet.start(member)
        self._cut_links()

    def happen(self, highest_round: int) -> None:
        """Carry out what is due.

        Args:
            highest_round: the highest that any peer has started, -1 before that.
        """
        if self._began is None and highest_round >= 0:
            self._began = time.monotonic()
        since = _BEFORE if self._began is None else time.monotonic() - self._began
        for incident in self._script.due(since, highest_round):
            able = tuple(peer for peer in incident.peers if self._can(incident.verb, peer))
            for peer in able:
                self._act(incident.verb, self._fleet.members[peer])
            self._count(incident, able)
            if incident.verb in ("partition", "repair"):
                self._cut_links()
            if able or incident.verb == "repair":
                LOG.info("scenario: %s %s", incident.verb, ", ".join(map(str, able)))
            else:
                spared = ", ".join(map(str, incident.peers))
                LOG.warning(
                    "scenario: %s comes too late or too early for %s", incident.verb, spared
                )

    def patience(self) -> float | None:
        """Return the seconds to the next incident by time; None: there is none to wait for."""
        due = self._script.next_time
        if self._began is None or due is None:
            return None
        return max(0.0, self._began + due - time.monotonic())

    def cut_off_from(self, peer: int) -> list[int]:
        """Return the neighbours that a peer has to cut itself off from."""
        return [b if a == peer else a for a, b in sorted(self._cut) if peer in (a, b)]

    def _can(self, verb: str, peer: int) -> bool:
        """Tell whether a peer is in the state that a verb is for; by then it may have ended."""
        life = self._fleet.members[peer].life
        goes_on = life is not None and life.goes_on
        held = life is not None and life.held
        match verb:
            case "restart":
                return life is None and peer in self._absent and peer not in self.removed
            case "join":
                return life is None
            case "evict":
                return life is None or held
            case "hold":
                return goes_on and not held
            case "release":
                return held or (life is None and peer in self._absent)
            case "partition":
                return True
            case _:
                return goes_on

    def _act(self, verb: str, member: Member) -> None:
        fleet = self._fleet
        match verb:
            case "crash":
                self._absent.add(member.peer)
                for message in fleet.kill(member):
                    self._heard(member, message)
            case "hold":
                fleet.hold(member)
            case "release" if member.life is not None:
                fleet.release(member)
            case "restart" | "join" | "release":
                self._absent.discard(member.peer)
                fleet.start(member)

    def _count(self, incident: Incident, peers: Sequence[int]) -> None:
        match incident.verb:
            case "leave" | "evict":
                self.removed.update(peers)
            case "partition":
                self._groups.append(frozenset(peers))
            case "repair":
                self._groups.clear()
        alone = incident.verb in ("partition", "repair")
        self.befallen[incident.verb] += 1 if alone else len(peers)

    def _cut_links(self) -> None:
        """Let the links between what is cut apart fall silent, and no others."""
        cut = frozenset(
            (a, b) for a, b in self._links if any((a in g) != (b in g) for g in self._groups)
        )
        if self._places.cut(cut):
            return
        changed, self._cut = self._cut ^ cut, cut
        for member in self._fleet.members:
            life = member.life
            if life is None or not life.told or not life.goes_on:
                continue
            if any(member.peer in link for link in changed):
                self._fleet.tell(member, {"cut": self.cut_off_from(member.peer)})
