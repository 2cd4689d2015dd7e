"""The `kseed` command, whose processes ask at a gate before they go on past certain points.

    python gate.py launch experiment.toml

does what `kseed launch experiment.toml` does. If the variable KSEED_GATE holds the path of a
`Gate`, every process stops there until it is let pass, so a test can wait for the very moment that
it needs, however slow the machine is, and do then what has to be done:

    started P      the process of peer P runs, and nothing of the peer has happened yet
    listens P      peer P has told the launcher its address, and has not read the others'
    binds P        before peer P opens its sockets
    greets P       peer P has opened them, and has not sent anything
    trains P R     before the local steps of peer P in round R
    trained P R    after them; the history is not on disk
    stored P N     entry N of peer P is on its own disk, and has not been sent

If the variable KSEED_NO_PICTURES is set, a run ends without them: what draws them takes twice as
long to import as a small run takes.
"""

from __future__ import annotations

import multiprocessing
import os
import socket
import sys
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType, TracebackType
from typing import Any, Self

PATIENCE = 60.0
"""Seconds after which what is waited for will not come any more."""

_ADDRESS = "KSEED_GATE"
_NO_PICTURES = "KSEED_NO_PICTURES"


class Gate:
    """Lets processes pass, except those that are waited for."""

    def __init__(self) -> None:
        # Not a port: a peer of another test, which dials one that is gone, could come to it.
        self._folder = TemporaryDirectory(prefix="gate-")
        self._path = str(Path(self._folder.name) / "socket")
        self._server = socket.socket(socket.AF_UNIX)
        self._server.bind(self._path)
        self._server.listen(128)
        self._server.settimeout(PATIENCE)
        self._held: dict[str, socket.socket] = {}

    @property
    def environment(self) -> Mapping[str, str]:
        """The variable that tells a process of the gate."""
        return {_ADDRESS: self._path}

    def hold(self, *points: str) -> list[int]:
        """Let everybody pass until processes wait at all of these points; return their pids.

        Raises:
            TimeoutError: one of them has not come.
        """
        pids = dict.fromkeys(points, 0)
        while not all(pids.values()):
            visitor = self._server.accept()[0]
            visitor.settimeout(PATIENCE)
            point, _, pid = visitor.makefile().readline().rpartition(" ")
            if point in pids:
                pids[point] = int(pid)
                self._held[point] = visitor
            else:
                visitor.close()
        return list(pids.values())

    def release(self, point: str) -> None:
        """Let the process that is held at a point go on."""
        self._held.pop(point).close()

    def fail(self, point: str, reason: str) -> None:
        """Let the process that is held at a point meet an error there."""
        self._held[point].sendall(reason.encode())
        self.release(point)

    def open(self) -> None:
        """Let everybody pass from now on."""
        self._server.close()
        self._folder.cleanup()
        while self._held:
            self._held.popitem()[1].close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.open()


def ask(point: str) -> None:
    """Wait at the gate until this process is let pass."""
    reason = ""
    # A gate that has been opened is not there any more.
    with suppress(OSError), socket.socket(socket.AF_UNIX) as visit:
        visit.connect(os.environ[_ADDRESS])
        visit.sendall(f"{point} {os.getpid()}\n".encode())
        reason = visit.makefile().read()
    if reason:
        raise ArithmeticError(reason)


def _this_peer() -> str:
    """Return the number of the peer whose process the launcher has made of this one."""
    return multiprocessing.current_process().name.rpartition("-")[2]


def _put_gates() -> None:
    """Let this process ask at each point."""
    from peer import control
    from peer.gossip import Gossip
    from peer.reporting import ReportingTrainer
    from peer.store import EntryStore
    from peer.zeromq import Transport

    send, start, train = control.send, Gossip.start, ReportingTrainer.train
    bind, append = Transport.__init__, EntryStore.append

    def gated_send(channel: Any, message: Mapping[str, Any]) -> None:
        send(channel, message)
        if "listens" in message:
            ask(f"listens {_this_peer()}")

    def gated_bind(transport: Transport, me: int, *rest: Any) -> None:
        ask(f"binds {me}")
        bind(transport, me, *rest)

    def gated_start(gossip: Gossip, now: float) -> Any:
        ask(f"greets {gossip.me}")
        return start(gossip, now)

    def gated_train(trainer: ReportingTrainer, peer: int, round_: int, *rest: Any) -> Any:
        ask(f"trains {peer} {round_}")
        made = train(trainer, peer, round_, *rest)
        ask(f"trained {peer} {round_}")
        return made

    def gated_append(store: EntryStore, entries: Iterable[Any], *, durable: bool = False) -> None:
        entries = list(entries)
        append(store, entries, durable=durable)
        # The peer's own entries are the ones that have to outlive a power cut.
        for entry in entries if durable else ():
            ask(f"stored {entry.origin} {entry.sequence}")

    control.send, Gossip.start = gated_send, gated_start
    Transport.__init__, EntryStore.append = gated_bind, gated_append
    ReportingTrainer.train = gated_train


class _NoPictures(ModuleType):
    """Stands where the module is that draws a run's pictures."""

    @staticmethod
    def draw_run(_folder: Path) -> list[Path]:
        """Draw nothing."""
        return []


# A process that the launcher makes runs this file under the second name.
if __name__ in ("__main__", "__mp_main__") and _ADDRESS in os.environ:
    _put_gates()
if __name__ == "__mp_main__" and _ADDRESS in os.environ:
    ask(f"started {_this_peer()}")
if __name__ == "__main__":
    # Other commands draw more than a run's pictures.
    if _NO_PICTURES in os.environ and sys.argv[1:2] in (["sim"], ["launch"]):
        sys.modules["sim.plots"] = _NoPictures("sim.plots")
    from sim.cli import main

    sys.exit(main())
