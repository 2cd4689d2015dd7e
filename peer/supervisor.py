"""A launched run while it goes on: who is there, what the peers tell, and when all have ended."""

from __future__ import annotations

import multiprocessing.connection as pipes
from collections import defaultdict
from collections.abc import Sequence
from multiprocessing.connection import Connection
from typing import NoReturn

from peer import control
from peer.control import Message
from peer.errors import RunFailed
from peer.fleet import Fleet, Life, Member
from peer.incidents import Incidents
from peer.places import Link, Places
from peer.progress import RunProgress
from peer.reporting import RoundReport
from peer.scenario import Incident
from peer.traffic import LinkCount


class Supervisor:
    """Follows a run from the start of its first processes to the last result.

    A peer that dies though nobody has told it to ends the run.

    Args:
        fleet: the processes; none has been started.
        places: where they listen.
        links: of the topology.
        scenario: what befalls the run.
        progress: shown meanwhile.

    Attributes:
        incidents: what has befallen the run.
        reports: what each peer's local steps were like, by round and peer.
    """

    def __init__(
        self,
        fleet: Fleet,
        places: Places,
        links: Sequence[Link],
        scenario: Sequence[Incident],
        progress: RunProgress,
    ) -> None:
        self.incidents = Incidents(scenario, fleet, places, links, self._take)
        self.reports: defaultdict[int, dict[int, RoundReport]] = defaultdict(dict)
        self._fleet = fleet
        self._progress = progress
        self._sent: defaultdict[int, dict[int, LinkCount]] = defaultdict(dict)
        self._highest_round = -1

    def run(self, begun: int) -> None:
        """Start the peers and follow the run until every one that is there has come to its end.

        Args:
            begun: the highest round that an earlier life of the run had begun, -1 without one.

        Raises:
            RunFailed: a peer has failed or died, or the scenario has left nobody.
        """
        self._fleet.prepare()
        self.incidents.begin(begun)
        while not self._over():
            channels = {life.channel: member for member, life in self._going_on()}
            for ready in pipes.wait(list(channels), self.incidents.patience()):
                assert isinstance(ready, Connection)
                self._hear(channels[ready])
            self.incidents.happen(self._highest_round)
            self._introduce()
        if not any(member.result for member in self._fleet.members):
            raise RunFailed("the scenario has left no peer that could end the run")

    def sent(self, rounds_done: int) -> LinkCount:
        """Return what all peers had sent when they had done so many rounds.

        One that was not there then counts with what it had told before.
        """
        last: dict[int, LinkCount] = {}
        for round_ in sorted(self._sent):
            if round_ <= rounds_done:
                last |= self._sent[round_]
        total = LinkCount()
        for count in last.values():
            total.add(count)
        return total

    def _going_on(self) -> list[tuple[Member, Life]]:
        pairs = [(member, member.life) for member in self._fleet.members]
        return [(member, life) for member, life in pairs if life is not None and life.goes_on]

    def _over(self) -> bool:
        """Tell whether nobody is at work, and no incident by time can change that.

        Once a peer has come to the end of the run, those that are stopped or dead are too late.
        """
        if any(not life.held for _, life in self._going_on()):
            return False
        removed = self.incidents.removed
        done = any(m.result for m in self._fleet.members if m.peer not in removed)
        return done or self.incidents.patience() is None

    def _hear(self, member: Member) -> None:
        assert member.life is not None
        try:
            message = control.receive(member.life.channel)
        except (EOFError, OSError):
            self._died(member)
        self._take(member, message)

    def _take(self, member: Member, message: Message) -> None:
        match message:
            case {"listens": _}:
                assert member.life is not None
                member.life.listens = True
            case {"round": round_, "sent": sent}:
                self._sent[round_][member.peer] = LinkCount(**sent)
                self._highest_round = max(self._highest_round, round_)
            case {"trained": report}:
                told = RoundReport(**report)
                # A round that a crash has cut off is trained again.
                if told.peer not in self.reports[told.round]:
                    self._progress.trained(told.round)
                self.reports[told.round][told.peer] = told
            case {"done": result}:
                if member.life is not None:
                    member.life.result = result
            case {"failed": reason}:
                raise RunFailed(f"peer {member.peer} failed: {reason} (see {member.log})")

    def _introduce(self) -> None:
        """Let those that are new begin, as soon as all of them listen; who is held has to wait."""
        new = [(m, life) for m, life in self._going_on() if not life.told and not life.held]
        if all(life.listens for _, life in new):
            for member, _ in new:
                self._fleet.introduce(member, self.incidents.cut_off_from(member.peer))

    def _died(self, member: Member) -> NoReturn:
        how = self._fleet.how_it_ended(member)
        raise RunFailed(f"peer {member.peer} {how} (see {member.log})")
