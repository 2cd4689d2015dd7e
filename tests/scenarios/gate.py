"""The `kseed` command, whose processes stop at a gate before each step that matters.

    python gate.py launch experiment.toml

does what `kseed launch experiment.toml` does. If the variable KSEED_GATE holds the address of a
`Gate`, every process asks there before it goes on past one of these points, so that a test can wait
for the moment that it needs, however slow the machine is, and end a process just then:

    started P      the process of peer P runs; nothing of a peer has happened yet
    listens P      peer P has told the launcher its address, and has not read the others'
    connected P    peer P has opened its sockets, and has not greeted anybody
    trains P R     before the local steps of peer P in round R
    trained P R    after them; the history is not on disk
    stored P N     entry N of peer P is on its disk, and has not been sent
"""

from __future__ import annotations

import multiprocessing
import os
import selectors
import socket
import sys
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Any, Self

PATIENCE = 60.0
"""Seconds after which what is waited for will not come any more."""

_ADDRESS = "KSEED_GATE"


class Gate:
    """Lets processes pass, except those that are waited for."""

    def __init__(self) -> None:
        self._server = socket.create_server(("127.0.0.1", 0), backlog=128)
        self._server.settimeout(PATIENCE)
        self._held: dict[str, socket.socket] = {}

    @property
    def environment(self) -> Mapping[str, str]:
        """The variable that tells a process of the gate."""
        host, port = self._server.getsockname()
        return {_ADDRESS: f"{host}:{port}"}

    def hold(self, *points: str) -> list[int]:
        """Let everybody pass until processes wait at all of these points; return their pids.

        Raises:
            TimeoutError: one of them has not come.
        """
        pids = dict.fromkeys(points, 0)
        while not all(pids.values()):
            visitor = self._server.accept()[0]
            visitor.settimeout(PATIENCE)
            point, _, pid = _read_line(visitor).rpartition(" ")
            if point in pids:
                pids[point] = int(pid)
                self._held[point] = visitor
            else:
                visitor.close()
        return list(pids.values())

    def release(self, point: str) -> None:
        """Let the process that waits at a point go on."""
        self._held.pop(point).close()

    def fail(self, point: str, reason: str) -> None:
        """Let the process that waits at a point meet an error there."""
        self._held[point].sendall(reason.encode() + b"\n")
        self.release(point)

    def let_pass(self, processes: Iterable[Any]) -> None:
        """Let everybody pass until these processes, of `subprocess`, have ended.

        Raises:
            TimeoutError: nobody has come for a while, and not all have ended.
        """

    def open(self) -> None:
        """Let everybody pass from now on."""
        self._server.close()
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
