"""The process of one peer of a launched run: what the launcher's server is forked into.

It speaks with its launcher as `peer.control` says. A peer whose launcher is gone ends itself.
"""

from __future__ import annotations

import gc
import logging
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Mapping
from dataclasses import asdict
from multiprocessing.connection import Connection
from queue import SimpleQueue
from typing import Final

from peer import control
from peer.config import Experiment
from peer.control import Message
from peer.errors import UserError
from peer.event_log import log_event
from peer.events import Event, RoundStarted
from peer.namespaces import enter_namespace
from peer.process import LOG, Hooks, PeerSettings, run_peer
from peer.records import RunFolder, weights_after
from peer.reporting import RoundReport
from peer.weights import Weights
from topology import TopologyError

COUNT_EVERY: Final = 1.0
"""Seconds after which the bytes sent so far are noted again; they are at each round, too."""


def run_child(
    channel: Connection, experiment: Experiment, settings: PeerSettings, namespace: str
) -> None:
    """Be one peer: the main function of a process.

    Args:
        channel: to the launcher.
        experiment: the run's.
        settings: this peer's.
        namespace: the network namespace to live in; empty: the launcher's.
    """
    # Ctrl-C reaches every process of a terminal; the launcher is the one to end a run. The server
    # may have been there before, started by somebody else and not deaf.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # What the server has imported stays shared: a collection would touch and so copy all of it.
    gc.freeze()
    with (settings.folder / "output.log").open("a") as output:
        os.dup2(output.fileno(), sys.stdout.fileno())
        os.dup2(output.fileno(), sys.stderr.fileno())
    logging.basicConfig(format="%(asctime)s %(message)s", stream=sys.stderr, force=True)
    LOG.setLevel(experiment.log_level.upper())
    try:
        if namespace:
            enter_namespace(namespace)
        control.send(channel, {"done": _Child(channel, experiment, settings).take_part()})
    except (UserError, TopologyError) as error:
        control.send(channel, {"failed": str(error)})
        sys.exit(1)
    except Exception as error:
        traceback.print_exc()
        # The others may have several lines, and are in the log.
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        control.send(channel, {"failed": reason})
        sys.exit(1)


class _Child:
    """One peer, and its side of the talk with the launcher."""

    def __init__(self, channel: Connection, experiment: Experiment, settings: PeerSettings) -> None:
        self._channel = channel
        self._experiment = experiment
        self._settings = settings
        self._folder = RunFolder(settings.folder)
        self._traffic = self._folder.read_links(curve=settings.curve)
        self._addresses: SimpleQueue[Mapping[str, str]] = SimpleQueue()
        self._cut: frozenset[int] = frozenset()
        self._counted = 0.0
        self._speaking = threading.Lock()
        threading.Thread(target=self._listen, daemon=True).start()

    def take_part(self) -> Message:
        """Take part in the run to its end; return what the launcher is told of it."""
        hooks = Hooks(
            self._exchange_addresses,
            self._on_event,
            self._on_trained,
            lambda peer: peer in self._cut,
        )
        result = run_peer(self._experiment, self._settings, hooks, self._traffic)
        self._folder.write_state(result.state)
        self._folder.write_links(self._traffic)
        self._tell_round(self._experiment.rounds)
        return {name: value for name, value in vars(result).items() if name != "state"}

    def _listen(self) -> None:
        """Take what the launcher says; end this process when there is no launcher any more."""
        try:
            while True:
                message = control.receive(self._channel)
                # The event loop reads this, in another thread, whenever it sends or receives.
                self._cut = frozenset(message["cut"])
                if "addresses" in message:
                    self._addresses.put(message["addresses"])
        except (EOFError, OSError):
            # A process that is stopped cannot hear it. All of a run are in the launcher's group.
            os.killpg(0, signal.SIGCONT)
            os._exit(1)

    def _tell(self, message: Message) -> None:
        # Events come from the event loop, reports from the training thread.
        with self._speaking:
            control.send(self._channel, message)

    def _exchange_addresses(self, endpoint: str) -> Mapping[int, str]:
        self._tell({"listens": endpoint})
        return {int(peer): address for peer, address in self._addresses.get().items()}

    def _on_event(self, event: Event) -> None:
        log_event(self._settings.id, event)
        now = time.monotonic()
        # What a life has sent since is not known any more when it is killed.
        if isinstance(event, RoundStarted) or now >= self._counted + COUNT_EVERY:
            self._counted = now
            self._folder.write_links(self._traffic)
        if isinstance(event, RoundStarted):
            if isinstance(event.cut, Weights):
                # The launcher will evaluate their mean, which no peer has.
                self._folder.write_weights(event.cut, weights_after(event.round))
            self._tell_round(event.round)

    def _on_trained(self, report: RoundReport) -> None:
        self._tell({"trained": asdict(report)})

    def _tell_round(self, round_: int) -> None:
        self._tell({"round": round_, "sent": asdict(self._traffic.total())})
