"""The processes of a launched run: started, killed, stopped, spoken to, and all of them ended."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Final

from peer import control
from peer.child import run_child
from peer.control import Message
from peer.interrupts import interrupts_put_off
from peer.keys import ensure_keys
from peer.metrics_ports import metrics_of
from peer.places import Places
from peer.process import PeerSettings
from peer.setup import Prepared

PATIENCE: Final = 5.0
"""Seconds that the peers have to end when they are told to, before they are killed."""


@dataclass
class Life:
    """One process of a peer.

    Attributes:
        process: what runs.
        channel: see `peer.control`.
        listens: whether it has said so.
        told: whether it knows the addresses.
        held: whether it is stopped.
        result: what it has told of its end; None before.
    """

    process: BaseProcess
    channel: Connection
    listens: bool = False
    told: bool = False
    held: bool = False
    result: Message | None = None

    @property
    def goes_on(self) -> bool:
        """Whether it has not come to its end."""
        return self.result is None


@dataclass
class Member:
    """One peer, which may have several lives or none.

    Attributes:
        peer: its place in the roster.
        folder: where its log and what it prints are kept, in all its lives.
        life: the one that it has now, or in which it has come to its end; None: it is not there.
        pids: of all its processes.
        exit_signals: those that have ended a life.
    """

    peer: int
    folder: Path
    life: Life | None = None
    pids: list[int | None] = field(default_factory=list)
    exit_signals: list[int] = field(default_factory=list)

    @property
    def result(self) -> Message | None:
        """What it has told of its end; None before."""
        return None if self.life is None else self.life.result

    @property
    def log(self) -> Path:
        """What its lives have printed."""
        return self.folder / "output.log"


class Fleet:
    """All processes of a run.

    Args:
        prepared: the run.
        state: the folder in which each peer has one of its own.
        places: where they listen.
    """

    def __init__(self, prepared: Prepared, state: Path, places: Places) -> None:
        self._prepared = prepared
        self._state = state
        self._keys = state / "keys"
        self._places = places
        self._context = multiprocessing.get_context("forkserver")
        self._encoded: tuple[Path, int] | None = None
        self.members = [Member(peer, state / f"peer-{peer}") for peer in prepared.graph.nodes]

    def prepare(self) -> None:
        """Make what the peers share."""
        global_model = self._prepared.global_model
        if global_model is not None:
            global_model.warm_up()
        self._context.set_forkserver_preload(self._shared_modules())
        self._encoded = self._save_rows()
        experiment = self._prepared.experiment
        if experiment.curve == "on" or experiment.sign:
            ensure_keys(experiment.peers, self._keys)

    def start(self, member: Member) -> None:
        """Give a peer that is not there a process; folder and address are those of earlier ones."""
        assert member.life is None
        experiment = self._prepared.experiment
        member.folder.mkdir(parents=True, exist_ok=True)
        settings = PeerSettings(
            member.peer,
            member.folder,
            self._places.addresses[member.peer],
            self._encoded,
            kernel_threads=max(1, (os.cpu_count() or 1) // experiment.peers),
            keys=self._keys,
            curve=experiment.curve == "on",
            metrics=metrics_of(experiment, member.peer),
        )
        mine, theirs = self._context.Pipe()
        process = self._context.Process(
            target=run_child,
            args=(theirs, experiment, settings, self._places.namespace(member.peer)),
            name=f"kseed-{member.peer}",
        )
        with interrupts_put_off():
            process.start()
            member.life = Life(process, mine)
            member.pids.append(process.pid)
        theirs.close()

    def introduce(self, member: Member, cut: Collection[int]) -> None:
        """Tell a peer where the others are and from whom it is cut off; see `tell`."""
        assert member.life is not None
        member.life.told = True
        addresses = self._places.addresses
        self.tell(member, {"addresses": addresses, "cut": sorted(cut)})

    def tell(self, member: Member, message: Message) -> None:
        """Say something to a peer; one that has died does not hear it, as its channel will tell."""
        assert member.life is not None
        with suppress(OSError):
            control.send(member.life.channel, message)

    def kill(self, member: Member) -> list[Message]:
        """End a peer at once; return what it had told and nobody had heard."""
        life = member.life
        assert life is not None
        life.process.kill()
        life.process.join()
        heard = []
        try:
            while True:
                heard.append(control.receive(life.channel))
        except (EOFError, OSError):
            life.channel.close()
        _note_end(member, life)
        member.life = None
        return heard

    def hold(self, member: Member) -> None:
        """Stop a peer's process where it is."""
        self._signal(member, signal.SIGSTOP)

    def release(self, member: Member) -> None:
        """Let a stopped process go on."""
        self._signal(member, signal.SIGCONT)

    def _signal(self, member: Member, signal_: signal.Signals) -> None:
        life = member.life
        assert life is not None
        assert life.process.pid is not None
        # A process that has died and not been missed yet will be, by the end of its channel.
        if life.process.is_alive():
            os.kill(life.process.pid, signal_)
        life.held = signal_ == signal.SIGSTOP

    def how_it_ended(self, member: Member) -> str:
        """Wait for the end of a peer's process, and say in words what it was like."""
        assert member.life is not None
        process = member.life.process
        process.join(PATIENCE)
        code = process.exitcode
        if code is not None and code < 0:
            return f"was ended by {signal.Signals(-code).name}"
        return f"ended with status {code}"

    def end(self) -> None:
        """End every process that is still there, stopped ones as well, and wait for all."""
        with interrupts_put_off():
            there = [(m, m.life) for m in self.members if m.life is not None]
            for _, life in there:
                if life.goes_on:
                    life.process.terminate()
                    # A stopped process gets no signal but this one and SIGKILL.
                    if life.held and life.process.is_alive() and life.process.pid is not None:
                        os.kill(life.process.pid, signal.SIGCONT)
            deadline = time.monotonic() + PATIENCE
            for member, life in there:
                life.process.join(max(0.0, deadline - time.monotonic()))
                if life.process.is_alive():
                    life.process.kill()
                    life.process.join()
                _note_end(member, life)
                life.channel.close()

    def _shared_modules(self) -> list[str]:
        """Return what the server imports, so that it is done once and not once a peer."""
        global_model = self._prepared.global_model
        always = [run_child.__module__]
        if self._prepared.experiment.metrics_port:
            always.append("peer.status_server")
        if global_model is None:
            return always
        return [
            *always,
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


def _note_end(member: Member, life: Life) -> None:
    code = life.process.exitcode
    if code is not None and code < 0:
        member.exit_signals.append(-code)
