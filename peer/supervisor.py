"""A launched run while it goes on: who is there, what the peers tell, and when all have ended."""

from __future__ import annotations

import multiprocessing.connection as pipes
from collections import defaultdict
from multiprocessing.connection import Connection
from typing import NoReturn

from peer import control
from peer.control import Message
from peer.errors import RunFailed
from peer.fleet import Child, Fleet
from peer.progress import RunProgress
from peer.reporting import RoundReport
from peer.traffic import LinkCount


class Supervisor:
    """Follows a run from the start of its processes to the last one's result.

    Args:
        fleet: the processes; none has been started.
        progress: shown meanwhile.

    Attributes:
        reports: what each peer's local steps were like, by round.
        sent: by all peers before the round of this number began.
    """

    def __init__(self, fleet: Fleet, progress: RunProgress) -> None:
        self._fleet = fleet
        self._progress = progress
        self.reports: defaultdict[int, list[RoundReport]] = defaultdict(list)
        self.sent: defaultdict[int, LinkCount] = defaultdict(LinkCount)

    def run(self) -> None:
        """Start the peers and follow the run until every one has reported its end.

        Raises:
            RunFailed: a peer has failed or died.
        """
        self._fleet.start_all()
        running = {child.channel: child for child in self._fleet.children}
        while running:
            for ready in pipes.wait(list(running)):
                assert isinstance(ready, Connection)
                child = running[ready]
                try:
                    message = control.receive(ready)
                except (EOFError, OSError):
                    self._died(child)
                self._take(child, message)
                if child.result is not None:
                    del running[ready]

    def _take(self, child: Child, message: Message) -> None:
        match message:
            case {"listens": endpoint}:
                child.endpoint = endpoint
                if all(other.endpoint for other in self._fleet.children):
                    self._tell_addresses()
            case {"round": round_, "sent": sent}:
                self.sent[round_].add(LinkCount(**sent))
            case {"trained": report}:
                told = RoundReport(**report)
                self.reports[told.round].append(told)
                self._progress.trained(told.round)
            case {"done": result}:
                child.result = result
            case {"failed": reason}:
                raise RunFailed(
                    f"peer {child.peer} failed: {reason} (see {child.folder / 'output.log'})"
                )

    def _tell_addresses(self) -> None:
        addresses = {child.peer: child.endpoint for child in self._fleet.children}
        for child in self._fleet.children:
            try:
                control.send(child.channel, {"addresses": addresses})
            except OSError:
                self._died(child)

    def _died(self, child: Child) -> NoReturn:
        how = child.how_it_ended()
        raise RunFailed(f"peer {child.peer} {how} (see {child.folder / 'output.log'})")
