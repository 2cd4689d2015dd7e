"""The bytes of a run that averages weights: payload by formula, control by a rehearsal.

Payload is exact where nothing is lost, nobody is given up, and links are quicker than half the tick
after which peers ask for what has not come. A run too large to be rehearsed is judged by how long
it takes at most; its control is a guess.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf

from peer.config import Experiment
from peer.links import HEARTBEAT_TICKS
from peer.roster import Roster
from peer.setup import Prepared
from peer.traffic import LinkCount
from peer.trained_size import trained_size
from peer.weights import weights_bytes
from peer.weights_volume import WeightsVolume, volume_of
from peer.work import seconds_per_round
from sim.speeds import slowness
from sim.volume.calm import Verdict, left_out, longest_latency
from sim.volume.copies import exchanges
from sim.volume.quiet import quiet_control
from sim.volume.rehearsal import REHEARSED, Rehearsal, rehearse, steps


@dataclass(frozen=True)
class Averages:
    """What a run that averages sends, but for handshakes.

    Attributes:
        payload: of the weights.
        control: of all other frames.
        verdict: what may be promised of both.
        ended_at: when the last peer has left, in virtual seconds; None: not known.
    """

    payload: WeightsVolume
    control: LinkCount
    verdict: Verdict
    ended_at: float | None


def averages_volume(experiment: Experiment, roster: Roster, links: int) -> WeightsVolume:
    """Return the payload of a run that averages, in which nothing is lost.

    Args:
        experiment: the run.
        roster: its peers.
        links: E of its graph.

    Raises:
        UserError: it is not known how many weights it trains.
    """
    size = trained_size(experiment)
    sent = exchanges(experiment, roster, links)
    return volume_of(sent, weights_bytes(size.dtype, size.count), curve=experiment.curve == "on")


def predict_averages(prepared: Prepared) -> Averages:
    """Return what a run of a method that averages sends.

    Args:
        prepared: what it is made of; of its model only the number of weights is used.
    """
    experiment, protocol = prepared.experiment, prepared.protocol
    links = len(prepared.graph.edges)
    sent = exchanges(experiment, protocol.roster, links)
    payload = volume_of(sent, protocol.weights_bytes, curve=experiment.curve == "on")
    disturbed = left_out(experiment, prepared.graph)
    if disturbed or steps(experiment, protocol.roster.rows, links) > REHEARSED:
        verdict = judge_unseen(experiment, protocol.roster.rows)
        return Averages(payload, _quiet_control(prepared), verdict, ended_at=None)
    seen = rehearse(prepared)
    return Averages(payload, seen.control, _judge(payload, seen), seen.ended_at)


def judge_unseen(experiment: Experiment, rows: Sequence[int] | None = None) -> Verdict:
    """Return what may be promised of a run that has not been rehearsed.

    Args:
        experiment: the run.
        rows: of each peer; None: not known.
    """
    why = _obstacle(experiment, rows)
    return Verdict(exact=not why, follows_times=False, why=why)


def _judge(payload: WeightsVolume, seen: Rehearsal) -> Verdict:
    why = ""
    if seen.timeouts:
        why = "peers go on without others after round_timeout"
    elif seen.copies != payload.copies:
        why = "slow links, on which weights are asked for before they come"
    return Verdict(exact=not why, follows_times=True, why=why)


def _obstacle(experiment: Experiment, rows: Sequence[int] | None) -> str:
    """Return what may keep payload from being exact, in a few words; empty if nothing does."""
    if names := left_out(experiment):
        return f"{', '.join(names)} {'is' if len(names) == 1 else 'are'} left out"
    latency = longest_latency(experiment)
    if latency is None:
        return "how late weights can be is not known"
    if 2 * latency >= experiment.tick:
        return "slow links, on which weights may be asked for before they come"
    # No wait is longer than all that can be waited for.
    if _longest(experiment, latency, rows) >= min(
        experiment.round_timeout, experiment.settle_timeout
    ):
        return "how long rounds last is not known"
    return ""


def _longest(experiment: Experiment, latency: float, rows: Sequence[int] | None) -> float:
    """Return for how long a peer waits at most, in seconds."""
    if rows is None:
        if experiment.local_epochs:
            return inf
        rows = (1,) * experiment.peers
    usual = seconds_per_round(experiment, rows)
    train = [s * factor for s, factor in zip(usual, slowness(experiment), strict=True)]
    # Whoever trains as long as everybody else waits for what is on its way alone.
    in_step = experiment.participation == 1.0 and min(train) == max(train)
    return 2 * latency + experiment.rounds * ((0.0 if in_step else max(train)) + 2 * latency)


def _quiet_control(prepared: Prepared) -> LinkCount:
    """Return the control of a run in which links' ends greet, tell that they live, and part."""
    experiment, protocol = prepared.experiment, prepared.protocol
    seconds = experiment.rounds * max(seconds_per_round(experiment, protocol.roster.rows))
    beat = min(HEARTBEAT_TICKS * experiment.tick, experiment.round_timeout / 4)
    links, digests = len(prepared.graph.edges), 2 + round(seconds / beat)
    return quiet_control(protocol, links, digests, curve=experiment.curve == "on")
