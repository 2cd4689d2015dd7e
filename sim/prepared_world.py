"""The world of an experiment: here alone it is said what of the experiment a world follows from."""

from __future__ import annotations

from collections.abc import Sequence

from peer.entry import Entry, Kind, Sign
from peer.setup import Prepared, simulated_secret
from peer.signatures import signer
from peer.traffic import Traffic
from peer.trainer import Trainer
from peer.training import build_trainer
from peer.work import seconds_per_step, steps_per_round
from sim.link_model import LinkModel, link_model
from sim.room import check_room
from sim.slots import Slots
from sim.speeds import slowness
from sim.world import FrameObserver, IncidentObserver, Observer, World
from topology import Varying


def world_of(
    prepared: Prepared,
    *,
    trainer: Trainer | None = None,
    links: LinkModel | None = None,
    traffic: Traffic | None = None,
    known: Sequence[Entry] = (),
    observe: Observer = lambda _peer, _event: None,
    observe_incident: IncidentObserver = lambda _incident, _befallen: None,
    observe_frame: FrameObserver | None = None,
) -> World:
    """Return the world of what an experiment is made of; nothing has happened in it yet.

    Args:
        prepared: the experiment's graph and protocol; neither its folder nor its model is used.
        trainer: takes the local steps; None: one that makes numbers up.
        links: the experiment's, if they are made already.
        traffic: to go on counting with; None: a new one.
        known: entries of an earlier life.
        observe: see `World`, as are the two that follow.
        observe_incident: told of incidents of the scenario.
        observe_frame: told of frames.

    Raises:
        UserError: made-up weights would take too much memory.
    """
    check_room(prepared)
    wanted, graph = prepared.experiment, prepared.graph

    def sign_for(peer: int) -> Sign:
        return signer(simulated_secret(wanted, peer))

    return World(
        graph.adjacency,
        prepared.protocol,
        trainer or build_trainer(wanted, None, None),
        step_seconds=seconds_per_step(wanted),
        steps=steps_per_round(wanted, prepared.protocol.roster.rows),
        known=known,
        observe=observe,
        traffic=traffic or Traffic(curve=wanted.curve == "on"),
        links=links or link_model(wanted, graph),
        slots=Slots(graph, wanted.slot_seconds) if isinstance(graph, Varying) else None,
        slowness=slowness(wanted),
        scenario=wanted.scenario,
        begun=max((e.round for e in known if e.kind is Kind.HISTORY), default=-1),
        observe_incident=observe_incident,
        observe_frame=observe_frame,
        signer=sign_for if wanted.sign else None,
    )
