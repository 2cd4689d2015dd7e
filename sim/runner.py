"""A simulated run, from its experiment to its folder."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict
from typing import Any

from peer.accumulator import Accumulator
from peer.chronicle import Chronicle
from peer.config import Experiment
from peer.consensus import Consensus
from peer.corpus import Corpus
from peer.entry import Kind
from peer.event_log import log_event
from peer.events import EntryAdded, Event, Finished, Rejected, RoundStarted
from peer.log import runs_of
from peer.participant import Participant
from peer.progress import RunProgress
from peer.reporting import ReportingTrainer, RoundReport
from peer.rounds import SyncRounds
from peer.scenario import Incident
from peer.setup import Prepared, known_entries, prepare
from peer.store import EntryStore
from peer.summary import Outcome, lower_bound_payload
from peer.trainer import Announced, Trainer
from peer.training import build_trainer
from peer.weights import Weights
from peer.weights_volume import weights_volume
from sim.cluster.session import Session, session
from sim.gathering import Gathering
from sim.link_model import LinkModel, link_model
from sim.prepared_world import world_of
from sim.room import check_room
from sim.survivors import missing_peers, survivors
from sim.trace import Trace

ENGINE = "sim"
LOG = logging.getLogger("kseed")


def simulate(
    experiment: Experiment, corpus: Corpus | None = None, there: Session | None = None
) -> dict[str, Any]:
    """Run an experiment in this process, write its run folder, and return the summary.

    Args:
        experiment: the run.
        corpus: see `peer.setup.prepare`.
        there: workers of a cluster that have been begun for several runs; None: they are begun for
            this one, if it wants any.

    Raises:
        UserError, TopologyError: a mistake of the user's; nothing has been written.
        RunFailed: the scenario has left no peer.
    """
    with ExitStack() as stack:
        # First, so that its workers begin while the model is loaded here.
        if there is None and experiment.on_a_cluster:
            there = stack.enter_context(session(experiment))
        prepared = prepare(experiment, ENGINE, corpus)
        links = link_model(prepared.experiment, prepared.graph)
        # Before anything is written.
        check_room(prepared)
        for note in prepared.graph.notes:
            LOG.info("%s", note)
        if experiment.shares_passes:
            LOG.info(
                "replicas share forward passes: digests may differ from those of `kseed launch`"
            )
        parts = (prepared.corpus, prepared.global_model)
        trainer = build_trainer(prepared.experiment, *parts, experiment.side_by_side)
        if there is not None:
            trainer = there.trainer(prepared)
        prepared.create_folder(ENGINE)
        store = stack.enter_context(EntryStore(prepared.folder.state(ENGINE) / "log.sqlite"))
        trace = None
        if experiment.trace:
            trace = stack.enter_context(Trace(prepared.folder.path / "trace.csv"))
        return _Run(prepared, trainer, store, links, trace, there).run()


class _Run:
    """The world, and what is kept of the events in it."""

    def __init__(
        self,
        prepared: Prepared,
        trainer: Trainer,
        store: EntryStore,
        links: LinkModel,
        trace: Trace | None,
        there: Session | None,
    ) -> None:
        experiment, protocol = prepared.experiment, prepared.protocol
        self._prepared = prepared
        self._store = store
        known = known_entries(store, protocol)
        self._known = known
        self._stored = {(entry.origin, entry.sequence) for entry in known}
        self._reports: defaultdict[int, list[RoundReport]] = defaultdict(list)
        self._rejected = 0
        self._gathering = Gathering(protocol) if protocol.averaging is not None else None
        self._trace = trace
        self._there = there
        histories = sum(len(protocol.roster.active(r)) for r in range(protocol.rounds))
        done = sum(entry.kind is Kind.HISTORY for entry in known)
        self._progress = RunProgress(histories - done, protocol.rounds)
        self._chronicle = Chronicle(prepared, self._progress.answered)
        self._trainer = trainer
        self._world = world_of(
            prepared,
            trainer=ReportingTrainer(self._trainer, self._report),
            links=links,
            traffic=prepared.folder.read_links(curve=experiment.curve == "on"),
            known=known,
            observe=self._observe,
            observe_incident=self._observe_incident,
            observe_frame=None if trace is None else self._observe_frame,
        )

    def run(self) -> dict[str, Any]:
        """Run to the end and return the summary."""
        world, chronicle = self._world, self._chronicle
        with self._progress:
            self._catch_up()
            world.run()
            there = survivors(world)
            final = self._conclude(there)
        states = [participant.state for participant in there]
        published, lower_bound = self._published()
        outcome = Outcome(
            accumulator_digests=[state.digest() for state in states],
            model_digests=chronicle.model_digests(states),
            published=published,
            lower_bound=lower_bound,
            received=[participant.received for participant in there],
            timeouts=sum(seat.timeouts for seat in world.seats),
            missing=missing_peers(there),
            traffic=world.traffic,
            seconds={"virtual": world.ended_at},
            network=asdict(world.network.counts()),
            rejected=self._rejected,
            accused={participant.me: participant.accused for participant in world.peers},
            befallen=world.befallen,
            absent=world.absent,
            cluster=None if self._there is None else self._there.told(),
        )
        return chronicle.finish(ENGINE, final, outcome)

    def _conclude(self, there: Sequence[Participant]) -> Accumulator | Weights:
        """Close the last round, and return what the run has ended with."""
        rounds = self._prepared.protocol.rounds
        if self._gathering is None:
            state = there[0].state
            self._close(rounds, state)
            return state
        for done, apart in self._gathering.rest():
            self._close(done, apart.mean, apart)
        apart = self._gathering.of(
            {participant.me: _weights(participant.state) for participant in there}
        )
        self._close(rounds, apart.mean, apart)
        return apart.mean

    def _published(self) -> tuple[int, int]:
        """Return how much was published, and the payload bytes that it takes at least."""
        protocol = self._prepared.protocol
        if protocol.averaging is not None:
            volume = weights_volume(protocol)
            return volume.published, volume.bytes
        entries = self._store.load()
        return len(entries), lower_bound_payload(entries, self._prepared.experiment.peers)

    def _catch_up(self) -> None:
        """Record the rounds that the log has and rounds.jsonl has lost, as in a power cut."""
        rounds = SyncRounds(self._prepared.protocol)
        for run in runs_of(self._known):
            if run.entry.kind is Kind.HISTORY:
                rounds.add(run)
        while not rounds.over and not rounds.missing():
            self._close(rounds.current, rounds.accumulator)
            rounds.close()

    def _observe(self, peer: int, event: Event) -> None:
        match event:
            case EntryAdded(entry):
                # Peers share one store here, so only the first to have an entry writes it.
                if (entry.origin, entry.sequence) not in self._stored:
                    self._stored.add((entry.origin, entry.sequence))
                    self._store.append([entry])
            case RoundStarted(round_, cut, indices):
                # First, so that others may train while the round before is evaluated here.
                if indices is not None and isinstance(self._trainer, Announced):
                    self._trainer.announce(peer, round_, cut, indices)
                self._started(peer, round_, cut)
            case Finished():
                pass
            case _:
                self._rejected += isinstance(event, Rejected)
                log_event(peer, event)

    def _started(self, peer: int, round_: int, state: Accumulator | Weights) -> None:
        """Close the round before as soon as what it has led to is known."""
        if self._gathering is None:
            self._close(round_, state)
            return
        apart = self._gathering.add(peer, round_, _weights(state), absent=self._world.absent)
        if apart is not None:
            self._close(round_, apart.mean, apart)

    def _observe_incident(self, incident: Incident, befallen: tuple[int, ...]) -> None:
        if self._trace is not None:
            self._trace.incident(self._world.schedule.now, incident.verb, befallen)
        peers = ", ".join(map(str, befallen))
        if befallen or incident.verb == "repair":
            LOG.info("scenario: %s %s", incident.verb, peers)
        else:
            spared = ", ".join(map(str, incident.peers))
            LOG.warning("scenario: %s comes too late or too early for %s", incident.verb, spared)

    def _observe_frame(self, what: str, sender: int, receiver: int, frame: bytes) -> None:
        assert self._trace is not None
        self._trace.frame(self._world.schedule.now, what, sender, receiver, frame)

    def _close(
        self, rounds_done: int, state: Accumulator | Weights, apart: Consensus | None = None
    ) -> None:
        """Evaluate and record the state after so many rounds, once."""
        if not self._chronicle.knows(rounds_done):
            reports = self._reports.pop(rounds_done - 1, [])
            sent = self._world.traffic.total()
            loss = self._chronicle.close(rounds_done, state, reports, sent, apart)
            self._prepared.folder.write_links(self._world.traffic)
            self._progress.closed(rounds_done, loss)

    def _report(self, report: RoundReport) -> None:
        self._reports[report.round].append(report)
        self._progress.trained(report.round)


def _weights(state: Accumulator | Weights) -> Weights:
    assert isinstance(state, Weights)
    return state
