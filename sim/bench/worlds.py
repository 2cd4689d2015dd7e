"""Simulated networks with made-up scalar gradients, as the benches of the protocol run them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from peer.agreement import build_trees
from peer.config import Experiment
from peer.events import Event, RoundStarted
from peer.setup import prepare
from sim.prepared_world import world_of
from sim.world import FrameObserver, Observer, World


def experiment(**values: Any) -> Experiment:
    """Return an experiment without a model; no run folder is made for it."""
    return Experiment(trainer="synthetic", out="never-written", log_level="error", **values)


def build_world(
    wanted: Experiment,
    *,
    observe: Observer = lambda _peer, _event: None,
    observe_frame: FrameObserver | None = None,
    latencies_known: bool = True,
) -> World:
    """Return the world of an experiment.

    Args:
        wanted: as `experiment` returns it.
        observe: see `World`.
        observe_frame: see `World`.
        latencies_known: whether the first trees follow the latencies of the links, which only a
            simulation knows.
    """
    prepared = prepare(wanted, "sim")
    if not latencies_known:
        trees = build_trees(prepared.graph, prepared.protocol.roster, None)
        prepared = replace(prepared, protocol=replace(prepared.protocol, trees=trees))
    return world_of(prepared, observe=observe, observe_frame=observe_frame)


class RoundReached(Exception):
    """The first peer has come to the round at which a world was to be stopped."""


def stop_at(round_: int) -> Observer:
    """Return an observer that stops a world when the first peer starts a round."""

    def observe(_peer: int, event: Event) -> None:
        if isinstance(event, RoundStarted) and event.round >= round_:
            raise RoundReached

    return observe


def run_until_stopped(world: World) -> None:
    """Run a world whose observer is `stop_at`'s."""
    try:
        world.run()
    except RoundReached:
        return
    raise AssertionError("the run has more rounds than this")
