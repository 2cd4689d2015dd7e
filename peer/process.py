"""One peer as a process of its own: from its settings to its part of the run folder.

The launcher's peers and those started by hand run the same code; they differ in who tells them the
addresses and who hears how it goes.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from peer.accumulator import Accumulator
from peer.agreement import build_protocol, with_keys, with_roster_file
from peer.config import Experiment
from peer.corpus import Corpus, deal, encode_rows
from peer.data.encode import Encoded
from peer.descriptors import need_descriptors
from peer.driver import drive
from peer.errors import UserError
from peer.events import Event
from peer.keys import Security
from peer.own_place import find_itself, unless_one_fails
from peer.participant import Participant
from peer.recovery import recall
from peer.refusals import Refusals
from peer.reporting import ReportingTrainer, RoundReport
from peer.roster_file import RosterFile
from peer.setup import build_global_model, resolve_topology
from peer.signatures import signer
from peer.status_source import StatusSource
from peer.store import EntryStore
from peer.summary import peak_memory
from peer.teller import Teller
from peer.traffic import Traffic
from peer.training import build_trainer
from peer.weights import Weights
from peer.zeromq import Transport
from peer.zeromq.transport import DESCRIPTORS, DESCRIPTORS_PER_NEIGHBOUR

LOG = logging.getLogger("kseed")


@dataclass(frozen=True)
class PeerSettings:
    """What one peer needs to know beyond the experiment.

    Attributes:
        id: its place in the roster.
        folder: where its log is kept.
        bind: the address to listen on.
        encoded: rows that have been tokenised already, and how many had no response; None: load
            them by the experiment.
        kernel_threads: of the passes over the weights; None: all processors.
        keys: the folder with this peer's secret keys, if any; and everybody's public ones, unless
            they are in the roster.
        curve: whether links speak CURVE, with these keys.
        metrics: `host:port` where its status is offered, port 0 taking a free one; empty: nowhere.
        roster: the file that must be the same everywhere; None: addresses come from elsewhere.
        address: where the others look for it, of a peer that somebody has started by hand; empty:
            whoever has started it has seen to all that can be mistaken.
    """

    id: int
    folder: Path
    bind: str
    encoded: tuple[Path, int] | None = None
    kernel_threads: int | None = None
    keys: Path | None = None
    curve: bool = False
    metrics: str = ""
    roster: RosterFile | None = None
    address: str = ""

    def security(self, peers: int) -> Security:
        """Read the keys.

        Args:
            peers: how many there are.

        Raises:
            UserError: see `Security.read` and `Security.among`.
        """
        assert self.keys is not None, "CURVE and signatures need keys"
        if self.roster is None or self.roster.keys is None:
            return Security.read(self.keys, self.id, peers)
        return Security.among(self.roster.keys, self.keys, self.id)


@dataclass(frozen=True)
class PeerResult:
    """What one peer has ended with."""

    state: Accumulator | Weights
    model_digest: str | None
    missing: tuple[int, ...]
    differing: tuple[int, ...]
    timeouts: int
    rejected: int
    accused: Mapping[int, str]
    received: int
    garbage: int
    dropped: int
    peak_memory_bytes: int


@dataclass
class Hooks:
    """Whom a peer tells what, and who tells it where its neighbours are.

    Attributes:
        addresses: given the address that this peer listens on, returns each neighbour's.
        on_event: called with each event, in the event loop's thread.
        on_trained: called after each local round, in the training thread.
        cut_off_from: tells whether a partition lies between this peer and a neighbour.
    """

    addresses: Callable[[str], Mapping[int, str]]
    on_event: Callable[[Event], None]
    on_trained: Callable[[RoundReport], None]
    cut_off_from: Callable[[int], bool] = lambda _neighbour: False


def run_peer(
    experiment: Experiment,
    settings: PeerSettings,
    hooks: Hooks,
    traffic: Traffic,
    before: Callable[[], None] = lambda: None,
) -> PeerResult:
    """Take part in a run from the first HELLO to the last BYE.

    Args:
        experiment: the run's.
        settings: this peer's.
        hooks: see `Hooks`.
        traffic: counts what this peer sends.
        before: called when no mistake of the user's is left to be found, to make folders.

    Raises:
        UserError, TopologyError: a mistake of the user's. Two of them can show after the start, and
            end this peer then: that all neighbours run something else, and that another process
            has its number.
    """
    with _offered(settings) as source:
        return _take_part(experiment, settings, hooks, traffic, before, source)


@contextmanager
def _offered(settings: PeerSettings) -> Iterator[StatusSource]:
    """Offer what the source will tell, if it is wanted; a little longer if somebody watches."""
    source = StatusSource()
    if not settings.metrics:
        yield source
        return
    # A peer that offers nothing need not load a web server.
    from peer.status_server import StatusServer

    with StatusServer(settings.metrics, source) as server:
        LOG.info("peer %d offers its status on http://%s", settings.id, server.address)
        yield source
        server.say_farewell()


def _take_part(
    experiment: Experiment,
    settings: PeerSettings,
    hooks: Hooks,
    traffic: Traffic,
    before: Callable[[], None],
    source: StatusSource,
) -> PeerResult:
    experiment, graph = resolve_topology(experiment)
    if not 0 <= settings.id < experiment.peers:
        raise UserError(
            f"id = {settings.id} is not allowed: there are peers 0 to {experiment.peers - 1}"
        )
    # A key that is missing is told before a model is loaded.
    keys = settings.security(experiment.peers) if settings.curve or experiment.sign else None
    corpus, global_model = None, None
    if not experiment.is_synthetic:
        corpus = _corpus(experiment, settings)
        global_model = build_global_model(
            experiment, remember=False, threads=settings.kernel_threads
        )
    protocol = build_protocol(experiment, graph, corpus, global_model)
    security = keys if settings.curve else None
    sign = None
    if keys is not None and experiment.sign:
        protocol = with_keys(protocol, keys.public.ed25519)
        sign = signer(keys.secret.ed25519)
    if settings.roster is not None:
        protocol = with_roster_file(protocol, settings.roster.digest)
    if security is None:
        # Anybody can speak in a neighbour's name, so nobody is shut out for what is said in it.
        protocol = replace(protocol, disconnects=False)
    teller = Teller(experiment.method, graph.name)

    def trained(report: RoundReport) -> None:
        teller.trained(report)
        hooks.on_trained(report)

    trainer = ReportingTrainer(build_trainer(experiment, corpus, global_model), trained)
    neighbours = graph.neighbours(settings.id)

    def shook_hands(neighbour: int, dialled: bool) -> None:
        traffic.count_handshake(settings.id, neighbour, dialled=dialled)
        if dialled:
            teller.reached(neighbour)

    async def take_part() -> tuple[Participant, Transport]:
        if settings.metrics:
            from peer.status_server import DESCRIPTORS as OFFERED

            # What libzmq needs has to be there when strangers have taken what they can.
            need_descriptors(OFFERED + DESCRIPTORS + DESCRIPTORS_PER_NEIGHBOUR * len(neighbours))
        transport = Transport(settings.id, settings.bind, security, protocol.sizes.largest)
        try:
            addresses = await asyncio.to_thread(hooks.addresses, transport.endpoint)
            near = {neighbour: addresses[neighbour] for neighbour in neighbours}
            transport.connect(near, shook_hands)
            mistakes: list[asyncio.Future[None]] = []
            if settings.address:
                mistakes.append(await find_itself(transport, settings.id, settings.address))
            before()
            settings.folder.mkdir(parents=True, exist_ok=True)
            with EntryStore(settings.folder / "log.sqlite") as store:
                memory = recall(store, protocol)
                participant = memory.revive(settings.id, neighbours, protocol, sign)
                refusals = Refusals(participant, transport.other_keys)

                def happened(event: Event) -> None:
                    hooks.on_event(event)
                    refusals.happened(event)

                if settings.address and security is not None:
                    # Without keys anybody could end this peer in its neighbours' names.
                    mistakes.append(refusals.by_all)
                look = partial(teller.look, participant, transport, traffic)
                source.begin(asyncio.get_running_loop(), look)
                doors = (transport, trainer, store, traffic)
                driving = drive(participant, *doors, happened, cut_off_from=hooks.cut_off_from)
                await unless_one_fails(mistakes, driving)
        finally:
            await transport.close()
        return participant, transport

    participant, transport = asyncio.run(take_part())
    assert participant.finished is not None
    source.end(teller.look(participant, transport, traffic))
    return PeerResult(
        state=participant.state,
        model_digest=global_model.digest(participant.state) if global_model is not None else None,
        missing=participant.finished.missing,
        differing=participant.finished.differing,
        timeouts=participant.timeouts,
        rejected=sum(participant.rejections.values()),
        accused={**transport.banned, **participant.accused},
        received=participant.received,
        garbage=transport.garbage,
        dropped=sum(transport.dropped.values()),
        peak_memory_bytes=peak_memory(),
    )


def _corpus(experiment: Experiment, settings: PeerSettings) -> Corpus:
    if settings.encoded is None:
        return deal(experiment, *encode_rows(experiment))
    path, empty = settings.encoded
    return deal(experiment, Encoded.load(path), empty)
