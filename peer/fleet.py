"""The processes of a launched run: started, watched one by one, and ended, all of them."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Final

from peer.child import run_child
from peer.control import Message
from peer.process import PeerSettings
from peer.setup import Prepared

PATIENCE: Final = 5.0
"""Seconds that the peers have to end when they are told to, before they are killed."""


@dataclass
class Child:
    """A peer's process, as the launcher sees it.

    Attributes:
        peer: its place in the roster.
        process: what runs.
        channel: see `peer.control`.
        folder: where its log and what it prints are kept.
        endpoint: where it listens, as soon as it has said so.
        result: what it has told of its end; None before.
    """

    peer: int
    process: BaseProcess
    channel: Connection
    folder: Path
    endpoint: str = ""
    result: Message | None = None

    def how_it_ended(self) -> str:
        """Wait for the end of the process, and say in words what it was like."""
        self.process.join(PATIENCE)
        code = self.process.exitcode
        if code is not None and code < 0:
            return f"was ended by {signal.Signals(-code).name}"
        return f"ended with status {code}"


class Fleet:
    """All processes of a run.

    Args:
        prepared: the run.
        state: the folder in which each peer has one of its own.
    """

    def __init__(self, prepared: Prepared, state: Path) -> None:
        self._prepared = prepared
        self._state = state
        self._context = multiprocessing.get_context("forkserver")
        self._encoded: tuple[Path, int] | None = None
        self.children: list[Child] = []

    def start_all(self) -> None:
        """Make what the peers share, and start them."""
        global_model = self._prepared.global_model
        if global_model is not None:
            global_model.kernel.warm_up(global_model.model.weights.dtype)
        self._context.set_forkserver_preload(self._shared_modules())
        self._encoded = self._save_rows()
        for peer in self._prepared.graph.nodes:
            self._start(peer)

    def _start(self, peer: int) -> None:
        experiment = self._prepared.experiment
        folder = self._state / f"peer-{peer}"
        folder.mkdir(parents=True, exist_ok=True)
        threads = max(1, (os.cpu_count() or 1) // experiment.peers)
        settings = PeerSettings(peer, folder, encoded=self._encoded, kernel_threads=threads)
        mine, theirs = self._context.Pipe()
        process = self._context.Process(
            target=run_child, args=(theirs, experiment, settings), name=f"kseed-{peer}"
        )
        with interrupts_put_off():
            process.start()
            self.children.append(Child(peer, process, mine, folder))
        theirs.close()

    def _shared_modules(self) -> list[str]:
        """Return what the server imports, so that it is done once and not once a peer."""
        global_model = self._prepared.global_model
        if global_model is None:
            return [run_child.__module__]
        return [
            run_child.__module__,
            "peer.zeroth_order",
            type(global_model.model.module).__module__,
        ]

    def _save_rows(self) -> tuple[Path, int] | None:
        """Write the tokenised rows, so that they are made once and not once a peer."""
        corpus = self._prepared.corpus
        if corpus is None:
            return None
        path = self._state / "rows.npz"
        corpus.encoded.save(path)
        return path, corpus.unusable - corpus.encoded.cut_away

    def end(self) -> None:
        """End every process that is still there, and wait for all."""
        finished = all(child.result is not None for child in self.children)
        with interrupts_put_off():
            for child in self.children:
                if not finished:
                    child.process.terminate()
            deadline = time.monotonic() + PATIENCE
            for child in self.children:
                child.process.join(max(0.0, deadline - time.monotonic()))
                if child.process.is_alive():
                    child.process.kill()
                    child.process.join()
                child.channel.close()


@contextmanager
def interrupts_put_off() -> Iterator[None]:
    """Hold Ctrl-C back; a process that is started meanwhile stays deaf to it.

    So no peer can be forgotten between its start and its entry in the list, and neither the server
    nor a peer in its first moments answers Ctrl-C with a traceback.
    """
    # When it starts, this lets SIGINT through again, so it has to run already.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
