"""A run with one process a peer, on this machine: started, watched, ended and summed up.

    launcher                          peer process
       | -- forkserver, experiment ----> |   torch is imported once, in the server
       | <----- {"listens": endpoint} -- |   a port that was free
       | -- {"addresses": ...} --------> |
       | <----- {"round": ...} --------- |   at the start of each round
       | <----- {"trained": ...} ------- |   after each local round
       | <----- {"done": ...} ---------- |   the accumulator is in its folder

A peer that fails, or that a signal ends, ends the run: the launcher ends the others and says which
peer and why. A peer whose launcher is gone ends itself.
"""

from __future__ import annotations

import gc
import json
import logging
import multiprocessing
import multiprocessing.connection as pipes
import os
import signal
import sys
import threading
import time
import traceback
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Final, NoReturn

from peer.accumulator import Accumulator
from peer.archive import read_archive
from peer.chronicle import Chronicle
from peer.config import Experiment
from peer.errors import RunFailed, UserError
from peer.events import Event, RoundStarted
from peer.process import LOG, Hooks, PeerSettings, log_event, run_peer
from peer.progress import RunProgress
from peer.records import RunFolder
from peer.reporting import RoundReport
from peer.rounds import SyncRounds
from peer.setup import Prepared, prepare
from peer.summary import Outcome
from peer.traffic import LinkCount, Traffic
from topology import TopologyError

ENGINE: Final = "launch"
PATIENCE: Final = 5.0
"""Seconds that the peers have to end when they are told to, before they are killed."""


def launch(experiment: Experiment) -> dict[str, Any]:
    """Run an experiment with one process a peer, write its run folder, and return the summary.

    Raises:
        UserError, TopologyError: a mistake of the user's; nothing has been written.
        RunFailed: a peer has failed; no process is left.
    """
    prepared = prepare(experiment, ENGINE)
    for note in prepared.graph.notes:
        LOG.info("%s", note)
    prepared.create_folder(ENGINE)
    chronicle = Chronicle(prepared)
    network = _Network(prepared)
    histories = sum(
        len(prepared.protocol.roster.active(round_)) for round_ in range(experiment.rounds)
    )
    with RunProgress(histories, experiment.rounds) as progress:
        try:
            network.start()
            network.watch(progress)
        finally:
            network.end()
    return _conclude(prepared, network, chronicle, progress)


@dataclass
class _Child:
    """A peer's process, as the launcher sees it."""

    peer: int
    process: BaseProcess
    channel: Connection
    folder: Path
    endpoint: str = ""
    result: dict[str, Any] | None = None


