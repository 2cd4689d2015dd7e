"""The bytes of a run, counted: the real protocol and its bytes, with made-up scalar gradients."""

from __future__ import annotations

from statistics import fmean

from peer import wire
from peer.config import Experiment
from peer.events import Event
from peer.zmtp import framing_bytes
from sim.prepared_world import world_of
from sim.spread_watch import SpreadWatch
from sim.volume.prediction import Bytes, without_model


def measure(experiment: Experiment) -> Bytes:
    """Run an experiment's protocol in the simulator and return what was sent.

    Every frame is encoded, delivered or lost, and decoded; only local steps are made up.

    Raises:
        UserError, TopologyError: as the run itself would.
    """
    prepared = without_model(experiment)
    curve = experiment.curve == "on"
    watch, control_framing = SpreadWatch(), 0

    def observe(peer: int, event: Event) -> None:
        watch.observe(peer, event, world.schedule.now)

    def observe_frame(what: str, sender: int, receiver: int, frame: bytes) -> None:
        nonlocal control_framing
        del what, sender, receiver
        if not wire.is_payload(frame):
            control_framing += framing_bytes(len(frame), curve=curve)

    world = world_of(prepared, observe=observe, observe_frame=observe_frame)
    world.run()
    total = world.traffic.total()
    seconds = [watch.seconds(entry) for entry in watch.entries]
    return Bytes(
        payload_messages=total.payload_messages,
        payload_bytes=total.payload_bytes,
        payload_framing_bytes=total.framing_bytes - control_framing,
        control_messages=total.control_messages,
        control_bytes=total.control_bytes,
        control_framing_bytes=control_framing,
        handshake_bytes=total.handshake_bytes,
        seconds_to_last=fmean(seconds) if seconds else None,
        most_seconds_to_last=max(seconds, default=None),
        ended_at=world.ended_at,
    )
