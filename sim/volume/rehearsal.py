"""A run that averages, gone through with weights of one number each.

When what is sent does not hang on how many weights there are, as long as links take no time for
their bytes. So the real protocol is run on small ones, and tells what a formula would have to be
told: who asks whom for what has not come, how often neighbours tell that they live, and how often
weights go more than once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from peer import wire
from peer.config import Experiment
from peer.mixing import Averaging
from peer.outbound import PARTS_ASKED
from peer.protocol import Protocol
from peer.setup import Prepared
from peer.traffic import LinkCount
from peer.trainer import SyntheticWeights
from peer.weights import Weights, part_sizes
from peer.work import seconds_per_round
from peer.zmtp import framing_bytes
from sim.prepared_world import world_of

REHEARSED: Final = 2**18
"""The most steps that are gone through: some 10 seconds of work."""


@dataclass(frozen=True)
class Rehearsal:
    """What a rehearsal has shown.

    Attributes:
        copies: how often weights were sent.
        control: all other frames, as long as in the run itself.
        timeouts: how often a peer went on without somebody.
        ended_at: when the last peer has left, in virtual seconds.
    """

    copies: int
    control: LinkCount
    timeouts: int
    ended_at: float


def rehearse(prepared: Prepared) -> Rehearsal:
    """Go through a run that averages.

    Args:
        prepared: what it is made of; neither its folder nor its model is used.
    """
    experiment, protocol = prepared.experiment, prepared.protocol
    averaging = protocol.averaging
    assert averaging is not None
    dtype, parts = averaging.initial.dtype, _parts(protocol)
    small = replace(
        protocol, averaging=Averaging(Weights.repeated(dtype, 0.0, 1), averaging.mixing)
    )
    control, curve = LinkCount(), experiment.curve == "on"

    def observe_frame(what: str, sender: int, receiver: int, frame: bytes) -> None:
        del what, sender, receiver
        if wire.is_payload(frame):
            return
        message = wire.decode(frame)
        if isinstance(message, wire.Missing):
            frame = wire.encode(wire.Missing(message.exchange, tuple(range(parts))))
        control.control_messages += 1
        control.control_bytes += len(frame)
        control.framing_bytes += framing_bytes(len(frame), curve=curve)

    world = world_of(
        replace(prepared, protocol=small),
        trainer=SyntheticWeights(experiment.seed, dtype, 1),
        observe_frame=observe_frame,
    )
    world.run()
    return Rehearsal(
        copies=world.traffic.total().payload_messages,
        control=control,
        timeouts=sum(seat.timeouts for seat in world.seats),
        ended_at=world.ended_at,
    )


def _parts(protocol: Protocol) -> int:
    """Return how many parts a question for weights of which nothing has come names."""
    assert protocol.averaging is not None
    initial = protocol.averaging.initial
    return min(len(part_sizes(initial.dtype, len(initial))), PARTS_ASKED)


def steps(experiment: Experiment, rows: Sequence[int], links: int) -> float:
    """Return how much work a rehearsal is, 40 microseconds each, more or less.

    Every copy is sent and taken, in an exchange each peer steps once, neighbours tell that they
    live, and peers look at every tick.

    Args:
        experiment: the run.
        rows: of each peer.
        links: E of its graph.
    """
    peers = experiment.peers
    ticks = experiment.rounds * max(seconds_per_round(experiment, rows)) / experiment.tick
    return experiment.rounds * (2 * links + peers) + ticks * (peers + links / 4)