class _Network:
    """All processes of a run."""

    def __init__(self, prepared: Prepared) -> None:
        self._prepared = prepared
        self._state = prepared.folder.state(ENGINE)
        self.children: list[_Child] = []
        self.reports: defaultdict[int, list[RoundReport]] = defaultdict(list)
        self.sent: defaultdict[int, LinkCount] = defaultdict(LinkCount)

    def start(self) -> None:
        """Start all processes."""
        experiment, global_model = self._prepared.experiment, self._prepared.global_model
        if global_model is not None:
            global_model.kernel.warm_up(global_model.model.weights.dtype)
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(self._shared_modules())
        encoded = self._save_rows()
        threads = max(1, (os.cpu_count() or 1) // experiment.peers)
        for peer in self._prepared.graph.nodes:
            folder = self._state / f"peer-{peer}"
            folder.mkdir(parents=True, exist_ok=True)
            settings = PeerSettings(peer, folder, encoded=encoded, kernel_threads=threads)
            mine, theirs = context.Pipe()
            process = context.Process(
                target=_run_child, args=(theirs, experiment, settings), name=f"kseed-{peer}"
            )
            with _interrupts_put_off():
                process.start()
                self.children.append(_Child(peer, process, mine, folder))
            theirs.close()

    def _shared_modules(self) -> list[str]:
        """Return what the server imports, so that it is done once and not once a peer."""
        global_model = self._prepared.global_model
        if global_model is None:
            return [__name__]
        return [__name__, "peer.zeroth_order", type(global_model.model.module).__module__]

    def _save_rows(self) -> tuple[Path, int] | None:
        """Write the tokenised rows, so that they are made once and not once a peer."""
        corpus = self._prepared.corpus
        if corpus is None:
            return None
        path = self._state / "rows.npz"
        corpus.encoded.save(path)
        return path, corpus.unusable - corpus.encoded.cut_away

    def watch(self, progress: RunProgress) -> None:
        """Follow the run until every peer has reported its end.

        Raises:
            RunFailed: a peer has failed or died.
        """
        running = {child.channel: child for child in self.children}
        while running:
            for ready in pipes.wait(list(running)):
                assert isinstance(ready, Connection)
                child = running[ready]
                try:
                    message = json.loads(ready.recv_bytes())
                # A reset instead of an end tells of a message that the peer has not read.
                except (EOFError, OSError):
                    self._died(child)
                self._take(child, message, progress)
                if child.result is not None:
                    del running[ready]

    def _take(self, child: _Child, message: Mapping[str, Any], progress: RunProgress) -> None:
        match message:
            case {"listens": endpoint}:
                child.endpoint = endpoint
                if all(other.endpoint for other in self.children):
                    self._tell_addresses()
            case {"round": round_, "sent": sent}:
                self.sent[round_].add(LinkCount(**sent))
            case {"trained": report}:
                told = RoundReport(**report)
                self.reports[told.round].append(told)
                progress.trained(told.round)
            case {"done": result}:
                child.result = result
            case {"failed": reason}:
                raise RunFailed(
                    f"peer {child.peer} failed: {reason} (see {child.folder / 'output.log'})"
                )

    def _tell_addresses(self) -> None:
        addresses = {child.peer: child.endpoint for child in self.children}
        for child in self.children:
            try:
                _send(child.channel, {"addresses": addresses})
            except OSError:
                self._died(child)

    def _died(self, child: _Child) -> NoReturn:
        child.process.join(PATIENCE)
        code = child.process.exitcode
        how = f"ended with status {code}"
        if code is not None and code < 0:
            how = f"was ended by {signal.Signals(-code).name}"
        raise RunFailed(f"peer {child.peer} {how} (see {child.folder / 'output.log'})")

    def end(self) -> None:
        """End every process that is still there, and wait for all."""
        finished = all(child.result is not None for child in self.children)
        with _interrupts_put_off():
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
def _interrupts_put_off() -> Iterator[None]:
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


def _conclude(
    prepared: Prepared, network: _Network, chronicle: Chronicle, progress: RunProgress
) -> dict[str, Any]:
    """Evaluate every round from the logs of all peers, and sum the run up."""
    protocol = prepared.protocol
    # One that was restarted may have taken a snapshot in place of entries, so all are looked at.
    paths = [child.folder / "log.sqlite" for child in network.children]
    entries = read_archive(paths, protocol).entries
    rounds = SyncRounds(protocol)
    for entry in entries:
        if not entry.is_end:
            rounds.add(entry)
    sent = LinkCount()
    for done in range(protocol.rounds + 1):
        sent = network.sent.get(done, sent)
        if not chronicle.knows(done):
            reports = network.reports[done - 1]
            progress.closed(done, chronicle.close(done, rounds.accumulator, reports, sent))
        if not rounds.over:
            rounds.close()
    results = [child.result or {} for child in network.children]
    traffic = Traffic()
    accumulators: list[Accumulator] = []
    for child in network.children:
        folder = RunFolder(child.folder)
        accumulators.append(folder.read_accumulator())
        for sender, receiver, count in folder.read_links().links():
            traffic.add(sender, receiver, count)
    outcome = Outcome(
        accumulator_digests=[accumulator.digest() for accumulator in accumulators],
        model_digests=[result["model_digest"] for result in results if result["model_digest"]],
        entries=entries,
        received=[result["received"] for result in results],
        timeouts=sum(result["timeouts"] for result in results),
        missing=tuple(sorted({peer for result in results for peer in result["missing"]})),
        traffic=traffic,
        peak_memory_bytes=max(result["peak_memory_bytes"] for result in results),
        rejected=sum(result["rejected"] + result["garbage"] for result in results),
        processes=[
            {"peer": child.peer, "pid": child.process.pid, "address": child.endpoint}
            for child in network.children
        ],
    )
    return chronicle.finish(ENGINE, accumulators, outcome)


def _send(channel: Connection, message: Mapping[str, Any]) -> None:
    channel.send_bytes(json.dumps(message).encode())


def _run_child(channel: Connection, experiment: Experiment, settings: PeerSettings) -> None:
    """Be one peer: the main function of a process."""
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
    inbox: SimpleQueue[dict[str, Any]] = SimpleQueue()
    threading.Thread(target=_listen, args=(channel, inbox), daemon=True).start()
    try:
        _send(channel, {"done": _take_part(channel, inbox, experiment, settings)})
    except (UserError, TopologyError) as error:
        _send(channel, {"failed": str(error)})
        sys.exit(1)
    except Exception as error:
        traceback.print_exc()
        # The others may have several lines, and are in the log.
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        _send(channel, {"failed": reason})
        sys.exit(1)


def _take_part(
    channel: Connection,
    inbox: SimpleQueue[dict[str, Any]],
    experiment: Experiment,
    settings: PeerSettings,
) -> dict[str, Any]:
    folder = RunFolder(settings.folder)
    traffic = folder.read_links()
    speaking = threading.Lock()

    def tell(message: Mapping[str, Any]) -> None:
        # Events come from the event loop, reports from the training thread.
        with speaking:
            _send(channel, message)

    def addresses(endpoint: str) -> Mapping[int, str]:
        tell({"listens": endpoint})
        told = inbox.get()["addresses"]
        return {int(peer): address for peer, address in told.items()}

    def on_event(event: Event) -> None:
        log_event(settings.id, event)
        if isinstance(event, RoundStarted):
            folder.write_links(traffic)
            tell({"round": event.round, "sent": asdict(traffic.total())})

    def on_trained(report: RoundReport) -> None:
        tell({"trained": asdict(report)})

    result = run_peer(experiment, settings, Hooks(addresses, on_event, on_trained), traffic)
    folder.write_accumulator(result.accumulator, with_probabilities=False)
    folder.write_links(traffic)
    tell({"round": experiment.rounds, "sent": asdict(traffic.total())})
    return {name: value for name, value in vars(result).items() if name != "accumulator"}


def _listen(channel: Connection, inbox: SimpleQueue[dict[str, Any]]) -> None:
    """Take what the launcher says; end this process when there is no launcher any more."""
    try:
        while True:
            inbox.put(json.loads(channel.recv_bytes()))
    except (EOFError, OSError):
        os._exit(1)
